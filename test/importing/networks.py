"""
Networks as others write them, in the manner of well-known ones, of any width.

Their structure is that of the originals, and widths and depths are small, so that tests are quick.
"""

from collections.abc import Sequence

import torch
from torch import nn, Tensor
from torch.nn import functional


def convolution(source: int, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1,
                act: type[nn.Module] | None = nn.ReLU, bias: bool = False) -> nn.Sequential:
    """Return a convolution with batch norm, and an activation if one is given."""
    layers: list[nn.Module] = [
        nn.Conv2d(source, channels, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(channels)]
    return nn.Sequential(*layers, *([act()] if act else []))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int, act: type[nn.Module] = nn.ReLU,
                 gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.act = nn.Conv2d(channels, reduced, 1), act()
        self.expand, self.gate = nn.Conv2d(reduced, channels, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class BasicBlock(nn.Module):
    """ResNet's, with torchvision's names."""

    def __init__(self, source: int, channels: int, stride: int, excite: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(source, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.excite = SqueezeExcite(channels, channels // 4) if excite else nn.Identity()
        self.downsample = (convolution(source, channels, 1, stride, act=None)
                           if stride > 1 or source != channels else None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.excite(self.bn2(self.conv2(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    """ResNet-18 at width 64, 1000 classes and 224 x 224."""

    def __init__(self, width: int = 64, classes: int = 1000, blocks: int = 2,
                 excite: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        source = width
        for i in range(4):
            channels = width << i
            self.add_module(f'layer{i + 1}', nn.Sequential(*[
                BasicBlock(channels if j else source, channels, 1 if j or not i else 2, excite)
                for j in range(blocks)]))
            source = channels
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(source, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    """MobileNet's and EfficientNet's block: wide inside, depthwise, narrow outside."""

    def __init__(self, source: int, channels: int, stride: int, expand: int, kernel: int = 3,
                 act: type[nn.Module] = nn.ReLU6, excite: int = 0, lopsided: bool = False,
                 gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        wide = source * expand
        depthwise = convolution(wide, wide, kernel, stride, wide, act)
        if lopsided and stride == 2:  # as TensorFlow pads
            depthwise[0].padding = (0, 0)
            size = kernel - 2
            depthwise.insert(0, nn.ZeroPad2d((size // 2, size - size // 2) * 2))
        layers = [convolution(source, wide, 1, act=act)] if expand > 1 else []
        layers.append(depthwise)
        if excite:
            layers.append(SqueezeExcite(wide, max(wide // excite, 2), act, gate))
        self.layers = nn.Sequential(*layers, convolution(wide, channels, 1, act=None))
        self.skips = stride == 1 and source == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skips else self.layers(x)


def inverted(width: int, rows: Sequence[tuple[int, int, int, int]], classes: int,
             act: type[nn.Module], **options) -> nn.Sequential:
    """
    Return a network of inverted residuals.

    :param rows: Of expansion, channels as multiples of the width, stride and kernel.
    """
    layers: list[nn.Module] = [convolution(3, 2 * width, 3, 2, act=act)]
    source = 2 * width
    for expand, multiple, stride, kernel in rows:
        layers.append(InvertedResidual(source, width * multiple, stride, expand, kernel, act,
                                       **options))
        source = width * multiple
    layers.append(convolution(source, 4 * source, 1, act=act))
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Dropout(0.2), nn.Linear(4 * source, classes))


def mobilenet_v2(width: int = 4, classes: int = 10) -> nn.Module:
    rows = [(1, 1, 1, 3), (6, 2, 2, 3), (6, 2, 1, 3), (6, 3, 2, 3), (6, 3, 1, 3), (6, 4, 1, 3)]
    return inverted(width, rows, classes, nn.ReLU6)


def efficientnet(width: int = 4, classes: int = 10, lopsided: bool = False) -> nn.Module:
    rows = [(1, 1, 1, 3), (6, 2, 2, 3), (6, 2, 1, 3), (6, 3, 2, 5), (6, 3, 1, 5)]
    return inverted(width, rows, classes, nn.SiLU, excite=8, lopsided=lopsided)


class WrittenOutHardSwish(nn.Module):
    """Hard-swish of four operators, as libraries write it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.relu6(x + 3.0) / 6.0


def mobilenet_v3(width: int = 4, classes: int = 10, act: type[nn.Module] = nn.Hardswish
                 ) -> nn.Module:
    rows = [(1, 1, 2, 3), (4, 2, 2, 3), (4, 2, 1, 5), (6, 3, 1, 5)]
    return inverted(width, rows, classes, act, excite=4, gate=nn.Hardsigmoid)


class Fire(nn.Module):
    def __init__(self, source: int, squeezed: int, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(source, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, channels, 1)
        self.expand3x3 = nn.Conv2d(squeezed, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.expand1x1(x)),
                          functional.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """Its pools round up, and no batch norm steadies it."""

    def __init__(self, width: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4 * width, 3, 2), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(4 * width, width, 4 * width), Fire(8 * width, width, 4 * width),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(8 * width, 2 * width, 8 * width), Fire(16 * width, 2 * width, 8 * width))
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(16 * width, classes, 1), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class DenseLayer(nn.Module):
    """Batch norm in front of its convolutions, behind a concatenation."""

    def __init__(self, source: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(source), nn.Conv2d(source, 4 * growth, 1,
                                                                   bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(functional.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, layers: int, source: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(source + i * growth, growth)
                                    for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


def densenet(growth: int = 4, classes: int = 10, layers: Sequence[int] = (3, 4)) -> nn.Module:
    source = 2 * growth
    parts: list[nn.Module] = [convolution(3, source, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for i, number in enumerate(layers):
        parts.append(DenseBlock(number, source, growth))
        source += number * growth
        if i + 1 < len(layers):
            parts += [nn.BatchNorm2d(source), nn.ReLU(inplace=True),
                      nn.Conv2d(source, source // 2, 1, bias=False), nn.AvgPool2d(2)]
            source //= 2
    return nn.Sequential(*parts, nn.BatchNorm2d(source), nn.ReLU(inplace=True),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(source, classes))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Return the channels of all groups in turns."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width).transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, source: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.halved = stride == 1
        self.branch1 = nn.Identity() if self.halved else nn.Sequential(
            convolution(source, source, 3, stride, source, None), convolution(source, half, 1))
        self.branch2 = nn.Sequential(
            convolution(half if self.halved else source, half, 1),
            convolution(half, half, 3, stride, half, None), convolution(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=1) if self.halved else (x, x)
        return shuffled(torch.cat((self.branch1(one), self.branch2(other)), dim=1), 2)


def shufflenet_v2(width: int = 8, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = [convolution(3, width, 3, 2), nn.MaxPool2d(3, 2, ceil_mode=True)]
    source = width
    for channels in (2 * width, 4 * width):
        layers += [ShuffleUnit(source, channels, 2), ShuffleUnit(channels, channels, 1),
                   ShuffleUnit(channels, channels, 1)]
        source = channels
    return nn.Sequential(*layers, convolution(source, 2 * source, 1), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(2 * source, classes))


class RegNetBlock(nn.Module):
    def __init__(self, source: int, channels: int, stride: int, group: int) -> None:
        super().__init__()
        self.f = nn.Sequential(
            convolution(source, channels, 1),
            convolution(channels, channels, 3, stride, channels // group),
            SqueezeExcite(channels, max(source // 4, 2)),
            convolution(channels, channels, 1, act=None))
        self.proj = (convolution(source, channels, 1, stride, act=None)
                     if stride > 1 or source != channels else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.proj(x) + self.f(x))


def regnet(width: int = 8, classes: int = 10) -> nn.Module:
    layers, source = [convolution(3, width, 3, 2)], width
    for i in range(3):
        channels = width << i
        layers += [RegNetBlock(source, channels, 2, 4), RegNetBlock(channels, channels, 1, 4)]
        source = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(source, classes))


class Exchange(nn.Module):
    """HRNet's: every branch gets all others, enlarged or reduced to its size."""

    def __init__(self, channels: Sequence[int], upsample: str) -> None:
        super().__init__()
        options = {} if upsample == 'nearest' else {'align_corners': False}
        self.branches = nn.ModuleList(BasicBlock(size, size, 1) for size in channels)
        self.fuse = nn.ModuleList(nn.ModuleList(
            nn.Identity() if i == j
            else nn.Sequential(*[convolution(channels[j], channels[i] if k == i - j - 1
                                             else channels[j], 3, 2) for k in range(i - j)])
            if j < i else nn.Sequential(
                convolution(channels[j], channels[i], 1, act=None),
                nn.Upsample(scale_factor=2 ** (j - i), mode=upsample, **options))
            for j in range(len(channels))) for i in range(len(channels)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        result = []
        for row in self.fuse:
            total = row[0](maps[0])
            for part, x in zip(row[1:], maps[1:]):
                total = total + part(x)
            result.append(functional.relu(total))
        return result


class HRNet(nn.Module):
    def __init__(self, width: int = 4, classes: int = 10, upsample: str = 'nearest') -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.stem = nn.Sequential(convolution(3, width, 3, 2), convolution(width, width, 3, 2))
        self.transition1, self.stage2 = (convolution(width, sizes[1], 3, 2),
                                         Exchange(sizes[:2], upsample))
        self.transition2, self.stage3 = (convolution(sizes[1], sizes[2], 3, 2),
                                         Exchange(sizes, upsample))
        self.head = nn.Linear(sum(sizes), classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        maps = self.stage2([x, self.transition1(x)])
        maps = self.stage3([*maps, self.transition2(maps[-1])])
        return self.head(torch.cat([x.mean((2, 3)) for x in maps], 1))


class DarkBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = leaky(channels, channels // 2, 1)
        self.expand = leaky(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(self.squeeze(x))


def leaky(source: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*convolution(source, channels, kernel, stride, act=None),
                         nn.LeakyReLU(0.1, inplace=True))


def darknet(width: int = 4, classes: int = 10) -> nn.Module:
    layers = [leaky(3, width)]
    for i, number in enumerate((1, 2, 2)):
        layers += [leaky(width << i, 2 * width << i, 3, 2),
                   *[DarkBlock(2 * width << i) for _ in range(number)]]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width << 3, classes))
