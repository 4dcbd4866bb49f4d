"""Files of trainings: from which a stopped one resumes; written as a whole, and never lost."""

from collections.abc import Mapping
from itertools import count
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from stream_agent.learning import distributed
from stream_agent.share import write_file
import torch
from torch import Tensor

FORMAT = 'stream_agent resume 1'
# Longer values are not printed.
LONGEST_SHOWN = 60


class ResumeError(ValueError):
    """A file from which a training cannot resume; the message says why and what to do."""


class LearnerState(NamedTuple):
    """What a learner of one process needs to resume: tensors, and data as JSON writes it."""

    tensors: Mapping[str, Tensor]
    data: Any


class TrainingState(NamedTuple):
    """
    Where a training is between two gradient steps.

    :param tensors: Weights and what the optimiser keeps, by the trainer's names.
    :param numbers: What else the trainer needs, as JSON.
    """

    tensors: Mapping[str, Tensor]
    learner: LearnerState
    numbers: Mapping[str, Any]


class ResumeFile:
    """
    One training's file, which process 0 reads and writes for all its processes.

    :param initial_settings: What must be the same for the training to resume, as JSON.
    """

    def __init__(self, path: Path, initial_settings: Mapping[str, Any]) -> None:
        self.path = path
        self._initial_settings = json.loads(json.dumps(initial_settings, default=str))

    def write(self, state: TrainingState) -> None:
        """Replace the file once the new one is whole; all processes need to call this."""
        parts = distributed.gathered(pack(state.learner.tensors, {'data': state.learner.data}))
        if distributed.rank():
            return
        tensors = {f'trainer/{name}': value for name, value in state.tensors.items()}
        for i, part in enumerate(parts):
            tensors[f'learner/{i}'] = torch.from_numpy(np.frombuffer(part, np.uint8).copy())
        write_whole(self.path, pack(tensors, {
            'format': FORMAT, 'begun_with': self._initial_settings, 'numbers': state.numbers}))

    def read(self) -> TrainingState | None:
        """
        Return where the training was; None if there is no file.

        :raises ResumeError: If the file is damaged, or its training began with other settings.
        """
        data = distributed.broadcast_file(self.path)
        if data is None:
            return None
        try:
            tensors, metadata = unpack(data)
            if metadata.get('format') != FORMAT:
                raise ResumeError(f"its format is '{metadata.get('format')}', not '{FORMAT}'")
            self._compare(metadata['begun_with'])
            part = tensors[f'learner/{distributed.rank()}']
            learner_tensors, learner = unpack(part.numpy().tobytes())
            own = {name.removeprefix('trainer/'): value for name, value in tensors.items()
                   if name.startswith('trainer/')}
            return TrainingState(own, LearnerState(learner_tensors, learner['data']),
                                 metadata['numbers'])
        except ResumeError as error:
            raise ResumeError(f'{self.path}: {error}; to start anew, add --fresh') from None
        except (AttributeError, KeyError, SafetensorError, TypeError, ValueError) as error:
            raise ResumeError(f'{self.path}: the file is damaged, so no training can resume from '
                              f'it ({error}); to start anew, add --fresh') from None

    def _compare(self, then: Mapping[str, Any]) -> None:
        """Refuse a training that began with other options."""
        now = self._initial_settings
        for name in {**then, **now}:
            if then.get(name) != now.get(name):
                one, other = (f'no {name}' if values.get(name) is None
                              else f'{name} = {values[name]}' for values in (then, now))
                what = (f'{one}, and this one has {other}'
                        if max(len(one), len(other)) <= LONGEST_SHOWN else f'another {name}')
                raise ResumeError(f'the training in it began with {what}; give the same options '
                                  'as then to resume it')

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if distributed.rank() == 0:
            self.path.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; an older one of that name is replaced only once the new one is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    write_file(path, data)


def set_aside(path: Path) -> Path:
    """Rename a file or folder to ``NAME.1.SUFFIX``, or the next number that is free."""
    free = next(aside for number in count(1)
                if not (aside := path.with_name(f'{path.stem}.{number}{path.suffix}')).exists())
    return path.rename(free)


def is_same_policy(one: Path, other: Path) -> bool:
    """Tell whether two files hold one policy that was trained in one way, at whatever time."""
    parts = []
    for path in (one, other):
        try:
            data = path.read_bytes()
            size = int.from_bytes(data[:8], 'little')
            header = json.loads(data[8:8 + size])
            training = json.loads(header['__metadata__'].pop('training'))
        except (KeyError, OSError, TypeError, ValueError):
            return False
        parts.append((header, {**training, 'date': '', 'duration_s': 0}, data[8 + size:]))
    return parts[0] == parts[1]


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return tensors and JSON as the bytes of a safetensors file."""
    # Copies, as safetensors refuses tensors that share their memory.
    return save({name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                 for name, value in tensors.items()},
                {key: json.dumps(value) for key, value in metadata.items()})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """
    Return the tensors and the JSON that ``pack`` was given.

    :raises SafetensorError: If the bytes are not a safetensors file.
    :raises ValueError: If its metadata are not ours.
    """
    size = int.from_bytes(data[:8], 'little')
    tensors, header = load(data), json.loads(data[8:8 + size])
    return tensors, {key: json.loads(value)
                     for key, value in header.get('__metadata__', {}).items()}
