"""The noisy experiments: which networks and rollouts, on which data, trained how long."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stream_agent.bounded_settings import check, choice, quantity
from stream_agent.learning.settings import learning_rate, OPTIMISERS
from studies.noisy.datasets import LOADERS
from studies.noisy.signs import load_signs
from studies.noisy.task import Clips, Stills

BOTH = {'streaming': 'streaming', 'sequential': 'sequential'}
HYBRID = 'h1->h2,h1->h1,h1->out'


@dataclass(frozen=True)
class NoisySchedule:
    """
    How long and on what a network is trained and tested.

    :raises SettingsError: If a number is outside its range.
    """

    epochs: float = quantity(5.0, '', 1e-3, 1e6, 'times that all clips are seen, such as 0.5')
    batch: int = quantity(128, '', 1, 10**6, 'windows in a gradient step')
    learning_rate: float = learning_rate(3e-3)
    optimiser: str = choice('adamw', 'what takes the gradient steps', tuple(OPTIMISERS))
    decay: str = 'cosine'
    test_clips: int | None = quantity(None, '', 1, 10**9, 'how many of the test clips are looked '
                                      'at, evenly spread; all if not given', whole=True)

    def __post_init__(self) -> None:
        check(self)

    def steps(self, clips: int) -> int:
        """Return the gradient steps on so many training clips."""
        return max(1, round(self.epochs * clips / self.batch))


@dataclass(frozen=True)
class Noisy:
    """
    An experiment on images or tracks with noise.

    :param title: For people.
    :param networks: Graph names by what the paper calls the networks.
    :param data: What ``--data`` is.
    :param rollouts: Patterns by name, of each network; see ``pattern_named``.
    :param deviation: Of the noise, for pixels from 0 to 1.
    :param load: Returns training and test clips.
    :param quick: What changes in the schedule for a look within minutes.
    :param published: As the authors trained (SR18, section "Experiments").
    :param has_figure: Whether the paper shows accuracy against update step.
    """

    title: str
    data: str
    networks: Mapping[str, str]
    rollouts: Mapping[str, Mapping[str, str]]
    deviation: float
    classes: int
    load: Callable[[Path], tuple[Clips, Clips]]
    schedule: NoisySchedule
    quick: Mapping[str, Any]
    published: NoisySchedule
    has_figure: bool = True

    @property
    def quickened(self) -> NoisySchedule:
        """The schedule for a look within minutes."""
        return replace(self.schedule, **self.quick)


def stills(name: str) -> Callable[[Path], tuple[Clips, Clips]]:
    """Return what loads a data set of images."""
    def load(path: Path) -> tuple[Clips, Clips]:
        data = LOADERS[name](path)
        return Stills(data.train), Stills(data.test)
    return load


DSR = {f'DSR{k}': f'dsr{k}' for k in range(7)}
EXPERIMENTS = {
    'noisy-mnist': Noisy(
        'noisy MNIST', "folder with MNIST's four idx files (.gz or not), or an archive mnist.npz",
        {'FF': 'mnist_ff', 'S': 'mnist_s', 'SR': 'mnist_sr'},
        {'FF': BOTH, 'S': BOTH, 'SR': {**BOTH, 'hybrid': HYBRID}}, 2.0, 10, stills('mnist'),
        NoisySchedule(5, 128), {'epochs': 0.5, 'test_clips': 2000},
        NoisySchedule(100, 128, 1e-4, 'rmsprop', 'none')),
    'noisy-cifar10': Noisy(
        'noisy CIFAR-10',
        'folder with the binary version of CIFAR-10, or an archive cifar10*.npz',
        DSR, {name: BOTH for name in DSR}, 1.0, 10, stills('cifar10'),
        NoisySchedule(10, 64, 1e-3), {'epochs': 0.05, 'test_clips': 500},
        NoisySchedule(100, 64, 1e-4, 'rmsprop', 'none')),
    'gtsrb': Noisy(
        'noisy GTSRB',
        "folder with GTSRB's official training images, or an archive gtsrb*.npz",
        {'DSR4': 'gtsrb_dsr4'}, {'DSR4': BOTH}, 0.5, 43, load_signs,
        NoisySchedule(10, 16, 1e-3), {'epochs': 0.05, 'test_clips': 500},
        NoisySchedule(10, 16, 1e-4, 'rmsprop', 'none'), has_figure=False),
}
