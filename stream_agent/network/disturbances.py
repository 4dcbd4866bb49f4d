"""
Dropout and noise, drawn frame by frame.

What is drawn for a node at a frame depends on that frame's draw alone, whether the frame is
stepped or computed with all others of a window: training sees the same numbers either way.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MASK = 2**64 - 1


class Disturbance:
    """
    Dropout and noise of one node or edge, in training.

    :param number: Of the node or edge; others at the same frame draw other numbers.
    :param dropout: Probability with which a value is dropped; those that stay grow accordingly.
    :param noise: Standard deviation of the Gaussian noise added after that.
    """

    def __init__(self, number: int, dropout: float, noise: float) -> None:
        self.number = number
        self.dropout = dropout
        self.noise = noise

    def __call__(self, values: Tensor, draws: Sequence[int]) -> Tensor:
        """
        Disturb values.

        :param values: (N, B, ...) of N frames.
        :param draws: Of the frames, as from ``draw_frames``.
        """
        generator = torch.Generator(values.device)
        seeds = [mixed(draw, self.number) for draw in draws]
        if self.dropout:
            kept = new_like(values)
            for frame, seed in zip(kept, seeds):
                frame.bernoulli_(1 - self.dropout, generator=generator.manual_seed(seed))
            # With a dropout of 1 nothing is left to grow.
            values = values * kept.div_(1 - self.dropout or 1)
        if self.noise:
            noise = new_like(values)
            for frame, seed in zip(noise, seeds):
                frame.normal_(0, self.noise, generator=generator.manual_seed(seed + 1))
            values = values + noise
        return values


def new_like(values: Tensor) -> Tensor:
    """Return an empty tensor whose elements are drawn in one order, however values lie."""
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def draw_frames(count: int) -> list[int]:
    """Return what the dropout and noise of so many frames is drawn by, from torch's generator."""
    # One by one: so many at once would be other numbers than those of so many steps.
    return [int(torch.randint(2**62, ())) for _ in range(count)]


def mixed(draw: int, number: int) -> int:
    """
    Return a seed of 32 bits, as all of it counts on the CPU, that tells draws and numbers apart.

    Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix).
    """
    z = (draw + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return (z ^ z >> 31) & 0xFFFFFFFE
