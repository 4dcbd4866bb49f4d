"""Cells of graph files: all frames at once against one by one."""

from hypothesis import given, strategies as st
import pytest
from stream_agent.network.recurrence import CELLS
from support.strategies import examples
import torch


def draw_for(name, shape, frames, batch, time=0):
    """Return a cell, its inputs, its first value, and weights of its values."""
    torch.manual_seed(len(shape) + frames)
    cell = CELLS[name](shape).double()
    first = (frames, batch) if time == 0 else (batch, frames)

    def draw(*size):
        return torch.randn(*size, *shape[1:], dtype=torch.float64, requires_grad=True)

    values = (1 + cell.carried) * shape[0]
    return (cell, draw(*first, cell.inputs_per_feature * shape[0]), draw(batch, values),
            draw(*first, values).detach())


def stepped(cell, totals, initial, time):
    """Compute frame by frame."""
    values = [initial]
    for total in totals.unbind(time):
        values.append(cell(total, values[-1]))
    return torch.stack(values[1:], time)


@pytest.mark.parametrize('name', CELLS)
@examples(12)
@given(shape=st.sampled_from(((1,), (3,), (2, 3, 2))), frames=st.integers(1, 30),
       batch=st.integers(1, 3), time=st.integers(0, 1))
def test_both_ways_are_equal_with_gradients(name, shape, frames, batch, time):
    cell, totals, initial, weights = draw_for(name, shape, frames, batch, time)
    inputs = [totals, initial, *cell.parameters()]
    found, expected = (
        (values, *torch.autograd.grad((values * weights).sum(), inputs, materialize_grads=True))
        for values in (cell.over_time(totals, initial, time),
                       stepped(cell, totals, initial, time)))
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_gilr_answers_by_exactly_what_it_always_did():
    """So that policies in the field do."""
    cell, totals, initial, _ = draw_for('gilr', (3, 4, 4), 1, 2)
    gate, impulse = totals[0].chunk(2, dim=1)
    assert torch.equal(cell(totals[0], initial),
                       torch.lerp(torch.tanh(impulse), initial, torch.sigmoid(gate)))


@pytest.mark.parametrize(('name', 'formula'), [
    ('gilr', lambda h, g, i: g.sigmoid() * h + (1 - g.sigmoid()) * i.tanh()),
    ('mingru', lambda h, z, i: (1 - z.sigmoid()) * h + z.sigmoid() * i),
    ('linear', lambda h, a, b: a.sigmoid() * h + b),
])
def test_formulas(name, formula):
    """Those with more to carry: see the layers."""
    cell, totals, initial, _ = draw_for(name, (3,), 1, 2)
    torch.testing.assert_close(cell(totals[0], initial),
                               formula(initial, *totals[0].chunk(2, dim=1)))


@pytest.mark.parametrize('name', CELLS)
def test_sums_may_be_smaller_than_the_state(name):
    """As in training with bfloat16."""
    cell, totals, initial, _ = draw_for(name, (3,), 4, 2)
    with torch.autocast('cpu', torch.bfloat16):
        values = cell.float().over_time(totals.bfloat16(), initial.float())
        first = cell(totals[0].bfloat16(), initial.float())
    torch.testing.assert_close(values[0].double(), first.double(), rtol=3e-2, atol=3e-2)
