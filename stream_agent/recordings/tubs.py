"""DonkeyCar's tubs: of version 2 (manifest.json and catalogs), and of version 1 (record files)."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from itertools import pairwise
import math
from pathlib import Path
from typing import Any

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.image_files import decoded, ImageError
from stream_agent.images import MAX_BYTES
from stream_agent.recordings.recording import (
    BadRecordingError, Commands, NS, own_file, Reading, Recording, TIME_JUMP_NS)
from stream_agent.recordings.tub_files import (
    IMAGE, INDEX, MANIFEST, number_of, OLD_RECORDS, read_manifest, read_record_files, TubContents)

INCOMPLETE = 'records without a usable value'
THROTTLE = 'user/throttle'
# Some templates of donkeycar name it otherwise.
ANGLE, OTHER_ANGLE = 'user/angle', 'user/steering'
# Times that a header can hold [ms].
LATEST_MS = 2**31 * 1000
# No camera of a car is faster; donkeycar's converter of tubs is.
FASTEST = 200.0
# A clock that jumps further was wrong before, or is now [ns].
FAR_NS = 100 * 86400 * NS
# Sessions are at least so far apart [ns].
APART_NS = 3600 * NS
TUB_RATE = ("the rate of the drive by --tub-rate HZ (DRIVE_LOOP_HZ in the car's configuration, "
            'usually 20)')


def is_tub(path: Path) -> bool:
    """Tell whether a folder is a tub."""
    return path.is_dir() and ((path / MANIFEST).exists() or any(path.glob(OLD_RECORDS)))


class TubRecording(Recording):
    """
    A tub's folder: records of an image's name, the driver's angle and throttle, and the time.

    What is wrong with a record leaves out that record, and is counted.

    :ivar notes: What is odd about it as a whole, sentence by sentence.
    :raises BadRecordingError: If nothing of it can be used.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        new = (path / MANIFEST).exists()
        self._folder = own_file(path, 'images') if new else path
        source = read_manifest(path) if new else read_record_files(path)
        self.notes = source.notes
        found = source.wanted()
        times, by_rate = times_of(path, source, found, reading.tub_rate)
        records, stamps = usable(path, source, found, times)
        self._images = [record[IMAGE] for record in records]
        self._shifts, set_back = shifts_of(
            stamps, [record.get('_session_id') for record in records])
        if set_back:
            self.notes.append(f'the clock was set back {set_back} times, where an episode ends')
        stamps += self._shifts
        sign, stamps_from = reading.sign('right'), 'rate' if by_rate else 'header'
        values = np.array([(record[THROTTLE], sign * angle_of(record)) for record in records],
                          np.float64)
        super().__init__(path, IMAGE, stamps, stamps_from,
                         Commands(stamps, values, 'steering', stamps_from))
        self.skipped.update(source.skipped)
        #: The places of ``frame_stamps`` among the records.
        self._places = np.flatnonzero(self._kept)

    @property
    def recorded_stamps(self) -> np.ndarray:
        """The stamps of the frames by the car's own clock, which may fall back [ns]."""
        return self.frame_stamps - self._shifts[self._places]

    def recorded_frames(self) -> Iterator[Callable[[], np.ndarray]]:
        for name in self._images:
            yield partial(read_image, self._folder, name)

    def image_bytes(self, index: int) -> bytes:
        """Return the image of one of ``frame_stamps`` as it was recorded, or raise ImageError."""
        return bytes_of(self._folder, self._images[self._places[index]])

    def files(self) -> list[Path]:
        images = (self._folder / name for name in self._images)
        return [path for path in (*sorted(self.path.glob('*')), *images) if path.is_file()
                and (path.suffix in ('.json', '.catalog') or path.parent == self._folder)]


def bytes_of(folder: Path, name: str) -> bytes:
    """Read an image's file; raises ImageError if it is missing, or none of the tub."""
    try:
        path = own_file(folder, name)
        # A pipe would be waited for.
        if path.exists() and not path.is_file():
            raise ImageError(f"'{printable(name)}': not a file")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"'{printable(name)}': over {MAX_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"'{printable(name)}': {error.strerror}") from None
    except BadRecordingError as error:
        raise ImageError(str(error)) from None


def read_image(folder: Path, name: str) -> np.ndarray:
    """Decode an image of a tub; raises ImageError if it is missing or damaged."""
    return decoded(bytes_of(folder, name), Path(name).suffix)


def angle_of(record: dict[str, Any]) -> Any:
    """Return the driver's steering, whatever it is called."""
    return record[ANGLE] if record.get(ANGLE) is not None else record.get(OTHER_ANGLE)


def fault_of(record: dict[str, Any], stamp: int | None) -> str:
    """Say which value of a record cannot be used; empty if all can. A NaN is counted later."""
    image = record.get(IMAGE)
    if not isinstance(image, str) or not is_file_name(image):
        return f"{printable(repr(image))} for '{IMAGE}'"
    for key, value in ((ANGLE, angle_of(record)), (THROTTLE, record.get(THROTTLE))):
        if number_of(value) is None and not (isinstance(value, float) and math.isnan(value)):
            return f"{printable(repr(value))} for '{key}'"
    return 'no time' if stamp is None else ''


def is_file_name(name: str) -> bool:
    """Tell whether a file of a folder may be called so."""
    return Path(name).name == name and name.isprintable() and len(name.encode()) < 256


def usable(path: Path, source: TubContents, records: Sequence[dict[str, Any]],
           times: Sequence[int | None]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """
    Return the records that have all values, and their times [ns].

    :raises BadRecordingError: If there are none.
    """
    found, stamps = [], []
    for record, time in zip(records, times):
        if fault := fault_of(record, time):
            source.skipped[INCOMPLETE] += 1
            source.note_first(INCOMPLETE, f'record {printable(record.get(INDEX))} has {fault}')
        else:
            found.append(record)
            stamps.append(time)
    if not found:
        counts = ', '.join(f'{count} {kind}' for kind, count in source.skipped.items() if count)
        why = '; '.join((counts or 'there are none', *source.notes))
        timeless = bool(records) and not any(time is not None for time in times)
        raise BadRecordingError(f"'{path}': none of its records can be used ({why}); leave the "
                                'tub out' + f', or give {TUB_RATE}' * timeless)
    return found, np.array(stamps, np.int64)


def times_of(path: Path, source: TubContents, records: Sequence[dict[str, Any]], rate: float
             ) -> tuple[list[int | None], bool]:
    """
    Return when records were written [ns], and whether that follows from a rate.

    :param rate: Of the drive [Hz], which is then used in place of times; 0 for none.
    :raises BadRecordingError: If the times cannot be those of a drive.
    """
    if rate:
        first = next(filter(None, map(time_of, records)), 0) + source.start_ns
        indexes = [number_of(record.get(INDEX)) for record in records]
        since = [(place if index is None else index) * (NS / rate)
                 for place, index in enumerate(indexes)]
        return [first + round(time) if -first <= time < LATEST_MS * 10**6 - first else None
                for time in since], True
    times = [time_of(record, source.start_ns) for record in records]
    known = np.array([time for time in times if time is not None], np.int64)
    # Between pauses, and the mean one, as records of a drive may be written in bursts.
    steps = np.diff(known)
    steps = steps[(steps >= 0) & (steps <= TIME_JUMP_NS)]
    usual = float(steps.mean()) if len(steps) else math.inf
    if not source.converted and usual >= NS / FASTEST:
        return times, False
    written = [clock_of(record.get('timestamp')) for record in records]
    if None not in written:
        return written, False
    raise BadRecordingError(
        f"'{path}': its times are those of a conversion ({NS / max(usual, 1.0):.0f} Hz), not of "
        "the drive, as donkeycar's convert_to_tub_v2.py leaves them; give the tub of version 1 "
        f'that it was made from, or {TUB_RATE}')


def time_of(record: dict[str, Any], start_ns: int = 0) -> int | None:
    """Return when a record was written [ns]; None if that is not known."""
    # In version 1, since the start; and before that, a text.
    for key, start in (('_timestamp_ms', 0), ('milliseconds', start_ns)):
        value = number_of(record.get(key))
        if value is not None and value >= 0 and (
                time := start + round(value * 10**6)) < LATEST_MS * 10**6:
            return time
    return clock_of(record.get('timestamp'))


def clock_of(text: Any) -> int | None:
    """Return what a text like 2019-05-01 10:00:00.123456 says [ns]; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    nanoseconds = (since.days * 86400 + since.seconds) * NS + since.microseconds * 1000
    return nanoseconds if 0 <= nanoseconds < LATEST_MS * 10**6 else None


def shifts_of(stamps: np.ndarray, sessions: Sequence) -> tuple[np.ndarray, int]:
    """
    Return what puts an hour where the clock jumped, or another session begins [ns].

    :param sessions: To which session each record belongs.
    :returns: To be added to each stamp, and how often the clock was set back.
    """
    shifts = np.zeros(len(stamps), np.int64)
    steps = np.diff(stamps)
    other = np.array([one != two for one, two in pairwise(sessions)], bool)
    cut = (steps < -TIME_JUMP_NS) | (steps > FAR_NS) | other & (steps < APART_NS)
    starts = np.flatnonzero(cut) + 1
    newest = 0
    for start, end in pairwise([0, *starts, len(stamps)]):
        shift = min(newest + APART_NS, 2**62) - int(stamps[start]) if start else 0
        shifts[start:end] = shift
        newest = int(stamps[start:end].max()) + shift
    return shifts, int((steps[starts - 1] <= 0).sum())
