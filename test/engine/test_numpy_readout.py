"""The smallest answers, computed in NumPy."""

import numpy as np
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.engine.numpy_readout import light_response
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_tasks
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from support.graphs import EVERY_LAYER, SR
import torch


def respond_tasks(network):
    return frame_tasks(network.graph, network.pattern, 1).respond


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('graph', [EVERY_LAYER, open_graph('lane')], ids=['every layer', 'lane'])
def test_it_is_the_network_s_answer(graph, batch_size):
    torch.manual_seed(0)
    network = RolloutNetwork(graph, newest_image_pattern(graph)).eval()
    respond = light_response(network, respond_tasks(network))
    frame = torch.randn(batch_size, *network.shapes[network.input])
    begun = torch.randn(batch_size, 2)
    (term,) = (term for term in network.at_work.terms[graph.output]
               if term.source == network.input)
    with torch.no_grad():
        expected = torch.tanh(begun + term.module(frame))
    np.testing.assert_allclose(respond(frame.numpy(), begun.numpy()), expected, atol=1e-6)


@pytest.mark.parametrize('graph, pattern', [(EVERY_LAYER, sequential_pattern),
                                            (SR, newest_image_pattern)])
def test_larger_answers_are_left_to_the_runtime(graph, pattern):
    network = RolloutNetwork(graph, pattern(graph)).eval()
    assert light_response(network, respond_tasks(network)) is None
