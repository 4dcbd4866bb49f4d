"""Drives written as rosbag2 recordings (MCAP), which `ros2 bag` reads like its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
import errno
from itertools import chain
import os
from pathlib import Path
import queue
import shutil
import threading
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.image_files import decoded, ImageError
from stream_agent.recordings.bags import check_rosbags, types
from stream_agent.recordings.recording import BadRecordingError, TWIST_STAMPED, UNREADABLE

COMPRESSED = 'sensor_msgs/msg/CompressedImage'


class RecordedDrive(NamedTuple):
    """
    Consecutive frames, each with the command that was given at its time.

    :param images: Each gives the bytes of a JPEG or PNG file, or raises ImageError.
    :param stamps: (N,) int64 [ns].
    :param commands: (N, 2): speed and steering, positive to the left.
    :param skipped: Frames left out so far, by kind.
    :param faults: What is wrong with the first of them, and else with the source.
    """

    images: Iterable[Callable[[], bytes]]
    stamps: np.ndarray
    commands: np.ndarray
    skipped: Counter[str]
    faults: list[str]

    def frames(self) -> Iterator[tuple[bytes, int, np.ndarray]]:
        """Yield image, stamp and command of what can be decoded; count what cannot."""
        for image, stamp, command in zip(self.images, self.stamps, self.commands):
            try:
                data = image()
                decoded(data, 'jpeg')
            except ImageError as error:
                self.skipped[UNREADABLE] += 1
                if self.skipped[UNREADABLE] == 1:
                    self.faults.append(f'first of the {UNREADABLE}: {error}')
            else:
                yield data, int(stamp), command


def new_folder(parent: Path, name: str) -> Path:
    """
    Return the path of a folder to be made in another one (S4).

    :param name: May come from a file.
    :raises BadRecordingError: If that would be anywhere else, or cannot be printed.
    """
    if name in ('', '..') or Path(name).name != name or printable(name) != name:
        raise BadRecordingError(f"'{printable(name)}' cannot be the name of a folder in "
                                f"'{parent}'; give it another one, of one word")
    return parent / name


def write_bag(path: Path, drive: RecordedDrive, image_topic: str = '/camera/image_raw/compressed',
              command_topic: str = '/cmd_vel') -> int:
    """
    Write one drive: CompressedImage and TwistStamped, by their own stamps.

    :returns: How many frames were written; if none can be decoded, there is no recording.
    :raises BadRecordingError: If the path exists, or the package that writes bags is missing.
    """
    found = drive.frames()
    if (first := next(found, None)) is None:
        return 0
    with new_bag(path) as writer:
        frames = writer.add_connection(image_topic, COMPRESSED, typestore=types())
        orders = writer.add_connection(command_topic, TWIST_STAMPED, typestore=types())
        count = 0
        for image, stamp, (speed, steering) in chain([first], found):
            writer.write(frames, stamp, serialized_image(image, stamp))
            writer.write(orders, stamp, serialized_command(float(speed), float(steering), stamp))
            count += 1
    return count


def check_new(path: Path) -> None:
    """Refuse to write where something is already."""
    if path.exists():
        raise BadRecordingError(f"'{path}' already exists; remove it, or give another folder")


@contextmanager
def new_bag(path: Path) -> Iterator:
    """
    Open a folder to be written by the ``Writer`` yielded; it has its name only once complete.

    Whatever ends the writing early leaves nothing.

    :raises BadRecordingError: If the path exists, or the package that writes bags is missing.
    :raises OSError: If it cannot be written, with its path.
    """
    check_rosbags('written')
    from rosbags.rosbag2 import StoragePlugin, Writer
    check_new(path)
    # The storage is named after its folder, so only the one above says that it is unfinished.
    unfinished = path.parent / f'{path.name}.{os.getpid()}.part'
    # In a container a process that was killed had the same number.
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with Writer(unfinished / path.name, version=9,
                    storage_plugin=StoragePlugin.MCAP) as writer:
            yield writer
        (unfinished / path.name).rename(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def header(stamp: int, frame_id: str):
    """Make a header of a stamp [ns]."""
    make = types().types
    time = make['builtin_interfaces/msg/Time'](*divmod(stamp, 10**9))
    return make['std_msgs/msg/Header'](time, frame_id)


def serialized_image(image: bytes, stamp: int) -> bytes:
    """Make a CompressedImage of a JPEG or PNG."""
    kind = 'png' if image[:4] == b'\x89PNG' else 'jpeg'
    message = types().types[COMPRESSED](header(stamp, 'camera_optical'), kind,
                                        np.frombuffer(image, np.uint8))
    return types().serialize_cdr(message, COMPRESSED)


def serialized_command(speed: float, steering: float, stamp: int) -> bytes:
    """Make a TwistStamped."""
    make = types().types
    vector = make['geometry_msgs/msg/Vector3']
    twist = make['geometry_msgs/msg/Twist'](vector(speed, 0.0, 0.0), vector(0.0, 0.0, steering))
    message = make[TWIST_STAMPED](header(stamp, 'base_link'), twist)
    return types().serialize_cdr(message, TWIST_STAMPED)


MOST_WAITING = 256 * 2**20
# What is left of a disk, for a recording to be completed in, and how often that is looked at.
SPARED, CHECKED_EVERY = 16 * 2**20, 4 * 2**20


class LiveBag:
    """
    A recording that is written by a thread of its own.

    Messages that arrive while too much waits for the disk are dropped and counted.

    :param path: Folder, which must not exist.
    :param topics: Types of the messages, by topic.
    :param most_waiting: Bytes that may wait for the disk.
    """

    def __init__(self, path: Path, topics: Mapping[str, str], most_waiting: int = MOST_WAITING
                 ) -> None:
        self.path = path
        self.counts = dict.fromkeys(topics, 0)
        self.dropped = 0
        #: What ended the writing early.
        self.error: Exception | None = None
        self._topics = dict(topics)
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, topic: str, received_ns: int, data: bytes) -> None:
        """Hand over a message as the middleware serialised it (CDR)."""
        with self._lock:
            if self.error or self._waiting + len(data) > self._most_waiting:
                self.dropped += 1
                return
            self._waiting += len(data)
        self._queue.put((topic, received_ns, data))

    def close(self, timeout: float) -> bool:
        """Write what is waiting; return whether the recording was completed in time [s]."""
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive() and self.error is None

    def _run(self) -> None:
        try:
            with new_bag(self.path) as writer:
                connections = {topic: writer.add_connection(topic, kind, typestore=types())
                               for topic, kind in self._topics.items()}
                unchecked = CHECKED_EVERY
                while (item := self._queue.get()) is not None:
                    topic, received_ns, data = item
                    if (unchecked := unchecked + len(data)) >= CHECKED_EVERY:
                        unchecked = 0
                        if shutil.disk_usage(self.path.parent).free < SPARED + len(data):
                            self.error = OSError(
                                errno.ENOSPC, 'the disk is almost full, so the recording ends '
                                'here; it is complete so far', str(self.path))
                            break
                    writer.write(connections[topic], received_ns, data)
                    with self._lock:
                        self.counts[topic] += 1
                        self._waiting -= len(data)
        except Exception as error:
            # A full disk, most likely; driving continues undisturbed.
            self.error = error
