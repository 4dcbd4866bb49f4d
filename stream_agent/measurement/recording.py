"""A recording on disk: writing that never waits for the disk, and reading."""

from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
import csv
import json
import os
from pathlib import Path
import threading
import time

from stream_agent.measurement.rows import Row

ROWS_FILE = 'rows.csv'
CHANGES_FILE = 'scene_changes.csv'
RUN_FILE = 'run.json'
HEADERS = {ROWS_FILE: ','.join(Row._fields), CHANGES_FILE: 'stamp_ns'}
WRITE_PERIOD = 0.5


class RecordingError(ValueError):
    """A recording that cannot be written or read; the message says where and what to do."""


def make_folder(output: Path, now: time.struct_time | None = None) -> Path:
    """
    Make a new folder named by date and time in ``output``, and let ``latest`` point to it.

    :raises RecordingError: If no folder can be made there.
    """
    name = time.strftime('%Y-%m-%d_%H-%M-%S', now or time.localtime())
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = output / name
        # Another run may make the same folder in this very moment.
        for number in range(2, 100):
            with suppress(FileExistsError):
                folder.mkdir()
                break
            folder = output / f'{name}_{number}'
        else:
            folder.mkdir()
    except OSError as error:
        raise RecordingError(f"output '{output}': no folder can be made there "
                             f'({error.strerror}); choose one that can be written') from error
    link = output / f'.latest-{os.getpid()}'
    try:
        link.symlink_to(folder.name)
        os.replace(link, output / 'latest')
    except OSError:
        # Some file systems have no links; then there is no ``latest`` either.
        link.unlink(missing_ok=True)
    return folder


def row_to_line(row: Row) -> str:
    """Return a row as a line of CSV without its end; unknown values are empty."""
    return ','.join('' if value is None or value != value
                    else f'{value:.9g}' if isinstance(value, float) else str(value)
                    for value in row)


class Writer:
    """
    Appends to the files of a recording from its own thread.

    Callers never wait: the queue is bounded, and if the disk does not keep up, the oldest lines
    are dropped and counted. Lines reach the file whole and within half a second, so that a killed
    process leaves readable files.

    :param folder: An existing folder.
    :param queue_size: The number of lines that may wait for the disk.
    :ivar error: Why the files are not complete; empty if they are.
    """

    def __init__(self, folder: Path, queue_size: int) -> None:
        self.folder = folder
        self.written = 0
        self.dropped = 0
        self.error = ''
        self._handed_over = 0
        self._queue: deque[tuple[str, str]] = deque()
        self._queue_size = queue_size
        self._description: dict | None = None
        self._leave = threading.Event()
        # A daemon: one that hangs on a dead disk must not keep the process alive.
        self._thread = threading.Thread(target=self._run, daemon=True, name='recording')
        self._thread.start()

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Queue rows to be written."""
        for row in rows:
            self._put(ROWS_FILE, row_to_line(row))

    def put_change(self, stamp_ns: int) -> None:
        """Queue the stamp of the first frame that shows a changed scene."""
        self._put(CHANGES_FILE, str(stamp_ns))

    def describe(self, description: dict) -> None:
        """Set the new content of ``run.json``."""
        self._description = description

    def close(self, timeout: float) -> bool:
        """
        Write all lines that are waiting, and end the thread.

        :param timeout: The time [s] after which lines that still wait are abandoned.
        :returns: Whether the files hold everything that was queued and not dropped.
        """
        self._leave.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.error = self.error or f'the disk did not answer within {timeout:g} s'
        self.dropped = self._handed_over - self.written
        return not self.error

    def _put(self, file_name: str, line: str) -> None:
        if len(self._queue) >= self._queue_size:
            # The thread may have emptied the queue since.
            with suppress(IndexError):
                self._queue.popleft()
                self.dropped += 1
        self._queue.append((file_name, line))
        self._handed_over += 1

    def _run(self) -> None:
        files = {}
        try:
            for name, header in HEADERS.items():
                files[name] = os.open(self.folder / name,
                                      os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                write_all(files[name], header + '\n')
            while not self._leave.wait(WRITE_PERIOD):
                self._write(files)
            self._write(files)
        except OSError as error:
            self.error = f"'{self.folder}': {error.strerror}"
            # Keep emptying the queue, so that the caller notices nothing but the count.
            while not self._leave.wait(WRITE_PERIOD):
                self.dropped += len(self._queue)
                self._queue.clear()
        finally:
            for file in files.values():
                os.close(file)

    def _write(self, files: dict[str, int]) -> None:
        batches: dict[str, list[str]] = defaultdict(list)
        with suppress(IndexError):
            while True:
                name, line = self._queue.popleft()
                batches[name].append(line + '\n')
        for name, lines in batches.items():
            write_all(files[name], ''.join(lines))
            self.written += len(lines)
        if self._description is not None:
            description, self._description = self._description, None
            # Replaced as a whole, so that a reader sees either the old file or the new one.
            new = self.folder / f'.{RUN_FILE}'
            new.write_text(json.dumps(description, indent=1))
            os.replace(new, self.folder / RUN_FILE)


def write_all(file: int, text: str) -> None:
    """Write to a file descriptor until nothing is left."""
    data = text.encode()
    while data:
        data = data[os.write(file, data):]


def read_rows(folder: Path) -> list[Row]:
    """
    Read the rows of a recording, without the incomplete last line of a killed recorder.

    :raises RecordingError: If the file does not exist, or a line is not a row.
    """
    path = folder / ROWS_FILE
    lines = list(csv.reader(whole_lines(path)))
    if not lines or lines[0] != list(Row._fields):
        raise RecordingError(f"'{path}': the first line is not the recorder's; "
                             'give the folder of a recording')
    rows = []
    for number, fields in enumerate(lines[1:], start=2):
        try:
            rows.append(line_to_row(fields))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"'{path}' line {number}: not a row ({error}); "
                                 'remove the line') from error
    return rows


def whole_lines(path: Path) -> list[str]:
    """Return the complete lines of a file."""
    try:
        return path.read_text().split('\n')[:-1]
    except OSError as error:
        raise RecordingError(f"'{path}': {error.strerror}; give the folder of a recording"
                             ) from error


# How a field is read, by the type of its column; an empty field is an unknown value.
READERS = {str: str, int: int, float: lambda text: float(text or 'nan'),
           int | None: lambda text: int(text) if text else None}


def line_to_row(fields: list[str]) -> Row:
    """Read a row from its fields; the inverse of ``row_to_line``."""
    kinds = Row.__annotations__.values()
    return Row(*(READERS[kind](field) for kind, field in zip(kinds, fields, strict=True)))


def read_changes(folder: Path) -> list[int]:
    """Return the stamps of the scene changes [ns]."""
    return [int(line) for line in whole_lines(folder / CHANGES_FILE)[1:]]


def read_description(folder: Path) -> dict:
    """Return ``run.json``; empty if the recorder was killed before it was written."""
    path = folder / RUN_FILE
    return json.loads(path.read_text()) if path.exists() else {}
