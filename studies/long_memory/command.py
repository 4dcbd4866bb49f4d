"""Linear recurrences against torch's LSTM, by the time in which they learn a long memory."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np
from stream_agent.bounded_settings import settings_fields
from stream_agent.cli.arguments import add_shared, positive, settings_of
from stream_agent.learning import distributed
from stream_agent.measurement.machine import machine, versions
from studies.long_memory.task import contest, CONTESTANTS, MemoryContest, MemoryTask, REFERENCES

STOPPED = 130
QUICK = MemoryTask(256, hidden=32, limit=60.0)
FORMAT = 'stream_agent contests 1'


class ContestsError(ValueError):
    """A file of contests that cannot be used; the message says why and what to do."""


class Contests:
    """
    The contests of one task, kept in a file as they end.

    :raises ContestsError: If the file is damaged, or of another task.
    """

    def __init__(self, path: Path, task: MemoryTask) -> None:
        self._path, self._task = path, task
        self.done: list[MemoryContest] = self._read() if path.exists() else []

    def _read(self) -> list[MemoryContest]:
        try:
            data = json.loads(self._path.read_text())
            then, done = data['task'], [MemoryContest(**contest) for contest in data['contests']]
        except (KeyError, TypeError, ValueError) as error:
            raise ContestsError(f'{self._path}: it is not a file of contests ({error}); remove '
                                'it, or add --fresh') from None
        if then != asdict(self._task):
            raise ContestsError(f'{self._path}: its contests were {then}, not '
                                f'{asdict(self._task)}; give another --output, or add --fresh')
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the long-memory task."""
    add_shared(parser, [item.name for item in settings_fields(MemoryTask)],
               {'in full': MemoryTask(), 'with --quick': QUICK})
    parser.add_argument('--contestants', nargs='+', choices=CONTESTANTS, metavar='NAME',
                        default=list(CONTESTANTS), help=f'of {", ".join(CONTESTANTS)} (all)')
    parser.add_argument('--seeds', type=positive, default=1, help='trainings of each (1)')
    parser.add_argument('--output', type=Path, help='folder of the results '
                        '(results/long-memory-N)')
    parser.add_argument('--quick', action='store_true', help='a look within minutes')
    parser.add_argument('--fresh', action='store_true', help='forget the contests so far')
    parser.add_argument('--json', action='store_true', help='for programs')


def run(arguments: argparse.Namespace) -> int:
    """Let the networks learn one after the other; returns the exit code."""
    task = settings_of(arguments, QUICK if arguments.quick else MemoryTask())
    distributed.find_device(task.device)
    output = arguments.output or Path('results') / f'long-memory-{task.length}'
    output.mkdir(parents=True, exist_ok=True)
    path = output / 'results.json'
    if arguments.fresh:
        path.unlink(missing_ok=True)
    contests = Contests(path, task)
    finished = hold_contests(arguments, task, contests)
    text = table(task, contests.done)
    (output / 'summary.txt').write_text(text + '\n')
    print(json.dumps(contests.as_data(), indent=1) if arguments.json else
          f'{text}\n\nwrote {output}')
    if not finished:
        print('studies: stopped; the same command resumes with the next contest', file=sys.stderr)
    return 0 if finished else STOPPED


def hold_contests(arguments: argparse.Namespace, task: MemoryTask, contests: Contests) -> bool:
    """Hold the contests that are not over yet; returns whether all are now."""
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.contestants:
            if contests.has(name, seed):
                continue
            one = contest(name, task, seed)
            if one is None:
                return False
            contests.add(one)
            print(f'{name}, seed {seed}: {one.minibatches} minibatches in {one.seconds:.1f} s'
                  + ('' if one.converged else ', did not converge'), file=sys.stderr)
    return True
