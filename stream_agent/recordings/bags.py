"""Recordings by rosbag2, MCAP or SQLite, read without ROS."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.images import (
    check_encoding, compressed_to_array, image_to_array, ImageError, stamp_of_serialized)
from stream_agent.recordings.alignment import choose_stamps, TopicTimes
from stream_agent.recordings.mcap_file import (
    DamagedError, full_type, NEXT_NS, SetBack, unzstd, ZSTD_MAGIC)
from stream_agent.recordings.publishers import drivers_commands
from stream_agent.recordings.recording import (
    BadRecordingError, COMMAND_TYPES, Commands, DEFINITIONS, NS, Reading, Recording,
    STAMPED, steering_of, values_of)
from stream_agent.recordings.storages import (
    check_order, files_to_read, logs_of, METADATA, Metadata, opened_storage, read_metadata,
    stems_of, Storage, storages_at, Stream, WITHOUT)

# By so much the messages of one part of a recording may be older than those of the part before.
MOST_OVERLAP_NS = NS // 10
DECODERS = {'sensor_msgs/msg/Image': image_to_array,
            'sensor_msgs/msg/CompressedImage': compressed_to_array}


def is_bag(path: Path) -> bool:
    """
    Tell whether a path is one bag: a folder of rosbag2, or one of its files.

    A folder without metadata.yaml is one if its files are the parts of one recording, by their
    names, and there are no recordings in folders beside them.
    """
    files = storages_at(path)
    return path.is_file() and bool(files) or (path / METADATA).exists() or (
        len(stems_of(files)) == 1
        and not any(is_bag(each) for each in path.glob('*') if each.is_dir()))


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


class Bag:
    """
    The messages of a recording, in all of its storages.

    :param storages: In the order of their names, or that of metadata.yaml.
    :ivar counts: Messages that are whole, of every stream that can be read.
    :ivar unread: Topics that cannot be read, with the reason.
    :ivar faults, notes: What is damaged, and all that is odd about the files.
    :ivar set_backs: Of the recorder's clock, among the messages that were read.
    """

    def __init__(self, storages: list[Storage], metadata: Metadata | None) -> None:
        self.storages = sorted(storages, key=lambda storage: storage.first)
        if any(before.last - after.first > MOST_OVERLAP_NS
               for before, after in pairwise(self.storages)):
            # The clock was set back from one part to the next.
            self.storages = storages
        self.metadata = metadata
        self.counts: Counter[Stream] = Counter()
        self.unread: list[str] = []
        self.set_backs: list[SetBack] = []
        self.faults = [fault for storage in storages for fault in storage.faults]
        self.notes = [f'{fault}; what is whole is read' for fault in self.faults]
        #: What metadata.yaml counts, or else the files themselves.
        self.stated: Counter[Stream] = Counter()
        for storage in self.storages:
            for number, (topic, kind, encoding) in storage.channels.items():
                if encoding == 'cdr' and kind:
                    self.counts[Stream(topic, kind)] += storage.counts.get(number, 0)
                    self.stated[Stream(topic, kind)] += storage.stated.get(number, 0)
                else:
                    profile = (f", profile '{storage.profile}'"
                               if storage.profile not in ('', 'ros2') else '')
                    self.unread.append(f'{topic} ({kind or "no type"}; encoded as '
                                       f"'{encoding}'{profile}: not read)")
        if metadata:
            self.stated = metadata.counts
            for stream in metadata.counts:
                self.counts[stream] += 0

    @property
    def listed(self) -> str:
        """All topics, for messages."""
        named = [f'{name} ({kind})' for name, kind in self.counts]
        return ', '.join(map(printable, named + self.unread)) or 'none'

    def check_counts(self, wanted: Collection[Stream]) -> None:
        """
        Hold what is there against what metadata.yaml says, or else the files themselves count.

        :raises BadRecordingError: If messages of a wanted stream are missing by metadata.yaml, or
            all of them are; without the file. What is missing otherwise is noted.
        """
        by = METADATA if self.metadata else 'the file'
        remedy = 'copy the recording again with all its files, or ' + (
            WITHOUT if self.metadata else 'leave it out')
        for stream, stated in self.stated.items():
            found = self.counts[stream]
            line = f"topic '{stream.topic}': {found} of the {stated} messages that {by} counts"
            if found < stated and stream in wanted and (self.metadata or not found):
                raise BadRecordingError('; '.join(
                    [f'the file is truncated or damaged: {line}', *self.faults, remedy]))
            if found > stated and (self.metadata or stated):
                line = f"topic '{stream.topic}': {found} messages, where {by} counts {stated}"
            if found != stated and (self.metadata or stated):
                self.notes.append(line)
        for stream in wanted:
            if self.metadata and (number := self.metadata.publishers.get(stream, 0)) > 1:
                self.notes.append(f"topic '{stream.topic}' had {number} publishers, by "
                                  f'{METADATA}; check that all of them are meant')

    def messages(self, wanted: Collection[Stream]) -> Iterator[tuple[Stream, int, bytes]]:
        """
        Yield stream, time of reception [ns], and bytes of some streams, by time.

        Where the recorder's clock was set back, the order is that of the recording, and times
        ascend.
        """
        shift, newest = 0, None
        for storage in self.storages:
            streams = {number: Stream(topic, kind) for number, (topic, kind, encoding)
                       in storage.channels.items() if encoding == 'cdr'}
            numbers = [number for number, stream in streams.items() if stream in wanted]
            # Others are not parts of a recording, but have a topic each.
            is_part = {streams[number] for number in numbers if storage.counts.get(number)} == {
                *wanted}
            start = storage.first + shift
            if is_part and newest is not None and newest - start > MOST_OVERLAP_NS:
                shift += (by := newest - start + NEXT_NS)
                self.set_backs.append(SetBack(start + by, by))
            for number, time, data in storage.messages(numbers):
                if is_part:
                    newest = max(newest or 0, time + shift)
                yield streams[number], time + shift, unpacked(data)
            self.set_backs += [SetBack(start + shift, by) for start, by in storage.set_backs]


def unpacked(data: bytes) -> bytes:
    """Return a message, which may be compressed: no other begins like a frame of zstd."""
    if data[:4] == ZSTD_MAGIC:
        try:
            return unzstd(data, 'a compressed message')
        except DamagedError:
            pass  # it is counted with those that cannot be read
    return data


@contextmanager
def opened(path: Path) -> Iterator[Bag]:
    """
    Open a bag; whatever goes wrong in it is reported as a fault of the file.

    :raises BadRecordingError: If it is incomplete or damaged.
    """
    check_rosbags('read')
    file = path
    try:
        with ExitStack() as stack:
            metadata = read_metadata(path)
            files, notes = files_to_read(path, metadata)
            storages = []
            for file in files:
                storage = stack.enter_context(opened_storage(file))
                if len(files) > 1:
                    storage.faults = [f'{file.name}: {fault}' for fault in storage.faults]
                storages.append(storage)
            file = path
            if metadata is None:
                check_order(files, storages)
            bag = Bag(storages, metadata)
            bag.notes += notes
            if bag.faults and not bag.counts.total():
                raise BadRecordingError('the file is truncated or damaged: no message is whole; '
                                        f'{"; ".join(bag.faults)}; copy it again, or leave it out')
            yield bag
    except BadRecordingError as error:
        raise BadRecordingError(f"'{path}': {error}") from None
    except OSError as error:
        raise BadRecordingError(f"'{path}': cannot be read ({error}); check that it may be read, "
                                'and that the disks are there and not full') from error
    # A damaged file raises whatever its reader meets: SQLite's errors, struct's, zstd's.
    except Exception as error:
        name = '' if file == path else f' {file.name}'
        raise BadRecordingError(
            f"'{path}': the file{name} is damaged ({error or type(error).__name__}); copy it "
            'again, or leave it out') from error


def choose_stream(bag: Bag, reading: Reading, what: str, fitting_types: tuple[str, ...]) -> Stream:
    """
    Find the topic and type that are asked for, or else the only ones that fit and have messages.

    :param what: 'image' or 'command'.
    :raises BadRecordingError: If there is none, or no message of it; without the file.
    """
    wanted, stated = getattr(reading, f'{what}_topic'), getattr(reading, f'{what}_type')
    option, fits = f'--{what}-topic', ' or '.join(fitting_types)
    of_topic = [stream for stream in bag.counts if stream.topic == wanted]
    if wanted and not of_topic:
        raise BadRecordingError(f"there is no topic '{wanted}'{' that is read' * bool(bag.unread)}"
                                f'; give another by {option}. Topics are: {bag.listed}')
    fitting = [stream for stream in of_topic or bag.counts if stream.type in fitting_types]
    if wanted and not fitting:
        raise BadRecordingError(f"topic '{wanted}' is of the type "
                                f'{printable(" and ".join(each.type for each in of_topic))}; give '
                                f'one by {option} that is {fits}')
    filled = [stream for stream in fitting if bag.counts[stream] + bag.stated[stream]]
    topics = {stream.topic for stream in filled or fitting}
    if len(topics) != 1:
        count, remedy = ('several topics are', f'give one by {option}') if topics else (
            'no topic is', 'record one, or leave the recording out')
        raise BadRecordingError(f'{count} of a type for {what}s, {fits}; {remedy}. Topics are: '
                                f'{bag.listed}')
    (topic,) = topics
    meant = [stream for stream in filled
             if not stated or f'/{stream.type}'.endswith(f'/{full_type(stated)}')]
    total = sum(count for stream, count in bag.counts.items() if stream.topic == topic)
    if len(meant) > 1 or (filled and not meant):
        shares = ', '.join(f'{stream.type} ({bag.counts[stream]} of {total} messages)'
                           for stream in filled)
        raise BadRecordingError(f"topic '{topic}' has the types {shares}; give one of them by "
                                f'--{what}-type')
    if not meant:
        raise BadRecordingError(f"topic '{topic}' has no messages; leave the recording out, "
                                f'or give another topic by {option}')
    (chosen,) = meant
    if bag.counts[chosen] < total:
        bag.notes.append(f"topic '{topic}': {bag.counts[chosen]} of its {total} messages are "
                         f'{chosen.type}, and read')
    return chosen


class BagRecording(Recording):
    """
    One bag, a folder or a single file.

    :ivar notes: What is odd about the files, a sentence each.
    :raises BadRecordingError: If the bag is damaged, or has no such topics.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        with opened(path) as bag:
            self._images = choose_stream(bag, reading, 'image', tuple(DECODERS))
            self._orders = orders = choose_stream(bag, reading, 'command', COMMAND_TYPES)
            bag.check_counts([self._images, orders])
            image_times, command_times, values, broken = read_topics(
                bag, self._images, orders, reading)
            of_driver, notes = drivers_commands(command_times, values, reading.publishers)
            chosen = choose_stamps(image_times, command_times.only(of_driver), reading.stamps)
            steering = steering_of(orders.type, reading)
        (frame_stamps, source), (stamps, stamps_from) = chosen.frames, chosen.commands
        super().__init__(path, self._images.topic, frame_stamps, source,
                         Commands(stamps, values[of_driver], steering, stamps_from),
                         [*bag.notes, *notes, *chosen.notes])
        self.skipped['commands that cannot be read'] += broken
        self.skipped['commands of a second publisher'] += int((~of_driver).sum())

    def recorded_frames(self) -> Iterator[Callable[[], np.ndarray]]:
        with opened(self.path) as bag:
            # With the commands, which tell where the recorder's clock was set back, as before.
            for stream, _, data in bag.messages([self._images, self._orders]):
                if stream == self._images:
                    yield partial(decode, data, stream.type)

    def files(self) -> list[Path]:
        storages = storages_at(self.path)
        metadata = self.path / METADATA
        return [*([metadata] if metadata.is_file() else []), *storages,
                *(log for file in storages for log in logs_of(file))]


def decode(data: bytes, message_type: str) -> np.ndarray:
    """Return the pixels of a serialised image message."""
    return DECODERS[message_type](deserialized(data, message_type))


def deserialized(data: bytes, message_type: str):
    """Return a message; raises ImageError if the bytes are not one of that type."""
    check_encoding(data)
    try:
        return types().deserialize_cdr(data, message_type)
    except Exception as error:  # generated code, which meets any bytes
        raise ImageError(f'the message is not a {message_type} ({error!r})') from error


def read_topics(bag: Bag, images: Stream, orders: Stream, reading: Reading
                ) -> tuple[TopicTimes, TopicTimes, np.ndarray, int]:
    """
    Read the times of all images, whose headers come first in the bytes, and all commands.

    :returns: Times of images, times of commands, their values (M, 2), and how many commands
        cannot be read.
    :raises BadRecordingError: If none can be read, or one lacks an axis; without the file.
    """
    frames, times, values, faults = [], [], [], list[str]()
    for stream, received, data in bag.messages([images, orders]):
        if stream == images:
            frames.append((stamp_of_serialized(data), received))
            continue
        try:
            message = deserialized(data, stream.type)
        except ImageError as error:
            faults.append(str(error))
            continue
        values.append(values_of(message, stream.type, reading))
        stamp = message.header.stamp if stream.type in STAMPED else None
        times.append((stamp.sec * NS + stamp.nanosec if stamp else 0, received))
    if not values:
        raise BadRecordingError(f"topic '{orders.topic}': no message is a {orders.type} "
                                f'({faults[0]}); record the topic again through ROS 2, or give '
                                'another one by --command-topic')
    bag.notes += [f"the recorder's clock was set back by {back.by / NS:.2f} s: the messages after "
                  'that follow those before; set clocks before a recording'
                  for back in bag.set_backs]
    image_times, command_times = (
        without_set_backs(TopicTimes(topic, *np.array(found, np.int64).T), bag.set_backs)
        for topic, found in ((images.topic, frames), (orders.topic, times)))
    if orders.type not in STAMPED:
        command_times = command_times._replace(headers=None)
    return image_times, command_times, np.array(values, np.float64), len(faults)


def without_set_backs(times: TopicTimes, set_backs: Sequence[SetBack]) -> TopicTimes:
    """Let headers that are on the recorder's clock ascend, too, where it was set back."""
    assert times.headers is not None
    headers = times.headers.copy()
    for start, by in set_backs:
        first = int(np.searchsorted(times.received, start))
        if 0 < first < len(headers) and headers[first] < headers[first - 1]:
            headers[first:] += np.where(headers[first:] > 0, by, 0)
    return times._replace(headers=headers)
