"""
What priorities and thread counts change for agent and gate on a machine that is busy.

Agent and gate are the processes of a robot, and everything travels over DDS. This one is the
camera and the wheels, with a real-time priority where it may have one, so that what it measures
is theirs. The load is two processes a core that compute without end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from geometry_msgs.msg import TwistStamped
from harness import parse, run_benchmark, show
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from stream_agent.nodes.messages import array_to_image, FRAME_QOS, stamp_to_ns, WATCH_COMMAND_QOS

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / 'config' / 'policies' / 'lane_streaming.safetensors'
PERIOD = 1 / 30
LONGEST_START = 60.0
OWN_PRIORITY = 80
BUSY = 'import numpy as np\nwhile True: np.sort(np.random.rand(100_000))'


class Setting(NamedTuple):
    """
    How agent and gate are started.

    :param prefix: Words before their commands, as ``prefix:=`` of agent.launch.py.
    :param threads: Of the agent's network; 0 is its own choice.
    """

    name: str
    prefix: str = ''
    threads: int = 0


SETTINGS = [Setting('as they are'), Setting('nice -n -10', 'nice -n -10'),
            Setting('chrt --fifo 50', 'chrt --fifo 50'), Setting('one thread', threads=1),
            Setting('chrt --fifo 50, one thread', 'chrt --fifo 50', 1)]


class Robot:
    """The camera and the wheels: sends images, and notes when their commands come."""

    def __init__(self) -> None:
        self._node = rclpy.create_node('real_time')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._image_pub = self._node.create_publisher(Image, 'image', FRAME_QOS)
        self._node.create_subscription(
            TwistStamped, 'policy_command', self.on_command, WATCH_COMMAND_QOS)
        self._node.create_subscription(
            TwistStamped, 'cmd_vel', lambda _: self.wheels.append(time.monotonic()),
            WATCH_COMMAND_QOS)
        self._pixels = np.random.default_rng(0).integers(0, 255, (120, 160), np.uint8)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.sent: list[int] = []
        self.answers: dict[int, float] = {}
        self.wheels: list[float] = []

    def on_command(self, msg: TwistStamped) -> None:
        """Note how old the image of a command is [s]."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        self.answers.setdefault(stamp_ns, (time.time_ns() - stamp_ns) / 1e9)

    def drive(self, seconds: float) -> None:
        """Send images for a time."""
        due = time.monotonic()
        end = due + seconds
        while due < end:
            if time.monotonic() >= due:
                self.sent.append(time.time_ns())
                # A camera is never so still that its pictures are equal.
                self._pixels.flat[0] ^= 1
                self._image_pub.publish(array_to_image(self._pixels, self.sent[-1], 'camera'))
                due += PERIOD
            self._executor.spin_once(timeout_sec=max(0.0, due - time.monotonic()))

    def wait_for_answers(self) -> None:
        """
        Send images until they are answered, and for two seconds more.

        :raises TimeoutError: If that takes too long.
        """
        end = time.monotonic() + LONGEST_START
        while len(self.answers) < 5 or not self.wheels:
            if time.monotonic() > end:
                raise TimeoutError('agent and gate do not answer')
            self.drive(0.5)
        self.drive(2.0)
        self.forget()


@contextmanager
def processes(commands: list[list[str]], folder: str) -> Iterator[None]:
    """Run processes, and end them."""
    with open(Path(folder) / 'said.txt', 'a') as said:
        running = [subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
                   for command in commands]
        try:
            yield
        finally:
            for process in running:
                process.kill()
                process.wait()


def measure(robot: Robot, setting: Setting, busy: int, seconds: float) -> dict[str, float]:
    """
    Drive once.

    :param busy: Processes that compute besides.
    :returns: Milliseconds from an image's stamp to its command's arrival, share of images that
        were answered, and the longest time without a command to the wheels [ms].
    """
    start = [*setting.prefix.split(), sys.executable, '-m', 'stream_agent']
    nodes = [[*start, 'gate'],
             [*start, 'agent', '--ros-args', '-p', f'checkpoint:={CHECKPOINT}',
              '-p', 'autostart:=true', '-p', f'threads:={setting.threads}', '-p', 'device:=cpu']]
    load = [[sys.executable, '-c', BUSY]] * busy
    with tempfile.TemporaryDirectory() as folder, processes(nodes, folder):
        robot.forget()
        robot.wait_for_answers()
        with processes(load, folder):
            robot.drive(seconds)
            robot.drive(10 * PERIOD)
    ages = np.array([robot.answers[stamp] for stamp in robot.sent if stamp in robot.answers])
    p50, p99 = np.percentile(ages, [50, 99]) * 1e3
    return {'p50': p50, 'p99': p99, 'worst': ages.max() * 1e3,
            'answered': len(ages) / len(robot.sent),
            'longest_gap': float(np.diff(robot.wheels).max() * 1e3)}


def main() -> None:
    """Measure every setting on the idle machine, and on the busy one."""
    arguments = parse(__doc__)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK,
                              os.sched_param(OWN_PRIORITY))
    except PermissionError:
        sys.exit('real_time.py: no real-time priority is allowed here; `ulimit -r 80` as root, '
                 'or a line in /etc/security/limits.conf, allows it')
    rclpy.init()
    robot = Robot()
    seconds = 4.0 if arguments.quick else 30.0
    figures, lines = {}, [f'{"":<28}{"p50":>8}{"p99":>8}{"worst":>8} ms  answered  '
                          'longest gap of commands']
    for busy in (0, 2 * os.cpu_count()):
        for setting in SETTINGS[:3] if arguments.quick else SETTINGS:
            name = f'{setting.name}, {"busy" if busy else "idle"}'
            found = figures[name] = measure(robot, setting, busy, seconds)
            lines.append(f'{name:<28}' + ''.join(
                f'{found[key]:8.2f}' for key in ('p50', 'p99', 'worst'))
                + f'     {found["answered"]:7.1%}  {found["longest_gap"]:8.1f} ms')
    rclpy.shutdown()
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
