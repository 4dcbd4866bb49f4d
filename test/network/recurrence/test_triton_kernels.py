"""
The kernels for a GPU against the loop in torch's operations.

They run on a GPU, or on the CPU with TRITON_INTERPRET=1, where programs run one after the other
so that no program waits for another one.
"""

import os

import pytest
from stream_agent.network.recurrence import chunked, triton_kernels
import torch

pytest.importorskip('triton', reason='Triton is not installed')
if not (torch.cuda.is_available() or os.environ.get('TRITON_INTERPRET') == '1'):
    pytest.skip('no GPU, and TRITON_INTERPRET is not 1', allow_module_level=True)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
WAYS = [(how, kind) for how in ('serial', 'two passes', 'look back') for kind in TOLERANCE
        if (how, kind) != ('look back', torch.float64)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(triton_kernels, 'TILE', 64)
    monkeypatch.setattr(triton_kernels, 'WINDOW', 4)


def draw(shape, kind, least=-1.0):
    """Return a, b, h_0 and dL/dh, rounded to a type and as float64."""
    torch.manual_seed(0)
    a = torch.rand(shape, device=DEVICE) * (1 - least) + least
    a[:, 3] = 0
    b, grad = torch.randn(2, *shape, device=DEVICE)
    initial = torch.randn(shape[0], shape[2], device=DEVICE)
    state = torch.float64 if kind == torch.float64 else torch.float32
    a, b, grad, initial = a.to(kind), b.to(kind), grad.to(kind), initial.to(state)
    return (a, b, initial, grad), tuple(x.double() for x in (a, b, initial, grad))


@pytest.mark.parametrize(('how', 'kind'), WAYS)
@pytest.mark.parametrize('shape', [(1, 70, 3), (2, 5, 7), (1, 90, 1), (2, 9, 35)])
def test_every_way_is_equal(shape, how, kind):
    (a, b, initial, grad), exact = draw(shape, kind)
    h = triton_kernels.forward(a, b, initial, how)
    found = (h, *triton_kernels.backward(a, h, initial, grad, how))
    expected = (chunked.forward(*exact[:3]),
                *chunked.backward(exact[0], h.double(), exact[2], exact[3]))
    for x, y in zip(found, expected):
        torch.testing.assert_close(x.double(), y, rtol=TOLERANCE[kind], atol=TOLERANCE[kind])
    assert [x.dtype for x in found] == [kind, kind, kind, initial.dtype]


@pytest.mark.parametrize('published', [2, 5, 100])
def test_a_chunk_looks_back_over_several_windows(published):
    """Only some chunks publish their last state, as if the others were still at it."""
    (a, b, initial, _), exact = draw((2, 500, 3), torch.float32, least=0.9)
    a[:, 3] = 0.9
    exact[0][:, 3] = a[0, 3, 0].double()
    h = torch.empty_like(a)
    triton_kernels.launch(a, b, initial, None, None, h, None, 'look back', published)
    torch.testing.assert_close(h.double(), chunked.forward(*exact[:3]), rtol=1e-4, atol=1e-4)


def test_the_way_follows_from_the_shape():
    assert triton_kernels.way(1, 65536, 4) == 'chunked'
    assert triton_kernels.way(1, 32, 4) == 'serial'
    assert triton_kernels.way(64, 16384, 256) == 'chunked'
    assert triton_kernels.way(1, 65536, 1 << 17) == 'serial'


def test_a_way_that_there_is_not():
    (a, b, initial, _), _ = draw((1, 5, 2), torch.float64)
    with pytest.raises(ValueError) as error:
        triton_kernels.forward(a, b, initial, 'look back')
    assert str(error.value) == ("how: 'look back' for torch.float64; choices are serial, two "
                                'passes, and, but for float64, look back')
