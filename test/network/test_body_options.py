"""Options of a body's operations: each has a type, and none takes memory or time without end."""

from inspect import Parameter
from math import prod
import re
import resource
import time

from hypothesis import given, strategies as st
import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.bodies import BODY_OPERATIONS, parameters_of
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import MEMORY
from stream_agent.theory.checks import GraphError, OPTIONS
from stream_agent.theory.patterns import sequential_pattern
from support.strategies import examples
import torch

CONVOLUTION = {'kind': 'convolution', 'channels': 2, 'kernel': [1, 1]}


def body_of(*steps, source=(3, 8, 8), shape=(2, 8, 8)):
    """Make a network of one body, whose steps read the one before unless they say otherwise."""
    body = [{'name': f's{i}', 'of': [f's{i - 1}' if i else 'image'], **step}
            for i, step in enumerate(steps)]
    graph = graph_from_data({
        'nodes': {'image': {'shape': list(source)}, 'v': {'shape': list(shape), 'body': body}},
        'edges': [{'source': 'image', 'target': 'v', 'transform': 'operand'}], 'output': 'v'})
    return RolloutNetwork(graph, sequential_pattern(graph)).eval()


def refusal(*steps, **shapes):
    with pytest.raises(GraphError) as error:
        body_of(*steps, **shapes)
    return str(error.value)


@pytest.mark.parametrize('kind', BODY_OPERATIONS)
def test_every_parameter_of_a_kind_is_an_operand_or_an_option_with_a_type(kind):
    operands, options = parameters_of(kind)
    assert operands in (None, 0, 1, 2, 3)
    assert options.keys() <= OPTIONS.keys()
    for name, default in options.items():
        if default not in (None, Parameter.empty, ()):
            assert OPTIONS[name][0](default), name


def test_every_option_belongs_to_a_kind():
    assert OPTIONS.keys() == {name for kind in BODY_OPERATIONS for name in parameters_of(kind)[1]}


@pytest.mark.parametrize('change, said', [
    ({'kernal': [1, 1]}, "no option is called 'kernal'; did you mean 'kernel'?"),
    ({'kernel': 1}, 'kernel is 1; it has to be a list of 1 or 2 whole numbers of 1 or more'),
    ({'kernel': [0, 1]}, 'kernel is [0, 1]; it has to be a list of 1 or 2 whole'),
    ({'kernel': [1, 1, 1]}, 'kernel is [1, 1, 1]; it has to be a list of 1 or 2 whole'),
    ({'groups': 2}, 'must be divisible by groups; change its options, or what it reads'),
    ({'kernel': [2.0, 1]}, 'kernel is [2.0, 1]; it has to be'),
    ({'bias': 1}, 'bias is 1; it has to be true or false'),
    ({'channels': True}, 'channels is true; it has to be a whole number of 1 or more'),
    ({'padding': [1]}, 'padding is [1]; 4 numbers are needed'),
    ({'padding': None}, 'padding is empty; it has to be a list of whole numbers'),
    ({'of': ['image', 'image']}, "it reads 2 values, and takes 1; change 'of'"),
    ({'of': 'image'}, "of is 'image'; it has to be a list of names")])
def test_an_option_of_another_type_is_refused(change, said):
    assert said in refusal({**CONVOLUTION, **change})


def test_an_option_that_is_missing_is_named():
    assert "the option 'channels' is missing; give a whole number of 1 or more" in refusal(
        {'kind': 'convolution', 'kernel': [1, 1]})


@pytest.mark.parametrize('steps', [
    [{**CONVOLUTION, 'kernel': [10**9, 10**9], 'padding': [10**9] * 4}],
    [{**CONVOLUTION, 'channels': 10**9}],
    [{**CONVOLUTION, 'padding': [10**9] * 4}],
    [{**CONVOLUTION, 'padding': [10**9, 0, 0, 0]}],
    [{'kind': 'pad', 'padding': [10**9, 10**9]}],
    [{'kind': 'pad', 'padding': [10**12, 0]}],
    [{'kind': 'reshape', 'shape': [-1, 2**40, 8, 8]}],
    [{'kind': 'upsample', 'size': [10**9, 10**9]}],
    [{'kind': 'upsample', 'size': [9, 9], 'mode': 'bilinear', 'scale': [1e300, 1.0]}],
    [{'kind': 'adaptive_average', 'size': [10**6, 10**6]}],
    [{'kind': 'constant', 'of': [], 'shape': [10**6, 10**6]}, {'kind': 'add', 'of': [
        'image', 's0']}],
    [{'kind': 'linear', 'features': 2**31 - 1}],
    [{'kind': 'expand', 'shape': [2**31 - 1, 8, 8]}],
    [{'kind': 'transposed', 'channels': 2, 'kernel': [1, 1], 'stride': [10**8, 10**8]}],
    [{'kind': 'affine', 'shape': [10**6, 10**6]}],
    [{'kind': 'layer_norm', 'shape': [2**31 - 1]}],
    # Within memory, and yet without end.
    [{'kind': 'pad', 'padding': [2000] * 4}, {'kind': 'max_pool', 'kernel': [2000, 2000],
                                              'stride': [1, 1]}],
    [{'kind': 'reshape', 'shape': [-1, 192, 1]}, {'kind': 'pad', 'padding': [0, 0, 0, 10**7]},
     {'kind': 'attention', 'of': ['s1'] * 3}]])
def test_no_option_takes_memory_or_time(steps, monkeypatch):
    monkeypatch.setenv(MEMORY, '0.5')
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    said = refusal(*steps)
    assert 'nodes.v: body' in said or 'the network needs' in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize('value', [1e39, float('inf'), float('nan'), '1', True])
def test_a_number_is_one_that_float32_holds(value):
    assert '; it has to be a number that float32 holds' in refusal(
        {'kind': 'leaky_relu', 'slope': value})


def test_a_group_may_have_a_single_value():
    made = body_of({'kind': 'group_norm', 'groups': 1}, source=(1, 1, 1), shape=(1, 1, 1))
    output, _ = made.train().step(torch.ones(1, 1, 1, 1), made.initial_state())
    assert output.item() == 0


@pytest.mark.parametrize('step', [
    {'kind': 'softmax', 'axis': 0}, {'kind': 'mean', 'axes': [0], 'keep': True},
    {'kind': 'slice', 'axis': 0, 'start': 0, 'length': 1},
    {'kind': 'select', 'axis': 0, 'index': 0}, {'kind': 'softmax', 'axis': -4},
    {'kind': 'concatenate', 'of': ['image', 'image'], 'axis': 0}])
def test_no_operation_mixes_the_samples_of_a_batch(step):
    assert 'samples of a batch would be mixed' in refusal(step)


def test_what_moves_the_batch_may_go_along_the_other_axes():
    made = body_of({'kind': 'permute', 'axes': [1, 0, 2, 3]}, {'kind': 'softmax', 'axis': 0},
                   {'kind': 'permute', 'axes': [1, 0, 2, 3]}, shape=(3, 8, 8))
    image = torch.randn(2, 3, 8, 8)
    output, _ = made.step(image, made.initial_state(2))
    torch.testing.assert_close(output, image.softmax(1))


@pytest.mark.parametrize('shape, said', [
    ([-2, 3, 32, 2], 'shape is [-2, 3, 32, 2]; it needs one negative number, -k for k times the'),
    ([-1, -3, 64], 'only one dimension can be inferred'), ([-1, 100], 'is invalid for input of'),
    ([1, 192], 'is invalid for input of size')])
def test_a_reshape_says_where_the_batch_is(shape, said):
    assert said in refusal({'kind': 'reshape', 'shape': shape})


def test_many_operations_are_too_many():
    steps = [{'kind': 'relu'}] * 4000
    assert '2 nodes and 1 edges with 4000 operations are too many' in refusal(
        *steps, shape=(3, 8, 8))


def test_a_long_body_is_read_fast():
    body_of({'kind': 'relu'}, shape=(3, 8, 8))  # what torch imports once
    start = time.process_time()
    body_of(*[{**CONVOLUTION, 'channels': 3}, {'kind': 'relu'}] * 200, shape=(3, 8, 8))
    assert time.process_time() - start < 1


def test_a_value_that_depends_on_no_image_is_no_value_of_a_node():
    assert 'its body gives no batch in front, but its shape is [2, 8, 8]' in refusal(
        {'kind': 'constant', 'of': [], 'shape': [2, 8, 8]})


WHOLE = st.sampled_from([-2**31, -2, -1, 0, 1, 2, 3, 4, 8, 64, 1009, 2**31 - 1, 10**12])
ODD = WHOLE | st.lists(WHOLE, max_size=4) | st.sampled_from([
    None, True, False, 0.5, -1.5, 1e30, 0.0, 'bilinear', 'tanh', '', {}, [[1]]])


@examples(60)
@given(data=st.data())
def test_whatever_its_options_a_body_is_refused_or_computes_every_sample_alike(data):
    source = data.draw(st.sampled_from([[3, 8, 8], [5, 4], [6], [1, 1, 1]]))
    kind = data.draw(st.sampled_from(list(BODY_OPERATIONS)))
    operands, options = parameters_of(kind)
    step = {'kind': kind, 'of': ['image'] * (2 if operands is None else operands), **{
        name: data.draw(ODD | st.sampled_from([[1], [1, 1], [2, 2], 1]))
        for name in options if data.draw(st.booleans())}}
    found = re.search(r'its body gives \[([\d, ]+)\]', refusal(step, source=source, shape=[99]))
    shape = [int(size) for size in found[1].split(', ')] if found else []
    if len(shape) not in (1, 2, 3) or not 0 < prod(shape) < 10**6:
        return
    made = body_of(step, source=source, shape=shape)
    images = torch.randn(2, *source)
    both, _ = made.step(images, made.initial_state(2))
    one, _ = made.step(images[1:], made.initial_state())
    torch.testing.assert_close(both[1:], one, equal_nan=True)
