"""Command line: train driving policies in the embedded simulator and write their files."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import date
import multiprocessing
from pathlib import Path
import signal
import sys
import time

from stream_agent.learning.imitation import Imitation, Schedule
from stream_agent.network.checkpoint import CommandLimits, Policy, save_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.options import add_allowed, find_graph, positive
from stream_agent.simulation.settings import Settings
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.graph_file import load_graph
from stream_agent.theory.information import frames_unanswered
from stream_agent.theory.patterns import (
    newest_image_pattern, pattern_from_streams, sequential_pattern)
import torch
from tqdm import tqdm

LIMITS = CommandLimits(max_speed=1.0, max_yaw_rate=2.0)


def pattern_of(graph: GraphSpec, name: str) -> dict[tuple[str, str], int]:
    """
    Return the pattern that a name on the command line stands for.

    :param name: 'streaming' or 'newest-image' (edges that leave the image are R = 0),
        'sequential', or the edges that stream, as 'a->b,b->b'.
    """
    if name in ('streaming', 'newest-image'):
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, [edge.strip() for edge in name.split(',')])


def labels_of(pattern_names: Sequence[str]) -> list[str]:
    """Return what the policies are called, each differently: they become names of files."""
    labels: list[str] = []
    for name in pattern_names:
        kind = name if name in ('streaming', 'sequential') else 'hybrid'
        again = sum(label.split('_')[0] == kind for label in labels)
        labels.append(f'{kind}_{again + 1}' if again else kind)
    return labels


def train(graph_path: Path, pattern_name: str, label: str, output: Path, schedule: Schedule,
          seed: int, position: int = 0, allowed: Sequence[str] = ()) -> Path:
    """
    Train one policy and write it.

    :param label: What the policy is called.
    :param output: Folder of the checkpoint.
    :param position: Line of the terminal for the progress bar.
    :param allowed: Transforms from outside that the graph may import.
    :returns: The checkpoint, named after graph and label.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    allow_transforms(allowed)
    graph = load_graph(graph_path)
    network = RolloutNetwork(graph, pattern_of(graph, pattern_name))
    check_command(network)
    schedule = lengthened(schedule, frames_unanswered(graph, network.pattern))
    preprocessing = Preprocessing(network.shapes[network.input], crop_top=0.25)
    start = time.perf_counter()
    with tqdm(total=schedule.all_updates, desc=label, position=position, unit='step') as bar:
        def report(values):
            stop_if_orphaned()
            bar.set_postfix(values | {'loss': f'{values["loss"]:.5f}'}, refresh=False)
            bar.update()
        imitation = Imitation(network, preprocessing, LIMITS, Settings(), schedule, seed, report)
        imitation.run()
    training = {'command': 'stream_agent train', 'date': date.today().isoformat(),
                'seed': seed, 'schedule': asdict(schedule), 'torch': torch.__version__,
                'frames': imitation.episodes.frames,
                'duration_s': round(time.perf_counter() - start)}
    output.mkdir(parents=True, exist_ok=True)
    path = output / f'{graph_path.stem}_{label}.safetensors'
    save_policy(path, Policy(network, preprocessing, LIMITS, label, training,
                             schedule.updates_per_frame))
    return path


def check_command(network: RolloutNetwork) -> None:
    """Refuse a network whose output is no command."""
    output = network.graph.output
    if network.shapes[output] != (2,):
        raise ValueError(f"the output '{output}' has the shape {list(network.shapes[output])}; a "
                         'policy that drives gives [2]: speed, yaw rate')


def lengthened(schedule: Schedule, unanswered: int) -> Schedule:
    """
    Return a schedule whose windows have as many answers as they have for any other rollout.

    :param unanswered: Update steps whose output depends on no image yet (SR18, section
        "Training": all rollouts see the same number of loss frames).
    """
    late = unanswered // schedule.updates_per_frame
    return replace(schedule, burn_in=schedule.burn_in + late, window=schedule.window + late)


def stop_if_orphaned() -> None:
    """End a worker whose parent was killed; nobody waits for its policy."""
    parent = multiprocessing.parent_process()
    if parent and not parent.is_alive():
        sys.exit('train: stopped, as the command that started it is gone')


def train_all(arguments: argparse.Namespace) -> list[Path]:
    """Train every pattern for itself, side by side where there are cores."""
    schedule = replace(Schedule(), **{name: getattr(arguments, name)
                                      for name in ('rounds', 'updates', 'last_updates',
                                                   'updates_per_frame')})
    jobs = [(arguments.graph, pattern, label, arguments.output, schedule, arguments.seed,
             position, arguments.allow) for position, (pattern, label)
            in enumerate(zip(arguments.pattern, labels_of(arguments.pattern)))]
    if len(jobs) == 1:
        return [train(*jobs[0])]
    # A fresh interpreter each, since torch does not survive a fork.
    with ProcessPoolExecutor(arguments.workers,
                             multiprocessing.get_context('spawn')) as pool:
        return [future.result() for future in [pool.submit(train, *job) for job in jobs]]


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line; defaults are those of the shipped policies."""
    default = Schedule()
    parser = argparse.ArgumentParser(
        prog='train', description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--graph', type=find_graph, default='lane',
                        help='graph file, or the name of one that is shipped')
    add_allowed(parser)
    parser.add_argument('--pattern', nargs='+', default=['streaming', 'sequential'],
                        help="'streaming', 'sequential', or the edges that stream: 'a->b,b->b'")
    parser.add_argument('--output', type=Path, default=Path('policies'),
                        help='folder of the checkpoints')
    parser.add_argument('--seed', type=int, default=1, help='of weights and courses')
    parser.add_argument('--rounds', type=int, default=default.rounds,
                        help='times that the policy drives and learns')
    parser.add_argument('--updates', type=int, default=default.updates,
                        help='gradient steps a round')
    parser.add_argument('--last-updates', type=int, default=default.last_updates,
                        help='gradient steps after the last round, more')
    parser.add_argument('--updates-per-frame', type=positive, metavar='K',
                        default=default.updates_per_frame,
                        help='update steps for which every image is held')
    parser.add_argument('--workers', type=int, default=2, help='policies trained side by side')
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Train and say where the checkpoints are."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        paths = train_all(parse(args))
    except KeyboardInterrupt:
        print('\ntraining stopped; no checkpoint was written', file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f'train: {error}', file=sys.stderr)
        return 1
    print(*(f'wrote {path}' for path in paths), sep='\n')
    return 0
