"""DonkeyCar's tubs: of version 2 (manifest.json and catalogs), and of version 1 (record files)."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import compress
import json
from pathlib import Path
from typing import Any

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.images import decoded, ImageError
from stream_agent.recordings.recording import (
    BadRecordingError, Commands, own_file, Reading, Recording)

MANIFEST = 'manifest.json'
OLD_RECORDS = 'record_*.json'
NOT_OF_A_PERSON = 'frames that no person drove'
IMAGE, ANGLE, THROTTLE, MODE = 'cam/image_array', 'user/angle', 'user/throttle', 'user/mode'


def is_tub(path: Path) -> bool:
    """Tell whether a folder is a tub."""
    return path.is_dir() and ((path / MANIFEST).exists() or any(path.glob(OLD_RECORDS)))


class TubRecording(Recording):
    """
    A tub's folder: records of an image's name, the driver's angle and throttle, and the time.

    :raises BadRecordingError: If a file of it is damaged, or nothing was recorded.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        new = (path / MANIFEST).exists()
        self._folder = own_file(path, 'images') if new else path
        # Of version 1, one file a record, in the order of their numbers.
        records = list(read_catalogs(path) if new else (
            parsed(own_file(path, file.name).read_text(), file, 1) for file in sorted(
                path.glob(OLD_RECORDS), key=lambda file: (len(file.stem), file.stem))))
        driven = [record for record in records if record.get(MODE, 'user') == 'user']
        if not driven:
            raise BadRecordingError(f"'{path}': none of the {len(records)} records was driven by "
                                    'a person; leave the tub out')
        # In version 1, since the start of the recording.
        time = '_timestamp_ms' if new else 'milliseconds'
        kinds: dict = {IMAGE: str, ANGLE: (int, float), THROTTLE: (int, float), time: int}
        for number, record in enumerate(driven):
            for key, kind in kinds.items():
                value = record.get(key)
                if not isinstance(value, kind) or key == IMAGE and Path(value).name != value:
                    raise BadRecordingError(
                        f"'{path}': the record {printable(record.get('_index', number))} has "
                        f"{printable(repr(value))} for '{key}'; delete it by `donkey tubclean`, "
                        'or leave the tub out')
        self._images = [record[IMAGE] for record in driven]
        stamps = np.array([record[time] for record in driven], np.int64) * 10**6
        sign = reading.sign('right')
        values = np.array([(record[THROTTLE], sign * record[ANGLE]) for record in driven])
        super().__init__(path, IMAGE, stamps, 'header', Commands(stamps, values, 'steering'))
        self.skipped[NOT_OF_A_PERSON] += len(records) - len(driven)

    def recorded_frames(self) -> Iterator[Callable[[], np.ndarray]]:
        for name in self._images:
            yield partial(read_image, self._folder, name)

    def image_files(self) -> list[Path]:
        """Return the files of the frames in ``frame_stamps``."""
        return [own_file(self._folder, name) for name in compress(self._images, self._kept)]

    def files(self) -> list[Path]:
        return [path for path in sorted(self.path.glob('*')) if path.is_file()
                and path.suffix in ('.json', '.catalog')]


def read_image(folder: Path, name: str) -> np.ndarray:
    """Decode an image of a tub; raises ImageError if it is missing or damaged."""
    try:
        return decoded(own_file(folder, name).read_bytes(), Path(name).suffix)
    except OSError as error:
        raise ImageError(f"'{printable(name)}': {error.strerror}") from None
    except BadRecordingError as error:
        raise ImageError(str(error)) from None


def parsed(text: str, path: Path, line: int) -> Any:
    """Return what a line of JSON says."""
    try:
        return json.loads(text)
    except ValueError:
        raise BadRecordingError(f"'{path}', line {line}: truncated or damaged; delete the line, "
                                'or leave the tub out') from None


def read_catalogs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a tub of version 2, without those that were deleted."""
    manifest = own_file(path, MANIFEST)
    lines = manifest.read_text().splitlines()
    # Lines: inputs, their types, the user's notes, who wrote it when, and the catalogs.
    about = parsed(lines[4], manifest, 5) if len(lines) > 4 else None
    if not isinstance(about, dict) or not isinstance(about.get('paths'), list):
        raise BadRecordingError(f"'{manifest}': the list of catalogs is missing, so the file is "
                                'truncated or of another version; leave the tub out')
    deleted = set(about.get('deleted_indexes', []))
    for name in about['paths']:
        # Names only: a manifest must not reach outside its folder.
        catalog = own_file(path, Path(name).name)
        if not catalog.exists():
            raise BadRecordingError(f"'{manifest}': its catalog {printable(catalog.name)} is "
                                    'missing; copy the whole tub, or leave it out')
        for number, line in enumerate(catalog.read_text().splitlines(), 1):
            record = parsed(line, catalog, number)
            if record.get('_index') not in deleted:
                yield record
