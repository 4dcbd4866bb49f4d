"""The expert as a ROS node: true poses and stamps of images in, reference commands out."""

from dataclasses import dataclass
import math
from pathlib import Path

from geometry_msgs.msg import TwistStamped, Vector3Stamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from stream_agent.bounded_settings import free_text
from stream_agent.gazebo.world_folder import read_world
from stream_agent.nodes import process
from stream_agent.nodes.messages import (
    command_to_twist, course_state_to_vector, stamp_to_ns, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.nodes.parameters import declare_settings, refuse_unknown
from stream_agent.simulation.expert import Observer, PurePursuit
from stream_agent.simulation.vehicle import Pose

SILENCE = 5.0


@dataclass(frozen=True)
class ExpertSettings:
    """Where the expert finds its course."""

    world: str = free_text('', 'folder that `stream_agent world` wrote')


class ExpertNode(Node):
    """
    Publishes what the expert commands at every image, from the true pose of a vehicle.

    Subscribes to ``ground_truth`` (nav_msgs/Odometry: the vehicle in the world of the course) and
    ``camera_info`` (of which only the stamps are used, those of the images). Publishes
    ``reference`` (geometry_msgs/TwistStamped) and ``course_state`` (geometry_msgs/Vector3Stamped:
    progress, lateral error, lane width [m]) with an image's stamp, as the embedded simulator does.

    :raises ValueError: If a parameter is wrong, or the world has no course.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('expert', **kwargs)
        declare_settings(self, ExpertSettings)
        refuse_unknown(self)
        folder = self.get_parameter('world').value
        if not folder:
            raise ValueError('world is not set; set it to a folder that `stream_agent world` '
                             'wrote')
        try:
            self._world = read_world(Path(folder).expanduser())
        except OSError as error:
            raise ValueError(f"world: '{error.filename}' cannot be read ({error.strerror}); "
                             'write a world with `stream_agent world --output DIR`') from error
        settings = self._world.settings
        self._observer = Observer(self._world.course, PurePursuit(
            settings.target_speed, settings.look_ahead, settings.max_yaw_rate), self._world.signs)
        self._heard = {'ground_truth': False, 'camera_info': False}
        self._count, self._errors, self._progress = 0, 0.0, 0.0
        self._reference_pub = self.create_publisher(TwistStamped, 'reference', WATCH_COMMAND_QOS)
        self._course_pub = self.create_publisher(
            Vector3Stamped, 'course_state', WATCH_COMMAND_QOS)
        self._pose_sub = self.create_subscription(
            Odometry, 'ground_truth', self.on_pose, WATCH_FRAME_QOS)
        self._info_sub = self.create_subscription(
            CameraInfo, 'camera_info', self.on_camera_info, WATCH_FRAME_QOS)
        self._silence_timer = self.create_timer(
            SILENCE, self.warn_of_silence, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def on_pose(self, msg: Odometry) -> None:
        """Store where the vehicle was, and publish what can be said of images by now."""
        self._heard['ground_truth'] = True
        self._observer.add_pose(stamp_to_ns(msg.header.stamp), odometry_to_pose(msg))
        self._publish()

    def on_camera_info(self, msg: CameraInfo) -> None:
        """Store the stamp of an image."""
        self._heard['camera_info'] = True
        self._observer.add_frame(stamp_to_ns(msg.header.stamp))
        self._publish()

    def _publish(self) -> None:
        """Publish reference and course state of the images whose pose is known."""
        for judgement in self._observer.judgements():
            self._reference_pub.publish(
                command_to_twist(judgement.reference, judgement.stamp_ns))
            self._course_pub.publish(course_state_to_vector(
                judgement.progress, judgement.lateral_error, self._world.course.lane_width,
                judgement.stamp_ns, 'world'))
            self._count += 1
            self._errors += judgement.lateral_error ** 2
            self._progress = judgement.progress

    def warn_of_silence(self) -> None:
        """Warn once of topics without messages."""
        self._silence_timer.cancel()
        for name, subscription in (('ground_truth', self._pose_sub),
                                   ('camera_info', self._info_sub)):
            if not self._heard[name]:
                self.get_logger().warning(
                    f"nothing has arrived on '{subscription.topic_name}' for {SILENCE:g} s, so no "
                    'reference is published; check that the simulation and the bridge run')

    def stop(self) -> None:
        """Log how well the vehicle drove."""
        if self._count:
            self.get_logger().info(
                f'saw {self._progress / self._world.course.length:.2f} laps: lateral RMS '
                f'{math.sqrt(self._errors / self._count):.4f} m at {self._count} images')


def odometry_to_pose(msg) -> Pose:
    """Return where a nav_msgs/Odometry says that a vehicle is, on the ground."""
    at, turn = msg.pose.pose.position, msg.pose.pose.orientation
    yaw = math.atan2(2.0 * (turn.w * turn.z + turn.x * turn.y),
                     1.0 - 2.0 * (turn.y * turn.y + turn.z * turn.z))
    return Pose(at.x, at.y, yaw)


def main(args: list[str] | None = None) -> int:
    """Publish references until SIGINT or SIGTERM."""
    return process.run(ExpertNode, args, (ExpertSettings,))
