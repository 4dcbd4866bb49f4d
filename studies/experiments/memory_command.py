"""The long-memory task: linear recurrences against torch's LSTM, by time to convergence."""

import argparse
import json
from pathlib import Path
import sys

from stream_agent.cli.arguments import positive
from stream_agent.learning import distributed
from stream_agent.learning.trainer import PRECISIONS
from studies.experiments.contests import Contests, table
from studies.experiments.long_memory import contest, CONTESTANTS, MemoryTask
from studies.experiments.noisy_command import above_zero, STOPPED

QUICK = {'length': 256, 'hidden': 32, 'limit': 60.0}


def add_memory(commands: argparse._SubParsersAction) -> None:
    """Take the options of the long-memory task."""
    default = MemoryTask(1024)
    parser = commands.add_parser(
        'long-memory', help="time to convergence on a memory of n frames, against torch's LSTM")
    parser.set_defaults(do=run_memory)
    parser.add_argument('--length', type=positive, metavar='N',
                        help=f'n, vectors in a sequence ({default.length})')
    parser.add_argument('--hidden', type=positive, help='features of a layer '
                        f'({default.hidden}; as published, 512, and 64 for a million vectors)')
    parser.add_argument('--layers', type=positive, help=f'{default.layers}')
    parser.add_argument('--batch', type=positive, help=f'sequences in a minibatch '
                        f'({default.batch})')
    parser.add_argument('--learning-rate', type=above_zero, metavar='RATE',
                        help=f'{default.learning_rate:g}')
    parser.add_argument('--limit', type=above_zero, metavar='SECONDS', help='time of a network '
                        f'to converge ({default.limit:g})')
    parser.add_argument('--contestants', nargs='+', choices=CONTESTANTS, metavar='NAME',
                        default=list(CONTESTANTS), help=f'of {", ".join(CONTESTANTS)} (all)')
    parser.add_argument('--seeds', type=positive, default=1, help='trainings of each (1)')
    parser.add_argument('--device', help=f"a torch device, such as 'cuda' ({default.device})")
    parser.add_argument('--precision', choices=PRECISIONS, help=default.precision)
    parser.add_argument('--output', type=Path, help='folder of the results '
                        '(results/long-memory-N)')
    parser.add_argument('--quick', action='store_true', help='a look within minutes: '
                        + ', '.join(f'{name} {value:g}' for name, value in QUICK.items()))
    parser.add_argument('--fresh', action='store_true', help='forget the contests so far')
    parser.add_argument('--json', action='store_true', help='for programs')


def task_of(arguments: argparse.Namespace) -> MemoryTask:
    """Return the task: the default or the quick one, with what is changed."""
    names = ('length', 'hidden', 'layers', 'batch', 'learning_rate', 'limit', 'device',
             'precision')
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return MemoryTask(**{'length': 1024, **(QUICK if arguments.quick else {}), **given})


def run_memory(arguments: argparse.Namespace) -> int:
    """Let the networks learn one after the other; returns the exit code."""
    task = task_of(arguments)
    distributed.find_device(task.device)
    output = arguments.output or Path('results') / f'long-memory-{task.length}'
    output.mkdir(parents=True, exist_ok=True)
    path = output / 'results.json'
    if arguments.fresh:
        path.unlink(missing_ok=True)
    contests = Contests(path, task)
    finished = hold(arguments, task, contests)
    text = table(task, contests.done)
    (output / 'summary.txt').write_text(text + '\n')
    print(json.dumps(contests.as_data(), indent=1) if arguments.json else
          f'{text}\n\nwrote {output}')
    if not finished:
        print('experiment: stopped; the same command goes on with the next contest',
              file=sys.stderr)
    return 0 if finished else STOPPED


def hold(arguments: argparse.Namespace, task: MemoryTask, contests: Contests) -> bool:
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
