"""The scan against a loop over frames, by every kernel that the CPU has."""

import sys

from hypothesis import given, strategies as st
import pytest
from stream_agent.network.recurrence import kernel_for, linear_recurrence, numba_kernels, scan
from support.strategies import examples
import torch

KERNELS = ('numba', 'torch')


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """Scan by a kernel; that of torch's operations is for whoever cannot import numba."""
    if request.param == 'torch':
        monkeypatch.setitem(sys.modules, 'numba', None)
    scan._installed.cache_clear()
    yield request.param
    scan._installed.cache_clear()


def by_frames(a, b, initial, dim):
    """Compute h frame by frame; torch knows the gradients of that."""
    states = [initial]
    for factor, rest in zip(a.unbind(dim), b.unbind(dim)):
        states.append(factor * states[-1] + rest)
    return torch.stack(states[1:], dim)


def with_gradients(function, inputs, weights):
    """Return a result and the gradients of its weighted sum."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    result = function(*inputs)
    return [result.detach(), *torch.autograd.grad((result * weights).sum(), inputs)]


def test_the_kernel_is_named(kernel):
    assert kernel_for('cpu') == kernel
    assert kernel_for('meta') == 'torch'


def test_worked_example(kernel):
    """Theory, section 4, example 5."""
    a = torch.tensor([2., 3, 5, 7], dtype=torch.float64)
    found = with_gradients(lambda *x: linear_recurrence(*x, dim=0),
                           (a, torch.ones_like(a), torch.ones_like(a[0])), torch.ones_like(a))
    assert [x.tolist() for x in found] == [
        [3, 10, 51, 358], [124, 123, 80, 51], [124, 41, 8, 1], 248]


@st.composite
def scans(draw):
    """Draw a shape, the axis of time, and a seed."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    dim = draw(st.integers(0, len(shape) - 1))
    shape[dim] = draw(st.integers(1, 40))
    return tuple(shape), dim - draw(st.sampled_from((0, len(shape)))), draw(st.integers(0, 999))


def draw_inputs(shape, dim, seed):
    """Return factors of both signs, some 0, what is added, h_0, and weights of the result."""
    generator = torch.Generator().manual_seed(seed)
    options = {'generator': generator, 'dtype': torch.float64}
    a = torch.rand(shape, **options) * 2.2 - 1.1
    a[torch.rand(shape, **options) < 0.1] = 0
    b, weights = torch.randn(shape, **options), torch.randn(shape, **options)
    dim %= len(shape)
    return (a, b, torch.randn(shape[:dim] + shape[dim + 1:], **options)), weights


@pytest.mark.parametrize('blocked', [False, True], ids=KERNELS)
def test_results_and_gradients_are_those_of_a_loop(blocked):
    """Not by the fixture, which would be one for all examples."""
    with pytest.MonkeyPatch.context() as patch:
        if blocked:
            patch.setitem(sys.modules, 'numba', None)
        scan._installed.cache_clear()
        compare_with_loop()
    scan._installed.cache_clear()


@examples(60)
@given(scans())
def compare_with_loop(drawn):
    _, dim, _ = drawn
    inputs, weights = draw_inputs(*drawn)
    found = with_gradients(lambda *x: linear_recurrence(*x, dim=dim), inputs, weights)
    expected = with_gradients(lambda *x: by_frames(*x, dim), inputs, weights)
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_layouts_that_are_not_contiguous(kernel):
    (a, b, initial), weights = draw_inputs((5, 30, 4), 1, 0)
    inputs = [x.transpose(0, 2).contiguous().transpose(0, 2) for x in (a, b)]
    found = with_gradients(linear_recurrence, (*inputs, initial), weights)
    for x, y in zip(found, with_gradients(linear_recurrence, (a, b, initial), weights)):
        assert torch.equal(x, y)


def test_without_an_initial_value_it_is_zero(kernel):
    (a, b, initial), _ = draw_inputs((2, 9, 3), 1, 1)
    assert torch.equal(linear_recurrence(a, b), linear_recurrence(a, b, initial * 0))


@pytest.mark.parametrize('shape', [(2, 0, 3), (0, 5, 3), (2, 5, 0)])
def test_nothing_to_scan(kernel, shape):
    inputs = torch.ones(shape), torch.ones(shape), torch.ones(shape[0], shape[2])
    h, da, db, first = with_gradients(linear_recurrence, inputs, torch.ones(shape))
    assert h.shape == da.shape == db.shape == shape
    assert torch.equal(first, torch.zeros_like(first))


@pytest.mark.parametrize('kind', [torch.bfloat16, torch.float16])
def test_small_types_have_a_float32_state(kernel, kind):
    """A sum of a thousand small terms, at which a state of 8 or 11 bits would stand still."""
    inputs = torch.ones(1, 1000, 1, dtype=kind), torch.full((1, 1000, 1), 0.01, dtype=kind)
    h, da, db = with_gradients(linear_recurrence, inputs, torch.ones(1, 1000, 1, dtype=kind))
    assert h.dtype == da.dtype == db.dtype == kind
    assert h[0, -1, 0].item() == pytest.approx(10, rel=1e-2)
    assert db[0, 0, 0].item() == pytest.approx(1000, rel=1e-2)


def test_second_derivatives_are_refused():
    inputs = [torch.ones(1, 3, 1, requires_grad=True) for _ in range(2)]
    with pytest.raises(RuntimeError) as error:
        torch.autograd.grad(linear_recurrence(*inputs).sum(), inputs, create_graph=True)
    assert str(error.value) == ('linear_recurrence has no second derivatives; leave out '
                                'create_graph=True')


ONES = torch.ones(2, 5, 3)


@pytest.mark.parametrize(('arguments', 'sentence'), [
    ((ONES, ONES[:, 1:]), 'b: the shape is [2, 4, 3], but of a it is [2, 5, 3]; make them equal'),
    ((ONES, ONES.double()),
     'b: the type is torch.float64, but of a it is torch.float32; make them equal'),
    ((ONES.int(), ONES.int()),
     'a: the type torch.int32 cannot be scanned; types are torch.float32, torch.float64, '
     'torch.bfloat16, torch.float16'),
    ((ONES, ONES, ONES[0]),
     'initial: the shape is [5, 3], but that of a without the axis of time, 1, is [2, 3]'),
    ((ONES, ONES, None, 3), 'dim: 3 is not an axis of a, [2, 5, 3]'),
    ((ONES, ONES.to('meta')), 'b: the device is meta, but of a it is cpu; make them equal'),
    ((ONES, ONES, ONES[:, 0].to('meta')),
     'initial: the device is meta, but of a it is cpu; make them equal'),
])
def test_what_cannot_be_scanned(arguments, sentence):
    with pytest.raises(ValueError) as error:
        linear_recurrence(*arguments)
    assert str(error.value) == sentence


def test_memory_is_used_again_when_nothing_lies_in_it():
    like = torch.empty(1000, 300)
    kept = numba_kernels.empty_like(like).fill_(1)
    place = numba_kernels.empty_like(like).data_ptr()  # freed immediately
    again = numba_kernels.empty_like(like[:900]).fill_(2)
    assert again.data_ptr() == place != kept.data_ptr()
    part = again.view(-1)[:10]  # a view keeps the memory
    del again
    assert numba_kernels.empty_like(like).data_ptr() != place
    assert kept.eq(1).all() and part.eq(2).all()


def test_not_all_memory_is_kept(monkeypatch):
    monkeypatch.setattr(numba_kernels, 'KEPT', 3 << 20)
    held = [numba_kernels.empty_like(torch.empty(i << 20, dtype=torch.uint8)) for i in (1, 3, 9)]
    del held
    numba_kernels.empty_like(torch.empty(30 << 20, dtype=torch.uint8))
    numba_kernels.empty_like(torch.empty(90 << 20, dtype=torch.uint8))
    free = [numba_kernels._blocks[i].nbytes for i in numba_kernels._free()]
    assert sum(free[:-1]) <= 3 << 20 and free[-1] == 90 << 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
@pytest.mark.parametrize('kind, tolerance', [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_a_gpu_has_the_results_and_gradients_of_the_cpu(kind, tolerance):
    torch.manual_seed(0)
    a, b, initial = torch.rand(2, 3000, 5), torch.randn(2, 3000, 5), torch.randn(2, 5)
    inputs = a.to(kind), b.to(kind), initial
    weights = torch.randn(2, 3000, 5)
    expected = with_gradients(lambda a, b, h: linear_recurrence(a, b, h, dim=1),
                              [x.double() for x in inputs], weights.double())
    for index in range(torch.cuda.device_count()):
        device = torch.device('cuda', index)
        found = with_gradients(lambda a, b, h: linear_recurrence(a, b, h, dim=1),
                               [x.to(device) for x in inputs], weights.to(device))
        for x, y in zip(found, expected):
            torch.testing.assert_close(x.double().cpu(), y, rtol=tolerance, atol=tolerance)
