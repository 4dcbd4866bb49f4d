"""
Train a small ResNet as others would: plain torch, one frame at a time, nothing of streaming.

Its frames and commands come from the simulator: views from random places, and what the expert
commands there. docs/importing.md imports it, fine-tunes it, and drives with it.
"""

import argparse
from collections.abc import Iterator
import time

import cv2
import numpy as np
from stream_agent.cli.arguments import positive
from stream_agent.learning.policy_sources import limits_for
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from studies.imported.policy import SteeringResNet, WEIGHTS
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

VIEWS_PER_COURSE = 40
# Of pixels from 0 to 1, as the network takes them.
MEAN, DEVIATION = 0.5, 0.25
BATCH = 64


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the training."""
    parser.add_argument('--views', type=positive, default=16_000, help='images seen from random '
                        'places of courses, a tenth of them on courses that are held out (16000)')
    parser.add_argument('--epochs', type=positive, default=12, help='passes over them (12)')
    parser.add_argument('--seed', type=positive, default=1, help='of all that is random (1)')


def views(settings: SimulationSettings, count: int, seed: int, first_course: int
          ) -> tuple[Tensor, Tensor]:
    """
    Look at courses from random places.

    :param first_course: Seeds of courses are from here up to as many more as are held out.
    :returns: Images, (N, 1, 48, 64) uint8, and the expert's commands as shares, (N, 2).
    """
    random = np.random.default_rng(seed)
    environment = DrivingEnvironment(settings, first_course, compiled=True)
    limits = limits_for(settings)
    images, commands = [], []
    for i in range(count):
        if not i % VIEWS_PER_COURSE:
            environment.reset(first_course + int(random.integers(FIRST_HELD_OUT_SEED)))
        environment.place(
            arc_length=random.uniform(0.0, environment.course.length),
            lateral=random.normal(0.0, 0.1), heading=random.normal(0.0, 0.2),
            speed=settings.target_speed)
        frame = environment.look()
        images.append(cv2.resize(frame.image, (64, 48), interpolation=cv2.INTER_AREA))
        commands.append(limits.output(frame.reference))
    return torch.from_numpy(np.array(images)[:, None]), torch.tensor(commands).float()


def batches(images: Tensor, commands: Tensor, mirrored: bool = False
            ) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images and commands in random order, half of them turned round."""
    for chosen in torch.randperm(len(images)).split(BATCH):
        seen = (images[chosen].float() / 255 - MEAN) / DEVIATION
        wanted = commands[chosen]
        if mirrored and torch.rand(()) < 0.5:
            seen, wanted = seen.flip(-1), wanted * torch.tensor([1.0, -1.0])
        yield seen, wanted


def run(arguments: argparse.Namespace) -> int:
    """Train the network, and write its weights; returns the exit code."""
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    settings, start = SimulationSettings(), time.perf_counter()
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    learnt = views(settings, arguments.views, arguments.seed, 0)
    held_out = views(settings, max(BATCH, arguments.views // 10), arguments.seed + 1,
                     FIRST_HELD_OUT_SEED)
    print(f'{len(learnt[0])} views in {time.perf_counter() - start:.0f} s', flush=True)
    network = SteeringResNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = arguments.epochs * -(-len(learnt[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(arguments.epochs):
        network.train()
        for seen, wanted in batches(*learnt, mirrored=True):
            optimiser.zero_grad()
            smooth_l1_loss(network(seen), wanted, beta=0.1).backward()
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            errors = torch.cat([network(seen) - wanted for seen, wanted in batches(*held_out)])
        share = 1 - float(errors[:, 1].var() / held_out[1][:, 1].var())
        print(f'epoch {epoch + 1}: R2 of the steering {share:.3f} on courses held out, '
              f'{time.perf_counter() - start:.0f} s', flush=True)
    torch.save(network.state_dict(), WEIGHTS)
    weights = sum(weight.numel() for weight in network.parameters())
    print(f'wrote {WEIGHTS}: {weights:,} weights')
    return 0
