"""
How a policy drives in Gazebo: laps, lateral errors, rates, and what the recorder measures.

Needs an installed Gazebo and ros_gz. Starts ``ros2 launch stream_agent gazebo.launch.py``,
watches true poses and images from outside until the laps are driven, and stops it by SIGINT.
"""

import argparse
from dataclasses import replace
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(Path(__file__).parents[1]))

from gazebo_pictures import draw_frames, draw_path  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from stream_agent.cli.arguments import positive  # noqa: E402
from stream_agent.driving.drives import drive, PolicyDriver  # noqa: E402
from stream_agent.gazebo.world_folder import read_world, World  # noqa: E402
from stream_agent.measurement.machine import machine  # noqa: E402
from stream_agent.network.checkpoint import load_driving_policy  # noqa: E402
from stream_agent.nodes.expert_node import odometry_to_pose  # noqa: E402
from stream_agent.nodes.messages import (  # noqa: E402
    image_to_array, stamp_to_ns, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.simulation.environment import DrivingEnvironment  # noqa: E402
from stream_agent.simulation.vehicle import Pose  # noqa: E402

CONFIG = Path(__file__).parents[1] / 'config'
CHECKPOINT = CONFIG / 'policies' / 'lane_streaming.safetensors'
START_TIMEOUT, STOP_TIMEOUT = 120.0, 60.0
# Of what the expert takes for the laps; then the policy is not going to drive them.
PATIENCE = 3.0
# Frames are kept for the picture this often [s].
KEEP_EVERY = 2.0
# The policy gets up to its speed first.
SETTLING = 2.0


class DriveWatch:
    """Sees where the robot is, and what its camera sees."""

    def __init__(self, world: World) -> None:
        self.course = world.course
        self.times: list[float] = []
        self.poses: list[Pose] = []
        self.errors: list[float] = []
        self.progress = 0.0
        self.walls: list[float] = []
        self.stamps: list[float] = []
        self._kept: list[tuple[float, np.ndarray]] = []
        self._arc_length: float | None = None
        node = rclpy.create_node('gazebo_watch')
        node.create_subscription(Odometry, 'ground_truth', self.on_pose, WATCH_COMMAND_QOS)
        node.create_subscription(Image, 'image', self.on_image, WATCH_FRAME_QOS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def on_pose(self, msg: Odometry) -> None:
        """Note where the robot is on the course."""
        pose = odometry_to_pose(msg)
        here = self.course.locate(pose[:2], self._arc_length)
        if self._arc_length is not None:
            self.progress += math.remainder(here.arc_length - self._arc_length,
                                            self.course.length)
        self._arc_length = here.arc_length
        if self.progress > 0.05:
            self.times.append(stamp_to_ns(msg.header.stamp) / 1e9)
            self.walls.append(time.monotonic())
            self.poses.append(pose)
            self.errors.append(here.lateral_error)

    def on_image(self, msg: Image) -> None:
        """Note when an image was taken, and keep some of them."""
        stamp = stamp_to_ns(msg.header.stamp) / 1e9
        if self.times:
            if not self.stamps or stamp // KEEP_EVERY > self.stamps[-1] // KEEP_EVERY:
                self._kept.append((stamp, image_to_array(msg).copy()))
            self.stamps.append(stamp)

    def frames(self) -> list[tuple[Pose, np.ndarray]]:
        """Return the images that were kept, and where the robot was."""
        return [(self.poses[min(int(np.searchsorted(self.times, stamp)), len(self.poses) - 1)],
                 image) for stamp, image in self._kept]

    def until(self, laps: float, launch: subprocess.Popen, timeout: float) -> None:
        """
        Watch until the laps are driven.

        :raises RuntimeError: If nothing drives in time, or the launch ends.
        """
        end = time.monotonic() + START_TIMEOUT + timeout
        while self.progress < laps * self.course.length:
            self._executor.spin_once(timeout_sec=0.1)
            if launch.poll() is not None:
                raise RuntimeError(f'the launch ended with exit code {launch.returncode}')
            if time.monotonic() > end:
                raise RuntimeError(f'{self.progress / self.course.length:.2f} laps are driven '
                                   f'after {START_TIMEOUT + timeout:.0f} s')

    def figures(self) -> dict[str, float]:
        """Return how it drove, and at what rates."""
        times, errors = np.array(self.times), np.array(self.errors)
        kept = times > times[0] + SETTLING
        periods = np.diff(self.stamps)
        outside = np.abs(errors) > self.course.lane_width / 2
        return {
            'laps': self.progress / self.course.length,
            'lateral_rms': float(np.sqrt(np.mean(errors[kept] ** 2))),
            'largest_lateral_error': float(np.abs(errors[kept]).max()),
            'departures': int(np.count_nonzero(np.diff(outside.astype(int)) > 0)),
            'image_rate': float(len(periods) / periods.sum()),
            'longest_image_period': float(periods.max()),
            'real_time_factor': (times[-1] - times[0]) / (self.walls[-1] - self.walls[0])}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--world', type=Path, default=CONFIG / 'gazebo' / 'course', metavar='DIR',
                        help='that `stream_agent world` wrote (the shipped one)')
    parser.add_argument('--laps', type=positive, default=5)
    parser.add_argument('--output', type=Path, default=Path('results/gazebo'), metavar='DIR',
                        help='for the report, the log and the pictures (%(default)s)')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    parser.add_argument('arguments', nargs='*', metavar='NAME:=VALUE',
                        help='of gazebo.launch.py, such as vehicle:=bicycle')
    return parser.parse_args()


def start(arguments: argparse.Namespace, log: Path) -> subprocess.Popen:
    """Launch Gazebo and everything else, without a window."""
    return subprocess.Popen(
        ['ros2', 'launch', 'stream_agent', 'gazebo.launch.py', 'headless:=true',
         f'world:={arguments.world.resolve()}', f'output:={arguments.output.resolve()}',
         *arguments.arguments], stdout=log.open('w'), stderr=subprocess.STDOUT)


def embedded(world: World, arguments: argparse.Namespace) -> np.ndarray:
    """
    Let the same policy drive the same course in the embedded simulator.

    As in Gazebo there is no uneven light, noise or blur, and actuators follow at once.

    :returns: Lateral errors [m].
    """
    given = dict(word.split(':=', 1) for word in arguments.arguments)
    alike = replace(world.settings, noise=0.0, light=0.0, exposure=0.0, turn_time_constant=0.0,
                    speed_time_constant=0.0, vehicle=given.get('vehicle', 'differential'))
    result = drive(DrivingEnvironment(alike, world.seed),
                   PolicyDriver(load_driving_policy(given.get('checkpoint', CHECKPOINT))),
                   arguments.laps)
    return np.array(result.lateral_errors)


def recorded(log: Path) -> list[str]:
    """Return what the recorder printed."""
    lines = [line.partition('] ')[2] for line in log.read_text().splitlines()
             if line.startswith('[recorder')]
    return [line for line in lines if not line.startswith('[')]


def table(figures: dict[str, float], lane_width: float) -> list[str]:
    """Write figures for people."""
    return [
        f'{figures["laps"]:.2f} laps: lateral RMS {figures["lateral_rms"]:.4f} m, largest '
        f'{figures["largest_lateral_error"]:.3f} m, half a lane is {lane_width / 2:.2f} m, '
        f'{figures["departures"]} departures',
        f'{figures["image_rate"]:.2f} images a second of simulated time, longest period '
        f'{figures["longest_image_period"] * 1e3:.0f} ms, real-time factor '
        f'{figures["real_time_factor"]:.3f}',
        'in the embedded simulator, in even light and without noise: lateral RMS '
        f'{figures["embedded_lateral_rms"]:.4f} m, largest '
        f'{figures["embedded_largest_lateral_error"]:.3f} m']


def main() -> int:
    """Drive, stop, and say how it was."""
    arguments = parse()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    world = read_world(arguments.world)
    arguments.output.mkdir(parents=True, exist_ok=True)
    log = arguments.output / 'launch.log'
    # What is for the launch file would be remappings to ROS.
    rclpy.init(args=[])
    watch = DriveWatch(world)
    launch = start(arguments, log)
    try:
        watch.until(arguments.laps, launch, PATIENCE * arguments.laps * world.course.length
                    / world.settings.target_speed)
    except RuntimeError as fault:
        print(f'gazebo.py: {fault}; {log} has what was said', file=sys.stderr)
    finally:
        launch.send_signal(signal.SIGINT)
        launch.wait(STOP_TIMEOUT)
        rclpy.try_shutdown()
    if not watch.stamps:
        return 1
    errors = embedded(world, arguments)
    figures = {**watch.figures(),
               'embedded_lateral_rms': float(np.sqrt(np.mean(errors ** 2))),
               'embedded_largest_lateral_error': float(np.abs(errors).max())}
    draw_path(world, [pose[:2] for pose in watch.poses], arguments.output / 'path.svg')
    draw_frames(world, watch.frames(), arguments.output / 'frames.png')
    print(json.dumps({**figures, 'machine': machine()}) if arguments.json else '\n'.join(
        [*table(figures, world.course.lane_width), *recorded(log), machine()]))
    return 0


if __name__ == '__main__':
    sys.exit(main())
