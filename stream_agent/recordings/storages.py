"""Files that hold the messages of a recording: MCAP or SQLite, as they are or compressed whole."""

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, ExitStack
import math
from pathlib import Path
import re
import shutil
import sqlite3
from tempfile import gettempdir, TemporaryDirectory
from typing import BinaryIO, cast

from stream_agent.recordings.mcap_file import (
    Channel, full_type, MAGIC as MCAP_MAGIC, McapFile, ZSTD_MAGIC, zstd_module)
from stream_agent.recordings.recording import BadRecordingError, own_file

SQLITE_MAGIC = b'SQLite format 3\0'
LFS_START = b'version https://git-lfs'
# A name, the number of a part of a recording that was split, and what it is.
NAME = re.compile(r'(?P<stem>.+?)(_\d+)?(?P<suffix>\.(mcap|db3)(\.zstd)?)')
# What SQLite has not yet moved into the file beside it, or would take back.
LOGS = ('-wal', '-journal')


def storages_at(path: Path) -> list[Path]:
    """Return the storages in a folder, or the one that a path is, by their names alone."""
    files = [path] if path.is_file() else sorted(path.glob('*'))
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
        self.base = sqlite3.connect(f'{path.resolve().as_uri()}?{options}', uri=True,
                                    check_same_thread=False)
        self.base.execute('PRAGMA trusted_schema = OFF')
        tables = {name for name, in self.base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise BadRecordingError('the file has no tables of topics and messages, so it is not '
                                    'of a recording; leave it out')
        self.channels = {
            number: Channel(topic, full_type(kind), encoding) for number, topic, kind, encoding in
            self.base.execute('SELECT id, name, type, serialization_format FROM topics')}
        self.counts: dict[int, int] = dict(self.base.execute(
            'SELECT topic_id, count(*) FROM messages GROUP BY topic_id'))
        ((self.first, self.last),) = self.base.execute(
            'SELECT ifnull(min(timestamp), 0), ifnull(max(timestamp), 0) FROM messages')
        self.stated: dict[int, int] = {}
        lost = sum(count for number, count in self.counts.items() if number not in self.channels)
        self.faults = [f'{lost} messages belong to no topic'] if lost else []

    def messages(self, wanted: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        """Yield channel, time [ns] and bytes of every message of some channels, by time."""
        marks = ', '.join('?' * len(wanted))
        yield from self.base.execute(
            f'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) '
            'ORDER BY timestamp, id', tuple(wanted))

    def close(self) -> None:
        self.base.close()


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
        magic, size = file.read(32), float(path.stat().st_size)
        packed = magic.startswith(ZSTD_MAGIC)
        if packed:
            size = zstd_module().get_frame_info(magic).decompressed_size or math.inf
            file.seek(0)
            file = cast(BinaryIO, stack.enter_context(zstd_module().open(file, 'rb')))
            magic = file.read(32)
        if magic.startswith(MCAP_MAGIC):
            yield McapFile(file, size)
            return
        if not magic.startswith(SQLITE_MAGIC):
            raise BadRecordingError(why_unknown(path, magic))
        base, options, logs = path, 'immutable=1', logs_of(path)
        if packed or logs:
            # Only a copy may have a log replayed.
            base = Path(stack.enter_context(TemporaryDirectory())) / 'copy.db3'
            file.seek(0)
            copy_limited(file, base, 0 if math.isinf(size) else int(size))
            for log in logs:
                shutil.copyfile(log, f'{base}{log.name.removeprefix(path.name)}')
            options = 'mode=rw'
        yield stack.enter_context(closing(SqliteFile(base, options)))


def why_unknown(path: Path, magic: bytes) -> str:
    """Say what a file is that is not read."""
    if not magic:
        return f"'{path.name}' is empty; copy it again, or leave it out"
    if magic.startswith(LFS_START):
        return f"'{path.name}' is a pointer of Git LFS; run `git lfs pull` there"
    return (f"'{path.name}' begins like neither MCAP, nor SQLite, nor zstd; copy it again, or leave "
            'it out')


def copy_limited(file: BinaryIO, path: Path, claimed: int) -> None:
    """
    Copy a file to the temporary folder, unless it does not fit there.

    :param claimed: Bytes that it says it has; 0 if it does not.
    :raises BadRecordingError: If there is no room; without the file.
    """
    room = shutil.disk_usage(path.parent).free
    remedy = (f"and '{gettempdir()}' has room for {room}; set TMPDIR to a folder with more room, "
              'or decompress it there')
    if claimed > room:
        raise BadRecordingError(f'it needs {claimed} bytes for a while, {remedy}')
    with open(path, 'wb') as copy:
        while part := file.read(2**20):
            if copy.tell() + len(part) > room:
                raise BadRecordingError(f'it needs over {copy.tell()} bytes for a while, {remedy}')
            copy.write(part)
