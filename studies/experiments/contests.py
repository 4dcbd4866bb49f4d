"""What contests of the long-memory task have come to: a file, a table, and ratios."""

from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

import numpy as np
from stream_agent.measurement.machine import machine, versions
from studies.experiments.long_memory import MemoryContest, MemoryTask, REFERENCES
from studies.experiments.readers import DataError

FORMAT = 'stream_agent contests 1'


class Contests:
    """
    The contests of one task, kept in a file as they end.

    :raises DataError: If the file is damaged, or of another task.
    """

    def __init__(self, path: Path, task: MemoryTask) -> None:
        self._path, self._task = path, task
        self.done: list[MemoryContest] = self._read() if path.exists() else []

    def _read(self) -> list[MemoryContest]:
        try:
            data = json.loads(self._path.read_text())
            then, done = data['task'], [MemoryContest(**contest) for contest in data['contests']]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f'{self._path}: it is no file of contests ({error}); remove it, or '
                            'add --fresh') from None
        if then != asdict(self._task):
            raise DataError(f'{self._path}: its contests were {then}, not {asdict(self._task)}; '
                            'take another --output, or add --fresh')
        return done

    def has(self, contestant: str, seed: int) -> bool:
        """Tell whether a contest is over."""
        return any((one.contestant, one.seed) == (contestant, seed) for one in self.done)

    def add(self, one: MemoryContest) -> None:
        """Keep a contest."""
        self.done.append(one)
        self._path.write_text(json.dumps(self.as_data(), indent=1) + '\n')

    def as_data(self) -> dict[str, Any]:
        """Return all for programs."""
        return {'format': FORMAT, 'task': asdict(self._task), 'machine': machine(),
                'versions': versions('torch', 'numba'),
                'contests': [one._asdict() for one in self.done],
                'times_faster': ratios(self.done)}


def ratios(contests: Sequence[MemoryContest]) -> list[dict[str, Any]]:
    """
    Return how many times faster than torch's LSTM each contestant has converged.

    Of the seeds that both have; the geometric mean. Where the LSTM did not converge within its
    time, the ratio is a lower bound; where the contestant did not, there is none.
    """
    over = {(one.contestant, one.seed): one for one in contests}
    found = []
    for name in dict.fromkeys(one.contestant for one in contests):
        for reference in REFERENCES:
            pairs = [(one, over[reference, one.seed]) for one in contests
                     if one.contestant == name and (reference, one.seed) in over]
            if name in REFERENCES or not pairs or not all(one.converged for one, _ in pairs):
                continue
            each = [other.seconds / one.seconds for one, other in pairs]
            found.append({'contestant': name, 'reference': reference,
                          'ratio': float(np.exp(np.mean(np.log(each)))), 'of_each_seed': each,
                          'at_least': not all(other.converged for _, other in pairs)})
    return found


def table(task: MemoryTask, contests: Sequence[MemoryContest]) -> str:
    """Write contests and ratios for people."""
    lines = [f'long memory: {task.length:,} vectors, {task.layers} layers of {task.hidden}, '
             f'batches of {task.batch}, on {task.device}; {machine()}', '',
             f'{"":<11}{"seed":>5}{"minibatches":>13}{"s each":>9}{"s in all":>10}']
    for one in contests:
        lines.append(
            f'{one.contestant:<11}{one.seed:>5}{one.minibatches:>13}'
            f'{one.seconds / max(1, one.minibatches):>9.3f}{one.seconds:>10.1f}'
            + ('' if one.converged else f'  did not converge within {task.limit:g} s'))
    lines.append('')
    for found in ratios(contests):
        lines.append(f'{found["contestant"]} converges {"at least " * found["at_least"]}'
                     f'{found["ratio"]:.1f} times as fast as {found["reference"]}')
    return '\n'.join(lines).rstrip()
