"""A folder with all that Gazebo, its bridge and the expert need of one course."""

from collections.abc import Sequence
import csv
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.gazebo.meshes import beyond_mesh, ground_mesh, horizon_mesh
from stream_agent.gazebo.robots import robot_file
from stream_agent.gazebo.world import world_file
from stream_agent.simulation.course import Course
from stream_agent.simulation.environment import make_vehicle
from stream_agent.simulation.settings import SimulationSettings, VEHICLES
from stream_agent.simulation.vehicle import Pose
from stream_agent.simulation.view import Scene
import yaml

TO_ROS, TO_GAZEBO = 'GZ_TO_ROS', 'ROS_TO_GZ'


class BridgedTopic(NamedTuple):
    """
    A topic on both sides.

    :param ros: Its name in ROS, relative to the robot's namespace but for the clock's.
    """

    ros: str
    ros_type: str
    gazebo: str
    gazebo_type: str
    direction: str = TO_ROS

    def as_data(self) -> dict[str, str]:
        """Return an entry of the file that ros_gz_bridge reads."""
        return {'ros_topic_name': self.ros, 'gz_topic_name': self.gazebo,
                'ros_type_name': self.ros_type, 'gz_type_name': self.gazebo_type,
                'direction': self.direction}


# In a bridge of their own: nothing else is to wait for an image.
OF_CAMERA = [
    BridgedTopic('image', 'sensor_msgs/msg/Image', 'image', 'gz.msgs.Image'),
    BridgedTopic('camera_info', 'sensor_msgs/msg/CameraInfo', 'camera_info', 'gz.msgs.CameraInfo'),
]
OTHERS = [
    BridgedTopic('/clock', 'rosgraph_msgs/msg/Clock', 'clock', 'gz.msgs.Clock'),
    BridgedTopic('cmd_vel', 'geometry_msgs/msg/TwistStamped', 'cmd_vel', 'gz.msgs.Twist',
                 TO_GAZEBO),
    BridgedTopic('odom', 'nav_msgs/msg/Odometry', 'odom', 'gz.msgs.Odometry'),
    BridgedTopic('ground_truth', 'nav_msgs/msg/Odometry', 'ground_truth', 'gz.msgs.Odometry'),
    BridgedTopic('/tf', 'tf2_msgs/msg/TFMessage', 'odom_tf', 'gz.msgs.Pose_V'),
]


def bridge_file(topics: Sequence[BridgedTopic]) -> str:
    """Return the configuration of a ros_gz_bridge, as YAML."""
    return yaml.safe_dump([topic.as_data() for topic in topics], sort_keys=False)


COURSE_FILE, SCENE_FILE = 'course.csv', 'scene.yaml'
COLUMNS = ('x', 'y', 'heading', 'curvature')


class World(NamedTuple):
    """
    What is known of a world that was written.

    :param settings: Of the embedded simulator; the expert's are those of the reference.
    :param start: Of the robot.
    :param seed: Of course and look.
    """

    course: Course
    settings: SimulationSettings
    start: Pose
    seed: int


class WorldError(ValueError):
    """A world folder that cannot be used; the message says which file, and what to do."""


def write_world(settings: SimulationSettings, seed: int, folder: Path) -> None:
    """
    Write the course and the look that a seed stands for, with both robots.

    :param folder: Made where there is none; files of the same names are replaced.
    :raises OSError: If it cannot be written.
    """
    scene = Scene(settings, seed, seed)
    folder.mkdir(parents=True, exist_ok=True)
    ground_mesh(scene.ground).write(folder, 'ground')
    beyond_mesh(scene.ground).write(folder, 'beyond')
    horizon_mesh(scene.panorama, scene.camera.height).write(folder, 'horizon')
    (folder / 'world.sdf').write_text(world_file(scene.look.sky))
    for name in VEHICLES:
        vehicle = make_vehicle(replace(settings, vehicle=name))
        (folder / f'{name}.sdf').write_text(robot_file(settings.rate, scene.camera, vehicle))
    (folder / 'bridge.yaml').write_text(bridge_file(OTHERS))
    (folder / 'camera.yaml').write_text(bridge_file(OF_CAMERA))
    write_course(scene.course, folder / COURSE_FILE)
    (folder / SCENE_FILE).write_text(yaml.safe_dump({
        'seed': seed, 'lane_width': scene.course.lane_width, 'length': scene.course.length,
        'start': Pose(*scene.course.pose_at(0.0))._asdict(),
        'camera': asdict(scene.camera), 'settings': asdict(settings)}, sort_keys=False))


def write_course(course: Course, path: Path) -> None:
    """Write the centre line, a point a row, in metres and radians."""
    with path.open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(COLUMNS)
        for (x, y), *rest in zip(course.points, course.headings, course.curvatures):
            writer.writerow(f'{value:.6f}' for value in (x, y, *rest))


def read_world(folder: Path) -> World:
    """
    Read the course of a folder, and what the embedded simulator would be set to.

    :raises OSError: If a file cannot be read.
    :raises WorldError: If it is damaged.
    """
    try:
        scene = yaml.safe_load((folder / SCENE_FILE).read_text())
        lane_width, length = float(scene['lane_width']), float(scene['length'])
        start = Pose(**{name: float(value) for name, value in scene['start'].items()})
        settings, seed = SimulationSettings(**scene['settings']), int(scene['seed'])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise WorldError(f"'{folder / SCENE_FILE}' does not say lane_width, length, start, "
                         'settings and seed; write the world again') from error
    try:
        with (folder / COURSE_FILE).open(newline='') as file:
            _, *rows = csv.reader(file)
        x, y, headings, curvatures = np.array(rows, float).T
    except ValueError as error:
        raise WorldError(f"'{folder / COURSE_FILE}' is not a table of {', '.join(COLUMNS)}; write "
                         'the world again') from error
    course = Course(np.stack([x, y], axis=1), headings, curvatures, lane_width, length)
    return World(course, settings, start, seed)
