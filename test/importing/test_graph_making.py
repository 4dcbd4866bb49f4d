"""Networks made of imported programs: the same values, readable names, states, early outputs."""

from importing.made_programs import (
    Builder, excited, recurrent, recurrent_in_layers, residual, shuffled, transformer,
    with_last_image)
import numpy as np
import pytest
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.importing.cutting import cut
from stream_agent.importing.graph_making import graph_text, make_network, whole
from stream_agent.importing.program import ImportFault
from stream_agent.importing.simplify import simplified
from stream_agent.network.checkpoint import make_network as network_of_file
from stream_agent.theory.checks import GraphError
import torch

MANNERS = [residual, shuffled, transformer, excited, recurrent, recurrent_in_layers,
           with_last_image]


def made(program, how='auto', pattern='sequential', early=()):
    program = simplified(program)
    costs = {each.name: 20.0 if each.weights else 1.0 for each in program.operations}
    return make_network(program, cut(program, costs, how, early=early), pattern, early)


@torch.no_grad()
def outputs_of(program, frames):
    """Return what a program gives for frames one after another, with its states handed on."""
    module, states, outputs = whole(program), [], []
    for frame in frames:
        found = module(frame, *states)
        output, *states = found if isinstance(found, tuple) else (found,)
        outputs.append(output)
    return torch.stack(outputs, 1)


def frames_for(program, count, batch=2):
    torch.manual_seed(1)
    return torch.randn(count, batch, *program.inputs['image'])


@pytest.mark.parametrize('make', MANNERS)
@pytest.mark.parametrize('how', ['auto', 'all'])
def test_the_sequential_rollout_is_the_program(make, how):
    program = make()
    frames = frames_for(program, 4)
    network = made(program, how)
    with torch.no_grad():
        found, _ = network(frames.transpose(0, 1), network.initial_state(2))
    torch.testing.assert_close(found, outputs_of(program, frames), rtol=1e-4, atol=1e-5)


def longest_way(graph):
    depth = dict.fromkeys(graph.inputs, 0)
    while len(depth) < len(graph.nodes):
        depth |= {name: 1 + max(depth[edge.source] for edge in edges)
                  for name, edges in graph.incoming.items()
                  if edges and all(edge.source in depth for edge in edges)}
    return depth[graph.output]


@pytest.mark.parametrize('make', [residual, shuffled, transformer, excited])
def test_a_still_image_is_known_from_the_step_of_the_longest_way_on(make):
    program = make()
    network = made(program, pattern='newest-image')
    steps = longest_way(network.graph)
    frame = frames_for(program, 1)
    expected = outputs_of(program, frame)[:, 0]
    state, errors = network.initial_state(2), []
    with torch.no_grad():
        for _ in range(steps + 2):
            output, state = network.step(frame[0], state)
            errors.append(float((output - expected).abs().max() / expected.abs().max()))
    assert max(errors[steps - 1:]) < 1e-4 < min(errors[:steps - 1])


@pytest.mark.parametrize('make, pattern', [(residual, 'sequential'), (residual, 'streaming'),
                                           (recurrent_in_layers, 'streaming')])
def test_onnx_runtime_computes_the_same(make, pattern):
    network = made(make(), pattern=pattern)
    eager, engine = (Engine(network, 'cpu', backend=name) for name in ('eager', 'onnxruntime'))
    for frame in np.random.default_rng(1).standard_normal(
            (6, *network.shapes['image']), dtype=np.float32):
        np.testing.assert_allclose(engine.step(frame), eager.step(frame), rtol=1e-4, atol=1e-5)


def test_nodes_are_called_as_their_modules():
    names = [node.name for node in made(residual()).graph.nodes]
    assert names[:4] == ['image', 'conv1', 'layer1_0_conv1', 'layer1_0_conv2']
    assert names[-1] == 'fc'
    b = Builder((3, 8, 8))
    x = b.relu(b.convolution('image', 3, 4, name='0__0'), '0__1')
    x = b.convolution(x, 4, 4, name='1__a@1', module='1.a@1')
    network = made(b.program(b.linear(b.add('mean', x, axes=[2, 3]), 4, 2, 'image_1',
                                      )), how=['1.a@1'])
    assert [node.name for node in network.graph.nodes] == [
        'image', 'layer_0_0', 'layer_1_a_1', 'image_1']


def test_names_do_not_collide():
    b = Builder((3, 8, 8))
    x = b.convolution('image', 3, 4, name='a')
    x = b.convolution(x, 4, 4, name='b', module='a')
    x = b.convolution(x, 4, 4, name='c', module='image')
    network = made(b.program(b.linear(b.add('mean', x, axes=[2, 3]), 4, 2, 'a_2')), 'all')
    assert len({node.name for node in network.graph.nodes}) == 6


def test_states_are_edges_that_stream():
    graph = made(recurrent_in_layers()).graph
    assert [edge.name for edge in graph.edges if edge.streams] == [
        'lstm_0->lstm_0', 'lstm_1->lstm_1']


def test_a_value_that_is_read_of_two_frames_is_kept_by_a_node():
    graph = made(with_last_image()).graph
    assert [edge.name for edge in graph.edges if edge.streams] == ['image->last']
    assert graph.node('last').shape == graph.node('image').shape


def test_a_state_that_another_node_reads_is_an_edge_that_streams():
    b = Builder((3, 8, 8), {'before': (4, 8, 8)})
    x = b.relu(b.convolution('image', 3, 4, name='stem'))
    y = b.convolution(x, 4, 4, name='next')
    program = b.program(b.add('add', y, 'before', name='sum', module='sum'), before=x)
    graph = made(program, 'all').graph
    assert [edge.name for edge in graph.edges if edge.streams] == ['relu_1->sum']


@pytest.mark.parametrize('make', MANNERS)
@pytest.mark.parametrize('how', ['auto', 'all'])
def test_the_graph_file_is_read_back_as_it_was(make, how, tmp_path):
    network = made(make(), how, early=['encoder.conv'] if make is recurrent else ())
    file = tmp_path / 'graph.yaml'
    file.write_text(graph_text(network))
    assert load_graph(file) == network.graph
    weights = network.state_dict()
    again = network_of_file(load_graph(file), network.pattern, weights)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


def test_the_graph_file_has_an_operation_a_line():
    lines = graph_text(made(residual())).splitlines()
    assert '  image: {shape: [3, 64, 64]}' in lines
    assert '    - {name: layer1_0_relu, kind: relu, of: [layer1_0_conv1]}' in lines
    assert '- {source: conv1, target: layer1_0_conv1, transform: operand}' in lines
    assert lines[-1] == 'output: fc'
    assert max(map(len, lines)) < 160


def test_early_outputs_change_nothing_at_first_and_can_be_learned():
    program = residual()
    frames = frames_for(program, 2)
    network = made(program, early=['layer1', 'layer2.0'])
    with torch.no_grad():
        found, _ = network(frames.transpose(0, 1), network.initial_state(2))
    torch.testing.assert_close(found, outputs_of(program, frames), rtol=1e-4, atol=1e-5)
    edges = [edge for edge in network.graph.edges if edge.transform == 'readout']
    assert [edge.name for edge in edges] == ['layer1_1_conv2->fc', 'layer2_0->fc']
    assert [edge.options['kernel'] for edge in edges] == [4, 2]
    output, _ = network.step(frames[0], network.initial_state(2))
    output.square().sum().backward()
    weight = network.transforms['layer2_0-fc'][1].linear.weight
    assert not weight.any() and weight.grad.abs().max() > 0


def test_an_early_output_comes_before_the_last_activation():
    network = made(recurrent(), early=['encoder.conv'])
    node = network.graph.node(network.graph.output)
    assert node.activation == 'tanh' and all(step['kind'] != 'tanh' for step in node.body)
    with torch.no_grad():
        network.transforms['encoder_conv-head'][1].linear.bias.fill_(9.0)
        output, _ = network.step(frames_for(recurrent(), 1)[0], network.initial_state(2))
    assert output.abs().max() <= 1 and output.min() > 0.9


@torch.no_grad()
def first_difference(network):
    """Return the step at which the output first depends on the image."""
    for module in network.transforms.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.normal_()
    states = [network.initial_state(2) for _ in range(2)]
    for step in range(1, 20):
        answers = []
        for i, frame in enumerate(frames_for(residual(), 2)):
            output, states[i] = network.step(frame, states[i])
            answers.append(output)
        if not torch.equal(*answers):
            return step
    return None


def test_a_streaming_rollout_answers_early():
    # Through skip connections: conv1, layer1.0, layer1.1, and then fc, or four more.
    assert first_difference(made(residual(), pattern='newest-image', early=['layer1'])) == 4
    assert first_difference(made(residual(), pattern='newest-image')) == 6


def test_read_outs_of_large_outputs_are_pooled_further():
    network = made(residual(classes=20000), early=['layer1'])
    (edge,) = (edge for edge in network.graph.edges if edge.transform == 'readout')
    assert edge.options['kernel'] > 4
    assert network.transforms[edge.name.replace('->', '-')][1].linear.weight.numel() <= 2**20


@pytest.mark.parametrize('make, early, said', [
    (residual, ['fc'], "early outputs: 'fc' is in the node 'fc', which the output 'fc' is; name "
     'an earlier module'),
    (residual, ['layer4.1.conv1'], "which the output 'fc' reads anyway; name an earlier module"),
    (residual, ['layerr1'], "did you mean 'layer1'?")])
def test_what_cannot_answer_early_is_refused(make, early, said):
    with pytest.raises(ImportFault) as refused:
        made(make(), early=early)
    assert said in str(refused.value)


def test_only_features_can_be_answered_early():
    b = Builder((3, 8, 8))
    x = b.convolution(b.convolution('image', 3, 4, name='a'), 4, 4, name='b')
    with pytest.raises(ImportFault, match=r"'c' is \[4, 8, 8\], and only \[features\] can be"):
        made(b.program(b.convolution(x, 4, 4, name='c')), 'all', early=['a'])


def test_a_network_too_large_for_this_machine_is_refused(monkeypatch):
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', '0.001')
    with pytest.raises(GraphError, match='the network needs .* GiB, and it may take 0.001 GiB'):
        made(residual())


def test_weights_that_no_policy_may_have_are_refused():
    b = Builder((3, 8, 8))
    program = b.program(b.convolution('image', 3, 4, name='conv'))
    program.operations[0].weights['layer.weight'][0] = 1e30
    with pytest.raises(ImportFault, match="'bodies.conv.operations.conv.*' holds 1e.30, and "):
        made(program, 'all')
