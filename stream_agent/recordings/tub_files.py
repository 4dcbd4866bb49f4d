"""The files of DonkeyCar's tubs: what is left of them, whatever a power cut or an editor did."""

from collections import Counter
from collections.abc import Iterable
import json
from pathlib import Path, PureWindowsPath
import re
from typing import Any

from stream_agent.bounded_settings import printable
from stream_agent.recordings.recording import NS, own_file

MANIFEST = 'manifest.json'
OLD_RECORDS = 'record_*.json'
# Of version 1: what its web page left out, a list of numbers; and when the first record was.
EXCLUDED, ABOUT = 'exclude.json', 'meta.json'
NOT_OF_A_PERSON = 'frames that no person drove'
DAMAGED = 'records that are damaged'
AGAIN = 'records whose image or index was written again'
DELETED = 'records that were deleted'
ABSENT = 'records that the catalogs lack'
IMAGE, MODE, INDEX = 'cam/image_array', 'user/mode', '_index'


class TubContents:
    """
    The records of a tub as they were read, and what was found to be odd.

    :ivar converted: Whether donkeycar's converter wrote it, so that the times are its own.
    :ivar start_ns: What times of version 1 count from; 0 if that is not known.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.deleted: set[float] = set()
        self.skipped: Counter[str] = Counter()
        self.notes: list[str] = []
        self.converted = False
        self.start_ns = 0

    def note_first(self, kind: str, fault: str) -> None:
        """Say what is wrong with the first one of its kind."""
        if self.skipped[kind] == 1:
            self.notes.append(f'first of the {kind}: {fault}')

    def damaged(self, place: str) -> None:
        """Count a record that cannot be read."""
        self.skipped[DAMAGED] += 1
        self.note_first(DAMAGED, place)

    def delete(self, indexes: Any) -> None:
        """Note which records the user has deleted: a list of numbers, or one."""
        given = [one for one in (indexes if isinstance(indexes, list) else [indexes])
                 if one is not None]
        self.deleted |= {number for one in given if (number := number_of(one)) is not None}
        if unknown := [one for one in given if number_of(one) is None]:
            self.notes.append(f'{len(unknown)} deletions cannot be read, such as '
                              f'{printable(repr(unknown[0]), 40)}')

    def wanted(self) -> list[dict[str, Any]]:
        """
        Return the records that a person drove, in order.

        After a power cut donkeycar writes indexes and images again: the last record counts, as
        it is the one of the image that is there.
        """
        numbers = [number_of(record.get(INDEX)) for record in self.records]
        if not any(number is not None for number in numbers):
            # Then donkeycar counts.
            numbers = list(range(len(numbers)))
        order = (sorted(range(len(numbers)), key=lambda i: numbers[i] or 0.0)
                 if None not in numbers else range(len(numbers)))
        seen: set = set()
        found = []
        for number, record in ((numbers[i], self.records[i]) for i in reversed(order)):
            image = record.get(IMAGE)
            keys = {key for key in (number, image if isinstance(image, str) else None)
                    if key is not None}
            if keys & seen:
                self.skipped[AGAIN] += 1
            elif number in self.deleted:
                self.skipped[DELETED] += 1
            elif (record.get(MODE) or 'user') != 'user':
                self.skipped[NOT_OF_A_PERSON] += 1
            else:
                found.append(record)
            seen |= keys
        return found[::-1]


def number_of(value: Any) -> float | None:
    """Return a finite number; None for anything else."""
    return value if (isinstance(value, (int, float)) and not isinstance(value, bool)
                     and abs(value) < 2**53) else None


def text_of(path: Path) -> str:
    """Read text, with what a power cut or an editor leaves in it: zeros, marks, ends of lines."""
    # A pipe would be waited for.
    data = b'' if path.exists() and not path.is_file() else path.read_bytes()
    encoding = 'utf-16' if data[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    text = data.decode(encoding, 'replace').replace('\0', '')
    return text.replace('\r\r\n', '\n').replace('\r\n', '\n').replace('\r', '\n')


def parsed(text: str) -> Any:
    """Return what JSON says; None if it is none, or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_records(path: Path, contents: TubContents) -> None:
    """Read the records of a catalog, one a line."""
    for number, line in enumerate(text_of(path).split('\n'), 1):
        if not line.strip():
            continue
        record = parsed(line)
        if not isinstance(record, dict):
            contents.damaged(f'{path.name}, line {number}')
            # After a power cut, the next record is written behind what there is of the last.
            record = parsed(line[max(line.rfind('{"'), 0):])
        if isinstance(record, dict) and (IMAGE in record or INDEX in record):
            contents.records.append(record)


def read_manifest(path: Path) -> TubContents:
    """Read a tub of version 2: a manifest, and the catalogs that it lists."""
    contents = TubContents()
    lines = [parsed(line) for line in text_of(own_file(path, MANIFEST)).split('\n')]
    contents.converted = any(isinstance(line, list) and '__empty__' in line for line in lines)
    # Lines: inputs, their types, the user's notes, who wrote it when, and the catalogs.
    about = next((line for line in reversed(lines) if isinstance(line, dict)
                  and isinstance(line.get('paths'), list)), None)
    there = in_order(file.name for file in path.glob('*.catalog'))
    if about is None:
        contents.notes.append(f'{MANIFEST} lacks the list of catalogs, so all are read, and what '
                              'was deleted is not known')
        about = {'paths': there}
    contents.delete(about.get('deleted_indexes'))
    # Names only: a manifest must not reach outside its folder.
    names = [PureWindowsPath(name).name for name in dict.fromkeys(
        name for name in about['paths'] if isinstance(name, str))]
    for name in names:
        if name not in there or not (catalog := own_file(path, name)).exists():
            contents.notes.append(f'catalog {printable(name)} is missing')
        else:
            read_records(catalog, contents)
    if unlisted := [printable(name) for name in there if name not in names]:
        contents.notes.append(f'not in {MANIFEST}, so not read: {", ".join(unlisted)}')
    count = number_of(about.get('current_index')) or 0
    contents.skipped[ABSENT] = max(
        0, int(count) - len(contents.records) - contents.skipped[DAMAGED])
    return contents


def read_record_files(path: Path) -> TubContents:
    """Read a tub of version 1: one file a record, and what the user left out of it."""
    contents = TubContents()
    for name in in_order(file.name for file in path.glob(OLD_RECORDS)):
        record = parsed(text_of(own_file(path, name)).strip())
        if isinstance(record, dict):
            contents.records.append({INDEX: number_in(name)} | record)
        else:
            contents.damaged(name)
    if (excluded := own_file(path, EXCLUDED)).exists():
        contents.delete(parsed(text_of(excluded)))
    if (file := own_file(path, ABOUT)).exists() and isinstance(
            about := parsed(text_of(file)), dict):
        contents.start_ns = round(max(0, number_of(about.get('start')) or 0) * NS)
    return contents


def number_in(name: str) -> int | None:
    """Return the number in the name of a file."""
    digits = re.search(r'\d{1,15}', name)
    return int(digits[0]) if digits else None


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of files by their numbers."""
    return sorted(names, key=lambda name: (number_in(name) or 0, name))
