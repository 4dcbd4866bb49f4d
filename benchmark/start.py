"""
How long an agent takes from the start of its process to its first command.

The policy is the shipped one, and everything is as a user starts it, with one thread: Python's
imports, the middleware, the policy, the choice of a backend by measurement, the warm-up. Frames
come every 20 ms from the beginning on. It starts the agent of the current folder if that is a
source tree, so that an older one can be measured.
"""

import os
from pathlib import Path
import subprocess
import sys
import time

from geometry_msgs.msg import TwistStamped
from harness import parse, percentiles, run_benchmark, show
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from stream_agent.nodes.messages import array_to_image, COMMAND_QOS, FRAME_QOS, stamp_to_ns

FRAME_PERIOD = 0.02
LONGEST = 60.0
PICTURE = np.zeros((120, 160, 3), np.uint8)


def source_tree() -> Path:
    """Return the folder whose agent is started."""
    here = Path.cwd()
    return here if (here / 'stream_agent').is_dir() else Path(__file__).parents[1]


class Camera(Node):
    """Publishes pictures, and hears when the first of them is answered."""

    def __init__(self) -> None:
        super().__init__('benchmark_start')
        self._publisher = self.create_publisher(Image, 'image', FRAME_QOS)
        self._subscription = self.create_subscription(
            TwistStamped, 'policy_command', self._hear, COMMAND_QOS)
        self.begin()

    def begin(self) -> None:
        """Forget what was shown; commands to that do not count."""
        self._shown: set[int] = set()
        #: When the first command came, by ``time.perf_counter``; None before.
        self.answered: float | None = None

    def show(self) -> None:
        """Publish a picture that was taken now."""
        now_ns = self.get_clock().now().nanoseconds
        self._shown.add(now_ns)
        self._publisher.publish(array_to_image(PICTURE, now_ns, 'camera'))

    def _hear(self, msg: TwistStamped) -> None:
        if self.answered is None and stamp_to_ns(msg.header.stamp) in self._shown:
            self.answered = time.perf_counter()


def first_command(camera: Camera, tree: Path) -> float:
    """Start an agent; returns the seconds until its first command is here."""
    camera.begin()
    start = time.perf_counter()
    agent = subprocess.Popen(
        [sys.executable, '-m', 'stream_agent', 'agent', '--ros-args', '-p', 'autostart:=true',
         '-p', 'device:=cpu', '-p', 'threads:=1', '-p',
         f'checkpoint:={tree}/config/policies/lane_streaming.safetensors'],
        cwd=tree, env={**os.environ, 'PYTHONPATH': str(tree)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while camera.answered is None:
            if agent.poll() is not None or time.perf_counter() - start > LONGEST:
                raise SystemExit('the agent gave no command; start it by hand to see why')
            camera.show()
            rclpy.spin_once(camera, timeout_sec=FRAME_PERIOD)
        return camera.answered - start
    finally:
        agent.terminate()
        agent.wait()


def main() -> None:
    """Start agents one after the other."""
    arguments = parse(__doc__)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    rclpy.init()
    camera = Camera()
    # The first one fills the file cache.
    seconds = [first_command(camera, source_tree())
               for _ in range(3 if arguments.quick else 11)][1:]
    camera.destroy_node()
    rclpy.try_shutdown()
    show([f'process to first command  {percentiles(np.array(seconds))}'],
         {'first_command_p50': float(np.median(seconds)), 'first_command_max': max(seconds)},
         arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
