"""Drives written as rosbag2 recordings (MCAP), which `ros2 bag` reads like its own."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
import os
from pathlib import Path
import queue
import threading
from typing import NamedTuple

import numpy as np
from stream_agent.recordings.bags import check_rosbags, types
from stream_agent.recordings.recording import BadRecordingError, TWIST_STAMPED

COMPRESSED = 'sensor_msgs/msg/CompressedImage'


class RecordedDrive(NamedTuple):
    """
    Consecutive frames, each with the command that was given at its time.

    :param images: The bytes of JPEG or PNG files.
    :param stamps: (N,) int64 [ns].
    :param commands: (N, 2): speed and steering, positive to the left.
    """

    images: Iterable[bytes]
    stamps: np.ndarray
    commands: np.ndarray


def write_bag(path: Path, drive: RecordedDrive, image_topic: str = '/camera/image_raw/compressed',
              command_topic: str = '/cmd_vel') -> None:
    """
    Write one drive: CompressedImage and TwistStamped, by their own stamps.

    :raises BadRecordingError: If the path exists, or the package that writes bags is missing.
    """
    with new_bag(path) as writer:
        frames = writer.add_connection(image_topic, COMPRESSED, typestore=types())
        orders = writer.add_connection(command_topic, TWIST_STAMPED, typestore=types())
        for image, stamp, (speed, steering) in zip(drive.images, drive.stamps, drive.commands):
            stamp = int(stamp)
            writer.write(frames, stamp, serialized_image(image, stamp))
            writer.write(orders, stamp, serialized_command(float(speed), float(steering), stamp))


@contextmanager
def new_bag(path: Path) -> Iterator:
    """
    Open a folder to be written by the ``Writer`` yielded; it has its name only once complete.

    :raises BadRecordingError: If the path exists, or the package that writes bags is missing.
    """
    check_rosbags('written')
    from rosbags.rosbag2 import StoragePlugin, Writer
    if path.exists():
        raise BadRecordingError(f"'{path}' already exists; remove it, or give another folder")
    # The storage is named after its folder, so only the one above says that it is unfinished.
    unfinished = path.parent / f'{path.name}.{os.getpid()}.part' / path.name
    with Writer(unfinished, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        yield writer
    unfinished.rename(path)
    unfinished.parent.rmdir()


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
                while (item := self._queue.get()) is not None:
                    topic, received_ns, data = item
                    writer.write(connections[topic], received_ns, data)
                    with self._lock:
                        self.counts[topic] += 1
                        self._waiting -= len(data)
        except Exception as error:
            # A full disk, most likely; driving continues undisturbed.
            self.error = error
