"""Recordings by rosbag2, MCAP or SQLite, read without ROS."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, ExitStack
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from stream_agent.bounded_settings import printable
from stream_agent.contract.image_files import ImageError
from stream_agent.images import check_encoding
from stream_agent.recordings.cdr_reader import CdrError, read_cdr
from stream_agent.recordings.command_messages import DEFINITIONS
from stream_agent.recordings.mcap_file import (
    DamagedError, NEXT_NS, SetBack, unzstd, ZSTD_MAGIC)
from stream_agent.recordings.recording import BadRecordingError, NS
from stream_agent.recordings.storages import (
    check_order, files_to_read, METADATA, Metadata, opened_storage, read_metadata, stems_of,
    Storage, storages_at, Stream, WITHOUT)

# By so much the messages of one part of a recording may be older than those of the part before.
MOST_OVERLAP_NS = NS // 10


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


def deserialized(data: bytes, message_type: str) -> Any:
    """Return a message; raises ImageError if the bytes are not one of that type."""
    check_encoding(data)
    try:
        return types().deserialize_cdr(data, message_type)
    except Exception as error:  # generated code, which meets any bytes
        try:
            return read_cdr(data, message_type, types())
        except CdrError:
            raise ImageError(f'the message is not a {message_type} ({error!r})') from error


def is_known(message_type: str) -> bool:
    """Tell whether messages of a type can be read."""
    return message_type in types().fielddefs


def has_header(message_type: str) -> bool:
    """Tell whether messages of a type begin with a header, which has their stamp."""
    _, fields = types().fielddefs[message_type]
    return bool(fields) and fields[0][1][1] == 'std_msgs/msg/Header'
