"""
Whether images and commands of every kind from outside leave everything as it was.

Without DDS: 10,000 images, serialized and broken in every way, are read as another reader reads
them (rosbags and OpenCV, which see the message as it came), or refused. Over DDS: as many images
to two agents, raw and compressed, and commands to a gate, all real processes; after every hundred
the next good image is answered, the next good command passes, and the gate has sent nothing
beyond its limits. Exit code 1 if anything is otherwise.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import cv2
from geometry_msgs.msg import TwistStamped
from harness import show
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from stream_agent.command import Command
from stream_agent.images import (
    compressed_to_array, image_to_array, ImageError, SerializedCompressedImage, SerializedImage)
from stream_agent.nodes.messages import (
    array_to_image, command_to_twist, FRAME_QOS, ns_to_stamp, stamp_to_ns, twist_to_command,
    WATCH_COMMAND_QOS)
from stream_agent.recordings.bags import types
from stream_agent.share import policy_file

ROOT = Path(__file__).parents[1]
READERS = {'raw': (SerializedImage.read, image_to_array, 'sensor_msgs/msg/Image'),
           'compressed': (SerializedCompressedImage.read, compressed_to_array,
                          'sensor_msgs/msg/CompressedImage')}
NAMES = ['mono8', 'rgb8', 'bgr8', 'rgba8', 'bgra8', '16UC1', 'yuv422', 'nv12', '', 'x' * 5000,
         '\x1b[2J\n', 'jpeg', 'rgb8; jpeg compressed bgr8']
NUMBERS = [0, 1, 2, 3, 255, 4095, 4096, 4097, 65535, 2**31 - 1, 2**31, 2**32 - 1]
SPEEDS = [0.0, -0.0, 0.2, -0.2, 1e9, -1e9, 1e300, 1e-310, math.nan, math.inf, -math.inf]
# Commands of the gate may be beyond its limits by so much, as doubles are rounded.
ROUNDING = 1e-9


class Case(NamedTuple):
    """A serialized message; whether it must be refused, as its picture was cut."""

    kind: str
    data: bytes
    is_cut: bool = False


def picture(generator: np.random.Generator) -> np.ndarray:
    """Return the pixels of a small image, (H, W) or (H, W, 3)."""
    size = generator.integers(1, 25, 2)
    return generator.integers(0, 256, (*size, 3)[:generator.integers(2, 4)], np.uint8)


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """Cut bytes, repeat some, put in others, or overwrite numbers that may be lengths."""
    data, how = bytearray(data), generator.integers(5)
    at, end = sorted(generator.integers(0, len(data) + 1, 2))
    if how == 0:
        del data[at:]
    elif how == 1:
        del data[at:end]
    elif how == 2:
        data[at:at] = generator.bytes(int(generator.integers(1, 40)))
    elif how == 3:
        at = int(generator.integers(0, max(1, len(data) // 4))) * 4
        data[at:at + 4] = int(generator.choice(NUMBERS)).to_bytes(4, 'little')
    else:
        for at in generator.integers(0, len(data), generator.integers(1, 6)):
            data[at] = generator.integers(256)
    return bytes(data)


def raw_case(generator: np.random.Generator) -> Case:
    """Make an image: its fields contradict each other, or its bytes are damaged, or neither."""
    message = array_to_image(picture(generator), stamp(generator), 'camera')
    kind = str(generator.choice(['whole', 'fields', 'bytes']))
    if kind == 'fields':
        for field in generator.choice(['height', 'width', 'step', 'encoding'], 2):
            setattr(message, field, str(generator.choice(NAMES)) if field == 'encoding'
                    else int(generator.choice(NUMBERS)))
    data = serialize_message(message)
    return Case(f'raw, {kind}', damaged(data, generator) if kind == 'bytes' else data)


def compressed_case(generator: np.random.Generator) -> Case:
    """Make a JPEG or PNG, whole or not, in a message that is whole or not."""
    suffix = str(generator.choice(['.jpg', '.png']))
    options = [] if suffix == '.png' else [
        cv2.IMWRITE_JPEG_RST_INTERVAL, int(generator.integers(3)),
        cv2.IMWRITE_JPEG_PROGRESSIVE, int(generator.integers(4) == 0)]
    file = cv2.imencode(suffix, picture(generator), options)[1].tobytes()
    kind = str(generator.choice(['whole', 'cut', 'file', 'bytes']))
    if kind == 'cut':
        file = file[:len(file) - len(file) // 10 - 20 - int(generator.integers(len(file) // 2))]
        file += (b'', b'\xff\xd9', bytes(50))[generator.integers(3)]
    elif kind == 'file':
        file = damaged(file, generator)
    message = CompressedImage(format=str(generator.choice(NAMES)), data=file)
    ns_to_stamp(message.header.stamp, stamp(generator))
    message.header.frame_id = 'camera'
    data = serialize_message(message)
    return Case(f'{suffix[1:]}, {kind}', damaged(data, generator) if kind == 'bytes' else data,
                kind == 'cut')


def command_case(generator: np.random.Generator) -> Case:
    """Make a command of a number of any kind, stamped at any time, whole or not."""
    message = command_to_twist(Command(*generator.choice(SPEEDS, 2)), stamp(generator))
    kind = str(generator.choice(['whole', 'bytes']))
    data = serialize_message(message)
    return Case(f'command, {kind}', damaged(data, generator) if kind == 'bytes' else data)


def stamp(generator: np.random.Generator) -> int:
    """Return a stamp [ns]: now, a moment from now, or any."""
    now = time.time_ns()
    return int(generator.choice([0, now, now - 10**8, now + 5 * 10**7, now - 10**12, 10**18]))


def fault_of(case: Case, transport: str) -> str | None:
    """
    Read an image and compare it with what others read; returns what is wrong.

    :returns: '' if the picture is right, None if it was refused.
    """
    read, pixels_of, message_type = READERS[transport]
    try:
        pixels = pixels_of(read(case.data))
    except ImageError:
        return None
    if case.is_cut:
        return 'a picture that was cut is taken for whole'
    message = types().deserialize_cdr(case.data, message_type)
    if transport == 'compressed':
        expected = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)
        expected = expected if expected.ndim == 2 else expected[..., 2::-1]
    else:
        expected = plain(message, message.data.reshape(message.height, message.step))
    return '' if np.array_equal(pixels, expected) else 'the picture differs'


def plain(message, rows: np.ndarray) -> np.ndarray:
    """Return the pixels of an image message, written as plainly as possible."""
    if message.encoding == 'yuv422':
        pairs = rows[:, :2 * message.width].reshape(message.height, message.width, 2)
        return cv2.cvtColor(pairs, cv2.COLOR_YUV2RGB_UYVY)
    channels = {'mono8': 1, 'rgba8': 4, 'bgra8': 4}.get(message.encoding, 3)
    pixels = np.array([[row[i * channels:(i + 1) * channels] for i in range(message.width)]
                       for row in rows])
    if message.encoding == 'mono8':
        return pixels[..., 0]
    return pixels[..., :3] if message.encoding.startswith('rgb') else pixels[..., 2::-1]


def read_all(count: int, seed: int) -> tuple[Counter, list[str]]:
    """Read images without DDS; returns how many of each kind were read or refused, and faults."""
    generator, counts, faults = np.random.default_rng(seed), Counter(), []
    for number in range(count):
        transport = ('raw', 'compressed')[number % 2]
        case = (raw_case if transport == 'raw' else compressed_case)(generator)
        try:
            fault = fault_of(case, transport)
        except Exception as error:
            fault = f'{type(error).__name__}: {error}'
        counts[f'{case.kind}: {"refused" if fault is None else "read"}'] += 1
        if fault:
            faults.append(f'image {number} of seed {seed} ({case.kind}): {fault}')
    return counts, faults


class Sender:
    """Sends what comes from the cases to real processes, and hears their answers."""

    def __init__(self) -> None:
        self.node = rclpy.create_node('fuzz')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.answers: dict[str, list[TwistStamped]] = {}
        self.publishers = {
            'raw': self.node.create_publisher(Image, 'raw/image', FRAME_QOS),
            'compressed': self.node.create_publisher(
                CompressedImage, 'compressed/image/compressed', FRAME_QOS),
            'gate': self.node.create_publisher(TwistStamped, 'gate/policy_command',
                                               WATCH_COMMAND_QOS)}
        for name, topic in (('raw', 'policy_command'), ('compressed', 'policy_command'),
                            ('gate', 'cmd_vel')):
            self.answers[name] = []
            self.node.create_subscription(TwistStamped, f'{name}/{topic}',
                                          self.answers[name].append, WATCH_COMMAND_QOS)
        self._reset = self.node.create_client(Trigger, 'gate/gate/reset_fault')

    def spin(self, seconds: float) -> None:
        """Hear for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(self, condition, seconds: float) -> bool:
        """Hear until something holds; returns whether it does."""
        end = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < end:
            self.spin(0.002)
        return found

    def are_there(self) -> bool:
        """Return whether all processes listen, and are heard."""
        return all(publisher.get_subscription_count() for publisher in self.publishers.values()
                   ) and all(self.node.count_publishers(f'{name}/policy_command')
                             for name in ('raw', 'compressed')
                             ) and self.node.count_publishers('gate/cmd_vel') > 0

    def good_image(self, transport: str) -> bool:
        """Send good images until one is answered, which the first few after a reset are not."""
        pixels = np.random.default_rng(0).integers(0, 256, (60, 120), np.uint8)
        for _ in range(20):
            sent = self.node.get_clock().now().nanoseconds
            message = array_to_image(pixels, sent, 'camera')
            if transport == 'compressed':
                message = CompressedImage(header=message.header, format='jpeg',
                                          data=cv2.imencode('.jpg', pixels)[1].tobytes())
            self.publishers[transport].publish(message)
            if self.wait_for(lambda: any(stamp_to_ns(answer.header.stamp) == sent
                                         for answer in self.answers[transport][-3:]), 0.15):
                return True
        return False

    def good_command(self, _: str) -> bool:
        """Reset faults, and send good commands until one passes."""
        self._reset.call_async(Trigger.Request())
        self.spin(0.01)
        self.answers['gate'].clear()
        for _ in range(100):
            self.publishers['gate'].publish(command_to_twist(
                Command(0.2, 0.0), self.node.get_clock().now().nanoseconds))
            if self.wait_for(lambda: any(twist_to_command(answer).speed == 0.2
                                         for answer in self.answers['gate']), 0.03):
                return True
        return False

    def check_limits(self) -> bool:
        """Return whether all commands of the gate are within its limits, and forget them."""
        heard = [twist_to_command(answer) for answer in self.answers['gate']]
        self.answers['gate'].clear()
        return all(abs(command.speed) <= 0.5 + ROUNDING and abs(command.yaw_rate) <= 2 + ROUNDING
                   for command in heard)


def start(name: str, namespace: str, **parameters: object) -> subprocess.Popen:
    """Start a process of ours in a namespace."""
    words = [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
    return subprocess.Popen(
        [sys.executable, '-m', 'stream_agent', name, '--ros-args', '-r', f'__ns:=/{namespace}',
         '--log-level', 'fatal', *words],
        cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, stdout=subprocess.DEVNULL)


@contextmanager
def robot() -> Iterator[dict[str, subprocess.Popen]]:
    """Run two agents and a gate, and end them."""
    agent = {'checkpoint': policy_file(Path('lane_streaming')), 'backend': 'eager', 'threads': 1,
             'device': 'cpu', 'autostart': 'true', 'camera_frame': 'camera'}
    processes = {'raw': start('agent', 'raw', **agent),
                 'compressed': start('agent', 'compressed', image_transport='compressed', **agent),
                 'gate': start('gate', 'gate')}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGINT)
        for process in processes.values():
            process.wait(60)


def send_all(count: int, seed: int, pause: float) -> tuple[Counter, list[str]]:
    """Send images and commands over DDS, as many of either; returns counts and faults."""
    generator, counts, faults = np.random.default_rng(seed), Counter(), []
    kinds = {'raw': (count // 2, raw_case), 'compressed': (count - count // 2, compressed_case),
             'gate': (count, command_case)}
    sender = Sender()
    with robot() as processes:
        if not sender.wait_for(sender.are_there, 60.0):
            return counts, ['the processes did not come up']
        for name, (number, make) in kinds.items():
            good = sender.good_command if name == 'gate' else sender.good_image
            for i in range(number):
                sender.publishers[name].publish(make(generator).data)
                sender.spin(pause)
                counts[f'{name}: sent'] += 1
                if (i + 1) % 100 and i + 1 < number:
                    continue
                if name == 'gate' and not sender.check_limits():
                    faults.append(f'gate: beyond its limits before command {i + 1}')
                if not good(name):
                    code = processes[name].poll()
                    faults.append(f'{name}: nothing good is answered after message {i + 1} of '
                                  f'seed {seed}; ' + (f'it ended with {code}'
                                                      if code is not None else 'it runs'))
                    break
                counts[f'{name}: good ones answered'] += 1
    sender.node.destroy_node()
    return counts, faults


@contextmanager
def quiet() -> Iterator[None]:
    """Let image libraries say elsewhere what they think of each file."""
    there, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(there, 2)
        os.close(nowhere)


def main() -> int:
    """Read, then send; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--quick', action='store_true', help='300 of each kind over DDS')
    parser.add_argument('--seed', type=int, default=0, help='of all that is random')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    arguments = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    types()
    start_at = time.perf_counter()
    with quiet():
        counts, faults = read_all(10_000, arguments.seed)
    seconds = time.perf_counter() - start_at
    rclpy.init()
    with quiet():
        sent, more = send_all(300 if arguments.quick else 10_000, arguments.seed,
                              0.001 if arguments.quick else 0.002)
    faults += more
    show([*(f'{number:6} {kind}' for kind, number in sorted((counts + sent).items())),
          f'10,000 images made and read in {seconds:.1f} s without DDS; {len(faults)} faults',
          *faults], {**counts, **sent, 'seconds': seconds, 'faults': faults}, arguments.json)
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(main())
