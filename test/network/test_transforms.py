"""Transforms against formulas and against each other."""

import pytest
from stream_agent.network.shapes import make_transform
from stream_agent.network.transforms import TRANSFORMS, Undecided
from stream_agent.theory.graph import EdgeSpec, GraphError
import torch
from torch.nn import functional


def transform(name, source, target, **options):
    """Return the module of an edge, in float64, and the shape that it gives."""
    module, found = make_transform(EdgeSpec('u', 'v', name, options=options), source, target)
    return module.double(), found


def value(*shape):
    return torch.randn(2, *shape, dtype=torch.float64)


@pytest.mark.parametrize('kernel', range(1, 7))
@pytest.mark.parametrize('dilation', [1, 2, 3])
def test_a_convolution_of_stride_1_keeps_the_size(kernel, dilation):
    _, found = transform('convolution', (2, 9, 8), (3, None, None), kernel=kernel,
                         dilation=dilation)
    assert found == (3, 9, 8)


@pytest.mark.parametrize('kernel, dilation', [(1, 1), (3, 1), (3, 2), (5, 3)])
def test_the_middle_of_a_kernel_lies_over_its_own_pixel(kernel, dilation):
    module, _ = transform('convolution', (2, 9, 8), (2, 9, 8), kernel=kernel, dilation=dilation)
    torch.nn.init.zeros_(module.bias)
    torch.nn.init.dirac_(module.weight)
    image = value(2, 9, 8)
    assert torch.equal(module(image), image)


def test_groups_do_not_see_each_other():
    module, _ = transform('convolution', (4, 5, 5), (8, 5, 5), groups=2)
    image = value(4, 5, 5)
    changed = image.clone()
    changed[:, :2] += 1
    differs = (module(image) != module(changed)).flatten(2).any(-1).all(0)
    assert differs.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize('kernel', range(1, 8))
@pytest.mark.parametrize('stride', [1, 2, 3, 4])
def test_a_transposed_convolution_enlarges_by_its_stride(kernel, stride):
    if stride == 1 and kernel % 2 == 0:
        return
    _, found = transform('transposed', (2, 5, 4), (3, None, None), kernel=kernel, stride=stride)
    assert found == (3, 5 * stride, 4 * stride)


@pytest.mark.parametrize('kernel, stride', [(3, 1), (4, 2), (5, 2), (2, 3)])
def test_a_transposed_convolution_is_the_adjoint_of_a_convolution(kernel, stride):
    module, _ = transform('transposed', (2, 5, 4), (3, 5 * stride, 4 * stride), kernel=kernel,
                          stride=stride)
    torch.nn.init.zeros_(module.bias)
    small, large = value(2, 5, 4), value(3, 5 * stride, 4 * stride)
    back = functional.conv2d(large, module.weight, stride=stride, padding=module.padding)
    torch.testing.assert_close((module(small) * large).sum(), (small * back).sum())


@pytest.mark.parametrize('kind', ['average', 'maximum'])
def test_pooling_undoes_upsampling(kind):
    enlarge, found = transform('upsampling', (2, 3, 4), (None, None, None), factor=3)
    assert found == (2, 9, 12)
    reduce, _ = transform('pooling', found, (2, 3, 4), kernel=3, kind=kind)
    image = value(2, 3, 4)
    torch.testing.assert_close(reduce(enlarge(image)), image)


def test_maximum_pooling_takes_the_largest():
    module, _ = transform('pooling', (2, 4, 6), (2, 2, 3), kind='maximum')
    image = value(2, 4, 6)
    assert torch.equal(module(image), image.unflatten(3, (3, 2)).unflatten(2, (2, 2)).amax((3, 5)))


def test_pointwise_is_one_matrix_at_every_pixel():
    module, _ = transform('pointwise', (3, 4, 5), (2, 4, 5))
    image = value(3, 4, 5)
    torch.testing.assert_close(
        module(image), torch.einsum('oi,bihw->bohw', module.weight[:, :, 0, 0], image)
        + module.bias[:, None, None])


def test_a_readout_is_dense_after_pooling():
    module, _ = transform('readout', (2, 7, 6), (5,), kernel=3)
    image = value(2, 7, 6)
    means = torch.stack([image[:, :, 3 * i:3 * i + 3, 3 * j:3 * j + 3].mean((2, 3))
                         for i in range(2) for j in range(2)], -1)
    dense = module[1].linear
    torch.testing.assert_close(module(image),
                               functional.linear(means.flatten(1), dense.weight, dense.bias))


def test_keypoints_are_mean_positions_under_a_softmax():
    """Finn et al. 2016, section IV-A, pixel by pixel."""
    module, _ = transform('keypoints', (3, 4, 5), (6,))
    torch.nn.init.constant_(module.sharpness, 1.7)
    image = value(3, 4, 5)
    weights = (1.7 * image).exp()
    x = y = 0
    for row in range(4):
        for column in range(5):
            share = weights[:, :, row, column] / weights.sum((2, 3))
            x = x + share * (-1 + 2 * column / 4)
            y = y + share * (-1 + 2 * row / 3)
    torch.testing.assert_close(module(image), torch.cat([x, y], 1))


def test_keypoints_point_at_a_bright_pixel():
    module, _ = transform('keypoints', (2, 3, 1), (4,))
    image = torch.zeros(1, 2, 3, 1, dtype=torch.float64)
    image[0, 0, 0], image[0, 1, 2] = 100, 100
    torch.testing.assert_close(module(image)[0], torch.tensor([0, 0, -1, 1.]).double())


@pytest.mark.parametrize('name, source, target, options, sentence', [
    ('convolution', (2, 8, 8), (4, 8, 8), {'kernel': 0},
     'edges.u->v: kernel: 0 is not a positive integer'),
    ('convolution', (2, 8, 8), (4, 8, 8), {'dilation': 1.5},
     'edges.u->v: dilation: 1.5 is not a positive integer'),
    ('convolution', (2, 8, 8), (4, 8, 8), {'stride': True},
     'edges.u->v: stride: True is not a positive integer'),
    ('transposed', (2, 8, 8), (4, 8, 8), {'stride': 'two'},
     "edges.u->v: stride: 'two' is not a positive integer"),
    ('transposed', (2, 8, 8), (4, 8, 8), {'stride': 1, 'kernel': 4},
     'edges.u->v: kernel: 4 is even, which with stride 1 would change the size; take an odd one'),
    ('upsampling', (2, 8, 8), (2, 8, 8), {'factor': -2},
     'edges.u->v: factor: -2 is not a positive integer'),
    ('convolution', (2, 8, 8), (4, 8, 8), {'groups': 4},
     'edges.u->v: groups: 4 does not divide the 2 channels of the source and the 4 of the '
     'target'),
    ('pooling', (2, 3, 8), (2, 1, 2), {'kernel': 4},
     'edges.u->v: kernel: a window of 4 x 4 does not fit into the source, [2, 3, 8]'),
    ('pooling', (2, 3, 8), (2, 1, 2), {'kind': 'maximal'},
     "edges.u->v: kind: no pooling of the kind 'maximal'; did you mean 'maximum'? Choices are "
     'average, maximum'),
    ('readout', (10,), (3,), {},
     'edges.u->v: readout of [10]: the source is [10], not [channels, height, width]'),
    ('keypoints', (10,), (20,), {},
     'edges.u->v: keypoints of [10]: the source is [10], not [channels, height, width]'),
    ('pointwise', (2, 8, 8), (10,), {},
     'edges.u->v: pointwise of [2, 8, 8]: it gives [channels, height, width], but the target '
     'takes [features]'),
    ('convolution', (2, 8, 8), (4, 8, 8), {'kernal': 3},
     "edges.u->v: convolution has no option 'kernal'; did you mean 'kernel'? (its options: "
     'kernel, stride, dilation, groups)'),
    ('identity', (2, 8, 8), (4, 8, 8), {'normalization': 'layer'},
     "edges.u->v: identity has no option 'normalization'; did you mean 'normalisation'? (its "
     'options: none)'),
    ('convolve', (2, 8, 8), (4, 8, 8), {},
     "edges.u->v: no transform named 'convolve'; did you mean 'convolution'? Choices are dense, "
     'convolution, pointwise, transposed, upsampling, pooling, readout, keypoints, identity, '
     'operand'),
])
def test_what_cannot_be_made(name, source, target, options, sentence):
    with pytest.raises(GraphError) as error:
        transform(name, source, target, **options)
    assert str(error.value) == sentence


TARGETS = {'dense': (3,), 'readout': (3,), 'convolution': (5, 6, 6), 'pointwise': (5, 6, 6),
           'transposed': (5, 12, 12), 'upsampling': (4, 12, 12), 'pooling': (4, 3, 3),
           'keypoints': (8,), 'identity': (4, 6, 6), 'operand': (4, 6, 6)}


@pytest.mark.parametrize('name', TRANSFORMS)
def test_the_trial_without_the_target_s_size_gives_what_the_module_gives(name):
    target = TARGETS[name]
    module, found = transform(name, (4, 6, 6), target)
    assert tuple(module(value(4, 6, 6)).shape) == (2, *found) == (2, *target)
    if name in ('dense', 'readout'):
        with pytest.raises(Undecided) as error:
            transform(name, (4, 6, 6), (None, None, None))
        assert str(error.value) == f'edges.u->v: {name} gives whatever shape its target has'
    else:
        assert transform(name, (4, 6, 6), (target[0], None, None))[1] == target
