"""Writes drives as rosbag2 recordings, MCAP, which `ros2 bag` reads like its own."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.recordings.bags import types
from stream_agent.recordings.command_messages import TWIST_STAMPED
from stream_agent.recordings.recording import BadRecordingError

COMPRESSED = 'sensor_msgs/msg/CompressedImage'


class Drive(NamedTuple):
    """
    Frames in a row, each with the command that was given at its time.

    :param images: JPEG or PNG files, as they are.
    :param stamps: (N,) int64 [ns].
    :param commands: (N, 2): speed and steering, positive to the left.
    """

    images: Iterable[bytes]
    stamps: np.ndarray
    commands: np.ndarray


def write_bag(path: Path, drive: Drive, image_topic: str = '/camera/image_raw/compressed',
              command_topic: str = '/cmd_vel') -> None:
    """
    Write one drive: CompressedImage and TwistStamped, by their own stamps.

    :param path: Folder, which must not exist.
    :raises BadRecordingError: If it exists, or the package that writes bags is missing.
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
    Open a recording to be written; it has its name only once it is complete.

    :param path: Folder, which must not exist.
    :returns: Yields a ``rosbags.rosbag2.Writer``.
    :raises BadRecordingError: If it exists, or the package that writes bags is missing.
    """
    check_writable()
    from rosbags.rosbag2 import StoragePlugin, Writer
    if path.exists():
        raise BadRecordingError(f"'{path}' is there already; remove it, or give another folder")
    # The storage is named after its folder, so only the one above says that it is unfinished.
    unfinished = path.parent / f'{path.name}.{os.getpid()}.part' / path.name
    with Writer(unfinished, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        yield writer
    unfinished.rename(path)
    unfinished.parent.rmdir()


def check_writable() -> None:
    """Refuse to write recordings without the package that writes them."""
    if find_spec('rosbags') is None:
        raise BadRecordingError('rosbag2 recordings are written by the package rosbags, which '
                                "is missing: pip install 'stream_agent[learning]'")


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
