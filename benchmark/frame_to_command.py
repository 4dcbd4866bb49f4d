"""
How long a frame takes to its command, through real nodes, at an earlier commit and here in turns.

Camera and ears are this process; agent, gate and recorder are those of either tree, on the same
policy, backend and core count. Latencies are from a frame's stamp to the moment at which the
middleware here received the policy command, or the gated one. All ratios are here over there.
"""

import argparse
import itertools
import os
from pathlib import Path
import signal
import struct
import subprocess
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from harness import show, tree_of
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from stream_agent.measurement.machine import machine
from stream_agent.nodes.messages import (
    array_to_image, FRAME_QOS, stamp_to_ns, WATCH_COMMAND_QOS)
from stream_agent.nodes.process import use_large_shared_memory
from stream_agent.share import policy_file

# What this work started from.
COMMIT = '0974e72'
ROOT = Path(__file__).parents[1]
PERIOD = 1 / 30
SIZES = {'small': (120, 160), 'vga': (480, 640)}
FIRST_FRAMES = 30
TICK = os.sysconf('SC_CLK_TCK')


class Camera:
    """Publishes noisy images at the camera's rate, and hears what becomes of them."""

    def __init__(self) -> None:
        self.node = rclpy.create_node('benchmark_camera')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._frames = self.node.create_publisher(Image, 'image', FRAME_QOS)
        self.heard = {'policy': [], 'gated': []}
        self.diagnostics: dict[str, str] = {}
        for name, topic in (('policy', 'policy_command'), ('gated', 'cmd_vel')):
            self.node.create_subscription(
                TwistStamped, topic, self._hear(name), WATCH_COMMAND_QOS)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)

    def _hear(self, name: str):
        def on_command(message: TwistStamped, info: dict) -> None:
            self.heard[name].append((stamp_to_ns(message.header.stamp),
                                     info['received_timestamp']))
        return on_command

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(': frames'):
                self.diagnostics = {item.key: item.value for item in status.values}

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(self, condition, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise SystemExit('frame_to_command: a node did not come up; its output is above')
            self.spin(0.05)

    def nodes_are_there(self) -> bool:
        """Tell whether agent and recorder hear the camera, and the gate and we the commands."""
        return (self._frames.get_subscription_count() >= 2
                and self.node.count_subscribers('policy_command') >= 3
                and self.node.count_publishers('cmd_vel') >= 1)

    def film(self, size: tuple[int, int], count: int) -> list[int]:
        """Publish frames and return their stamps [ns]."""
        generator = np.random.default_rng(0)
        # Serialized beforehand, so that what Python does to publish is no part of the way.
        pictures = [bytearray(serialize_message(array_to_image(
            generator.integers(0, 256, (*size, 3), np.uint8), 0, 'camera'))) for _ in range(8)]
        stamps, due = [], time.monotonic()
        for message in itertools.islice(itertools.cycle(pictures), count):
            due += PERIOD
            self.spin(due - time.monotonic())
            stamps.append(self.node.get_clock().now().nanoseconds)
            struct.pack_into('<iI', message, 4, *divmod(stamps[-1], 10**9))
            self._frames.publish(bytes(message))
        self.spin(0.3)
        return stamps

    def latencies(self, stamps: list[int]) -> dict[str, list[float]]:
        """Return seconds from frames to their policy commands and the gated ones after those."""
        policy = {stamp: at for stamp, at in self.heard['policy']}
        gated = np.array([at for _, at in self.heard['gated']])
        found = {'policy': [], 'gated': []}
        for stamp in stamps:
            if stamp in policy:
                found['policy'].append((policy[stamp] - stamp) / 1e9)
                after = gated[(gated > policy[stamp] - 2e6) & (gated > stamp)]
                if after.size:
                    found['gated'].append((after[0] - stamp) / 1e9)
        return found


def start(tree: Path, name: str, **parameters: object) -> subprocess.Popen:
    """Start a node of a tree."""
    words = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    return subprocess.Popen(
        [sys.executable, '-m', 'stream_agent', name, '--ros-args', *words], cwd=tree,
        env={**os.environ, 'PYTHONPATH': str(tree)}, stdout=subprocess.DEVNULL)


def cpu_seconds(processes: list[subprocess.Popen]) -> float:
    """Return the processor time that processes have used [s]."""
    total = 0
    for process in processes:
        text = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
        total += int(text[11]) + int(text[12])
    return total / TICK


def measure(camera: Camera, tree: Path, frames: int) -> dict[str, list[float]]:
    """Run the nodes of a tree once."""
    with tempfile.TemporaryDirectory() as folder:
        nodes = [start(tree, 'gate'), start(tree, 'recorder', output=folder, policies=(
                     '["agent=policy_command"]')),
                 start(tree, 'agent', checkpoint=policy_file(Path('lane_streaming')),
                       backend='onnxruntime', threads=1, device='cpu', autostart='true')]
        try:
            camera.wait_for(camera.nodes_are_there)
            camera.spin(1.0)
            for heard in camera.heard.values():
                heard.clear()
            camera.film(SIZES['small'], FIRST_FRAMES)
            before, start_at = cpu_seconds(nodes), time.monotonic()
            stamps = camera.film(SIZES['small'], frames)
            cpu = (cpu_seconds(nodes) - before) / (time.monotonic() - start_at)
            camera.spin(1.1)
            found = camera.latencies(stamps)
            result = {'policy': found['policy'], 'gated': found['gated'], 'cpu': [cpu],
                      'idle_respond': [float(camera.diagnostics['respond p50'])]}
            camera.film(SIZES['vga'], FIRST_FRAMES)
            result['vga'] = camera.latencies(camera.film(SIZES['vga'], frames))['policy']
        finally:
            for node in nodes:
                node.send_signal(signal.SIGINT)
            for node in nodes:
                node.wait(60)
        camera.wait_for(lambda: camera.node.count_publishers('cmd_vel') == 0)
    return result


def report(sides: dict[str, list[dict[str, list[float]]]]) -> tuple[list[str], dict]:
    """Return lines of text, and the figures for programs."""
    lines, figures = [], {'machine': machine()}
    for key in ('policy', 'gated', 'vga', 'cpu', 'idle_respond'):
        for percent in (50, 99) if key in ('policy', 'gated', 'vga') else (50,):
            values = {side: [float(np.percentile(one[key], percent)) for one in rounds]
                      for side, rounds in sides.items()}
            ratios = np.divide(values['here'], values['there'])
            name = f'{key}_ratio' if percent == 50 else f'{key}_p{percent}_ratio'
            figures[name] = float(np.median(ratios))
            unit, scale = ('cores', 1) if key == 'cpu' else ('ms', 1e3)
            lines.append(f'{name:<20} {figures[name]:.3f} ({ratios.min():.3f} to '
                         f'{ratios.max():.3f}): {np.median(values["there"]) * scale:.3f} -> '
                         f'{np.median(values["here"]) * scale:.3f} {unit}')
    figures['answered'] = {side: sum(len(one['policy']) for one in rounds)
                           for side, rounds in sides.items()}
    return lines, figures


def main() -> None:
    """Measure both trees in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--against', metavar='COMMIT', default=COMMIT,
                        help='the other tree (default %(default)s)')
    parser.add_argument('--quick', action='store_true', help='under two minutes, wider scatter')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    arguments = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    rounds, frames = (2, 150) if arguments.quick else (5, 600)
    use_large_shared_memory()
    rclpy.init()
    camera = Camera()
    sides: dict[str, list] = {'there': [], 'here': []}
    with tree_of(arguments.against) as tree:
        for i in range(rounds):
            for side in list(sides)[::1 if i % 2 else -1]:
                sides[side].append(measure(camera, tree if side == 'there' else ROOT, frames))
    lines, figures = report(sides)
    show([f'frame_to_command.py, {arguments.against} (there) and this tree (here): medians of '
          f'{rounds} rounds in turns of {frames} frames', *lines], figures, arguments.json)


if __name__ == '__main__':
    main()
