"""
Decoded frames on disk, mapped into memory, so that a second start decodes nothing.

A recording has a folder, named after what it was made from: files with sizes and times, topics,
and how pixels were prepared. Commands are kept as recorded; aligning them takes no time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
import errno
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from stream_agent.recordings.alignment import Alignment, cut, Span
from stream_agent.recordings.recording import Commands, Reading, Recording, StampedFrames

# Of the files below; what another version wrote is decoded anew.
FORMAT = 3
MANIFEST = 'manifest.json'
PARTS = ('frame_stamps', 'command_stamps', 'command_values')
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDY = 'make room, or give another folder by --cache'


class CacheError(ValueError):
    """Decoded frames that cannot be kept; the message says where, why, and what to do."""


class CachedRecording(StampedFrames):
    """
    A recording whose frames are decoded.

    :param folder: Where ``remember`` put it.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / MANIFEST).read_text())
        if about['format'] != FORMAT:
            raise ValueError(f'format {about["format"]}')
        self.folder = folder
        self.path = Path(about['path'])
        self.name, self.topic = about['name'], about['topic']
        self._read = about['summary']
        self._unread = about['left_out']
        self.skipped = Counter()
        self.notes, self.shapes = about['odd']['notes'], Counter(about['odd']['shapes'])
        #: (N, C, H, W) uint8; pages are read as they are touched, and dropped if memory is short.
        self.pixels = np.load(folder / 'pixels.npy', mmap_mode='r')
        self.frame_stamps, stamps, values = (np.load(folder / f'{part}.npy') for part in PARTS)
        self.commands = Commands(stamps, values, about['steering'])
        if len(self.pixels) != len(self.frame_stamps):
            raise ValueError('frames and stamps differ in number')

    def episodes(self, alignment: Alignment) -> list[Span]:
        """Cut into episodes, and count anew what is left out."""
        self.skipped.clear()
        return cut(self.frame_stamps, self.commands, alignment, self.skipped)

    def summary(self) -> str:
        """Say in a line what there is, and what reading and cutting left out."""
        unused = super().left_out
        return self._read + (f'; not used: {unused}' if unused else '')

    @property
    def left_out(self) -> str:
        """What reading left out, or else cutting."""
        return self._unread or super().left_out


def key_of(recording: Recording, reading: Reading, preparation: dict[str, Any]) -> str:
    """
    Return a name for all that the cached frames follow from.

    Files count by size and times, also that of their last change, which no copy takes along.

    :raises ValueError: If there are no files, as the name would be that of other recordings, too.
    """
    files = [(path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
             for path in recording.files() for stat in [path.stat()]]
    if not files:
        raise ValueError(f"'{recording.path}': {type(recording).__name__} names no files that it "
                         'was read from')
    text = json.dumps([str(recording.path.resolve()), files, asdict(reading),
                       recording.topic, preparation], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remember(recording: Recording, reading: Reading, cache: Path, preparation: dict[str, Any],
             pixels: Callable[[np.ndarray], np.ndarray], say: Callable[[str], None]
             ) -> CachedRecording:
    """
    Decode a recording to disk, unless that was done before.

    :param cache: Folder of all cached recordings.
    :param preparation: What ``pixels`` does, as JSON: part of the name.
    :param pixels: Makes (C, H, W) uint8 of an image, as ``Preprocessing.pixels`` does.
    :param say: Gets a line if what was decoded before cannot be used; it is then removed.
    :raises BadRecordingError: If the recording is damaged, or none of its frames can be decoded.
    """
    folder = cache / f'{recording.name}-{key_of(recording, reading, preparation)}'
    if folder.exists():
        try:
            return CachedRecording(folder)
        # Damaged files raise whatever their readers meet: JSON's errors, numpy's, the system's.
        except Exception as error:
            say(f"'{folder}': decoded by another version, or damaged ({error!r}); decoding anew")
        shutil.rmtree(folder, ignore_errors=True)
    # A name of its own, so that two trainings may start together; what is half written when
    # one is killed keeps this name, and is never read.
    unfinished = folder.with_name(f'{folder.name}.{os.getpid()}.part')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        write(unfinished, recording, pixels)
        unfinished.rename(folder)
    except OSError as error:
        # Another process may have been first.
        if not (folder / MANIFEST).exists():
            if error.errno in NO_ROOM:
                raise CacheError(f"'{folder}': the decoded frames cannot be written "
                                 f'({error.strerror}); {REMEDY}') from error
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return CachedRecording(folder)


def write(folder: Path, recording: Recording, pixels: Callable[[np.ndarray], np.ndarray]
          ) -> None:
    """Write frames one after the other, then everything else that is known of them."""
    decoded: list[int] = []
    with open(folder / 'pixels.npy', 'wb') as file:
        for index, image in recording.images():
            frame = np.ascontiguousarray(pixels(image))
            if not decoded:
                check_room(folder, len(recording) * frame.nbytes)
                write_header(file, (len(recording), *frame.shape))
            file.write(frame.data)
            decoded.append(index)
        file.seek(0)
        write_header(file, (len(decoded), *frame.shape))
    commands = recording.commands
    for part, values in zip(PARTS, (recording.frame_stamps[decoded], commands.stamps,
                                    commands.values)):
        np.save(folder / f'{part}.npy', values)
    (folder / MANIFEST).write_text(json.dumps({
        'format': FORMAT, 'path': str(recording.path), 'name': recording.name,
        'topic': recording.topic, 'steering': commands.steering,
        'summary': recording.summary(), 'left_out': recording.left_out,
        'odd': {'notes': recording.notes, 'shapes': recording.shapes}}, indent=1))


def check_room(folder: Path, needed: int) -> None:
    """Refuse so many bytes of decoded frames if there is no room, before hours of decoding."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(f"'{folder.parent}': the decoded frames take {needed / 1e6:,.3g} MB, and "
                         f'{free / 1e6:,.3g} MB are free; {REMEDY}')


def write_header(file, shape: tuple[int, ...]) -> None:
    """Start an .npy file; headers leave room for a first axis of any length."""
    np.lib.format.write_array_header_1_0(
        file, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
