"""Layers: the published formulas, all frames at once against one by one, parameter counts."""

import pytest
from stream_agent.network.recurrence.layers import (
    Gilr, GilrLstm, LinearSurrogate, MinGru, Qrnn, Sru, Stack)
import torch
from torch import nn

INPUTS, FEATURES = 4, 3


class Concatenated(nn.Module):
    """An f of the frame of linear surrogates: a dense map of s~ and x."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(FEATURES + INPUTS, 2)

    def forward(self, surrogate, x):
        return torch.tanh(self.map(torch.cat([surrogate, x], dim=-1)))


LAYERS = {
    'gilr': lambda: Gilr(INPUTS, FEATURES),
    'mingru': lambda: MinGru(INPUTS, FEATURES),
    'sru': lambda: Sru(INPUTS, INPUTS),
    'sru, other size': lambda: Sru(INPUTS, FEATURES),
    'qrnn 1': lambda: Qrnn(INPUTS, FEATURES, 1),
    'qrnn 3': lambda: Qrnn(INPUTS, FEATURES, 3),
    'gilr_lstm': lambda: GilrLstm(INPUTS, FEATURES),
    'frame': lambda: LinearSurrogate(Gilr(INPUTS, FEATURES), Concatenated()),
    'stack': lambda: Stack([GilrLstm(INPUTS, FEATURES), Qrnn(FEATURES, 2, 2)]),
}


def made(name):
    torch.manual_seed(1)
    return LAYERS[name]().double()


def frames(length, batch=2):
    torch.manual_seed(2)
    return torch.randn(batch, length, INPUTS, dtype=torch.float64)


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def stepped(layer, x):
    """Compute frame by frame."""
    outputs, state = [], None
    for frame in x.unbind(1):
        output, state = layer.step(frame, state)
        outputs.append(output)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize('name', LAYERS)
def test_both_ways_are_equal_with_gradients(name):
    layer, x = made(name), frames(17)
    gradients = []
    for output, state in (layer(x), stepped(layer, x)):
        gradients.append((output, state, *torch.autograd.grad(
            (output ** 2).sum(), list(layer.parameters()))))
    assert_equal(*gradients)


@pytest.mark.parametrize('name', LAYERS)
def test_a_layer_goes_on_from_its_state(name):
    layer, x = made(name), frames(9)
    first, state = layer(x[:, :2])
    second, last = layer(x[:, 2:], state)
    assert_equal((torch.cat([first, second], 1), last), layer(x))


def test_sru_is_the_published_one():
    """Theory, section 6; the highway is x itself."""
    layer, (x,) = made('sru'), frames(1, batch=1)
    c = torch.randn(1, INPUTS, dtype=torch.float64)
    value, f, r = (x @ layer.weights.weight.T + layer.weights.bias).chunk(3, dim=-1)
    now = f.sigmoid() * c + (1 - f.sigmoid()) * value
    output, state = layer.step(x, torch.cat([c * 0, c], dim=1))
    assert_equal(output, r.sigmoid() * now + (1 - r.sigmoid()) * x)
    assert_equal(state[:, INPUTS:], now)


def test_qrnn_is_the_published_one():
    """Theory, section 6, k = 3; inputs before the first one are zeros."""
    layer, (x,) = made('qrnn 3'), frames(6, batch=1)
    padded = torch.cat([x[:2] * 0, x])
    c = torch.zeros(FEATURES, dtype=torch.float64)
    for t, output in enumerate(layer(x[None])[0][0]):
        # (3 C,): the kernel's last place is the newest input.
        total = layer.weights.bias + torch.einsum('oik,ki->o', layer.weights.weight,
                                                  padded[t:t + 3])
        z, f, o = total.chunk(3)
        c = f.sigmoid() * c + (1 - f.sigmoid()) * z.tanh()
        assert_equal(output, o.sigmoid() * c)


def test_gilr_lstm_is_the_published_one():
    """Theory, section 6; no tanh on c."""
    layer, (x,) = made('gilr_lstm'), frames(6, batch=1)
    surrogate = c = torch.zeros(FEATURES, dtype=torch.float64)
    for frame, output in zip(x, layer(x[None])[0][0]):
        total = layer.weights.weight @ frame + layer.weights.bias
        g, j = total[:2 * FEATURES].chunk(2)
        f, i, o, z = (total[2 * FEATURES:]
                      + layer.cell.recurrent.weight @ surrogate).chunk(4)
        surrogate = g.sigmoid() * surrogate + (1 - g.sigmoid()) * j.tanh()
        c = f.sigmoid() * c + i.sigmoid() * z.tanh()
        assert_equal(output, o.sigmoid() * c)


def test_the_frame_reads_the_surrogate_of_the_frame_before():
    layer, x = made('frame'), frames(5)
    surrogates, _ = layer.surrogate(x)
    assert_equal(layer(x)[0][:, 1:], layer.f(surrogates[:, :-1], x[:, 1:]))
    assert_equal(layer(x)[0][:, 0], layer.f(surrogates[:, 0] * 0, x[:, 0]))


@pytest.mark.parametrize(('inputs', 'features'), [(4, 3), (128, 512)])
def test_gilr_lstm_has_2n_m_plus_1_parameters_more_than_an_lstm(inputs, features):
    """Theory, section 6; torch's LSTM has its bias twice."""
    def count(module):
        return sum(weights.numel() for weights in module.parameters())
    lstm = count(nn.LSTM(inputs, features)) - 4 * features
    assert count(GilrLstm(inputs, features)) == lstm + 2 * features * (inputs + 1)


def test_a_qrnn_that_reads_nothing():
    with pytest.raises(ValueError) as error:
        Qrnn(4, 3, 0)
    assert str(error.value) == 'reach: 0 inputs; the own one is the first, so 1 is the least'
