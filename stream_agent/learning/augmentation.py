"""Changes of images that keep the right answer, or change it in a known way."""

from dataclasses import dataclass, replace

import numpy as np
from stream_agent.bounded_settings import BoundedSettings, choice, quantity
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation(BoundedSettings):
    """How much images are changed, in the same way from an episode's first frame to its last."""

    brightness: float = quantity(0.1, '', 0.0, 0.5, 'largest value added, of -0.5 to 0.5')
    contrast: float = quantity(
        0.2, '', 0.0, 1.0, 'largest relative change of the distance from the middle grey')
    shift: float = quantity(
        0.0, '', 0.0, 1.0, 'largest shift sideways, as a share of the width; borders are repeated')
    steering_per_shift: float = quantity(
        0.0, '', -100.0, 100.0, 'added to the steering for a shift of the whole width to the left')
    mirror: bool = choice(True, 'exchange left and right in half of the walks; not with other '
                          'inputs beside the image, or other outputs than speed and steering')

    def of_images(self, alone: bool) -> 'Augmentation':
        """
        Return what may be changed of a policy's images.

        :param alone: Whether an image is its only input, and speed and steering its output: what
            changes sides would have to change other inputs and outputs in ways unknown here.
        :raises ValueError: If images are to be shifted that are not alone.
        """
        if self.shift and not alone:
            raise ValueError(f'--shift {self.shift:g}: images are shifted only for policies with '
                             'no other input, whose output is speed and steering; leave it out')
        return self if alone else replace(self, mirror=False)

    def draw(self, seed: int, visit: int) -> tuple[float, float, float, bool]:
        """Draw (brightness, contrast, shift, mirrored) of one walk through an episode."""
        generator = np.random.default_rng([seed, visit, 2])
        brightness, contrast, shift = generator.uniform(-1, 1, 3) * (
            self.brightness, self.contrast, self.shift)
        return brightness, 1 + contrast, shift, self.mirror and generator.random() < 0.5

    def applied(self, frames: Tensor, targets: Tensor, draws: list[tuple]
                ) -> tuple[Tensor, Tensor]:
        """
        Change every sample by its draw.

        :param frames: (B, T, C, H, W), -0.5 ... 0.5.
        :param targets: (B, T, 2): speed and steering; of anything else unless sides change.
        """
        brightness, contrast, shift, mirrored = (
            torch.tensor(values, dtype=torch.float32, device=frames.device)
            for values in zip(*draws))
        each = (-1, 1, 1, 1, 1)
        frames = (frames * contrast.view(each) + brightness.view(each)).clamp(-0.5, 0.5)
        if not (self.shift or self.mirror):
            return frames, targets
        steering = (targets[..., 1] + self.steering_per_shift * shift.view(-1, 1)
                    ) * (1 - 2 * mirrored.view(-1, 1))
        return (sideways(frames, shift, mirrored > 0),
                torch.stack([targets[..., 0], steering], -1))


def sideways(frames: Tensor, shift: Tensor, mirrored: Tensor) -> Tensor:
    """Shift frames to the left by shares of the width, (B,), then mirror some, (B,) bool."""
    width = frames.shape[-1]
    columns = torch.arange(width, device=frames.device)
    moved = columns + (shift * width).round().long().view(-1, 1)
    moved = moved.clamp(0, width - 1)
    moved = torch.where(mirrored.view(-1, 1), moved.flip(-1), moved)
    return frames.gather(-1, moved.view(-1, 1, 1, 1, width).expand_as(frames))
