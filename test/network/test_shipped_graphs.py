"""The networks that are shipped have the sizes that were published."""

from dataclasses import replace
from pathlib import Path

import pytest
from stream_agent.cli.arguments import shipped_graphs
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
import torch

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
# SR18, and for GTSRB counted from its description: DSR4 with 43 classes, without a self-edge.
PARAMETERS = {
    'mnist_ff': 102_570, 'mnist_s': 110_420, 'mnist_sr': 112_740,
    'dsr0': 407_530, 'dsr1': 435_274, 'dsr2': 767_626, 'dsr3': 804_618, 'dsr4': 1_173_898,
    'dsr5': 1_220_138, 'dsr6': 1_626_346,
    'gtsrb_dsr4': 1_173_898 - (32 * 32 * 9 + 32) + 33 * (512 * 4 * 4 + 1)}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_are_those_that_were_published(name):
    graph = load_graph(GRAPHS / f'{name}.yaml')
    assert parameters(RolloutNetwork(graph, streaming_pattern(graph))) == PARAMETERS[name]


@pytest.mark.parametrize('name', shipped_graphs())
def test_shipped_graphs_run(name):
    graph = load_graph(GRAPHS / f'{name}.yaml')
    network = RolloutNetwork(graph, sequential_pattern(graph)).eval()
    frames = {name: torch.rand(1, *network.shapes[name]) for name in graph.inputs}
    with torch.no_grad():
        output, _ = network.step(frames, network.initial_state())
    assert output.shape[1:] == graph.node(graph.output).shape
    assert torch.isfinite(output).all()


def test_blocks_that_share_have_one_set_of_weights():
    shared = load_graph(GRAPHS / 'gated_policy.yaml')
    alone = replace(shared, edges=tuple(replace(edge, share='') for edge in shared.edges))
    assert parameters(RolloutNetwork(alone, streaming_pattern(alone))) - parameters(
        RolloutNetwork(shared, streaming_pattern(shared))) == 8 * (25 + 1) + 16 * (8 * 9 + 1)
