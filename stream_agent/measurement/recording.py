"""A recording on disk: writing that never waits for the disk, and reading."""

from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
import csv
import json
import math
import os
from pathlib import Path
import re
import shlex
import threading
import time
from typing import Any

from stream_agent.measurement.rows import BASE, columns, Element, Row, Values

ROWS_FILE = 'rows.csv'
CHANGES_FILE = 'scene_changes.csv'
RUN_FILE = 'run.json'
# Of a base; of a vector ``rows.csv`` has a column for each element.
HEADERS = {ROWS_FILE: ','.join(columns(element.name for element in BASE)),
           CHANGES_FILE: 'stamp_ns'}
WRITE_PERIOD = 0.5
# At most so many bytes are written at a time, so that a slow disk is told from a dead one.
MOST_AT_ONCE = 2**16
LONGEST_TEXT = 200


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


def again(folder: Path) -> str:
    """Return, as part of a sentence, the command that makes the report of a recording."""
    return f'`python -m stream_agent.measurement.report {shlex.quote(str(folder))}`'


def printable(text: object) -> str:
    """Return a text from outside without control characters, and at most 200 characters of it."""
    text = ''.join(each if each.isprintable() else '\N{REPLACEMENT CHARACTER}'
                   for each in str(text)[:LONGEST_TEXT + 1])
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT - 1] + '…'


def row_to_line(row: Row) -> str:
    """Return a row as a line of CSV without its end; unknown values are empty."""
    return ','.join(','.join(map(field_of, value)) if isinstance(value, tuple)
                    else field_of(value) for value in row)


def field_of(value: float | int | str | None) -> str:
    """Return a value as a field of CSV."""
    return ('' if value is None or value != value
            else f'{value:.9g}' if isinstance(value, float)
            else quoted(printable(value)) if isinstance(value, str) else str(value))


def quoted(text: str) -> str:
    """Return a text as a field of CSV."""
    return '"' + text.replace('"', '""') + '"' if ',' in text or '"' in text else text


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one; a link is not followed."""
    new = path.with_name(f'.{path.name}')
    new.unlink(missing_ok=True)
    try:
        with new.open('x', encoding='utf-8') as file:
            file.write(text)
        os.replace(new, path)
    except OSError:
        # A part of it would take the last of a full disk.
        new.unlink(missing_ok=True)
        raise


class Writer:
    """
    Appends to the files of a recording from its own thread.

    Callers never wait: the queue is bounded, and if the disk does not keep up, the oldest lines
    are dropped and counted. Lines reach the file whole and within half a second, so that a killed
    process leaves readable files. What a full disk refuses is tried again until there is space.

    :param folder: An existing folder.
    :param queue_size: The number of lines that may wait for the disk.
    :param elements: What a command consists of.
    :ivar written: The number of lines in the files, without the first of each.
    :ivar error: Why the last attempt to write failed; empty if it did not.
    """

    def __init__(self, folder: Path, queue_size: int, elements: Iterable[Element] = BASE
                 ) -> None:
        self.folder = folder
        self.written = 0
        self.dropped = 0
        self.error = ''
        self._handed_over = 0
        self._queue: deque[tuple[str, str]] = deque()
        self._queue_size = queue_size
        # What is still to be written of lines that have left the queue, by the file.
        rows = ','.join(map(field_of, columns(element.name for element in elements)))
        self._pending = {name: f'{header}\n'.encode()
                         for name, header in {**HEADERS, ROWS_FILE: rows}.items()}
        self._headless = set(self._pending)
        self._description: dict | None = None
        self._newest_description: dict = {}
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
        self._description = self._newest_description = description

    def close(self, timeout: float) -> bool:
        """
        Write all lines that are waiting, and end the thread.

        :param timeout: The time [s] without progress after which waiting lines are abandoned.
        :returns: Whether the files hold everything that was queued and not dropped.
        """
        self._leave.set()
        written = -1
        while self._thread.is_alive() and self.written != written:
            written = self.written
            self._thread.join(timeout)
        if self._thread.is_alive():
            self.error = self.error or f'the disk did not answer within {timeout:g} s'
        self.dropped = self._handed_over - self.written
        if self.dropped and not self._thread.is_alive():
            # Whoever makes a report of it is to know.
            with suppress(OSError):
                replace_file(self.folder / RUN_FILE, json.dumps(
                    {**self._newest_description, 'dropped': self.dropped}, indent=1))
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
        files: dict[str, int] = {}
        self._attempt(files)
        while not self._leave.wait(WRITE_PERIOD):
            self._attempt(files)
        self._attempt(files)
        for file in files.values():
            with suppress(OSError):
                os.close(file)

    def _attempt(self, files: dict[str, int]) -> None:
        """Write what there is, and note what prevents it."""
        try:
            self._write(files)
            self.error = ''
        except OSError as error:
            self.error = f"'{self.folder}': {error.strerror}"

    def _write(self, files: dict[str, int]) -> None:
        self._write_pending(files)
        batches: dict[str, list[str]] = defaultdict(list)
        with suppress(IndexError):
            while True:
                name, line = self._queue.popleft()
                batches[name].append(line + '\n')
        self._pending = {name: ''.join(lines).encode() for name, lines in batches.items()}
        self._write_pending(files)
        if self._description is not None:
            description, self._description = self._description, None
            try:
                replace_file(self.folder / RUN_FILE, json.dumps(description, indent=1))
            except OSError:
                self._description = self._description or description
                raise

    def _write_pending(self, files: dict[str, int]) -> None:
        """Write until nothing is left of the lines that have left the queue."""
        for name in list(self._pending):
            if name not in files:
                files[name] = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT
                                      | os.O_APPEND | os.O_NOFOLLOW, 0o644)
            while data := self._pending[name]:
                size = os.write(files[name], data[:MOST_AT_ONCE])
                self._pending[name] = data[size:]
                if name not in self._headless:
                    self.written += data[:size].count(b'\n')
            del self._pending[name]
            self._headless.discard(name)


def read_rows(folder: Path) -> list[Row]:
    """
    Read the rows of a recording, without the incomplete last line of a killed recorder.

    :raises RecordingError: As ``read_recording``.
    """
    return read_recording(folder)[0]


def read_recording(folder: Path) -> tuple[list[Row], list[str]]:
    """
    Read the rows of a recording, and the names of the elements of its commands.

    :raises RecordingError: If the file does not exist, or a line is not a row.
    """
    path, rows = folder / ROWS_FILE, list[Row]()
    lines = csv.reader(whole_lines(path))
    try:
        found = next(lines, [])
        names = element_names(found)
        if not names or found != columns(names):
            named = f'names the columns {printable(",".join(found))}' if found else 'is missing'
            raise RecordingError(f"'{path}': the first line {named}; a recording has "
                                 f'{HEADERS[ROWS_FILE]}. Give the file as the recorder wrote it')
        rows.extend(line_to_row(fields, len(names)) for fields in lines)
    except (TypeError, ValueError, csv.Error) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"'{path}' line {len(rows) + 2}: not a row ({printable(error)}); "
                             'remove the line') from error
    return rows, names


def element_names(header: list[str]) -> list[str]:
    """Return the names of a command's elements in the columns of ``rows.csv``."""
    start = Row._fields.index('command')
    return header[start:start + (len(header) - len(columns(()))) // 3]


def is_cut(folder: Path) -> bool:
    """Tell whether the rows of a recording break off within a line."""
    return not read_text(folder / ROWS_FILE).endswith('\n')


def whole_lines(path: Path) -> list[str]:
    """Return the complete lines of a file."""
    return read_text(path).split('\n')[:-1]


def read_text(path: Path) -> str:
    """Read a file of a recording; RecordingError if that cannot be done."""
    try:
        # Some editors put a byte order mark at the start.
        return path.read_text('utf-8-sig')
    except OSError as error:
        raise RecordingError(f"'{path}': {error.strerror}; give the folder of a recording"
                             ) from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"'{path}': not text at byte {error.start} ({error.reason}); give "
                             'the folder of a recording') from error


def whole(text: str) -> int:
    """Read a count, or a time in ns of 64 bits, as in ROS; other numbers overflow in sums."""
    if not re.fullmatch('[0-9]{1,19}', text) or int(text) >= 2**63:
        raise ValueError(f"'{printable(text)}' is not a whole number from 0 to 2^63 - 1")
    return int(text)


# How a field is read, by the type of its column; an empty field is an unknown value.
READERS: dict = {str: printable, int: whole, float: lambda text: float(text or 'nan'),
                 int | None: lambda text: whole(text) if text else None}


def line_to_row(fields: list[str], size: int = len(BASE)) -> Row:
    """
    Read a row from its fields; the inverse of ``row_to_line``.

    :param size: How many elements a command has.
    """
    expected = len(columns([''] * size))
    if len(fields) != expected:
        raise ValueError(f'{len(fields)} columns instead of {expected}')
    left = iter(fields)
    values: list[Any] = [
        tuple(READERS[float](next(left)) for _ in range(size)) if kind == Values
        else READERS[kind](next(left)) for kind in Row.__annotations__.values()]
    return Row(*values)


def read_changes(folder: Path) -> list[int]:
    """Return the stamps of the scene changes [ns]; RecordingError if a line is not a number."""
    path, stamps = folder / CHANGES_FILE, list[int]()
    try:
        stamps.extend(map(whole, whole_lines(path)[1:]))
    except RecordingError:
        raise
    except ValueError as error:
        raise RecordingError(f"'{path}' line {len(stamps) + 2}: not a stamp in ns ({error}); "
                             'remove the line') from error
    return stamps


# What the entries of ``run.json`` are that a report is made of.
KINDS: dict = {'policies': dict, 'outputs': dict, 'versions': dict, 'diagnostics': dict,
               'remarks': list, 'silent': list, 'camera_period': (int, float), 'dropped': int,
               'without_frame': int, 'driving': str, 'date': str, 'machine': str, 'arrivals': str}
KIND_NAMES = {dict: 'an object', list: 'a list', str: 'a text', int: 'a whole number',
              (int, float): 'a number of seconds'}


def read_description(folder: Path) -> dict:
    """
    Return ``run.json``; empty if the recorder was killed before it was written.

    :raises RecordingError: If it is not what a recorder writes.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return {}
    try:
        description = cleaned(json.loads(read_text(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordingError(f"'{path}': not valid JSON ({error}); remove the file, and the "
                             'report is made without it') from error
    if not isinstance(description, dict):
        raise RecordingError(f"'{path}': not an object; remove the file, and the report is made "
                             'without it')
    for key, kind in KINDS.items():
        value = description.get(key)
        if key in description and not isinstance(value, kind) or (
                key == 'camera_period' and value is not None and not 0 < value < math.inf):
            raise RecordingError(f"'{path}': {key} is {printable(json.dumps(value))} where "
                                 f'{KIND_NAMES[kind]} is expected; correct or remove the entry')
    return description


def cleaned(data: Any) -> Any:
    """Return data from a file with all its texts ``printable``."""
    if isinstance(data, dict):
        return {printable(key): cleaned(value) for key, value in data.items()}
    if isinstance(data, list):
        return [cleaned(each) for each in data]
    return printable(data) if isinstance(data, str) else data
