"""The program of a frame, as the reference does it, against the network's undivided step."""

from copy import deepcopy
from dataclasses import replace
import pickle

import pytest
from stream_agent.network.program import (
    bind, by_input, DRAW, frame_program, node_programs, Operand, Operation, OPERATIONS)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.frame_schedule import frame_schedule, NodeWork
from stream_agent.theory.graph import OPERAND, with_schedule
from stream_agent.theory.patterns import newest_image_pattern
from support.graphs import bare_graph, EVERY_LAYER, FIGURE_2, SR, THREE_INPUTS, TWO_INPUTS
from support.network_inputs import of_each, random_inputs
import torch

pytestmark = pytest.mark.usefixtures('one_thread')


DISTURBED = replace(
    EVERY_LAYER,
    nodes=tuple(replace(node, noise=0.1, dropout=0.2) for node in EVERY_LAYER.nodes),
    edges=tuple(edge if edge.source == edge.target or edge.transform == OPERAND
                else replace(edge, dropout=0.1)
                for edge in EVERY_LAYER.edges))


def network_of(graph, pattern):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern).double().eval()


def scheduled(graph, seed):
    """Return the graph with periods from 1 to 3."""
    names = [node.name for node in graph.nodes if node.name not in graph.inputs]
    return with_schedule(graph, {name: (1 + (i + seed) % 3, (i * seed) % (1 + (i + seed) % 3))
                                 for i, name in enumerate(names)})


def divided_steps(network, frames):
    """Yield outputs and all nodes' values, from the three parts of every frame."""
    before = network.initial_state().values
    for i, frame in enumerate(frames, 1):
        program = frame_program(network.programs,
                                frame_schedule(network.graph, network.pattern, i))
        now = {name: before[name] for name in program.held}
        bind(program.ahead)(now, before)
        now.update(by_input(network.inputs, frame))
        bind(program.respond)(now, before)
        output = now[network.graph.output]
        bind(program.settle)(now, before)
        yield output, now
        before = now


@pytest.mark.parametrize('graph, every', [
    (FIGURE_2, 1), (SR, 1), (EVERY_LAYER, 12), (TWO_INPUTS, 3), (THREE_INPUTS, 50)],
    ids=['figure 2', 'SR', 'every layer', 'two inputs', 'three inputs'])
def test_three_parts_are_the_undivided_step_under_patterns_and_schedules(graph, every):
    for i, pattern in enumerate(list(valid_patterns(graph))[::every]):
        for case in (graph, scheduled(graph, i)):
            network = network_of(case, pattern)
            frames = [of_each(lambda value: torch.from_numpy(value).double(), frame)
                      for frame in random_inputs(network, 7)]
            state = network.initial_state()
            with torch.no_grad():
                for frame, (output, now) in zip(frames, divided_steps(network, frames)):
                    expected, state = network.step(frame, state)
                    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
                    # No temporary value is left.
                    assert now.keys() == network.shapes.keys()
                    torch.testing.assert_close(now, state.values, rtol=1e-12, atol=1e-12)


def test_a_sum_of_a_skip_is_begun_ahead_and_continued_with_the_image():
    graph = bare_graph('img->h img->out h->out', 'out')
    network = network_of(graph, newest_image_pattern(graph))
    program = frame_program(network.programs, frame_schedule(graph, network.pattern, 1))
    total = Operand('out.sum')
    assert [operation[:4] for operation in program.ahead] == [
        ('transform', 'out', 'out.sum', (Operand('h', before=True),))]
    assert [operation[:4] for operation in program.respond] == [
        ('transform', 'out', 'img->out', (Operand('img'),)),
        ('add', 'out', 'out', (total, Operand('img->out')))]
    assert [operation[:4] for operation in program.settle] == [
        ('transform', 'h', 'h', (Operand('img'),))]
    assert program.settle[0].module is network.transforms['img-h']


def test_the_order_of_a_node_is_the_documented_one():
    network = network_of(DISTURBED, newest_image_pattern(DISTURBED))
    order = ['normalise', 'disturb', 'cell', 'activate']
    for program in node_programs(network, in_training=True).values():
        kinds = [operation.kind for operation in program.ending]
        assert kinds == sorted(kinds, key=order.index)
        assert {operation.kind for term in program.terms for operation in term} <= {
            'transform', 'body', 'disturb', 'multiply'}


def test_every_operation_of_the_vocabulary_occurs():
    """And no other does, over a graph that has every layer."""
    network = network_of(DISTURBED, newest_image_pattern(DISTURBED))
    found = {operation.kind for program in node_programs(network, in_training=True).values()
             for operation in program.operations()}
    assert found == set(OPERATIONS)


def test_dropout_and_noise_read_the_number_of_their_frame_in_training_alone():
    network = network_of(DISTURBED, newest_image_pattern(DISTURBED))
    disturbing = [operation for program in network.programs_in_training.values()
                  for operation in program.operations() if operation.kind == 'disturb']
    assert len(disturbing) == len(network.disturbances)
    assert all(operation.operands[1:] == (Operand(DRAW),) for operation in disturbing)
    assert not any(operation.kind == 'disturb' for program in network.programs.values()
                   for operation in program.operations())


@pytest.mark.parametrize('copied', [deepcopy, lambda network: pickle.loads(pickle.dumps(network))],
                         ids=['deepcopy', 'pickle'])
def test_a_copy_of_a_network_that_has_stepped_uses_its_own_weights(copied):
    network = network_of(SR, newest_image_pattern(SR))
    frame = torch.randn(1, 3, dtype=torch.float64)
    expected, _ = network.step(frame, network.initial_state())
    other = copied(network)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    assert torch.equal(other.step(frame, other.initial_state())[0], expected)
    assert not network.step(frame, network.initial_state())[0].any()


def test_an_operation_that_a_table_lacks_is_named():
    with pytest.raises(ValueError, match="^there is no entry for the operation 'attend'$"):
        bind([Operation('attend', 'out', 'out', (Operand('img'),))])


def test_work_takes_the_terms_of_its_edges():
    graph = bare_graph('img->h img->out h->out', 'out')
    program = network_of(graph, newest_image_pattern(graph)).programs['out']
    part = program.part(NodeWork('out', (('h', 'out'),), finishes=False))
    assert part.terms == program.terms[1:] and not part.ending
    assert part.operations()[-1].result == 'out.sum'
