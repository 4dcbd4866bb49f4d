"""The networks that imports are tried on, by name, and images for them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
from importing import networks, token_networks
import numpy as np
import torch
from torch import nn, Tensor

#: Eight pictures of a camera on its drive, 320 x 240, with a margin of 4 and gaps of 8 pixels.
PICTURES = Path(__file__).parents[2] / 'docs' / 'images' / 'gazebo_frames.png'


class Example(NamedTuple):
    """
    A network to import.

    :param make: Makes the module, which nobody has put into evaluation mode.
    :param image: Shape of its image, without batch.
    :param states: Shapes of its states with a batch of one, by forward's parameters.
    :param largest: Value of a white pixel.
    """

    make: Callable[[], nn.Module]
    image: tuple[int, ...] = (3, 64, 64)
    states: Mapping[str, tuple[int, ...]] = {}
    largest: float = 1.0

    def batch_of(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return grey images 0 ... 1 as this network takes them, slightly coloured."""
        channels, height, width = self.image
        batch = np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                          for image in images])
        tint = np.linspace(0.8, 1.2, channels, dtype=np.float32)[:, None, None]
        return torch.from_numpy(batch[:, None].clip(1e-3) ** tint * np.float32(self.largest))


EXAMPLES: Mapping[str, Example] = {
    'resnet': Example(partial(networks.ResNet, 8, 10)),
    'se_resnet': Example(partial(networks.ResNet, 8, 10, 1, excite=True)),
    'mobilenet_v2': Example(networks.mobilenet_v2),
    'mobilenet_v3': Example(networks.mobilenet_v3),
    'mobilenet_v3_written_out': Example(partial(
        networks.mobilenet_v3, act=networks.WrittenOutHardSwish)),
    'squeezenet': Example(networks.SqueezeNet),
    'densenet': Example(networks.densenet),
    'shufflenet_v2': Example(networks.shufflenet_v2),
    'efficientnet': Example(networks.efficientnet),
    'efficientnet_lopsided': Example(partial(networks.efficientnet, lopsided=True)),
    'regnet': Example(networks.regnet),
    'hrnet': Example(networks.HRNet),
    'hrnet_bilinear': Example(partial(networks.HRNet, upsample='bilinear')),
    'darknet': Example(networks.darknet),
    'vit': Example(token_networks.VisionTransformer, (3, 32, 32)),
    'vit_written_out': Example(partial(
        token_networks.VisionTransformer, attention=token_networks.WrittenOutAttention),
        (3, 32, 32)),
    'vit_encoder': Example(token_networks.EncoderTransformer, (3, 32, 32)),
    'pooled_by_attention': Example(token_networks.PooledByAttention, (3, 32, 32)),
    'nature_cnn': Example(token_networks.NatureCnn, (4, 64, 64), largest=255.0),
    'gru_cell': Example(token_networks.CellPolicy, (3, 48, 64), {'h': (1, 12)}),
    'gru_buffer': Example(token_networks.BufferPolicy, (3, 48, 64)),
    'gru': Example(token_networks.GruPolicy, (3, 48, 64), {'h': (2, 1, 12)}),
    'lstm': Example(token_networks.LstmPolicy, (3, 48, 64), {'h': (1, 1, 12), 'c': (1, 1, 12)}),
}


@cache
def pictures() -> np.ndarray:
    """Return pictures of a camera, (8, 240, 320), 0 ... 1."""
    sheet = cv2.imread(str(PICTURES), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255.0
    return np.stack([sheet[top:top + 240, left:left + 320]
                     for top in (4, 252) for left in range(4, 1312, 328)])


def images_for(example: Example, kind: str, frames: int) -> Tensor:
    """
    Return images for a network, (frames, *shape).

    :param kind: 'random', 'real', which is what a camera shows, or 'still', one picture of it.
    """
    if kind == 'random':
        noise = torch.randn(frames, *example.image, generator=torch.Generator().manual_seed(5))
        return (0.5 + noise / 4) * example.largest
    shown = pictures()
    return example.batch_of([shown[0 if kind == 'still' else i % len(shown)]
                             for i in range(frames)])


def trained(name: str) -> nn.Module:
    """Return a network of the table as if it had been trained, in evaluation mode."""
    example = EXAMPLES[name]
    torch.manual_seed(7)
    return drawn(example.make(), example.batch_of(list(pictures())))


@torch.no_grad()
def drawn(module: nn.Module, images: Tensor) -> nn.Module:
    """
    Return a module with weights and statistics as those of a trained one, in evaluation mode.

    Activations neither vanish nor explode: layers are drawn by the number of their inputs, and
    batch norms hold what they see of images.
    """
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                part.bias.normal_(0.0, 0.05)
        elif isinstance(part, nn.MultiheadAttention):
            part.in_proj_bias.normal_(0.0, 0.1)
        elif isinstance(part, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            part.weight.uniform_(0.7, 1.3)
            part.bias.normal_(0.0, 0.2)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        module.train()(images)
        for norm in norms:
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.25))
    return module.eval()


@torch.no_grad()
def answers(module: nn.Module, example: Example, images: Tensor) -> Tensor:
    """Return a network's outputs for images one after another, (frames, *output)."""
    states = [torch.zeros(shape) for shape in example.states.values()]
    outputs = []
    for image in images:
        output = module(image[None], *states)
        if states:
            output, *states = output
        outputs.append(output[0].clone())
    return torch.stack(outputs)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest output."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3))
