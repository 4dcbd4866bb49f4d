"""
The error in effect of a rollout, on a task whose right answer is known at every moment.

A sign drifts through a noisy picture, and the command should be its place: now, not when the
picture was taken. The sign's contrast is bright or dark by chance, so that only layers find it
well; a faint tinge tells the first look roughly where it is.
"""

from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np
from stream_agent.engine.engine import Engine
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import sequential_pattern
from stream_agent.theory.planning.candidates import Candidate
from studies.regimes.rollouts import read_by_output
from studies.regimes.timing import EngineRun
import torch
from torch import nn

SIDE_PX = 24
NOISE, CONTRAST, TINGE, CLUTTER = 0.5, 0.35, 0.4, 0.12
# Waves that a drift is made of, and moments a camera period at which errors are taken.
WAVES, MOMENTS = 200, 16
# Frames that tell how fast a sign is.
MANY = 3000
BATCH, LEARNING_RATE, READOUTS_FASTER, OTHERS = 32, 3e-3, 5.0, 0.1


class Drift:
    """
    A smooth random path within -1 ... 1: a sum of waves, so that it is known at every moment.

    :param slowness: Camera periods: the time constant of two low-pass filters in a row.
    """

    def __init__(self, slowness: float, random: np.random.Generator) -> None:
        self._frequencies = 6 / slowness * (np.arange(WAVES) + random.random(WAVES)) / WAVES
        heights = 1 / (1 + (self._frequencies * slowness) ** 2)
        self._heights = heights * np.sqrt(2 / np.square(heights).sum())
        self._phases = random.uniform(0, 2 * np.pi, WAVES)

    def at(self, moments: np.ndarray) -> np.ndarray:
        """Return the place at every moment, which is in camera periods."""
        waves = np.sin(np.multiply.outer(moments, self._frequencies) + self._phases)
        return np.tanh(0.5 * waves @ self._heights)


class MovingScene:
    """
    A sign and a spot that drift over noise.

    :param shape: Of the images, (3, H, W).
    :param slowness: As of ``Drift``.
    """

    def __init__(self, shape: tuple[int, ...], slowness: float, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.shape, self._seed = shape, seed
        self._noise = random.standard_normal((32, *shape), np.float32) * np.float32(NOISE)
        self.drifts = [Drift(slowness, random) for _ in range(4)]

    @property
    def name(self) -> str:
        """How fast the sign is, root mean square, for people."""
        steps = np.diff(self.drifts[0].at(np.arange(MANY)))
        pixels = np.sqrt(np.square(steps).mean()) * (self.shape[2] - SIDE_PX) / 2
        return f'sign at {pixels:.1f} px a frame'

    def image(self, frame: int) -> np.ndarray:
        """Return what the camera sees at the stamp of a frame."""
        return self._draw([float(drift.at(np.array(frame))) for drift in self.drifts],
                          np.random.default_rng((self._seed, frame)))

    def still(self, random: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return an image of any moment, and the place of the sign in it."""
        places = np.tanh(0.5 * random.standard_normal(4))
        return self._draw(list(places), random), float(places[0])

    def _draw(self, places: list[float], random: np.random.Generator) -> np.ndarray:
        """Draw the sign at the first two places (x, y), and the spot at the others."""
        _, height, width = self.shape
        shift = (int(random.integers(height)), int(random.integers(width)))
        image = np.roll(self._noise[random.integers(len(self._noise))], shift, (1, 2))
        contrast = CONTRAST * random.choice((-1, 1))
        for x, y, colour in ((*places[:2], (contrast, contrast, TINGE)),
                             (*places[2:], (0.0, 0.0, CLUTTER))):
            left = round((x + 1) / 2 * (width - SIDE_PX))
            top = round((y + 1) / 2 * (height - SIDE_PX))
            image[:, top:top + SIDE_PX, left:left + SIDE_PX] += np.array(
                colour, np.float32)[:, None, None]
        return image


def sources_of_output(graph: GraphSpec) -> list[str]:
    """Return what the output reads, in the order of the graph file."""
    return [edge.source for edge in graph.edges if edge.target == graph.output]


def with_estimates(graph: GraphSpec) -> GraphSpec:
    """Return the graph whose output gives an estimate of each of its sources, side by side."""
    output = replace(graph.node(graph.output), shape=(len(sources_of_output(graph)),),
                     activation='identity')
    return replace(graph, nodes=tuple(
        output if node.name == graph.output else node for node in graph.nodes))


@torch.no_grad()
def fresh_network(graph: GraphSpec, device: str = 'cpu') -> RolloutNetwork:
    """
    Return an untrained network in which no source says anything about another's estimate.

    The weights of recurrent edges are zero (they are computed all the same), so a layer knows
    one image, and every rollout has the same estimates, only of other ages.
    """
    torch.manual_seed(0)
    network = RolloutNetwork(graph, sequential_pattern(graph)).to(device)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            nn.init.zeros_(module.bias)
    for edge in graph.edges:
        if edge.source == edge.target:
            for weight in network.transforms[f'{edge.source}-{edge.target}'].parameters():
                nn.init.zeros_(weight)
    for i, weights in enumerate(readouts(network)):
        for weight in weights:
            weight.mul_(0.1)
            weight[torch.arange(len(weight)) != i] = 0
    return network


def readouts(network: RolloutNetwork) -> list[list[nn.Parameter]]:
    """Return the weights of every edge into the output."""
    return [list(network.transforms[f'{source}-{network.graph.output}'].parameters())
            for source in sources_of_output(network.graph)]


def train(network: RolloutNetwork, scene: MovingScene, steps: int) -> None:
    """
    Train on still images: the layers for the last estimate first of all, every read-out for its.

    :param network: As ``fresh_network`` returns it.
    """
    heads = readouts(network)
    fixed = {weight for edge in network.graph.edges if edge.source == edge.target
             for weight in network.transforms[f'{edge.source}-{edge.target}'].parameters()}
    known = fixed.union(*heads)
    layers = [weight for weight in network.parameters() if weight not in known]
    flat = [weight for weights in heads for weight in weights]
    optimiser = torch.optim.Adam([{'params': layers}, {'params': flat}])
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [LEARNING_RATE, READOUTS_FASTER * LEARNING_RATE], total_steps=steps)
    random = np.random.default_rng(0)
    network.train()
    for _ in range(steps):
        errors = still_errors(network, [scene.still(random) for _ in range(BATCH)])
        loss = errors[-1] + OTHERS * errors.sum()
        set_slopes(layers, loss)
        set_slopes(flat, errors.sum())
        nn.utils.clip_grad_norm_(layers, 1.0)
        for i, weights in enumerate(heads):
            for weight in weights:
                weight.grad[torch.arange(len(weight)) != i] = 0
        optimiser.step()
        rates.step()
    network.eval()


def still_errors(network: RolloutNetwork, stills: list[tuple[np.ndarray, float]]) -> torch.Tensor:
    """Return the mean squared error of every estimate over still images."""
    images, places = zip(*stills)
    state = network.initial_state(len(stills))
    frames = torch.from_numpy(np.stack(images)).to(state.values[network.input].device)
    output, _ = network.step(frames, state)
    return (output - output.new_tensor(places)[:, None]).square().mean(0)


def set_slopes(weights: list[nn.Parameter], loss: torch.Tensor) -> None:
    """Set the gradients of some weights."""
    for weight, slope in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True)):
        weight.grad = slope


class Watched(NamedTuple):
    """
    A scene as the sequential rollout saw it.

    :param estimates: Of every frame, (F, sources).
    :param truth: Where the sign was, (F * MOMENTS,) moments since the first frame.
    """

    estimates: np.ndarray
    truth: np.ndarray


def watch(engine: Engine, scene: MovingScene, frames: int) -> Watched:
    """
    Show a scene to an engine, as fast as it can.

    :param engine: Of the sequential rollout.
    """
    engine.reset()
    estimates = np.array([engine.step(scene.image(frame)).copy() for frame in range(frames)])
    return Watched(estimates, scene.drifts[0].at(np.arange(frames * MOMENTS) / MOMENTS))


def error_in_effect(run: EngineRun, candidate: Candidate, sources: list[str], watched: Watched
                    ) -> float:
    """
    Return the mean absolute error of the command in effect; 1 is that of saying "middle".

    The command is a weighted sum of the output's estimates, and the weights are those of least
    squares for what the command should be while it is in effect: the first half of the time is
    for the weights, the second for the error. So every rollout is trained for its own timing.
    The estimates of all rollouts are those of the sequential one, only older.

    :param run: As long as the scene.
    :param sources: Of the output, in the order of the estimates.
    """
    estimates, truth = watched
    taken = run.frames < len(estimates)
    behind = read_by_output(candidate, int(taken.sum()))
    read = [source for source in sources if source in behind]
    first = max(int(np.argmax(behind[source] >= 0)) for source in read)
    columns = [estimates[run.frames[behind[source][first:].astype(int)], sources.index(source)]
               for source in read]
    inputs = np.column_stack([*columns, np.ones(len(columns[0]))])
    arrivals = run.answers[taken][first:] / run.period
    begin, half = math.ceil(arrivals[0] * MOMENTS), len(truth) // 2
    held = np.searchsorted(arrivals, np.arange(begin, len(truth)) / MOMENTS, side='right') - 1
    fit, rest = held[:half - begin], held[half - begin:]
    weights = np.linalg.lstsq(inputs[fit], truth[begin:half], rcond=None)[0]
    errors = np.abs(inputs[rest] @ weights - truth[half:])
    return float(errors.mean() / np.abs(truth[half:]).mean())
