"""Recordings found at paths: bags, tubs, and archives of drives."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.contract import Contract
from stream_agent.recordings.bag_recording import BagRecording
from stream_agent.recordings.bags import is_bag
from stream_agent.recordings.frame_inputs import IMAGE_ALONE, WantedInputs
from stream_agent.recordings.recording import (
    BadRecordingError, NS, own_file, Reading, Recording, TIME_JUMP_NS)
from stream_agent.recordings.storages import LFS_START, POINTER
from stream_agent.recordings.tubs import is_tub, LATEST_MS, TubRecording
from stream_agent.recordings.writing import RecordedDrive
from stream_agent.share import find_robot, ParameterFiles, share_folder

# Bases that obey a steering angle, of which a policy learns yaw rates.
STEERED = ('ackermann', 'twist_steering')
# What becomes a recording by another command.
OTHER_KINDS = {'.npz': '`python -m stream_agent convert` makes recordings of an archive',
               '.bag': 'a bag of ROS 1 becomes one by `rosbags-convert --src FILE --dst FOLDER`'}


def open_recordings(paths: Sequence[Path], reading: Reading, wanted: WantedInputs = IMAGE_ALONE
                    ) -> list[Recording]:
    """
    Open recordings; each frame is decoded only when it is asked for.

    :param paths: Bags, tubs, or folders of them.
    :param wanted: What is read at every frame.
    :raises BadRecordingError: If one of them is not a recording, or cannot be used.
    """
    recordings = [(TubRecording if is_tub(path) else BagRecording)(path, reading, wanted)
                  for path in find_recordings(paths)]
    kinds = {recording.commands.steering: recording for recording in recordings}
    if len(kinds) > 1:
        parts = '; '.join(f"'{recording.path}': {kind}" for kind, recording in kinds.items())
        raise BadRecordingError(f'the recordings steer by different quantities ({parts}); give '
                                '--wheelbase to turn steering angles into yaw rates, or train '
                                'on those of one kind')
    return list(recordings)


def recorded_robot(name: str | None, reading: Reading) -> tuple[Contract | None, Reading]:
    """
    Return what recordings of a robot hold by its contract, and how they are read.

    :param name: Of config/robots, or the path of a parameter file; None for no contract.
    :param reading: The wheel base of the robot's file is added where its base steers by an angle.
    """
    if name is None:
        return None, reading
    files = ParameterFiles([find_robot(name, share_folder() / 'config' / 'robots')])
    contract = files.contract_of()
    wheel_base = files.given('/gate').get('wheel_base')
    if wheel_base and contract.output.type in STEERED and not reading.wheelbase:
        reading = replace(reading, wheelbase=wheel_base.value)
    return contract, reading


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the bags and tubs at the given paths, and in the folders among them."""
    found = []
    for path in paths:
        if not path.exists():
            what = 'leads to what is not there' if path.is_symlink() else (
                'there is no such file or folder')
            raise BadRecordingError(f"'{path}': {what}; give the path of a recording, or of a "
                                    'folder of them')
        if is_recording(path):
            found.append(path)
            continue
        inside = [own_file(path, each.name) for each in sorted(path.glob('*'))
                  if is_recording(each)]
        if not inside:
            raise BadRecordingError(
                f"'{path}': neither a rosbag2 recording (a folder with metadata.yaml, an .mcap "
                'or .db3 file), nor a DonkeyCar tub (manifest.json or record_*.json), nor a '
                f"folder of them; {OTHER_KINDS.get(path.suffix, 'give one of these')}")
        found += inside
    return found


def is_recording(path: Path) -> bool:
    """Tell whether something is a bag or a tub."""
    return is_tub(path) or is_bag(path)


# Arrays that have one value for every frame.
PER_FRAME = ('steering', 'throttle', 'timestamp_ms', 'seq_id')
# What an archive has, each of one dimension, and the kinds of numbers that it may be of.
KINDS = {'jpeg': 'u', 'offsets': 'iu', 'steering': 'iuf', 'throttle': 'iuf',
         'timestamp_ms': 'iuf', 'seq_id': 'iu', 'run_id': 'iu', 'run_names': 'U'}
OPTIONAL = ('run_id', 'run_names')
# JPEGs cannot be compressed, so an archive that unfolds to much more is not one of them.
MOST_UNFOLDED, ALWAYS_UNFOLDED = 2, 64 * 2**20
SEE_PAGE = 'write it as docs/recordings.md describes archives'


def read_archive(path: Path, runs: Sequence[str], sign: int
                 ) -> Iterator[tuple[str, RecordedDrive]]:
    """
    Yield the sequences of an archive, with a name each.

    :param runs: Names of the runs that are wanted; none for all.
    :param sign: Factor that makes steering positive to the left.
    :raises BadRecordingError: If something is missing, or arrays contradict each other.
    """
    arrays = load(path)
    names = [str(name) for name in arrays.get('run_names', [])]
    chosen = np.ones(len(arrays['seq_id']), bool)
    for run in runs:
        if run not in names:
            raise BadRecordingError(f"'{path}': no run '{run}'; runs are "
                                    f'{", ".join(map(printable, names)) or "not named"}')
    if runs:
        chosen = np.isin(arrays['run_id'], [i for i, name in enumerate(names) if name in runs])
    offsets, jpeg = arrays['offsets'], arrays['jpeg']
    for number in np.unique(arrays['seq_id'][chosen]):
        frames = np.flatnonzero(chosen & (arrays['seq_id'] == number))
        run = f"{names[arrays['run_id'][frames[0]]]}_" if names else ''
        skipped: Counter[str] = Counter()
        frames = frames[newer(arrays['stamps'][frames], skipped, f"'{path}': sequence {number}")]
        # Floats first: whole numbers of few bits have no other sign.
        commands = np.stack([arrays[key][frames].astype(np.float64) * factor
                             for key, factor in (('throttle', 1), ('steering', sign))], 1)
        images = [partial(bytes_of, jpeg, offsets[i], offsets[i + 1]) for i in frames]
        yield f'{run}{int(number):03}', RecordedDrive(
            images, arrays['stamps'][frames], commands, skipped, [])


def bytes_of(jpeg: np.ndarray, start: int, end: int) -> bytes:
    """Return one of an archive's images."""
    return jpeg[start:end].tobytes()


def newer(stamps: np.ndarray, skipped: Counter[str], place: str) -> np.ndarray:
    """
    Return which frames are newer than all before them; count the others.

    :raises BadRecordingError: If the clock was set back.
    """
    back = np.maximum.accumulate(stamps)[:-1] - stamps[1:]
    if back.size and back.max() > TIME_JUMP_NS:
        raise BadRecordingError(f'{place}: the times fall back by {back.max() / NS:.1f} s at '
                                f'frame {int(back.argmax()) + 1}; give what follows a seq_id of '
                                'its own')
    skipped['frames out of order'] += int((back > 0).sum())
    skipped['frames that came twice'] += int((back == 0).sum())
    return np.concatenate([[True], back < 0])


def load(path: Path) -> dict[str, np.ndarray]:
    """
    Read an archive, and check that its arrays fit together.

    :returns: Its arrays, with 'stamps' [ns] beside timestamp_ms.
    """
    try:
        with ZipFile(path) as file:
            arrays = dict(read_arrays(file, path.stat().st_size))
    except BadRecordingError as error:
        raise BadRecordingError(f"'{path}': {error}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise BadRecordingError(f"'{path}': cannot be read ({error}); copy it again") from None
    # A damaged file raises whatever its readers meet: zipfile's errors, zlib's, NumPy's.
    except Exception as error:
        with open(path, 'rb') as file:
            if file.read(len(LFS_START)) == LFS_START:
                raise BadRecordingError(f"'{path}' is {POINTER}") from None
        said = printable(str(error) or type(error).__name__)
        raise BadRecordingError(f"'{path}': not a NumPy archive, or truncated ({said}); copy it "
                                'again') from None
    times = arrays['timestamp_ms']
    if times.dtype.kind == 'f':
        arrays['timestamp_ms'] = times = times.astype(np.float64)
    if fault := contradiction(arrays):
        raise BadRecordingError(f"'{path}': {fault}; write the archive again")
    arrays['offsets'] = arrays['offsets'].astype(np.int64)
    arrays['stamps'] = (times * 1e6).astype(np.int64) if times.dtype.kind == 'f' else (
        times.astype(np.int64) * 10**6)
    return arrays


def read_arrays(file: ZipFile, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """
    Yield the arrays that are needed, by name, none of which may run code or fill the memory.

    :param size: Of the file [bytes].
    :raises BadRecordingError: If one is missing, of another type or too large; without the path.
    """
    entries = [entry for entry in file.infolist() if entry.filename.endswith('.npy')]
    names = [entry.filename.removesuffix('.npy') for entry in entries]
    if missing := [key for key in KINDS if key not in (*names, *OPTIONAL)]:
        raise BadRecordingError(f"lacks {', '.join(missing)}; {SEE_PAGE}")
    wanted = [(key, entry) for key, entry in zip(names, entries) if key in KINDS]
    if len(wanted) > len({key for key, _ in wanted}):
        raise BadRecordingError('has an array twice; write the archive again')
    unfolded = sum(entry.file_size for _, entry in wanted)
    if unfolded > MOST_UNFOLDED * size + ALWAYS_UNFOLDED:
        raise BadRecordingError(f'claims to hold {unfolded / 2**20:,.0f} MiB in a file of '
                                f'{size / 2**20:,.1f} MiB, which JPEGs never do; {SEE_PAGE}')
    for key, entry in wanted:
        # As NumPy writes them; others cannot be unfolded in parts.
        if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise BadRecordingError(f'{key} is compressed by a method that NumPy does not use; '
                                    'write the archive again')
        with file.open(entry) as array:
            if (version := np.lib.format.read_magic(array)) != (1, 0):
                raise BadRecordingError(f'{key} is of the .npy version {version}; {SEE_PAGE}')
            shape, _, dtype = np.lib.format.read_array_header_1_0(array)
            if dtype.kind not in KINDS[key] or key == 'jpeg' and dtype.itemsize > 1 or len(
                    shape) != 1:
                raise BadRecordingError(f'{key} is {printable(dtype)} of the shape '
                                        f'{printable(shape)}; {SEE_PAGE}')
            # Headers and directory may claim anything; more than both say is never unfolded.
            size, there = shape[0] * dtype.itemsize, entry.file_size - array.tell()
            if size != there:
                raise BadRecordingError(f'{key} has {there} bytes, where its header says {size}; '
                                        'copy the archive again')
            yield key, np.frombuffer(array.read(size), np.uint8).view(
                dtype) if size else np.zeros(shape, dtype)


def contradiction(arrays: dict[str, np.ndarray]) -> str:
    """Say which arrays of an archive do not fit together; empty if all do."""
    offsets, count = arrays['offsets'], len(arrays['offsets']) - 1
    if count < 1:
        return 'there are no frames'
    if wrong := [key for key in (*PER_FRAME, *({'run_id'} & arrays.keys()))
                 if len(arrays[key]) != count]:
        return (f'{", ".join(wrong)} does not have the length that {count} frames need, by '
                'offsets')
    if offsets.min() < 0 or offsets.max() > len(arrays['jpeg']) or (
            offsets[1:] < offsets[:-1]).any():
        return (f'offsets do not ascend from 0 to {len(arrays["jpeg"])}, where jpeg ends')
    times = arrays['timestamp_ms']
    if wrong_times := int((~((times >= 0) & (times < LATEST_MS))).sum()):
        return f'timestamp_ms has {wrong_times} values that are no time since 1970 in milliseconds'
    if ('run_names' in arrays) != ('run_id' in arrays):
        return 'of run_id and run_names, one is missing'
    if 'run_id' in arrays and not ((arrays['run_id'] >= 0)
                                   & (arrays['run_id'] < len(arrays['run_names']))).all():
        return f'run_id is not of the {len(arrays["run_names"])} run_names'
    return ''
