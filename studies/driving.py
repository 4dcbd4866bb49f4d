"""
Steering of recorded drives: how well policies predict it on sequences they never saw.

Five folds over whole recordings; in each, the streaming and the sequential rollout of one graph,
the same graph without memory (every frame alone, drawn at random), and ridge regression on 18x32
grey pixels. R2 of the steering, of every fold and over all held-out frames together, with 95 %
intervals of a bootstrap over recordings. No policy is given an earlier command.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import time

import cv2
import numpy as np
from stream_agent.cli.arguments import add_settings, find_graph, positive, settings_of
from stream_agent.driving.observations import as_frames, stacked
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning import distributed
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.cloning import CloningLearner, predict, r2_score
from stream_agent.learning.held_out import assign_folds
from stream_agent.learning.policy_sources import usual_cache
from stream_agent.learning.recorded_episodes import (
    cut_recordings, decoded_recordings, episodes_for, limits_of)
from stream_agent.learning.settings import CloningSchedule, TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.measurement.machine import show
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
import torch
from torch import Tensor

STEERING = 1
RIDGE = 100.0
RESAMPLES = 2000
# Frames that are computed together.
CHUNK = 256
# Steps of 128 frames; the state is carried over, so gradients need not reach far.
SCHEDULE = CloningSchedule(24.0, 64, 2, 2e-3, updates_per_frame=3)
AUGMENTATION = Augmentation()


class FrameLearner(CloningLearner):
    """
    A training on single frames, drawn at random, which the network sees without memory.

    What a network without recurrence would learn: the plain frame-by-frame baseline.
    """

    def loss(self, step: int) -> Tensor:
        generator = np.random.default_rng([self._seed, step])
        lengths = np.array([len(episode) for episode in self.episodes])
        count = self._schedule.streams * self._schedule.window
        chosen = generator.integers(self.frames, size=count)[distributed.local_slice(count)]
        ends = np.cumsum(lengths)
        numbers = np.searchsorted(ends, chosen, side='right')
        parts = [(self.episodes[number], slice(i, i + 1)) for number, i in zip(
            numbers, chosen - ends[numbers] + lengths[numbers])]
        frames, targets = self._augmented(
            stacked([episode.observations(part) for episode, part in parts]),
            np.stack([episode.targets[part] for episode, part in parts]),
            range(step * count, step * count + len(parts)))
        outputs, _ = self.network(frames, self.network.initial_state(len(targets)),
                                  self.updates_per_frame)
        return self._errors(outputs, targets).mean()


def predict_alone(network: RolloutNetwork, episode: RecordedEpisode) -> np.ndarray:
    """Let a network answer every frame of an episode as if it were the first, (n, 2)."""
    network.eval()
    found = []
    with torch.inference_mode():
        for first in range(0, len(episode), CHUNK):
            frames = as_frames(episode.observations(slice(first, first + CHUNK)),
                               network.shapes, 1, 'cpu')
            output, _ = network({name: values.unsqueeze(1) for name, values in frames.items()},
                                network.initial_state(min(CHUNK, len(episode) - first)))
            found.append(output.squeeze(1))
    return torch.cat(found).numpy()


# A name, its pattern, and its learner.
NETWORKS = {
    'streaming': (newest_image_pattern, CloningLearner),
    'sequential': (sequential_pattern, CloningLearner),
    'plain CNN': (sequential_pattern, FrameLearner),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='BAG',
                        help='recordings, or folders of them')
    parser.add_argument('--graph', type=find_graph, default=find_graph('donkey'))
    parser.add_argument('--policies', nargs='+', choices=[*NETWORKS, 'ridge'],
                        default=[*NETWORKS, 'ridge'])
    parser.add_argument('--folds', type=positive, default=5, help='of five, how many to hold out')
    # The updates are of the streaming rollout; the others respond within the frame anyway.
    add_settings(parser, SCHEDULE, without=('weights',))
    parser.add_argument('--cache', type=Path, default=usual_cache())
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--quick', action='store_true', help='one epoch of one fold')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    add_settings(parser, Reading)
    add_settings(parser, Alignment)


def train(name: str, episodes: Sequence[RecordedEpisode], preprocessing: Preprocessing, limits,
          arguments: argparse.Namespace) -> RolloutNetwork:
    """Train one policy."""
    pattern, kind = NETWORKS[name]
    graph = load_graph(arguments.graph)
    torch.manual_seed(arguments.seed)
    network = RolloutNetwork(graph, pattern(graph))
    schedule = settings_of(arguments, SCHEDULE, updates_per_frame=updates_of(name, arguments))
    learner = kind(network, preprocessing, limits, episodes, schedule, AUGMENTATION,
                   arguments.seed, name)
    options = TrainerOptions(learner.steps, schedule.learning_rate, seed=arguments.seed,
                             quiet=arguments.json)
    Trainer(learner, options, None).run()
    return network


def updates_of(name: str, arguments: argparse.Namespace) -> int:
    """Return the update steps for which a policy holds an image."""
    return arguments.updates_per_frame if name == 'streaming' else 1


def grey(episode: RecordedEpisode) -> np.ndarray:
    """Return the frames as 18 x 32 grey pixels, (n, 576)."""
    frames = [cv2.resize(cv2.cvtColor(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)),
                                      cv2.COLOR_RGB2GRAY), (32, 18), interpolation=cv2.INTER_AREA)
              for pixels in next(iter(episode.observations(slice(None)).values()))]
    return np.array(frames, np.float64).reshape(len(frames), -1) / 255 - 0.5


def ridge(learnt: Sequence[RecordedEpisode], held_out: Sequence[RecordedEpisode]) -> list:
    """Return the predictions of ridge regression for every held-out episode."""
    pixels = np.concatenate([grey(episode) for episode in learnt])
    targets = np.concatenate([episode.targets for episode in learnt])
    mean, offset = pixels.mean(0), targets.mean(0)
    pixels -= mean
    weights = np.linalg.solve(pixels.T @ pixels + RIDGE * np.eye(pixels.shape[1]),
                              pixels.T @ (targets - offset))
    return [(grey(episode) - mean) @ weights + offset for episode in held_out]


def predictions(name: str, learnt: Sequence[RecordedEpisode],
                held_out: Sequence[RecordedEpisode], preprocessing: Preprocessing, limits,
                arguments: argparse.Namespace) -> list[np.ndarray]:
    """Train one policy and return its predictions for every held-out episode."""
    if name == 'ridge':
        return ridge(learnt, held_out)
    network = train(name, learnt, preprocessing, limits, arguments)
    if NETWORKS[name][1] is FrameLearner:
        return [predict_alone(network, episode) for episode in held_out]
    return [predict(network, episode, updates_of(name, arguments)) for episode in held_out]


def r2_of(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return R2 of the steering over (targets, predictions) of some episodes."""
    targets, found = (np.concatenate(parts)[:, STEERING:] for parts in zip(*pairs))
    return float(r2_score(targets, found)[0])


def interval(pairs: dict[str, list], statistic) -> list[float]:
    """
    Return the middle 95 % of a figure over resampled recordings.

    :param pairs: By recording, whatever ``statistic`` takes a list of.
    """
    generator = np.random.default_rng(0)
    names = list(pairs)
    values = [statistic([pair for i in generator.integers(len(names), size=len(names))
                         for pair in pairs[names[i]]]) for _ in range(RESAMPLES)]
    return [round(float(value), 4) for value in np.percentile(values, [2.5, 97.5])]


def by_recording(results: Sequence[tuple[RecordedEpisode, np.ndarray]]) -> dict[str, list]:
    """Group (targets, predictions) by recording."""
    groups: dict[str, list] = {}
    for episode, found in results:
        groups.setdefault(episode.name, []).append((episode.targets, found))
    return groups


def figures_of(folds: list[list[tuple[RecordedEpisode, np.ndarray]]], seconds: float) -> dict:
    """Return the figures of one policy over all folds."""
    pooled = by_recording([result for fold in folds for result in fold])
    return {'r2_by_fold': [round(r2_of([(episode.targets, found) for episode, found in fold]), 4)
                           for fold in folds],
            'r2': round(r2_of([pair for pairs in pooled.values() for pair in pairs]), 4),
            'interval': interval(pooled, r2_of), 'seconds': round(seconds)}


def difference(first: list, second: list) -> dict:
    """Return how much better the first policy is than the second, on the same recordings."""
    groups: dict[str, list] = {}
    for fold, other in zip(first, second):
        for (episode, found), (_, compared) in zip(fold, other):
            groups.setdefault(episode.name, []).append((episode.targets, found, compared))

    def gain(triples):
        return (r2_of([(targets, found) for targets, found, _ in triples])
                - r2_of([(targets, compared) for targets, _, compared in triples]))
    return {'r2': round(gain([each for group in groups.values() for each in group]), 4),
            'interval': interval(groups, gain)}


def table(figures: dict) -> list[str]:
    """Lay the figures out for people."""
    lines = [f'{"policy":<11} {"R2":>6}  95 % interval     by fold']
    for name, each in figures['policies'].items():
        low, high = each['interval']
        lines.append(f'{name:<11} {each["r2"]:6.3f}  {low:6.3f} ... {high:.3f}  '
                     + ' '.join(f'{value:6.3f}' for value in each['r2_by_fold'])
                     + f'  ({each["seconds"]} s)')
    for name, each in figures['differences'].items():
        low, high = each['interval']
        lines.append(f'{name}: {each["r2"]:+.3f} ({low:+.3f} ... {high:+.3f})')
    return lines


def run(arguments: argparse.Namespace) -> int:
    """Train every policy on every fold, and print a table, or figures for programs."""
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.epochs, arguments.folds = 1.0, 1
    preprocessing = Preprocessing(load_graph(arguments.graph).node('image').shape)
    (trigger,) = load_graph(arguments.graph).inputs
    recordings = decoded_recordings(arguments.data, settings_of(arguments, Reading), preprocessing,
                                    arguments.cache, say=lambda line: None, trigger=trigger)
    found = cut_recordings(recordings, settings_of(arguments, Alignment))
    limits = limits_of(found)
    episodes = episodes_for(found, limits)
    fold_of = assign_folds([episode.name for episode in episodes], list(map(len, episodes)), 5)
    results = {name: [] for name in arguments.policies}
    seconds = dict.fromkeys(arguments.policies, 0.0)
    for fold in range(min(arguments.folds, 5)):
        learnt = [each for each, number in zip(episodes, fold_of) if number != fold]
        held_out = [each for each, number in zip(episodes, fold_of) if number == fold]
        for name in arguments.policies:
            start = time.process_time()
            results[name].append(list(zip(held_out, predictions(
                name, learnt, held_out, preprocessing, limits, arguments))))
            seconds[name] += time.process_time() - start
    report(arguments, results, seconds, sum(map(len, episodes)))
    return 0


def report(arguments: argparse.Namespace, results: dict, seconds: dict, frames: int) -> None:
    """Print the figures of every policy, and what streaming gains over each."""
    others = [name for name in results if name != 'streaming' and 'streaming' in results]
    figures = {
        'frames': frames, 'epochs': arguments.epochs, 'delay': arguments.delay,
        'updates_per_frame': arguments.updates_per_frame,
        'policies': {name: figures_of(folds, seconds[name]) for name, folds in results.items()},
        'differences': {f'streaming - {name}': difference(results['streaming'], results[name])
                        for name in others}}
    show([*table(figures), f'{frames:,} frames, {arguments.epochs:g} epochs; streaming holds an '
          f'image for {arguments.updates_per_frame} update steps; one thread, '
          f'torch {torch.__version__}'], figures, arguments.json)
