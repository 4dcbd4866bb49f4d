"""Operations are grouped into nodes by cost, by module, or as finely as possible."""

import random
from time import perf_counter

from importing.made_programs import (
    Builder, excited, recurrent, residual, shuffled, transformer, with_last_image)
import pytest
from stream_agent.importing.cutting import cut
from stream_agent.importing.graph_making import make_network
from stream_agent.importing.measuring import measured_seconds
from stream_agent.importing.program import ImportFault
from stream_agent.importing.simplify import simplified
from stream_agent.theory.patterns import update_order
import torch

COSTS = {'convolution': 20.0, 'linear': 5.0, 'attention': 10.0}


def costs_of(program):
    return {each.name: COSTS.get(each.kind, 1.0) for each in program.operations}


def grouped(program, how='auto', **options):
    program = simplified(program)
    return program, cut(program, costs_of(program), how, **options)


def longest_way(program, groups):
    """Return the nodes on the longest way to the output."""
    graph = make_network(program, groups).graph
    depth = dict.fromkeys(graph.inputs, 0)
    for name in update_order(graph, {(edge.source, edge.target): int(edge.streams)
                                     for edge in graph.edges}):
        depth[name] = depth.get(name, 1 + max(
            (depth[edge.source] for edge in graph.incoming[name] if not edge.streams), default=0))
    return depth[graph.output]


MANNERS = [residual, shuffled, transformer, excited, recurrent, with_last_image]


@pytest.mark.parametrize('make', MANNERS)
@pytest.mark.parametrize('how', ['auto', 'all'])
def test_every_operation_is_in_one_node_and_one_value_leaves_it(make, how):
    program, groups = grouped(make(), how)
    names = [each.name for each in program.operations if each.kind != 'constant']
    assert sorted(sum(groups, [])) == sorted(names)
    kept = {program.output, *(state.next for state in program.states.values())}
    for group in groups:
        left = {name for name in group if name in kept or any(
            name in each.of and each.name not in group for each in program.operations)}
        assert left == {group[-1]}


def test_a_residual_network_is_cut_as_it_was_measured():
    program, groups = grouped(residual())
    graph = make_network(program, groups).graph
    assert (len(groups), len(graph.edges), longest_way(program, groups)) == (11, 16, 11)
    # A plain block is two nodes with its skip connection as an edge; others are in one.
    skips = [edge.name for edge in graph.edges
             if edge.source == 'conv1' and edge.target == 'layer1_0_conv2']
    assert len(skips) == 1


@pytest.mark.parametrize('make', MANNERS)
def test_no_node_of_several_operations_costs_over_a_quarter(make):
    program, groups = grouped(make())
    costs = costs_of(program)
    total = sum(costs[name] for group in groups for name in group)
    assert all(len(group) == 1 or sum(map(costs.get, group)) <= total / 4 + 1e-9
               for group in groups)


def test_the_limit_of_cost_can_be_chosen():
    def largest(most):
        program, groups = grouped(residual(), most=most)
        costs = costs_of(program)
        return max(sum(map(costs.get, group)) for group in groups) / sum(costs.values())
    assert largest(0.1) <= 0.1 < largest(0.25) <= 0.25


def test_a_gate_and_what_it_scales_are_one_node():
    program, groups = grouped(excited(blocks=6))
    for product in (each for each in program.operations if each.kind == 'multiply'):
        (group,) = (group for group in groups if product.name in group)
        gate = product.of[1]
        assert gate in group and any(name.startswith('mean') for name in group)


def test_the_longest_way_is_kept_short_at_the_price_of_skip_edges():
    program, groups = grouped(residual(blocks=6))
    assert longest_way(program, groups) == 16
    assert len(grouped(residual(blocks=6), longest=99)[1]) > 30
    assert longest_way(*grouped(residual(blocks=6), longest=5, most=0.5)) == 5


def test_values_with_the_batch_elsewhere_or_with_many_axes_stay_inside():
    program, groups = grouped(transformer(), 'all')
    shapes = {each.name: each.shape for each in program.operations}
    assert all(1 <= len(shapes[group[-1]]) <= 3 for group in groups)
    attention = next(group for group in groups if any('attention' in name for name in group))
    assert len(attention) == 6  # reshape, permute, three selects


def test_an_activation_is_in_the_node_of_its_layer():
    program = simplified(residual())
    for seed in range(5):
        scatter = random.Random(seed)
        costs = {each.name: COSTS.get(each.kind, 1.0) * scatter.uniform(0.95, 1.05)
                 for each in program.operations}
        groups = cut(program, costs)
        home = {name: i for i, group in enumerate(groups) for name in group}
        for each in program.operations:
            if each.kind == 'relu':
                assert home[each.name] == home[each.of[0]]


def test_modules_become_nodes():
    program, groups = grouped(residual(), ['layer1', 'layer3', 'layer3.1'])
    network = make_network(program, groups)
    assert [node.name for node in network.graph.nodes] == [
        'image', 'conv1', 'layer1', 'layer2', 'layer3_0', 'layer3_1', 'layer4']
    homes = {each.module: i for i, group in enumerate(groups) for each in program.operations
             if each.name in group}
    # Sums of a block's forward belong to the module that holds them.
    assert homes['layer1.0'] == homes['layer1.0.conv1'] == homes['layer1.1.relu'] == 1
    assert homes['layer2.0'] == homes['layer2.1.conv2'] == 2


def test_what_is_of_no_module_joins_the_node_that_alone_reads_it():
    b = Builder((3, 8, 8))
    x = b.add('subtract', 'image', b.add('constant', shape=[], weights={
        'value': torch.tensor(0.5)}), name='shift', module='')
    x = b.convolution(x, 3, 4, name='stem')
    x = b.relu(b.add('add', x, b.convolution(x, 4, 4, name='side'), module=''))
    y = b.linear(b.add('mean', x, axes=[2, 3], module=''), 4, 2, 'head')
    _, groups = grouped(b.program(b.add('tanh', y, module='')), ['stem', 'head'])
    assert [group[-1] for group in groups] == ['stem', 'mean_6', 'tanh_8']
    assert groups[0] == ['shift', 'stem']
    _, groups = grouped(b.program(b.add('tanh', y, module='', name='end')), ['head'])
    assert groups[-1] == ['head', 'end']


def test_a_module_that_gives_several_values_becomes_several_nodes():
    b = Builder((3, 8, 8))
    x = b.convolution('image', 3, 4, name='two__a')
    y = b.relu(x, 'two__b')
    x, y = b.convolution(x, 4, 4, name='left'), b.convolution(y, 4, 4, name='right')
    _, groups = grouped(b.program(b.add('add', x, y, module='')), ['two'])
    assert groups[:2] == [['two_a'], ['two_b']]


@pytest.mark.parametrize('options, said', [
    ({'how': ['layer1', 'layr2']}, "cut: the network has no module named 'layr2' that computes "
     "anything; did you mean 'layer2'?"),
    ({'how': 'layer9'}, "cut: the network has no module named 'layer9'"),
    ({'early': ['layer2', 'fcc']}, "early outputs: the network has no module named 'fcc' that "
     "computes anything; did you mean 'fc'?")])
def test_unknown_modules_are_refused_with_the_nearest(options, said):
    with pytest.raises(ImportFault) as refused:
        grouped(residual(), **options)
    assert said in str(refused.value)


def test_costs_of_another_network_are_refused():
    with pytest.raises(ImportFault, match="costs: the operation 'conv1' is missing; measure"):
        cut(simplified(residual()), {'other': 1.0})


def test_an_early_output_is_the_value_of_a_node():
    program, groups = grouped(residual(), early=['layer1', 'layer2.0'])
    ends = [group[-1] for group in groups]
    assert {'layer1_1_relu_1', 'layer2_0_relu_1'} <= {*ends}


def test_the_middle_of_an_attention_cannot_answer_early():
    b = Builder((4, 6, 6))
    x = b.add('reshape', 'image', shape=[-1, 2, 2, 6, 6])
    halves = [b.add('reshape', b.add('slice', x, axis=1, start=i, length=1), shape=[-1, 2, 6, 6],
                    name=f'half{i}') for i in range(2)]
    program = simplified(b.program(b.add('add', *halves)))
    with pytest.raises(ImportFault, match="early outputs: operation 'half0' of module 'half0' "
                       'gives a value in the middle of'):
        cut(program, costs_of(program), early=['half0'])


def test_values_that_cannot_leave_a_node_are_refused():
    b = Builder((4, 6, 6))
    program = simplified(b.program(b.add('reshape', 'image', shape=[-1, 2, 2, 6, 6], name='five')))
    with pytest.raises(ImportFault, match=r"operation 'five' .*\[2, 2, 6, 6\], would have to go"):
        cut(program, costs_of(program), 'all')


def test_cutting_is_quick():
    program = simplified(residual(size=32, width=2, blocks=32))
    assert len(program.operations) > 600
    costs = costs_of(program)
    start = perf_counter()
    cut(program, costs)
    assert perf_counter() - start < 2  # 0.1 s where nothing else computes


def test_costs_are_measured_for_every_operation():
    program = simplified(transformer())
    seconds = measured_seconds(program)
    assert seconds.keys() == {each.name for each in program.operations}
    assert seconds['cls'] == seconds['places'] == 0
    assert all(0 <= value < 1 for value in seconds.values()) and sum(seconds.values()) > 0
    # What repeats costs the same, so that blocks are cut alike.
    assert seconds['block0_mlp_fc1'] == seconds['block1_mlp_fc1']


@pytest.mark.parametrize('kind', ['average', 'maximum'])
def test_pools_of_overlapping_windows_are_measured(kind, recwarn):
    b = Builder((3, 10, 10))
    x = b.add(f'adaptive_{kind}', b.convolution('image', 3, 4), size=[4, 4])
    program = simplified(b.program(b.linear(b.add('mean', x, axes=[2, 3]), 4, 2)))
    assert all(value > 0 for value in measured_seconds(program).values())
    assert not [each for each in recwarn if 'measured in torch' in str(each.message)]


def test_costs_are_measured_in_torch_where_the_exporter_fails(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError('no such operator\ngraph(...)')
    monkeypatch.setattr(torch.onnx, 'export', refuse)
    with pytest.warns(UserWarning, match=r'all operations \(no such operator\); they are'):
        assert all(value > 0 for value in measured_seconds(simplified(recurrent())).values())
