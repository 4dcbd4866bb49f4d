"""
NumPy archives of driving: JPEGs one after the other, with steering, throttle and time of each.

The layout is described in docs/recordings.md. Nothing in an archive is executed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from stream_agent.recordings.recording import BadRecordingError
from stream_agent.recordings.writing import Drive

#: Every key with the length that its array has for N frames, less N.
PER_FRAME = ('steering', 'throttle', 'timestamp_ms', 'seq_id')


def read_archive(path: Path, runs: Sequence[str], sign: int) -> Iterator[tuple[str, Drive]]:
    """
    Yield the sequences of an archive, with a name each.

    :param runs: Names of the runs that are wanted; none for all.
    :param sign: Factor that makes steering positive to the left.
    :raises BadRecordingError: If something is missing, or lengths contradict each other.
    """
    arrays = load(path)
    chosen = frames_of_runs(path, arrays, runs)
    offsets, jpeg = arrays['offsets'], arrays['jpeg']
    for number in np.unique(arrays['seq_id'][chosen]):
        frames = np.flatnonzero(chosen & (arrays['seq_id'] == number))
        stamps = arrays['timestamp_ms'][frames].astype(np.int64) * 10**6
        commands = np.stack([arrays['throttle'][frames], sign * arrays['steering'][frames]], 1)
        images = (jpeg[offsets[i]:offsets[i + 1]].tobytes() for i in frames)
        run = '' if 'run_names' not in arrays else run_of(arrays, frames[0]) + '_'
        yield f'{run}{int(number):03}', Drive(images, stamps, commands)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read an archive, and check that its arrays fit together."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise BadRecordingError(f"'{path}': no NumPy archive, or a truncated one ({error}); copy "
                                'it again') from None
    missing = [key for key in ('jpeg', 'offsets', *PER_FRAME) if key not in arrays]
    if missing:
        raise BadRecordingError(f"'{path}': lacks {', '.join(missing)}; docs/recordings.md says "
                                'what an archive has')
    count = len(arrays['offsets']) - 1
    wrong = [key for key in (*PER_FRAME, *({'run_id'} & arrays.keys()))
             if len(arrays[key]) != count]
    if wrong or count < 1 or arrays['offsets'][-1] > len(arrays['jpeg']):
        raise BadRecordingError(f"'{path}': {', '.join(wrong) or 'jpeg'} does not have the length "
                                f'that {count} frames need, by offsets; make the archive anew')
    return arrays


def run_of(arrays: dict[str, np.ndarray], frame: int) -> str:
    """Return the name of the run that a frame belongs to."""
    return str(arrays['run_names'][arrays['run_id'][frame]])


def frames_of_runs(path: Path, arrays: dict[str, np.ndarray], runs: Sequence[str]) -> np.ndarray:
    """Mark the frames of the runs that are wanted, (N,)."""
    if not runs:
        return np.ones(len(arrays['seq_id']), bool)
    names = [str(name) for name in arrays.get('run_names', [])]
    for run in runs:
        if run not in names:
            raise BadRecordingError(f"'{path}': no run '{run}'; runs are "
                                    f'{", ".join(names) or "not named"}')
    return np.isin(arrays['run_id'], [names.index(run) for run in runs])
