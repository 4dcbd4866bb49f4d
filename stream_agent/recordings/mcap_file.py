"""
MCAP files, read record by record from the front: indexes, summary and footer are not needed.

Written from the specification, https://mcap.dev/spec. Libraries start from the summary at the end,
and so lose what it does not repeat, or the whole of a file that a recorder could not finish.
"""

from array import array
from collections.abc import Collection, Iterator
from functools import lru_cache
from io import BytesIO
import struct
from typing import BinaryIO, NamedTuple
import zlib

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.recordings.recording import BadRecordingError, NS

MAGIC = b'\x89MCAP0\r\n'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# In bytes. No recorder writes larger chunks or messages: what claims more is damage, or an attack.
LARGEST = 2**30
UNKNOWN = 2**62
# Of a clock that was set back: messages of a channel that tell of it, how often that may be, and
# how often messages before and after alternate by time; between the two of its step [ns].
FEWEST, MOST_FALLS, LEAST_MIXED, NEXT_NS = 12, 5, 3, NS // 1000
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS = 1, 2, 3, 4, 5, 6, 11
START = struct.Struct('<BQ')
MESSAGE_START = struct.Struct('<HIQQ')
CHUNK_START = struct.Struct('<QQQI')
COUNT = struct.Struct('<HQ')


class DamagedError(ValueError):
    """Bytes that contradict themselves; the message says what is wrong."""


class Channel(NamedTuple):
    """
    A stream of messages in a storage.

    :param type: As in 'geometry_msgs/msg/Twist'; empty if the storage does not say.
    :param encoding: Of the messages: 'cdr' in ROS 2.
    """

    topic: str
    type: str
    encoding: str


class SetBack(NamedTuple):
    """
    Where the recorder's clock was set back.

    :param start: Time of the first message after that, ascending [ns].
    :param by: What was added to its time and those after it [ns].
    """

    start: int
    by: int


def full_type(name: str) -> str:
    """Return a type's name with the 'msg' that some recorders leave out."""
    package, _, short = name.partition('/')
    return f'{package}/msg/{short}' if short and '/' not in short else name


def check_size(claimed: int, what: str) -> None:
    """
    Refuse what would not fit into memory, before any is taken.

    :raises BadRecordingError: If it is over 1 GiB.
    """
    if claimed > LARGEST:
        raise BadRecordingError(f'{what} claims {claimed} bytes, and up to {LARGEST} are read; '
                                'the file is damaged, or is not a recording: copy it again')


def unzstd(data: bytes, what: str) -> bytes:
    """
    Decompress frames of zstd, to the size that they claim, if that is sensible.

    :raises BadRecordingError: If they claim or have over 1 GiB.
    :raises DamagedError: If they end early, or are not frames.
    """
    zstd = zstd_module()
    parts, total = [], 0
    try:
        while data:
            check_size(total + (zstd.get_frame_info(data).decompressed_size or 0), what)
            frame = zstd.ZstdDecompressor()
            parts.append(frame.decompress(data, max_length=LARGEST - total + 1))
            total += len(parts[-1])
            check_size(total, what)
            if not frame.eof:
                raise DamagedError('compressed data ends early')
            data = frame.unused_data
    except zstd.ZstdError as error:
        raise DamagedError(str(error)) from None
    return b''.join(parts)


def zstd_module():
    """Return the module of zstd: of Python since 3.14, before that the one that rosbags needs."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def decompressed(data: bytes, compression: str, size: int, what: str) -> bytes:
    """
    Return the records of a chunk.

    :param size: That the chunk claims, which ``check_size`` has seen.
    :raises DamagedError: If that is not what they have, or the compression is not known.
    """
    if compression == 'zstd':
        data = unzstd(data, what)
    elif compression == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        if size > 255 * len(data):  # more than the format can
            raise DamagedError(f'{size} bytes do not come from {len(data)}')
        try:
            data = LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        except RuntimeError as error:
            raise DamagedError(str(error)) from None
    elif compression:
        raise DamagedError(f"compression '{printable(compression)}' is not read")
    if len(data) != size:
        raise DamagedError(f'{len(data)} of {size} bytes')
    return data


class Fields(BytesIO):
    """The fields of a record, one after the other."""

    def number(self, size: int) -> int:
        return int.from_bytes(self.exactly(size), 'little')

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise DamagedError('a record ends early')
        return data

    def text(self) -> str:
        return self.exactly(self.number(4)).decode(errors='replace')


class McapFile:
    """
    The messages of an open file that are whole.

    :param size: Of the file in bytes, as far as it is known before it is read.
    :ivar channels: By number.
    :ivar counts: Messages that are whole, by channel.
    :ivar stated: Messages that the file itself counts, by channel; empty if it does not.
    :ivar faults: What was found damaged, in words.
    :ivar set_backs: Of the recorder's clock, among the messages that were read last.
    :ivar first, last: Times of messages [ns].
    """

    def __init__(self, file: BinaryIO, size: int = UNKNOWN) -> None:
        self._file, self._size = file, size
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[int, str, str]] = {}
        # (time, place of the chunk or 0, place in it or in the file, size), one after the other.
        self._index: dict[int, array] = {}
        self.profile = ''
        self.stated: dict[int, int] = {}
        self.faults: list[str] = []
        self.set_backs: list[SetBack] = []
        self._chunk = lru_cache(maxsize=2)(self._read_chunk)
        self._scan()
        self.channels = {
            number: Channel(topic, full_type(self._schemas.get(schema, '')), encoding)
            for number, (schema, topic, encoding) in self._channels.items()}
        self.counts = {number: len(index) // 4 for number, index in self._index.items()}
        times = [np.frombuffer(index, np.uint64)[::4] for index in self._index.values()]
        self.first = min((int(each.min()) for each in times), default=0)
        self.last = max((int(each.max()) for each in times), default=0)
        lost = sum(count for number, count in self.counts.items() if number not in self.channels)
        if lost:
            self.faults.append(f'{lost} messages belong to no topic')

    def _scan(self) -> None:
        """Index what is whole, up to the footer or to where the file breaks off."""
        place = len(MAGIC)
        self._file.seek(place)
        try:
            while (start := self._file.read(START.size)):
                if len(start) < START.size:
                    break
                kind, size = START.unpack(start)
                if kind == FOOTER:
                    return
                if not kind or place + START.size + size > self._size:
                    break
                self._take_record(kind, size, place)
                place += START.size + size
        except (EOFError, zstd_module().ZstdError):  # of a file that is compressed as a whole
            pass
        rest = '' if self._size == UNKNOWN else f', {self._size - place} bytes before its end'
        self.faults.append('it was not finished by its recorder' if place == self._size else
                           f'it breaks off at byte {place}{rest}')

    def _take_record(self, kind: int, size: int, place: int) -> None:
        """Index one record of the file; one that is damaged is left out."""
        inside = place + START.size
        if kind not in (HEADER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS):
            self._file.seek(inside + size)
            return
        check_size(size, f'the record at byte {place}')
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError
        try:
            if kind == CHUNK:
                records = self._unpacked(data, place)
                for each, start, length in records_of(records):
                    self._take(each, records[start:start + length] if each != MESSAGE else
                               records[start:start + MESSAGE_START.size], place, start, length)
            else:
                self._take(kind, data, 0, inside, size)
        except (DamagedError, struct.error, OverflowError) as error:
            self.faults.append(f'the record at byte {place} is damaged ({error})')

    def _unpacked(self, data: bytes, place: int) -> bytes:
        """
        Return the records of a chunk, as its checksum says that they are.

        :raises DamagedError: If they are not.
        """
        fields = Fields(data)
        _, _, size, checksum = CHUNK_START.unpack(fields.exactly(CHUNK_START.size))
        what = f'the chunk at byte {place}'
        check_size(size, what)
        compression = fields.text()
        records = decompressed(fields.exactly(fields.number(8)), compression, size, what)
        if checksum and zlib.crc32(records) != checksum:
            raise DamagedError('its checksum differs')
        return records

    def _read_chunk(self, place: int) -> bytes:
        self._file.seek(place)
        _, size = START.unpack(self._file.read(START.size))
        return self._unpacked(self._file.read(size), place)

    def _take(self, kind: int, data: bytes, chunk: int, inside: int, size: int) -> None:
        """Take up what a record says; of a message only where it is."""
        if kind == MESSAGE:
            number, _, time, _ = MESSAGE_START.unpack_from(data)
            if size < MESSAGE_START.size or time >= 2**63:
                raise DamagedError('a message is too short, or of no time')
            self._index.setdefault(number, array('Q')).extend(
                (time, chunk, inside + MESSAGE_START.size, size - MESSAGE_START.size))
            return
        fields = Fields(data)
        if kind == HEADER:
            self.profile = fields.text()
        elif kind in (SCHEMA, CHANNEL):
            number = fields.number(2)
            if kind == SCHEMA:
                self._schemas[number] = fields.text()
            else:
                self._channels[number] = fields.number(2), fields.text(), fields.text()
        elif kind == STATISTICS:
            fields.seek(42)
            self.stated = dict(COUNT.iter_unpack(fields.exactly(fields.number(4))))

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """
        Yield channel, time [ns] and bytes of every message of some channels, by time.

        Where the recorder's clock was set back, times are those of ``unfolded``.
        """
        numbers = [number for number in wanted if number in self._index]
        if not numbers:
            return
        index = np.concatenate([np.frombuffer(self._index[number], np.uint64).reshape(-1, 4)
                                for number in numbers])
        channels = np.repeat(numbers, [self.counts[number] for number in numbers])
        as_written = np.lexsort((index[:, 2], index[:, 1]))
        index, channels = index[as_written], channels[as_written]
        times, self.set_backs = unfolded(index[:, 0].astype(np.int64), channels)
        for row in np.argsort(times, kind='stable'):
            time, (_, chunk, place, size) = int(times[row]), map(int, index[row])
            if chunk:
                data = self._chunk(chunk)[place:place + size]
            else:
                self._file.seek(place)
                data = self._file.read(size)
            yield int(channels[row]), time, data


def unfolded(times: np.ndarray, channels: np.ndarray) -> tuple[np.ndarray, list[SetBack]]:
    """
    Let the times of reception ascend where the recorder's clock was set back.

    By time, what was recorded after that would be mixed with what was recorded before.

    :param times: In the order in which the messages were written, (N,) int64 [ns].
    :param channels: Of each, (N,).
    """
    times, found = times.copy(), list[SetBack]()
    for place in falls(times, channels):
        by = int(times[:place].max() - times[place]) + NEXT_NS
        times[place:] += by
        found.append(SetBack(int(times[place]), by))
    return times, found


def falls(times: np.ndarray, channels: np.ndarray) -> list[int]:
    """
    Return which messages are the first after the recorder's clock was set back.

    A recorder writes the messages of a channel as it receives them, so then, and never else, the
    times of all channels fall, and go through what was before again. Other files may be in any
    order.
    """
    places = [np.flatnonzero(channels == channel) for channel in np.unique(channels)]
    found: list[tuple[int, int]] = []
    for number, of_channel in enumerate(places):
        each = times[of_channel]
        back = (np.flatnonzero(np.diff(each) < 0) + 1).tolist()
        if len(each) < FEWEST or len(back) > MOST_FALLS:
            return []
        found += [(int(of_channel[i]), number) for i in back if comes_again(each, i)]
    starts, seen = list[int](), set[int]()
    for place, number in sorted(found):
        starts += [] if seen else [place]
        seen.add(number)
        if len(seen) == len(places):
            seen.clear()
    return [] if seen else starts


def comes_again(times: np.ndarray, start: int) -> bool:
    """Tell whether the times from one message on go through those before it again."""
    before, after = times[:start], times[start:]
    before, after = before[before > after[0]], after[after < before.max()]
    later = np.repeat([False, True], [len(before), len(after)])
    mixed = later[np.argsort(np.concatenate([before, after]), kind='stable')]
    return int((mixed[1:] != mixed[:-1]).sum()) > LEAST_MIXED


def records_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """
    Yield kind, place and size of the records of a chunk.

    :raises DamagedError: At one that is longer than what is left.
    """
    place = 0
    while place < len(data):
        kind, size = START.unpack_from(data, place)
        place += START.size
        if place + size > len(data):
            raise DamagedError('a record is longer than its chunk')
        yield kind, place, size
        place += size
