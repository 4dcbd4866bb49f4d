"""
Decoded frames on disk, mapped into memory, so that a second start decodes nothing.

A recording has a folder, named after what it was made from: files with sizes and times, topics,
what the contract says of them, and how values were prepared. Commands are kept as recorded;
aligning them takes no time.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
import errno
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any, BinaryIO

import numpy as np
from stream_agent.recordings.alignment import Alignment, cut, Span
from stream_agent.recordings.recording import (
    Commands, Reading, RecordedFrame, Recording, StampedFrames)

# Of the files below; what another version wrote is decoded anew.
FORMAT = 4
MANIFEST = 'manifest.json'
#: Makes what is kept of a frame: an array of every input, the one that triggers first.
Prepare = Callable[[RecordedFrame], Mapping[str, np.ndarray]]
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
        #: By input, the one that triggers first: (N, C, H, W) uint8 of images, else float32, (N,
        #: size); pages are read as they are touched, and dropped if memory is short.
        self.observations: dict[str, np.ndarray] = {
            name: np.load(folder / file_of(number), mmap_mode='r')
            for number, name in enumerate(about['inputs'])}
        self.frame_stamps, stamps, values = (np.load(folder / f'{part}.npy') for part in PARTS)
        self.commands = Commands(stamps, values, about['steering'], names=tuple(about['names']))
        if {len(self.frame_stamps)} != {len(each) for each in self.observations.values()}:
            raise ValueError('frames and stamps differ in number')

    @property
    def pixels(self) -> np.ndarray:
        """Of the input that triggers, an image: (N, C, H, W) uint8."""
        return next(iter(self.observations.values()))

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
             prepare: Prepare, say: Callable[[str], None]) -> CachedRecording:
    """
    Decode a recording to disk, unless that was done before.

    :param cache: Folder of all cached recordings.
    :param preparation: What ``prepare`` does, and what else frames follow from, as JSON: part of
        the name.
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
        write(unfinished, recording, prepare)
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


def write(folder: Path, recording: Recording, prepare: Prepare) -> None:
    """Write frames one after the other, then everything else that is known of them."""
    decoded: list[int] = []
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for index, made in recording.frames(prepare):
            arrays = {name: np.ascontiguousarray(each) for name, each in made.items()}
            if not decoded:
                check_room(folder, len(recording) * sum(each.nbytes for each in arrays.values()))
                for number, (name, each) in enumerate(arrays.items()):
                    files[name] = stack.enter_context(open(folder / file_of(number), 'wb'))
                    write_header(files[name], len(recording), each)
            for name, each in arrays.items():
                files[name].write(each.data)
            decoded.append(index)
        for name, file in files.items():
            file.seek(0)
            write_header(file, len(decoded), arrays[name])
    commands = recording.commands
    for part, values in zip(PARTS, (recording.frame_stamps[decoded], commands.stamps,
                                    commands.values)):
        np.save(folder / f'{part}.npy', values)
    (folder / MANIFEST).write_text(json.dumps({
        'format': FORMAT, 'path': str(recording.path), 'name': recording.name,
        'topic': recording.topic, 'steering': commands.steering, 'names': commands.names,
        'inputs': list(arrays),
        'summary': recording.summary(), 'left_out': recording.left_out,
        'odd': {'notes': recording.notes, 'shapes': recording.shapes}}, indent=1))


def check_room(folder: Path, needed: int) -> None:
    """Refuse so many bytes of decoded frames if there is no room, before hours of decoding."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(f"'{folder.parent}': the decoded frames take {needed / 1e6:,.3g} MB, and "
                         f'{free / 1e6:,.3g} MB are free; {REMEDY}')


def file_of(number: int) -> str:
    """Return the name of an input's file; those of inputs may have any letters."""
    return f'input_{number}.npy'


def write_header(file: BinaryIO, count: int, frame: np.ndarray) -> None:
    """Start an .npy file of frames like one; headers leave room for a first axis of any length."""
    np.lib.format.write_array_header_1_0(
        file, {'descr': frame.dtype.str, 'fortran_order': False, 'shape': (count, *frame.shape)})
