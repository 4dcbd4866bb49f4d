"""The files of a recording: MCAP or SQLite, as they are or compressed, and metadata.yaml."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, ExitStack, suppress
from itertools import pairwise
import os
from pathlib import Path
import re
import shutil
import sqlite3
from tempfile import gettempdir, TemporaryDirectory
from typing import BinaryIO, cast, NamedTuple

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.graph_files.located_yaml import read_yaml
from stream_agent.recordings.mcap_file import (
    Channel, full_type, MAGIC as MCAP_MAGIC, McapFile, SetBack, unfolded, UNKNOWN,
    ZSTD_MAGIC, zstd_module)
from stream_agent.recordings.recording import BadRecordingError, own_file, TIME_JUMP_NS

SQLITE_MAGIC = b'SQLite format 3\0'
LFS_START = b'version https://git-lfs'
POINTER = 'a pointer of Git LFS; run `git lfs pull` there'
# A name, the number of a part of a recording that was split, and what it is.
NAME = re.compile(r'(?P<stem>.+?)(_\d+)?(?P<suffix>\.(mcap|db3))(\.zstd)?')
METADATA = 'metadata.yaml'
WITHOUT = f'move {METADATA} away to use what is there'
# What SQLite has not yet moved into the file beside it, or would take back.
LOGS = ('-wal', '-journal')


def storages_at(path: Path) -> list[Path]:
    """Return the storages in a folder, or the one that a path is, by their names alone."""
    # Part 10 comes after part 9.
    files = [path] if path.is_file() else sorted(
        path.glob('*'), key=lambda file: (len(file.name), file.name))
    return [file for file in files if file.is_file() and NAME.fullmatch(file.name)]


def stems_of(files: Collection[Path]) -> set[str]:
    """Return what files are called, less the numbers of parts: one name for one recording."""
    matches = (NAME.fullmatch(file.name) for file in files)
    return {match['stem'] + match['suffix'] for match in matches if match}


def logs_of(path: Path) -> list[Path]:
    """Return the logs of SQLite beside a storage that have something in them."""
    logs = [own_file(path.parent, path.name + log) for log in LOGS]
    return [log for log in logs if log.is_file() and log.stat().st_size]


class SqliteFile:
    """
    The messages of an SQLite storage; attributes are as in ``McapFile``.

    :param options: Of SQLite's URI, such as 'mode=ro'.
    :raises sqlite3.Error: If the file is damaged.
    :raises BadRecordingError: If it is not a recording; without the file.
    """

    profile = ''

    def __init__(self, path: Path, options: str) -> None:
        self._base = sqlite3.connect(f'{path.resolve().as_uri()}?{options}', uri=True,
                                     check_same_thread=False)
        self._base.execute('PRAGMA trusted_schema = OFF')
        # With it, SQLite opens a file that lacks pages at its end; nothing can be written.
        self._base.execute('PRAGMA writable_schema = ON')
        tables = {name for name, in self._base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise BadRecordingError('the file has no tables of topics and messages, so it is not '
                                    'of a recording; leave it out')
        self.faults: list[str] = []
        self.set_backs: list[SetBack] = []
        self.stated: dict[int, int] = {}
        self._source = self._whole() if missing_bytes(path) else 'messages'
        self.channels = {
            number: Channel(topic, full_type(kind), encoding) for number, topic, kind, encoding in
            self._base.execute('SELECT id, name, type, serialization_format FROM topics')}
        self.counts: dict[int, int] = dict(self._base.execute(
            f'SELECT topic_id, count(*) FROM {self._source} GROUP BY topic_id'))
        ((self.first, self.last),) = self._base.execute(
            f'SELECT ifnull(min(timestamp), 0), ifnull(max(timestamp), 0) FROM {self._source}')
        lost = sum(count for number, count in self.counts.items() if number not in self.channels)
        if lost:
            self.faults.append(f'{lost} messages belong to no topic')

    def _whole(self) -> str:
        """Return what to read instead of the table of messages, of which pages are missing."""
        last = count = 0
        try:
            for last, _ in self._base.execute('SELECT id, data FROM messages ORDER BY id'):
                count += 1
        except sqlite3.DatabaseError:
            self.faults.append(f'it breaks off after {count} messages')
        # An index by time may be where pages are missing.
        return f'(SELECT * FROM messages NOT INDEXED WHERE id <= {last} ORDER BY id LIMIT {count})'

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Yield channel, time [ns] and bytes of messages, as ``McapFile.messages`` does."""
        marks = ', '.join('?' * len(wanted))
        some = f'FROM {self._source} WHERE topic_id IN ({marks})'
        by_time = self._base.execute(f'SELECT id FROM {self._source} ORDER BY timestamp, id')
        if all(one < other for one, other in pairwise(by_time)):
            yield from self._base.execute(
                f'SELECT topic_id, timestamp, data {some} ORDER BY timestamp, id', tuple(wanted))
            return
        ids, channels, times = np.array(self._base.execute(
            f'SELECT id, topic_id, timestamp {some} ORDER BY id', tuple(wanted)
            ).fetchall(), np.int64).reshape(-1, 3).T
        times, self.set_backs = unfolded(times, channels)
        for row in np.argsort(times, kind='stable'):
            (data,) = self._base.execute(f'SELECT data FROM {self._source} WHERE id = ?',
                                         (int(ids[row]),)).fetchone()
            yield int(channels[row]), int(times[row]), data

    def close(self) -> None:
        self._base.close()


def page_size(path: Path) -> int:
    """Return the size of a page of SQLite in bytes."""
    with open(path, 'rb') as file:
        size = int.from_bytes(file.read(18)[16:], 'big')
    return 65536 if size == 1 else max(size, 1)


def missing_bytes(path: Path) -> bool:
    """Tell whether a file of SQLite lacks some of the pages that its header counts."""
    with open(path, 'rb') as file:
        count = int.from_bytes(file.read(32)[28:], 'big')
    return path.stat().st_size < count * page_size(path)


Storage = McapFile | SqliteFile


@contextmanager
def opened_storage(path: Path) -> Iterator[Storage]:
    """
    Open a storage by what it is, whatever its name or metadata.yaml say; nothing is changed.

    :raises BadRecordingError: If it is neither MCAP nor SQLite; without the file. Readers of
        damaged files raise their own errors, too.
    """
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(open(path, 'rb'))
        magic, size = file.read(32), path.stat().st_size
        packed, claimed = magic.startswith(ZSTD_MAGIC), 0
        if packed:
            claimed = zstd_module().get_frame_info(magic).decompressed_size or 0
            size = UNKNOWN  # as further frames may follow
            file.seek(0)
            file = cast(BinaryIO, stack.enter_context(zstd_module().open(file, 'rb')))
            magic = file.read(32)
        if magic.startswith(MCAP_MAGIC):
            yield McapFile(file, size)
            return
        if not magic.startswith(SQLITE_MAGIC):
            raise BadRecordingError(why_unknown(path, magic))
        base, options, logs = path, 'immutable=1', logs_of(path)
        if packed or logs or missing_bytes(path):
            # Only a copy may have a log replayed, or a page removed that is there in part.
            base = Path(stack.enter_context(TemporaryDirectory())) / 'copy.db3'
            file.seek(0)
            copy_limited(file, base, claimed)
            for log in logs:
                shutil.copyfile(log, f'{base}{log.name.removeprefix(path.name)}')
            options = 'mode=rw'
            if not logs and missing_bytes(base):
                os.truncate(base, base.stat().st_size // page_size(base) * page_size(base))
        yield stack.enter_context(closing(SqliteFile(base, options)))


def why_unknown(path: Path, magic: bytes) -> str:
    """Say what a file is that is not read."""
    if not magic:
        return f"'{path.name}' is empty; copy it again, or leave it out"
    if magic.startswith(LFS_START):
        return f"'{path.name}' is {POINTER}"
    return (f"'{path.name}' begins like neither MCAP, nor SQLite, nor zstd; copy it again, or "
            'leave it out')


def copy_limited(file: BinaryIO, path: Path, claimed: int) -> None:
    """
    Copy a file to the temporary folder, unless it does not fit there.

    :param claimed: Bytes that it says it has; 0 if it does not.
    :raises BadRecordingError: If there is no room; without the file.
    """
    room = shutil.disk_usage(path.parent).free
    remedy = (f"but '{gettempdir()}' has room for {room}; set TMPDIR to a folder with more room, "
              'or decompress it there')
    if claimed > room:
        raise BadRecordingError(f'it needs {claimed} bytes of temporary space, {remedy}')
    # What breaks off lacks pages then, which is seen later.
    with open(path, 'wb') as copy, suppress(EOFError):
        while part := file.read(2**16):
            if copy.tell() + len(part) > room:
                raise BadRecordingError(f'it needs over {copy.tell()} bytes of temporary '
                                        f'space, {remedy}')
            copy.write(part)


class Stream(NamedTuple):
    """The messages of one type on one topic."""

    topic: str
    type: str


class Metadata(NamedTuple):
    """
    What metadata.yaml says of a recording.

    :param files: Names of the storages.
    :param counts: Messages of every stream that is encoded as in ROS 2.
    :param publishers: How many there were of each, by their offers of QoS.
    """

    files: list[str]
    counts: Counter[Stream]
    publishers: dict[Stream, int]


def read_metadata(path: Path) -> Metadata | None:
    """
    Return what metadata.yaml says of a folder's recording; None without one.

    :raises BadRecordingError: If it is not valid, or names what is not read; without the folder.
    """
    file = path / METADATA
    if not path.is_dir() or not file.exists():
        return None
    own_file(path, METADATA)
    counts, publishers = Counter[Stream](), {}
    try:
        about = read_yaml(file.read_text(), METADATA)['rosbag2_bagfile_information']
        files = list(dict.fromkeys(re.split(r'[/\\]', name)[-1]
                                   for name in about['relative_file_paths']))
        if not isinstance(about['relative_file_paths'], list):
            raise TypeError
        for each in about['topics_with_message_count']:
            topic = each['topic_metadata']
            if topic.get('serialization_format', 'cdr') != 'cdr':
                continue
            stream = Stream(topic['name'], full_type(topic['type']))
            counts[stream] += int(each['message_count'])
            offers = topic.get('offered_qos_profiles') or ''
            publishers[stream] = (offers.count('history:') if isinstance(offers, str)
                                  else len(offers))
        mode = str(about.get('compression_mode') or '').lower()
        codec = str(about.get('compression_format'))
    except OSError:
        raise
    # Edited by hand, it can be anything.
    except Exception as error:
        fault = (f'it lacks {error}' if isinstance(error, KeyError) else
                 error if isinstance(error, ValueError) else 'its values are of other kinds')
        raise BadRecordingError(f'{METADATA} is not that of a recording ({fault}); fix it there, '
                                f'or {WITHOUT}') from error
    if mode in ('file', 'message') and codec != 'zstd':
        raise BadRecordingError(f'{METADATA}: a {mode} is compressed by {printable(codec)}, and '
                                'zstd is what is read; decompress the recording, or record it '
                                'with zstd')
    return Metadata(files, counts, publishers)


def files_to_read(path: Path, metadata: Metadata | None) -> tuple[list[Path], list[str]]:
    """
    Return the storages of a recording, and what is to be said of them.

    Files may have been renamed or decompressed since: as many others then stand for them, and
    their messages are held against metadata.yaml's counts, like all.

    :raises BadRecordingError: If some are missing; without the folder.
    """
    there = storages_at(path)
    if path.is_dir():
        there = [own_file(path, file.name) for file in there]
    if metadata is None:
        return there, []
    listed = [own_file(path, name) for name in metadata.files]
    found = [file for file in listed if file.is_file()]
    missing = ', '.join(printable(file.name) for file in listed if not file.is_file())
    others = [file for file in there if file not in found]
    if missing and len(found) + len(others) != len(listed):
        raise BadRecordingError(f'{missing}, listed in {METADATA}, is missing; copy it there, or '
                                f'{WITHOUT}')
    names = ', '.join(printable(file.name) for file in others)
    if missing:
        return found + others, [f'{names} is read in place of {missing}, which {METADATA} lists']
    return found, [f'{names} is not listed in {METADATA}, and not read; {WITHOUT}'
                   ] if others else []


def check_order(files: list[Path], storages: list[Storage]) -> None:
    """
    Refuse files as parts of one recording that are of the same time.

    :raises BadRecordingError: If two overlap by over half a second; without the folder.
    """
    parts = sorted(zip(storages, files), key=lambda part: part[0].first)
    for (before, one), (after, other) in zip(parts, parts[1:]):
        if before.last - after.first > TIME_JUMP_NS:
            raise BadRecordingError(f"'{one.name}' and '{other.name}' are of the same time, so "
                                    'not parts of one recording; give them one by one')
