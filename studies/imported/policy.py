"""
A policy as it is found elsewhere: a small ResNet in plain torch, for one frame at a time.

He et al.: Deep residual learning for image recognition, CVPR 2016, with narrow layers. This
module uses nothing of stream_agent.
"""

from pathlib import Path

import torch
from torch import nn, Tensor

#: Where the weights are, from the folder in which the commands run.
WEIGHTS = Path('results/imported/weights.pt')


class Block(nn.Module):
    """Two convolutions beside a skip connection."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.skip = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False),
                                      nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(features)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.skip(features))


class SteeringResNet(nn.Module):
    """From normalised grey images, (B, 1, 48, 64), to shares of the largest speed and yaw rate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16),
                                  nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1))
        self.layer4 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(64 * 3 * 4, 2)

    def forward(self, image: Tensor) -> Tensor:
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(image)))))
        return self.fc(self.dropout(features.flatten(1)))


def make_policy() -> nn.Module:
    """Return the trained network; what ``stream_agent import`` is given."""
    network = SteeringResNet()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return network.eval()
