"""Recordings by rosbag2, MCAP or SQLite, read without ROS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.graph_files.located_yaml import refuse_expansion
from stream_agent.images import (
    compressed_to_array, image_to_array, ImageError, stamp_of_serialized)
from stream_agent.recordings.alignment import choose_stamps, TopicTimes
from stream_agent.recordings.recording import (
    BadRecordingError, COMMAND_TYPES, Commands, DEFINITIONS, own_file, Reading, Recording,
    STAMPED, steering_of, values_of)

DECODERS = {'sensor_msgs/msg/Image': image_to_array,
            'sensor_msgs/msg/CompressedImage': compressed_to_array}
REMEDIES = {'.mcap': 'recover it by `mcap recover`', '.db3': 'recover it by `sqlite3 .recover`'}


def is_bag(path: Path) -> bool:
    """Tell whether a path is a bag: a folder of rosbag2, or one of its files."""
    if path.is_file():
        return path.suffix in REMEDIES
    return (path / 'metadata.yaml').exists() or bool(storages(path))


def storages(path: Path) -> list[Path]:
    """Return the files that hold a bag's messages."""
    files = [path] if path.is_file() else sorted(path.glob('*'))
    return [file for file in files if file.suffix in REMEDIES]


@cache
def types():
    """Return the types of ROS 2 Jazzy, and those of commands that they lack."""
    from rosbags.typesys import get_types_from_msg, get_typestore, Stores
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def check_rosbags(done: str) -> None:
    """Refuse to have recordings 'read' or 'written' without the package that does so."""
    if find_spec('rosbags') is None:
        raise BadRecordingError(f'rosbag2 recordings are {done} by the package rosbags, which is '
                                "missing: pip install 'stream_agent[learning]'")


@contextmanager
def opened(path: Path) -> Iterator:
    """
    Open a bag; whatever goes wrong in it is reported as a fault of the file.

    :raises BadRecordingError: If it is unfinished, truncated or damaged.
    """
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise BadRecordingError(f"'{path}': metadata.yaml is missing, so the recording was not "
                                f'finished; run `ros2 bag reindex {path}`')
    if path.is_dir():
        for file in (path / 'metadata.yaml', *storages(path)):
            own_file(path, file.name)
    check_rosbags('read')
    from rosbags.rosbag2 import Reader
    try:
        if path.is_dir():
            refuse_expansion((path / 'metadata.yaml').read_text(), 'metadata.yaml',
                             BadRecordingError)
        with Reader(path) as bag:
            yield bag
    except BadRecordingError as error:
        raise BadRecordingError(f"'{path}': {error}") from None
    # A damaged file raises whatever its reader meets: SQLite's errors, struct's, its own.
    except Exception as error:
        remedy = ', '.join(sorted({REMEDIES[file.suffix] for file in storages(path)}))
        raise BadRecordingError(
            f"'{path}': the file is truncated or damaged ({error or type(error).__name__}); "
            f'{remedy}, or leave it out') from error


def choose_topic(bag, wanted: str, what: str, fitting_types: tuple[str, ...]) -> str:
    """
    Find the topic that is asked for, or else the only one of a fitting type.

    :param what: 'image' or 'command'.
    :raises BadRecordingError: If it is missing, of another type, or empty; without the file.
    """
    topics, option = bag.topics, f'--{what}-topic'
    listed = ', '.join(printable(f'{name} ({topic.msgtype})')
                       for name, topic in topics.items()) or 'none'
    fitting = [name for name, topic in topics.items() if topic.msgtype in fitting_types]
    if wanted and wanted not in topics:
        raise BadRecordingError(f"there is no topic '{wanted}'; give another by {option}. Topics "
                                f'are: {listed}')
    if wanted and wanted not in fitting:
        raise BadRecordingError(f"topic '{wanted}' is of the type "
                                f'{printable(topics[wanted].msgtype)}; give one by {option} that '
                                f'is {" or ".join(fitting_types)}')
    if not wanted and len(fitting) != 1:
        count = 'several topics are' if fitting else 'no topic is'
        raise BadRecordingError(f'{count} of a type for {what}s, {" or ".join(fitting_types)}; '
                                f'give one by {option}. Topics are: {listed}')
    chosen = wanted or fitting[0]
    if not topics[chosen].msgcount:
        raise BadRecordingError(f"topic '{chosen}' has no messages; leave the recording out, "
                                f'or give another topic by {option}')
    return chosen


class BagRecording(Recording):
    """
    One bag, a folder or a single file.

    :raises BadRecordingError: If the bag is damaged, or has no such topics.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        with opened(path) as bag:
            images = choose_topic(bag, reading.image_topic, 'image', tuple(DECODERS))
            orders = choose_topic(bag, reading.command_topic, 'command', COMMAND_TYPES)
            command_times, values, broken = read_commands(bag, orders, reading)
            (frame_stamps, source), (stamps, stamps_from) = choose_stamps(
                (read_times(bag, images), command_times), reading.stamps)
            self._image_type = bag.topics[images].msgtype
            steering = steering_of(bag.topics[orders].msgtype, reading)
        super().__init__(path, images, frame_stamps, source,
                         Commands(stamps, values, steering, stamps_from))
        self.skipped['commands that cannot be read'] += broken

    def recorded_frames(self) -> Iterator[Callable[[], np.ndarray]]:
        with opened(self.path) as bag:
            for _, _, data in bag.messages(bag.topics[self.topic].connections):
                yield partial(decode, data, self._image_type)

    def files(self) -> list[Path]:
        return storages(self.path)


def decode(data: bytes, message_type: str) -> np.ndarray:
    """Return the pixels of a serialised image message."""
    return DECODERS[message_type](deserialized(data, message_type))


def deserialized(data: bytes, message_type: str):
    """Return a message; raises ImageError if the bytes are not one of that type."""
    try:
        return types().deserialize_cdr(data, message_type)
    except Exception as error:  # generated code, which meets any bytes
        raise ImageError(f'the message is not a {message_type} ({error!r})') from error


def read_times(bag, topic: str) -> TopicTimes:
    """Read the times of all images, whose headers come first in the bytes."""
    times = [(stamp_of_serialized(data), received)
             for _, received, data in bag.messages(bag.topics[topic].connections)]
    headers, received = np.array(times, np.int64).reshape(-1, 2).T
    return TopicTimes(topic, headers, received)


def read_commands(bag, topic: str, reading: Reading) -> tuple[TopicTimes, np.ndarray, int]:
    """
    Read all commands.

    :returns: Their times, their values (M, 2), and how many messages cannot be read.
    :raises BadRecordingError: If none can be read, or one lacks an axis; without the file.
    """
    headers, received, values, broken = [], [], [], 0
    message_type = bag.topics[topic].msgtype
    for _, time, data in bag.messages(bag.topics[topic].connections):
        try:
            message = deserialized(data, message_type)
        except ImageError:
            broken += 1
            continue
        values.append(values_of(message, message_type, reading))
        received.append(time)
        if message_type in STAMPED:
            headers.append(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    if not values:
        raise BadRecordingError(f"topic '{topic}': no message is a {message_type}; give "
                                'another topic by --command-topic')
    times = TopicTimes(topic, np.array(headers, np.int64) if message_type in STAMPED else None,
                       np.array(received, np.int64))
    return times, np.array(values, np.float64), broken
