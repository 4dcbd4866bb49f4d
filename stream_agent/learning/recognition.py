"""
Layers that recognise signs, trained before a policy learns to drive.

Whole-frame imitation learns no signs: what tells them apart is a few pixels of an image, and all
that the network is told is a speed. Here every cell of the deepest feature maps is told what
stands there, by a classifier that is thrown away afterwards.
"""

from collections.abc import Sequence
from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np
from stream_agent.learning.settings import RecognitionSchedule
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import DISTRACTORS, GLYPHS, plate_corners
from stream_agent.theory.graph import GraphSpec, reachable
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

    :returns: None if no feature maps lie behind two layers or more.
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
    assert part is not None  # it has a path to the image, by its depth
    return RolloutNetwork(part, sequential_pattern(part))


def look_around(settings: SimulationSettings, preprocessing: Preprocessing,
                size: Sequence[int], count: int, per_course: int, seed: int) -> Views:
    """
    See courses with signs from random places.

    :param size: Rows and columns of the feature maps.
    :param per_course: Images of one course and its look.
    """
    generator = np.random.default_rng([seed, 6])
    environment = DrivingEnvironment(settings, 0)
    pixels, cells = [], []
    for i in range(count):
        if i % per_course == 0:
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
    for plate in scene.signs.plates_ahead(frame.along):
        corners = plate_corners(camera, frame.pose, plate)
        if corners is None:
            continue
        x, y = (corners.mean(axis=0) + 0.5) / (camera.width_px, camera.height_px)
        column = math.floor(x * columns)
        row = math.floor((y - preprocessing.crop_top) / kept * rows)
        if 0 <= column < columns and 0 <= row < rows:
            width = np.linalg.norm(corners[1] - corners[0]) / camera.width_px
            legible = width * columns >= LEGIBLE_CELLS
            cells[row, column] = CLASSES.index(plate.glyph) if legible else NOT_JUDGED
    return cells


def learn_to_recognise(network: RolloutNetwork, settings: SimulationSettings,
                       preprocessing: Preprocessing, schedule: RecognitionSchedule, seed: int
                       ) -> float:
    """
    Train the layers of a network that lead to its deepest feature maps, and freeze them.

    :returns: The share of legible signs that they tell apart on courses of their own; NaN if the
        network has no such layers, and nothing was trained.
    """
    recogniser = recogniser_of(network)
    if recogniser is None:
        return math.nan
    channels, *size = recogniser.shapes[recogniser.graph.output]
    learnt, other = (look_around(settings, preprocessing, size, count, schedule.per_course,
                                 seed + i)
                     for i, count in enumerate((schedule.views, max(1, schedule.views // 20))))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = nn.Conv2d(channels, len(CLASSES), 1)
        train_recogniser(recogniser, classifier, learnt, schedule, seed)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in recogniser.named_parameters():
            weights[name].copy_(value).requires_grad_(False)
    return share_recognised(recogniser, classifier, other)


def train_recogniser(recogniser: RolloutNetwork, classifier: nn.Module, views: Views,
                     schedule: RecognitionSchedule, seed: int) -> None:
    """Take the gradient steps."""
    generator = np.random.default_rng([seed, 8])
    weights = [*recogniser.parameters(), *classifier.parameters()]
    optimiser = torch.optim.AdamW(weights, schedule.learning_rate)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, schedule.steps, pct_start=0.1)
    of_class = torch.ones(len(CLASSES))
    of_class[0] = WEIGHT_OF_NOTHING
    for _ in range(schedule.steps):
        chosen = torch.from_numpy(generator.integers(len(views.pixels), size=schedule.batch))
        loss = nn.functional.cross_entropy(
            classified(recogniser, classifier, views.pixels[chosen]), views.cells[chosen],
            of_class, ignore_index=NOT_JUDGED)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        rates.step()


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


def softened(network: RolloutNetwork, factor: float) -> None:
    """
    Scale the first weights of all edges into the output.

    A sum over many wide layers starts saturated otherwise, from where gradients are small.
    """
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith('transforms.') and f'-{network.graph.output}.' in name:
                weight.mul_(factor)
