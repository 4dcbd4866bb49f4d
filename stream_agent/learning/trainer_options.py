"""How a learner is trained, and how the command line says it."""

import argparse
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

from stream_agent.cli.arguments import not_negative
import torch

OPTIMISERS = {'adamw': torch.optim.AdamW, 'rmsprop': torch.optim.RMSprop}
DECAYS = {'cosine': lambda part: 0.5 * (1 + math.cos(math.pi * part)), 'none': lambda part: 1.0}
PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


class TrainingError(ValueError):
    """A training that cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class TrainerOptions:
    """
    How a learner is trained.

    :param steps: Gradient steps.
    :param learning_rate: At the start.
    :param optimiser: 'adamw' or 'rmsprop'.
    :param decay: 'cosine': the learning rate falls to zero by half a cosine; or 'none'.
    :param clip: Largest norm of the gradient; 0 for any.
    :param device: A torch device, such as 'cpu' or 'cuda'.
    :param precision: Of the forward pass: 'float32', 'bfloat16' or 'float16'.
    :param segment: Frames of a window whose values are kept for the gradients at a time, those
        of the others being computed again; 0 for all.
    :param save_every: Seconds between two files to go on from.
    :param tensorboard: Folder of curves; None for none.
    :param position: Line of the terminal for the progress.
    :param quiet: Show no progress.
    :raises TrainingError: If there is no such choice, or a number is out of range.
    """

    steps: int
    learning_rate: float = 1e-3
    optimiser: str = 'adamw'
    decay: str = 'cosine'
    clip: float = 1.0
    seed: int = 1
    device: str = 'cpu'
    precision: str = 'float32'
    segment: int = 0
    save_every: float = 60.0
    tensorboard: Path | None = None
    position: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        for name, choices in (('optimiser', OPTIMISERS), ('decay', DECAYS),
                              ('precision', PRECISIONS)):
            if getattr(self, name) not in choices:
                raise TrainingError(f"{name}: there is no '{getattr(self, name)}'; "
                                    f'it is one of {", ".join(choices)}')
        for name in ('steps', 'learning_rate', 'clip', 'seed', 'save_every'):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise TrainingError(f'{name} is {value}; it has to be 0 or more')


def add_trainer_options(parser: argparse.ArgumentParser) -> None:
    """Take device, precision, curves, and when to write what a training can go on from."""
    parser.add_argument('--device', default=TrainerOptions.device,
                        help="torch device: 'cpu', or 'cuda', of which every process of torchrun "
                        'takes one')
    parser.add_argument('--precision', choices=PRECISIONS, default=TrainerOptions.precision,
                        help='of the forward pass; weights stay in float32')
    parser.add_argument('--segment', type=not_negative, metavar='FRAMES',
                        default=TrainerOptions.segment,
                        help='frames of a window that are kept in memory at a time, the others '
                        'being computed again for the gradients; 0: all')
    parser.add_argument('--tensorboard', type=Path, metavar='DIR',
                        help='folder for curves of loss and speed')
    parser.add_argument('--save-every', type=seconds, metavar='SECONDS',
                        default=TrainerOptions.save_every,
                        help='time between two files that a stopped training can go on from')
    parser.add_argument('--fresh', action='store_true',
                        help='start anew, even if an earlier training could go on')


def trainer_options(arguments: argparse.Namespace, **others: Any) -> TrainerOptions:
    """
    Return what the command line says.

    :param others: The options that it does not take.
    :raises TrainingError: If they are out of range.
    """
    return TrainerOptions(device=arguments.device, precision=arguments.precision,
                          segment=arguments.segment, tensorboard=arguments.tensorboard,
                          save_every=arguments.save_every, **others)


def seconds(text: str) -> float:
    """Read a duration from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 0 on")
    return value
