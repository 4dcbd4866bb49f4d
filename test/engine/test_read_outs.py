"""The outputs that are little work, computed in NumPy."""

import numpy as np
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.engine.read_outs import numpy_read_out
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from support.graphs import EVERY_LAYER, SR
import torch


def in_numpy(network):
    return numpy_read_out(network, frame_schedule(network.graph, network.pattern, 1))


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('graph', [EVERY_LAYER, open_graph('lane')], ids=['every layer', 'lane'])
def test_it_is_the_network_s_output(graph, batch_size):
    torch.manual_seed(0)
    network = RolloutNetwork(graph, newest_image_pattern(graph)).eval()
    respond = in_numpy(network)
    frame = torch.randn(batch_size, *network.shapes[network.input])
    begun = torch.randn(batch_size, 2)
    with torch.no_grad():
        expected = torch.tanh(begun + network.transforms[f'image-{graph.output}'](frame))
    np.testing.assert_allclose(respond(frame.numpy(), begun.numpy()), expected, atol=1e-6)


@pytest.mark.parametrize('graph, pattern', [(EVERY_LAYER, sequential_pattern),
                                            (SR, newest_image_pattern)])
def test_larger_outputs_are_left_to_the_runtime(graph, pattern):
    network = RolloutNetwork(graph, pattern(graph)).eval()
    assert in_numpy(network) is None
