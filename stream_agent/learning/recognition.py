"""
Layers that recognise signs, trained before a policy learns to drive.

Whole-frame imitation learns no signs: what tells them apart is a few pixels of an image, and all
that the network is told is a speed. Here every cell of the deepest feature maps is told what
stands there, by a classifier that is thrown away afterwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
import hashlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.learning.resume import pack, unpack, write_whole
from stream_agent.learning.settings import RecognitionSchedule
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.window import Window
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import DISTRACTORS, GLYPHS, plates_seen, SPEEDS
from stream_agent.theory.graph import graph_to_data, reachable
from stream_agent.theory.information import memory_edges
from stream_agent.theory.patterns import edges_of, sequential_pattern, update_order
from stream_agent.theory.planning.candidates import part_of
import torch
from torch import nn, Tensor

# 0 is nothing, 1 and more a glyph; what is too small to be told is not judged.
CLASSES = ('nothing', *GLYPHS, *DISTRACTORS)
NOT_JUDGED = -1
# Most cells show nothing, and would drown the others.
WEIGHT_OF_NOTHING = 0.15
# Width of a plate, in cells, from which on its glyph can be told.
LEGIBLE_CELLS = 0.75
VIEWS_PER_COURSE = 100
# Images in a gradient step, and the highest learning rate.
BATCH, RATE = 64, 4e-3
# Of the first weights of edges into the output.
SOFTENED = 0.1


class Views(NamedTuple):
    """
    What a camera sees from random places, and what stands where.

    :param pixels: (N, C, H, W) uint8, as ``Preprocessing.pixels`` gives them.
    :param cells: (N, h, w) int64: of every cell of the feature maps, one of ``CLASSES`` by its
        number, or ``NOT_JUDGED``.
    """

    pixels: Tensor
    cells: Tensor


def recogniser_of(network: RolloutNetwork) -> RolloutNetwork | None:
    """
    Return a new network of the layers that lead to the deepest feature maps.

    :returns: None if no feature maps lie behind two layers or more, or if they read more than
        one input.
    """
    graph, depth = network.graph, dict.fromkeys(network.graph.inputs, 0)
    forward = [edge for edge in edges_of(graph) if edge not in memory_edges(graph)]
    for v in update_order(graph, sequential_pattern(graph)):
        if v not in depth:
            depth[v] = 1 + max(depth[u] for u, w in forward if w == v)
    maps = [v for v in depth if len(network.shapes[v]) == 3 and v not in graph.inputs]
    deepest = max(maps, key=lambda v: depth[v], default='')
    if not deepest or depth[deepest] < 2:
        return None
    names = reachable([(v, u) for u, v in forward], [deepest])
    nodes = tuple(replace(node, period=1, offset=0) for node in graph.nodes)
    part = part_of(replace(graph, nodes=nodes, output=deepest), names)
    assert part is not None  # it has a path to an input, by its depth
    if len(part.inputs) > 1:
        return None
    return RolloutNetwork(part, sequential_pattern(part))


def look_around(settings: SimulationSettings, preprocessing: Preprocessing,
                size: Sequence[int], count: int, seed: int) -> Views:
    """
    See courses with signs from random places.

    :param size: Rows and columns of the feature maps.
    """
    generator = np.random.default_rng([seed, 6])
    environment = DrivingEnvironment(settings, 0, compiled=True)
    pixels, cells = [], []
    for i in range(count):
        if i % VIEWS_PER_COURSE == 0:
            environment.reset(int(generator.integers(FIRST_HELD_OUT_SEED)),
                              int(generator.integers(2**31)))
        environment.place(
            arc_length=generator.uniform(0.0, environment.course.length),
            lateral=generator.uniform(-0.2, 0.2), heading=generator.normal(0.0, 0.2),
            speed=generator.uniform(0.5, 1.5) * settings.target_speed)
        frame = environment.look()
        pixels.append(preprocessing.pixels(frame.image))
        cells.append(cells_of(frame, environment, preprocessing, size))
    return Views(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(cells)))


def cells_of(frame: SimulatedFrame, environment: DrivingEnvironment,
             preprocessing: Preprocessing, size: Sequence[int]) -> np.ndarray:
    """Return which class of sign has its middle in which cell of feature maps, int64 of a size."""
    rows, columns = size
    cells = np.zeros((rows, columns), np.int64)
    scene = environment.scene
    assert scene.signs is not None  # the caller has switched them on
    camera, kept = scene.camera, 1.0 - preprocessing.crop_top - preprocessing.crop_bottom
    # The farthest first, so that the nearest decides.
    for plate, corners in plates_seen(camera, frame.pose, scene.signs.plates_ahead(frame.along)):
        x, y = (corners.mean(axis=0) + 0.5) / (camera.width_px, camera.height_px)
        column = math.floor(x * columns)
        row = math.floor((y - preprocessing.crop_top) / kept * rows)
        if 0 <= column < columns and 0 <= row < rows:
            width = np.linalg.norm(corners[1] - corners[0]) / camera.width_px
            legible = width * columns >= LEGIBLE_CELLS
            cells[row, column] = CLASSES.index(plate.glyph) if legible else NOT_JUDGED
    return cells


class Recognition:
    """
    The training of the layers of a network that lead to its deepest feature maps.

    They are frozen from the start, since all else learns on what they give in the end.

    :param folder: Where what was learnt is kept for other trainings of the same layers; None to
        keep nothing.
    """

    def __init__(self, network: RolloutNetwork, settings: SimulationSettings,
                 preprocessing: Preprocessing, schedule: RecognitionSchedule, seed: int,
                 folder: Path | None) -> None:
        self._network, self._settings, self._preprocessing = network, settings, preprocessing
        self.schedule, self._seed, self._folder = schedule, seed, folder
        self._recogniser = recogniser_of(network) if schedule.recognition_steps else None
        if self._recogniser and self._recogniser.shapes[self._recogniser.input] != (
                preprocessing.shape):
            # They read something else than the image, such as a scan.
            self._recogniser = None
        #: Whether there is anything to learn.
        self.needed = self._recogniser is not None
        for name, _ in self._recogniser.named_parameters() if self._recogniser else ():
            network.get_parameter(name).requires_grad_(False)

    def learn(self, stopped: Callable[[], bool]) -> float | None:
        """
        Train the layers, or read what was learnt before.

        :param stopped: Asked before every gradient step.
        :returns: The share of legible signs that they tell apart on courses of their own; NaN if
            the network has no such layers; None if it was stopped.
        """
        if self._recogniser is None:
            return math.nan
        path = self._path()
        found = unpack(path.read_bytes()) if path and path.exists() else self._train(stopped)
        if found is None:
            return None
        tensors, told = found
        if path and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, pack(tensors, told))
        with torch.no_grad():
            for name, value in tensors.items():
                self._network.get_parameter(name).copy_(value)
        return told['share']

    def _path(self) -> Path | None:
        """Return the file of these layers, learnt like this."""
        if self._folder is None or self._recogniser is None:
            return None
        told = [graph_to_data(self._recogniser.graph), asdict(self._settings),
                asdict(self._preprocessing), asdict(self.schedule), self._seed]
        name = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f'{name}.safetensors'

    def _train(self, stopped: Callable[[], bool]) -> tuple[dict[str, Tensor], dict] | None:
        assert self._recogniser is not None  # the caller has looked
        graph, count = self._recogniser.graph, self.schedule.views
        channels, *size = self._recogniser.shapes[graph.output]
        learnt, other = (
            look_around(self._settings, self._preprocessing, size, views, self._seed + i)
            for i, views in enumerate((count, max(VIEWS_PER_COURSE, count // 20))))
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            recogniser = RolloutNetwork(graph, self._recogniser.pattern)
            classifier = nn.Conv2d(channels, len(CLASSES), 1)
        if not train_recogniser(recogniser, classifier, learnt, self.schedule.recognition_steps,
                                self._seed, stopped):
            return None
        return ({name: value.detach() for name, value in recogniser.named_parameters()},
                {'share': share_recognised(recogniser, classifier, other)})


def train_recogniser(recogniser: RolloutNetwork, classifier: nn.Module, views: Views, steps: int,
                     seed: int, stopped: Callable[[], bool]) -> bool:
    """Take the gradient steps; returns whether all of them were taken."""
    generator = np.random.default_rng([seed, 8])
    weights = [*recogniser.parameters(), *classifier.parameters()]
    optimiser = torch.optim.AdamW(weights, RATE)
    # A rise of exactly one step would be divided by its length less one.
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, steps, pct_start=0.1 if steps > 10 else 0.3)
    of_class = torch.ones(len(CLASSES))
    of_class[0] = WEIGHT_OF_NOTHING
    for _ in range(steps):
        if stopped():
            return False
        chosen = torch.from_numpy(generator.integers(len(views.pixels), size=BATCH))
        loss = nn.functional.cross_entropy(
            classified(recogniser, classifier, views.pixels[chosen]), views.cells[chosen],
            of_class, ignore_index=NOT_JUDGED)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        rates.step()
    return True


def classified(recogniser: RolloutNetwork, classifier: nn.Module, pixels: Tensor) -> Tensor:
    """Return the scores of all classes in every cell, (N, classes, h, w)."""
    maps, _ = recogniser.step(scale(pixels), recogniser.initial_state(len(pixels)))
    return classifier(maps)


@torch.no_grad()
def share_recognised(recogniser: RolloutNetwork, classifier: nn.Module, views: Views) -> float:
    """Return the share of the legible signs for which the right class has the highest score."""
    found = classified(recogniser, classifier, views.pixels).argmax(1)
    signs = views.cells > 0
    return float((found[signs] == views.cells[signs]).float().mean())


def soften(network: RolloutNetwork) -> None:
    """
    Scale the first weights of all edges into the output.

    A sum over many wide layers starts saturated otherwise, from where gradients are small.
    """
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith('transforms.') and f'-{network.graph.output}.' in name:
                weight.mul_(SOFTENED)


class SignReader(nn.Module):
    """
    Tells from a network's memory which speed is commanded; thrown away after the training.

    Its loss reaches the memory, which would otherwise be told the speed alone, as a number.

    :param weight: Of its loss.
    """

    def __init__(self, network: RolloutNetwork, weight: float) -> None:
        super().__init__()
        self._nodes = sorted({v for u, v in memory_edges(network.graph)} - {network.graph.output})
        self._weight = weight
        features = sum(math.prod(network.shapes[name]) for name in self._nodes)
        self._linear = nn.Linear(features, len(SPEEDS))

    def loss(self, window: Window, limits: CommandScale, targets: Tensor, burn_in: int) -> Tensor:
        """
        Return the weighted cross-entropy of the speeds.

        :param window: Of the network, with T frames.
        :param targets: (B, T, 2), as for ``imitation_loss``.
        """
        memory = torch.cat([window.values(name).flatten(2) for name in self._nodes], dim=-1)
        speeds = limits.max_speed * targets[:, burn_in:, 0]
        classes = (speeds[..., None] - speeds.new_tensor(SPEEDS)).abs().argmin(-1)
        scores = self._linear(memory[:, burn_in:].float())
        return self._weight * nn.functional.cross_entropy(
            scores.flatten(0, 1), classes.flatten())
