"""
Every number of a training, with its range and default: learning rates, windows, rounds, crops.

The first class is about any training; the others are about policies, which learn from the expert
in the simulator or from recordings of a driver.
"""

from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

from stream_agent.bounded_settings import (
    BoundedSettings, choice, file_path, free_text, quantity, SettingsError, several)
import torch

OPTIMISERS = {'adamw': torch.optim.AdamW, 'rmsprop': torch.optim.RMSprop}
DECAYS = {'cosine': lambda part: 0.5 * (1 + math.cos(math.pi * part)), 'none': lambda part: 1.0}
PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
MOST = 10**6


class TrainingError(ValueError):
    """A training that cannot start or resume; the message says why and what to do."""


def learning_rate(default: float) -> Any:
    """Declare the learning rate at the start of a training."""
    return quantity(default, '', 0.0, 10.0, 'learning rate at the start')


def window(default: int) -> Any:
    """Declare T, the frames of a window."""
    return quantity(default, 'frames', 1, 100_000,
                    'length of a window, through which gradients flow')


def updates_per_frame() -> Any:
    """Declare K, as it is on the robot."""
    return quantity(1, '', 1, 100, 'update steps for which every image is held')


@dataclass(frozen=True)
class TrainerOptions(BoundedSettings):
    """
    How a learner is trained.

    :param steps: Gradient steps.
    :param warm_up: Steps in which the learning rate rises to its start.
    :param position: Line of the terminal for the progress.
    :param quiet: Show no progress.
    """

    steps: int
    learning_rate: float = learning_rate(1e-3)
    optimiser: str = choice('adamw', 'of the gradient steps', tuple(OPTIMISERS))
    decay: str = choice('cosine', 'the learning rate falls to zero by half a cosine, or stays',
                        tuple(DECAYS))
    clip: float = quantity(1.0, '', 0.0, 1e9, 'largest norm of the gradient; 0: any')
    seed: int = quantity(1, '', 0, 2**63 - 1, 'of the weights and of everything drawn at random')
    device: str = free_text('cpu', "torch device: 'cpu', or 'cuda', of which every process "
                            'of torchrun takes one', 'DEVICE')
    precision: str = choice('float32', 'of the forward pass; weights stay in float32',
                            tuple(PRECISIONS))
    segment: int = quantity(0, 'frames', 0, 10**9, 'frames of a window that are kept in '
                            'memory at a time, the others being computed again for the '
                            'gradients; 0: all')
    save_every: float = quantity(60.0, 's', 0.0, 1e9, 'time between two files from which a '
                                 'stopped training can resume')
    tensorboard: Path | None = file_path(None, 'folder for curves of loss and speed', 'DIR')
    warm_up: int = 0
    position: int = 0
    quiet: bool = False


@dataclass(frozen=True)
class FrameCrop(BoundedSettings):
    """What is cut off from every image before a network sees it."""

    crop_top: float = quantity(0.0, '', 0.0, 0.99, "share of the image's rows cut off above")
    crop_bottom: float = quantity(0.0, '', 0.0, 0.99, "share of the image's rows cut off below")


#: Above the road, where the simulator's camera sees nothing that helps to steer.
SIMULATOR_CROP = FrameCrop(crop_top=0.25)


@dataclass(frozen=True)
class ImitationSchedule(BoundedSettings):
    """How long and on what a policy learns from the expert in the simulator."""

    rounds: int = quantity(12, '', 1, 10_000, 'times that the policy drives and then learns; the '
                           'expert drives the first')
    environments: int = quantity(8, '', 1, 10_000, 'courses driven side by side in a round, new '
                                 'ones each round')
    frames: int = quantity(160, '', 1, MOST, 'frames driven per course and round, more by a '
                           'robot slower than the usual one')
    updates: int = quantity(60, '', 0, MOST, 'gradient steps after each round')
    last_updates: int = quantity(240, '', 0, MOST, 'further gradient steps after the last round')
    batch: int = quantity(16, '', 1, 100_000, 'windows in a gradient step')
    window: int = window(24)
    burn_in: int = quantity(8, 'frames', 0, 100_000, "frames at a window's start that fill "
                            'the state and bear no loss')
    learning_rate: float = learning_rate(2e-3)
    updates_per_frame: int = updates_per_frame()
    loss_time: float = quantity(
        0.0, 's', 0.0, 60.0, 'of road that bears loss in a window, after as long that fills the '
        'state, whatever the rate of a slow computer; 0: windows count frames')
    warm_up: int = quantity(0, 'gradient steps', 0, MOST, 'in which the learning rate rises to '
                            'its start')
    pushes: float = quantity(1.0, 'rad/s', 0.0, 3.0, 'largest yaw rate that pushes the robot off '
                             'its way now and then')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burn_in >= self.window:
            raise SettingsError(f'burn_in is {self.burn_in} and window {self.window}, which '
                                'leaves no frame with a loss; set burn_in below window')

    @property
    def all_updates(self) -> int:
        """Gradient steps of the whole training."""
        return self.rounds * self.updates + self.last_updates

    def rounds_before(self, step: int) -> int:
        """Return how many rounds have been driven when a gradient step is taken."""
        return min(self.rounds, 1 + step // self.updates) if self.updates else self.rounds


#: Past signs: what is driven counts in seconds, and recognition takes longer than steering.
SIGNS_SCHEDULE = ImitationSchedule(
    rounds=24, environments=24, frames=320, updates=80, last_updates=2400, loss_time=1.5,
    warm_up=80, pushes=1.5)


@dataclass(frozen=True)
class RecognitionSchedule(BoundedSettings):
    """How long and on what the layers that recognise signs learn, before anything is driven."""

    views: int = quantity(60_000, '', 100, MOST, 'images seen from random places')
    recognition_steps: int = quantity(8000, '', 0, MOST, 'gradient steps on them; 0: none, all '
                                      'layers learn from drives')
    sign_loss: float = quantity(0.4, '', 0.0, 1e3, 'weight of the loss that tells a memory which '
                                'speed is commanded; 0: none')


@dataclass(frozen=True)
class CloningSchedule(BoundedSettings):
    """How long and on what a policy learns from recordings."""

    epochs: float = quantity(20.0, '', 0.0, MOST, 'passes over the frames')
    streams: int = quantity(32, '', 1, 100_000, 'episodes walked through side by side')
    window: int = window(8)
    learning_rate: float = learning_rate(1e-3)
    weights: tuple[float, float] = quantity(
        (0.1, 1.0), '', 0.0, 1e9, 'of the squared errors of speed and steering',
        option='loss_weights')
    updates_per_frame: int = updates_per_frame()

    def steps(self, frames: int) -> int:
        """Return the gradient steps for so many frames; none for no epoch."""
        return math.ceil(self.epochs * frames / (self.streams * self.window))

    def equal_weights(self, outputs: int) -> tuple[float, ...]:
        """
        Return the weights of outputs that are not speed and steering.

        :raises SettingsError: If weights of speed and steering are given.
        """
        if self.weights != CloningSchedule.weights:
            raise SettingsError(f'--loss-weights: the two are of speed and steering, and the '
                                f'output has {outputs} elements of other kinds, which weigh the '
                                'same; leave the option out')
        return (1.0,) * outputs


@dataclass(frozen=True)
class RecordingsChoice(BoundedSettings):
    """Which recordings a policy learns from, and what of them it does not see."""

    bag: tuple[Path, ...] = several(
        (), 'learn from recordings instead of the simulator: rosbag2 recordings, DonkeyCar tubs, '
        'or folders of them', 'DIR', Path)
    cache: Path | None = file_path(
        None, 'folder of decoded frames; without it, stream_agent in $XDG_CACHE_HOME or ~/.cache',
        'DIR')
    max_speed: float = quantity(
        0.0, '', 0.0, 1e6, 'speed at an output of 1; 0: the largest recorded')
    max_yaw_rate: float = quantity(
        0.0, '', 0.0, 1e6, 'yaw rate, or what else steers, at an output of 1; 0: the largest '
        'recorded')
    held_out: float = quantity(
        0.2, '', 0.0, 0.5, 'share of the frames, held out by whole recordings (or episodes, or '
        'the end of one, if there are too few) to tell how good the policy is; 0: none')
    augmentation: bool = choice(True, 'change brightness, contrast and sides at random')
