"""
Recurrent layers on (B, T, features): all frames at once in training, one by one in use.

What a layer remembers goes in and comes out, as with a network. Both ways have the same
parameters, and results that are equal up to rounding.
"""

from typing import Any

from stream_agent.network.recurrence import cells
from stream_agent.network.recurrence.cells import Cell, shifted
import torch
from torch import nn, Tensor


class Layer(nn.Module):
    """
    A cell, and the weights that make its input from n_x features.

    :param inputs: n_x.
    :param features: C, what the layer gives.
    :param maps: Multiples of C that the weights give; as the cell takes if left out.
    """

    kind: type[Cell]
    weights: nn.Linear | nn.Conv1d

    def __init__(self, inputs: int, features: int, maps: int | None = None) -> None:
        super().__init__()
        self.inputs, self.features, self.cell = inputs, features, self.kind((features,))
        self.weights = nn.Linear(inputs, (maps or self.cell.inputs_per_feature) * features)

    def initial_state(self, batch_size: int = 1) -> Any:
        """Return what the layer remembers before the first frame: zeros."""
        return self.weights.weight.new_zeros(batch_size, (1 + self.cell.carried) * self.features)

    def output_of(self, state: Any) -> Tensor:
        """Return what the layer gave last, (B, C)."""
        return state[:, :self.features]

    def _totals(self, x: Tensor) -> Tensor:
        """Return the cell's input, (..., inputs_per_feature C)."""
        return self.weights(x)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """
        Compute all frames at once.

        :param x: (B, T, n_x), T at least 1.
        :param state: What the layer remembers of earlier frames; None for nothing.
        :returns: (B, T, C), and what the layer remembers after the last frame.
        """
        state = self.initial_state(len(x)) if state is None else state
        values = self.cell.over_time(self._totals(x), state, time=1)
        return values[..., :self.features], values[:, -1]

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """
        Advance by one frame.

        :param x: (B, n_x).
        :returns: (B, C), and what the layer remembers.
        """
        state = self.cell(self._totals(x), self.initial_state(len(x)) if state is None else state)
        return self.output_of(state), state


class Gilr(Layer):
    """Gated impulse linear recurrence, see the cell."""

    kind = cells.GilrCell


class MinGru(Layer):
    """Minimal gated recurrent unit, see the cell."""

    kind = cells.MinGruCell


class GilrLstm(Layer):
    """LSTM on a linear surrogate, see the cell: 2 C (n_x + 1) parameters more than an LSTM."""

    kind = cells.GilrLstmCell


class Sru(Layer):
    """
    Simple recurrent unit, see the cell.

    The highway is the input itself where it has C features, and a dense map of it elsewhere.
    """

    kind = cells.SruCell

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__(inputs, features, 3 if inputs == features else 4)

    def _totals(self, x: Tensor) -> Tensor:
        totals = self.weights(x)
        return torch.cat([totals, x], dim=-1) if self.inputs == self.features else totals


class Qrnn(Layer):
    """
    Quasi-recurrent layer, see the cell.

    It remembers its value, (B, 2 C), and the last k - 1 inputs, (B, k - 1, n_x).

    :param reach: k, the inputs that a frame is made of, its own included.
    """

    kind = cells.QrnnCell

    def __init__(self, inputs: int, features: int, reach: int) -> None:
        super().__init__(inputs, features)
        if reach < 1:
            raise ValueError(f'reach: {reach} inputs; the own one is the first, so 1 is the least')
        self.reach = reach
        self.weights = nn.Conv1d(inputs, 3 * features, reach)

    def initial_state(self, batch_size: int = 1) -> tuple[Tensor, Tensor]:
        return (super().initial_state(batch_size),
                self.weights.weight.new_zeros(batch_size, self.reach - 1, self.inputs))

    def output_of(self, state: tuple[Tensor, Tensor]) -> Tensor:
        return super().output_of(state[0])

    def _totals(self, x: Tensor) -> Tensor:
        return self.weights(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        value, earlier = self.initial_state(len(x)) if state is None else state
        known = torch.cat([earlier, x], dim=1)
        output, value = super().forward(known, value)
        return output, (value, known[:, x.shape[1]:])

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = self.forward(x.unsqueeze(1), state)
        return output.squeeze(1), state


class LinearSurrogate(nn.Module):
    """
    The frame of all linear surrogate networks (PLR18, section 3.1): s_t = f(s~_{t-1}, x_t).

    :param surrogate: A layer that gives s~ of x, for all frames at once.
    :param f: Takes s~ of the frame before, (B, T, C), and x, (B, T, n_x), or both without T;
        gives s of every frame on its own.
    """

    def __init__(self, surrogate: Layer, f: nn.Module) -> None:
        super().__init__()
        self.surrogate, self.f = surrogate, f

    def initial_state(self, batch_size: int = 1) -> Any:
        """Return what the surrogate remembers before the first frame."""
        return self.surrogate.initial_state(batch_size)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Compute all frames at once, as ``Layer.forward``; the state is the surrogate's."""
        state = self.initial_state(len(x)) if state is None else state
        values, after = self.surrogate(x, state)
        return self.f(shifted(values, self.surrogate.output_of(state), time=1), x), after

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Advance by one frame, as ``Layer.step``."""
        state = self.initial_state(len(x)) if state is None else state
        return self.f(self.surrogate.output_of(state), x), self.surrogate.step(x, state)[1]


class Stack(nn.ModuleList):
    """Layers, each on what the one before gives; the state is the list of theirs."""

    def initial_state(self, batch_size: int = 1) -> list[Any]:
        """Return what the layers remember before the first frame."""
        return [getattr(layer, 'initial_state')(batch_size) for layer in self]

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, list[Any]]:
        """Compute all frames at once, as ``Layer.forward``."""
        return self._through('forward', x, state)

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, list[Any]]:
        """Advance by one frame, as ``Layer.step``."""
        return self._through('step', x, state)

    def _through(self, way: str, x: Tensor, state: Any) -> tuple[Tensor, list[Any]]:
        after = []
        for layer, before in zip(self, state or [None] * len(self)):
            x, remembered = getattr(layer, way)(x, before)
            after.append(remembered)
        return x, after
