"""Simplified programs give the same by fewer operations."""

from importing.made_programs import Builder, recurrent_in_layers, residual, shuffled
import pytest
from stream_agent.importing.program import ImportFault
from stream_agent.importing.running import Whole
from stream_agent.importing.simplify import simplified
import torch
from torch.nn import functional


def kinds_of(program):
    return [operation.kind for operation in program.operations]


@torch.no_grad()
def check_equal(program, found):
    frame = torch.randn(3, *program.inputs['image'])
    torch.testing.assert_close(Whole(found)(frame), Whole(program)(frame), rtol=1e-5, atol=1e-5)


def number(b, value):
    return b.add('constant', shape=[], weights={'value': torch.tensor(float(value))})


def normalised(b, padding):
    """Return an image by mean and deviation of channels, and a convolution of it."""
    value = b.affine(b.add('scale', 'image', factor=1 / 255), 3)
    return b.convolution(value, 3, 4, padding=padding, groups=1)


def channels_scaled(b):
    x = b.convolution('image', 3, 4, groups=1)
    scales = b.add('constant', shape=[4, 1, 1], weights={'value': b.random(4, 1, 1)})
    return b.add('subtract', number(b, 1), b.add('divide', x, scales))


def grouped(b):
    """Return a grouped convolution without a border of a scaled image."""
    x = b.relu(b.convolution('image', 3, 4, bias=True))
    return b.convolution(b.affine(x, 4), 4, 6, groups=2, padding=[0] * 4)


def transposed(b):
    x = b.add('transposed', 'image', channels=4, kernel=[2, 2], stride=[2, 2], bias=False,
              weights={'layer.weight': b.random(3, 4, 2, 2)})
    return b.affine(x, 4)


def tokens(b):
    x = b.add('permute', b.add('reshape', 'image', shape=[-1, 3, 64]), axes=[0, 2, 1])
    return b.affine(b.linear(b.affine(x, 3, axes=0), 3, 5), 5, axes=0)


def group_norm(b):
    x = b.add('group_norm', 'image', groups=1, weights={
        'weight': b.random(3), 'bias': b.random(3)})
    return b.affine(x, 3)


def padded(b):
    x = b.add('pad', 'image', padding=[1, 2, 0, 3])
    return b.convolution(x, 3, 4, padding=[1, 0, 1, 0])


def hard_swish(b):
    x = b.convolution('image', 3, 4, bias=True)
    gate = b.add('clip', b.add('add', x, number(b, 3)), low=0.0, high=6.0)
    return b.add('divide', b.add('multiply', x, gate), number(b, 6))


def hard_swish_inside(b):
    x = b.convolution('image', 3, 4, bias=True)
    gate = b.add('scale', x, factor=1 / 6, offset=0.5)
    return b.add('multiply', b.add('clip', gate, low=0, high=1), x)


def silu(b):
    return b.add('multiply', 'image', b.add('sigmoid', 'image'))


def nothing(b):
    """Return a ReLU of what several operations leave as it is."""
    x = b.add('scale', b.add('identity', 'image'), factor=1)
    x = b.add('slice', b.add('permute', x, axes=[0, 1, 2, 3]), axis=1, start=0, length=3)
    x = b.add('reshape', b.add('reshape', x, shape=[-1, 192]), shape=[-1, 3, 8, 8])
    b.relu('image', 'dead_end')
    return b.relu(b.add('concatenate', b.add('pad', x, padding=[0] * 4), axis=1))


def constants(b):
    place = b.add('constant', shape=[8, 3], weights={'value': b.random(8, 3)})
    place = b.add('permute', place, axes=[0, 2, 1])
    return b.add('add', 'image', b.add('reshape', place, shape=[-1, 3, 8, 1]))


def check_simplified(make, kinds):
    """Check which operations are left of what is made, and that values stay."""
    b = Builder((3, 8, 8))
    program = b.program(make(b))
    found = simplified(program)
    assert kinds_of(found) == kinds
    check_equal(program, found)


@pytest.mark.parametrize('make, kinds', [
    (lambda b: normalised(b, [0] * 4), ['convolution']),
    # A border of zeros is not part of the image that is shifted.
    (lambda b: normalised(b, [1] * 4), ['affine', 'convolution']),
    (lambda b: b.convolution(b.add('scale', 'image', factor=3.0), 3, 4), ['convolution']),
    (channels_scaled, ['convolution']),
    (grouped, ['convolution', 'relu', 'convolution']),
    (transposed, ['transposed']),
    (tokens, ['reshape', 'permute', 'linear']),
    (group_norm, ['group_norm']),
    (padded, ['convolution']),
    (hard_swish, ['convolution', 'hard_swish']),
    (hard_swish_inside, ['convolution', 'hard_swish']),
    (silu, ['silu']),
    (nothing, ['relu']),
    (constants, ['constant', 'add'])])
def test_what_a_layer_can_do_is_done_by_it(make, kinds):
    check_simplified(make, kinds)


def scale_read_twice(b):
    x = b.convolution('image', 3, 4)
    return b.add('add', b.affine(x, 4), b.relu(x))


def scale_of_pixels(b):
    x = b.convolution('image', 3, 4)
    scales = b.add('constant', shape=[8, 8], weights={'value': b.random(8, 8)})
    return b.add('multiply', x, scales)


def other_gate(b):
    """Return a product that is no hard swish: the gate reads another value."""
    x, y = b.convolution('image', 3, 4), b.convolution('image', 3, 4)
    gate = b.add('clip', b.add('scale', x, factor=1 / 6, offset=0.5), low=0, high=1)
    return b.add('multiply', gate, y)


@pytest.mark.parametrize('make, kinds', [
    (scale_read_twice, ['convolution', 'affine', 'relu', 'add']),
    (scale_of_pixels, ['convolution', 'constant', 'multiply']),
    (other_gate, ['convolution', 'convolution', 'hard_sigmoid', 'multiply'])])
def test_what_would_change_a_value_stays(make, kinds):
    check_simplified(make, kinds)


def test_batch_norms_of_a_residual_network_vanish():
    program = residual()
    found = simplified(program)
    assert len(found.operations) == 49 and 'affine' not in kinds_of(found)
    check_equal(program, found)


def test_shapes_have_the_batch_in_front_or_are_empty():
    shapes = {operation.kind: operation.shape for operation in simplified(shuffled()).operations}
    assert shapes['permute'] == (4, 2, 16, 16)
    b = Builder((3, 8, 8))
    x = b.add('permute', 'image', axes=[1, 0, 2, 3])
    program = simplified(b.program(b.add('permute', x, axes=[1, 0, 2, 3])))
    assert [operation.shape for operation in program.operations] == [(), (3, 8, 8)]


def test_every_layer_of_an_lstm_has_a_state_of_its_own():
    found = simplified(recurrent_in_layers())
    assert [state.shape for state in found.states.values()] == [(10,), (10,)]
    cells = [operation for operation in found.operations if operation.kind == 'lstm_cell']
    assert [cell.of[1] for cell in cells] == [*found.states]
    assert [state.next for state in found.states.values()] == [cell.name for cell in cells]


def test_a_state_that_the_output_needs_not_is_dropped():
    b = Builder((3, 8, 8), {'h': (3, 8, 8)})
    program = simplified(b.program(b.relu('image'), h=b.add('add', 'image', 'h')))
    assert not program.states and kinds_of(program) == ['relu']


def test_what_cannot_be_computed_is_refused():
    b = Builder((3, 8, 8))
    with pytest.raises(ImportFault, match=r"operation 'fc' of module 'fc': linear of \[3, 8, 8\]"):
        simplified(b.program(b.linear('image', 9, 2, 'fc')))
    b = Builder((3, 8, 8))
    b.add('wavelet', 'image', name='deep__wave')
    with pytest.raises(ImportFault, match="'deep.wave': 'wavelet' is not in the vocabulary"):
        simplified(b.program('deep_wave'))
    b = Builder((3, 8, 8))
    output = b.convolution('image', 3, 4, name='conv')
    b.operations[0].weights['layer.weight'][0, 0, 0, 0] = float('nan')
    with pytest.raises(ImportFault, match="'conv': its 'layer.weight' holds NaN or infinity"):
        simplified(b.program(output))


def test_several_inputs_are_taken_and_all_are_read():
    b = Builder((3, 8, 8))
    b.inputs['other'] = (3, 8, 8)
    output = b.add('add', 'image', 'other')
    assert [*simplified(b.program(output)).inputs] == ['image', 'other']
    b.inputs['third'] = (4,)
    with pytest.raises(ImportFault, match="inputs: the output does not depend on 'third'"):
        simplified(b.program(output))
    b.inputs.clear()
    with pytest.raises(ImportFault, match='inputs: the network takes none'):
        simplified(b.program(output))


def test_an_output_that_depends_on_nothing_is_refused():
    b = Builder((3, 8, 8))
    output = b.add('constant', shape=[1], weights={'value': torch.zeros(1)})
    for each in (b.program(output), b.program(b.add('add', output, output))):
        with pytest.raises(ImportFault, match='does not depend on the image'):
            simplified(each)
    b = Builder((3, 8, 8), {'count': (3, 8, 8)})
    count = b.add('scale', 'count', offset=1.0, name='counter')
    with pytest.raises(ImportFault, match="operation 'counter' .* does not depend on the image"):
        simplified(b.program(b.add('add', 'image', 'count'), count=count))


@pytest.mark.parametrize('source, size', [((3, 10, 11), (4, 4)), ((2, 3, 5), (7, 5)),
                                          ((4, 9), (2,)), ((2, 8, 6), (4, 3))])
@pytest.mark.parametrize('kind, name', [('average', 'avg'), ('maximum', 'max')])
def test_adaptive_pools_are_those_of_torch(kind, name, source, size):
    b = Builder(source)
    program = b.program(b.add(f'adaptive_{kind}', 'image', size=[*size]))
    frame = torch.randn(2, *source)
    expected = getattr(functional, f'adaptive_{name}_pool{len(size)}d')(frame, size)
    torch.testing.assert_close(Whole(program)(frame), expected)
