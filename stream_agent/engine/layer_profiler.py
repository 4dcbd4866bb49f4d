"""What every node of a network costs on a device, measured; and forecasts against the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
import statistics
import time

import numpy as np
from stream_agent.engine.autotune import medians, random_frames, timed_nodes, timed_step
from stream_agent.engine.backends import to_tensors
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.engine.torch_globals import wait_for
from stream_agent.measurement.machine import machine
from stream_agent.network.program import bind, by_input
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec, with_schedule
from stream_agent.theory.patterns import newest_image_pattern, update_order
from stream_agent.theory.planning.candidates import Rollout
from stream_agent.theory.planning.costs import NodeCosts
import torch

WARM_UP_FRAMES = 10


def measure_costs(graph: GraphSpec, device: str = 'cpu', frames: int = 100) -> NodeCosts:
    """
    Measure the seconds of every node in steps of the whole network, and what a frame adds.

    Takes the medians over frames that are random, since some nodes are faster on zeros.

    :param device: A torch device string, or 'auto'.
    :raises GraphError: If no network can be made of the graph.
    """
    torch_device = choose_device(device)
    graph = with_schedule(graph, {})
    network = RolloutNetwork(graph, newest_image_pattern(graph))
    engine = Engine(network, device)
    compute = {name: bind(network.programs[name].operations()) for name in update_order(
        network.graph, network.pattern) if name not in network.inputs}
    durations, overheads = [], []
    values = network.initial_state().values
    for frame in random_frames(network, WARM_UP_FRAMES + frames):
        # In alternation, so that a busy moment of the machine meets both.
        start = time.perf_counter()
        engine.step(frame)
        wait_for(torch_device)
        step = time.perf_counter() - start
        before = values
        values = {name: value.unsqueeze(0) for name, value in by_input(
            network.inputs, to_tensors(frame, torch_device)).items()}
        durations.append(timed_nodes(compute, values, before))
        overheads.append(step - sum(durations[-1].values()))
    return NodeCosts(
        medians(durations[WARM_UP_FRAMES:]),
        max(0.0, statistics.median(overheads[WARM_UP_FRAMES:])),
        f'{machine()}, {torch_device}, {torch.get_num_threads()} threads')


@dataclass(frozen=True)
class Check:
    """A forecast of 'respond' or 'step' and what the engine took, both in seconds."""

    name: str
    part: str
    forecast: float
    measured: float

    @property
    def error(self) -> float:
        """Relative to what was measured; positive if the forecast was too long."""
        return self.forecast / self.measured - 1


def check_forecasts(rollouts: Mapping[str, Rollout], device: str = 'cpu', rounds: int = 20
                    ) -> list[Check]:
    """
    Run rollouts through the engine, in turns, and compare the forecasts with it.

    :param rollouts: For a serial device, by name.
    :param rounds: Turns of every rollout; a turn goes through its schedule four times.
    """
    networks = {name: RolloutNetwork(rollout.graph, rollout.pattern)
                for name, rollout in rollouts.items()}
    engines = {name: Engine(network, device) for name, network in networks.items()}
    measured: dict = {name: [[] for _ in rollout.frames] for name, rollout in rollouts.items()}
    for turn in range(1 + rounds):
        for name, engine in engines.items():
            phases = measured[name]
            for i, frame in enumerate(random_frames(networks[name], 4 * len(phases))):
                halves = timed_step(engine, frame, engine.device)
                # The first turn warms up, and so does the first time through a schedule.
                if turn and i >= len(phases):
                    phases[i % len(phases)].append(halves)
    return [check for name, rollout in rollouts.items()
            for check in compare(name, rollout, measured[name])]


def compare(name: str, rollout: Rollout, phases: list[list[tuple[float, float]]]) -> list[Check]:
    """
    Compare the forecast of a rollout with the most expensive frame of its schedule.

    :param phases: Durations of response and step, for every frame of the schedule.
    """
    respond, step = np.max([np.median(halves, axis=0) for halves in phases], axis=0)
    overhead = rollout.device.costs.overhead
    return [Check(name, 'respond', overhead + rollout.response_cost, float(respond)),
            Check(name, 'step', overhead + rollout.step_cost, float(step))]
