"""Measured costs, and forecasts made of them against the engine."""

from pathlib import Path

import numpy as np
import pytest
from stream_agent.engine.autotune import random_frames, timed_nodes
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.engine.layer_profiler import check_forecasts, compare, measure_costs
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.program import bind
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import (
    read_newest_image, sequential_pattern, streaming_pattern, update_order)
from stream_agent.theory.planning.candidates import Candidate, Device, Rollout, SERIAL, waves
from stream_agent.theory.planning.costs import check_costs, NodeCosts
from support.graphs import THREE_INPUTS, TWO_INPUTS
import torch

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
LANE = load_graph(GRAPHS / 'lane.yaml')


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rollouts(graph, costs):
    """Return three rollouts that differ in what they do when."""
    device = Device(costs, SERIAL, 1 / 30)
    streaming = read_newest_image(graph, streaming_pattern(graph))
    return {'streaming': Rollout(graph, streaming, device),
            'sequential': Rollout(graph, sequential_pattern(graph), device),
            'waves': waves(graph, {graph.output}, device, 2)[0].rollout}


@pytest.mark.real_time
def test_forecasts_are_within_15_percent_at_the_median():
    """On the machine that runs the test, which does nothing else meanwhile."""
    errors = []
    for name in ('lane', 'mnist_sr', 'dsr0', 'dsr2'):
        graph = load_graph(GRAPHS / f'{name}.yaml')
        checks = check_forecasts(rollouts(graph, measure_costs(graph, frames=40)), rounds=6)
        errors += [abs(check.error) for check in checks]
    assert np.median(errors) <= 0.15, errors


@pytest.mark.parametrize('graph', [LANE, TWO_INPUTS, THREE_INPUTS],
                         ids=['lane', 'two inputs', 'three inputs'])
def test_every_node_is_measured(graph):
    costs = measure_costs(graph, frames=5)
    check_costs(costs, graph)
    assert all(seconds > 0 for seconds in costs.nodes.values())
    assert 'cpu, 1 threads' in costs.source


def test_a_timed_step_is_a_step():
    torch.manual_seed(0)
    network = RolloutNetwork(LANE, sequential_pattern(LANE))
    engine = Engine(network)
    compute = {name: bind(network.programs[name].operations())
               for name in update_order(LANE, network.pattern) if name != network.input}
    values = network.initial_state().values
    for frame in random_frames(network, 4):
        before, values = values, {network.input: torch.from_numpy(frame).unsqueeze(0)}
        seconds = timed_nodes(compute, values, before)
        assert list(seconds) == list(compute)
        assert np.array_equal(values['command'][0].numpy(), engine.step(frame))


def test_a_forecast_is_compared_with_the_dearest_frame_of_the_schedule():
    costs = NodeCosts({name: 1.0 for name in LANE.by_name if name != 'image'}, 0.5)
    rollout = rollouts(LANE, costs)['waves']
    phases = [[(0.2, 2.0), (0.1, 1.0), (0.4, 3.0)], [(0.1, 4.0), (0.1, 4.0), (9.0, 9.0)]]
    respond, step = compare('waves', rollout, phases)
    assert (respond.forecast, respond.measured) == (1.5, 0.2)
    assert (step.forecast, step.measured) == (5.5, 4.0)
    assert step.error == pytest.approx(0.375)


def test_a_candidate_forecasts_what_its_rollout_costs():
    costs = NodeCosts({name: 1.0 for name in LANE.by_name if name != 'image'}, 0.5)
    candidate = Candidate('multi-rate', rollouts(LANE, costs)['waves'])
    assert (candidate.response_latency, candidate.frame_cost) == (1.5, 5.5)


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="device 'warp' is not available"):
        choose_device('warp')
