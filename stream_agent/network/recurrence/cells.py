"""
What a node of a graph file may be as ``cell``: recurrences that are linear in what they carry.

Both ways to compute a cell are equal up to rounding: ``forward`` advances by one frame,
``over_time`` computes all frames by scans.

PLR18 is Martin, Cundy: Parallelizing linear recurrent neural nets over sequence length,
ICLR 2018 (arXiv 1709.04057).
"""

from abc import ABC, abstractmethod

from stream_agent.network.recurrence.scan import linear_recurrence
import torch
from torch import nn, Tensor

Shape = tuple[int, ...]
aten = torch.ops.aten


class GilrGates(torch.autograd.Function):
    """
    a = sigmoid(g) and b = (1 - a) tanh(i), for h' = a h + b.

    What autograd makes of the formula takes more time than the scan itself, most of it for
    gradients of halves that are put together again.
    """

    @staticmethod
    def forward(ctx, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b, (N, C, ...), of the total, (N, 2 C, ...): g, and after it i."""
        gate, impulse = total.chunk(2, dim=1)
        # Not 1 - a: what is let in is tiny where much is kept, and has to be exact.
        let_in = torch.neg(gate).sigmoid_()
        # On CPUs, torch's tanh takes six times as long as its sigmoid.
        impulse = (torch.tanh(impulse) if impulse.is_cuda
                   else (2 * impulse).sigmoid_().mul_(2).sub_(1))
        ctx.save_for_backward(let_in, impulse)
        return 1 - let_in, let_in * impulse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_a: Tensor, of_b: Tensor) -> Tensor:
        let_in, impulse = ctx.saved_tensors
        count, channels, *size = let_in.shape
        gradient = let_in.new_empty(count, 2 * channels, *size)
        gate, rest = gradient.chunk(2, dim=1)
        torch.addcmul(of_a, of_b, impulse, value=-1, out=gate)
        aten.sigmoid_backward.grad_input(gate, let_in, grad_input=gate)
        torch.mul(of_b, let_in, out=rest)
        aten.tanh_backward.grad_input(rest, impulse, grad_input=rest)
        return gradient


class Cell(nn.Module, ABC):
    """
    A recurrent node with C channels or features.

    A node's value is what others read, C channels, and after it what the cell carries besides:
    ``carried`` times C channels.

    :param shape: Of the node, (C,) or (C, H, W).
    """

    # What the incoming edges give, in multiples of the node's channels or features.
    inputs_per_feature: int
    carried = 0

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        """
        Advance by one frame, given the value at the frame before.

        :param total: Sum of the incoming edges, (B, inputs_per_feature C, ...).
        :param previous: (B, (1 + carried) C, ...), as the result.
        """

    @abstractmethod
    def over_time(self, totals: Tensor, initial: Tensor, time: int = 0) -> Tensor:
        """
        Compute all frames at once.

        :param totals: (T, B, inputs_per_feature C, ...), or (B, T, ...) for ``time`` 1.
        :param initial: The value before the first frame, (B, (1 + carried) C, ...).
        :returns: The values, with axes as those of ``totals``.
        """


class PlainCell(Cell):
    """A cell whose value is linear in itself: a h + b."""

    @abstractmethod
    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b of inputs with the channels on axis 1."""

    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        a, b = self.coefficients(total)
        return a * previous + b

    def over_time(self, totals: Tensor, initial: Tensor, time: int = 0) -> Tensor:
        a, b = self.coefficients(totals.flatten(0, 1))
        return scan(a, b, initial, totals, time)


class GilrCell(PlainCell):
    """
    Gated impulse linear recurrence (PLR18, section 3.2): h' = g h + (1 - g) tanh(i).

    The incoming edges give the pre-activations of gate and impulse.
    """

    inputs_per_feature = 2

    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        return GilrGates.apply(total)

    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        gate, impulse = total.chunk(2, dim=1)
        if previous.dtype != total.dtype:  # under autocast
            return super().forward(total, previous)
        # One operation less; and policies in the field answer by exactly this.
        return torch.lerp(torch.tanh(impulse), previous, torch.sigmoid(gate))


class MinGruCell(PlainCell):
    """
    Minimal gated recurrent unit (arXiv 2410.01201, section 3.1): h' = (1 - z) h + z i.

    The incoming edges give the pre-activation of z, and i as it is.
    """

    inputs_per_feature = 2

    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = total.chunk(2, dim=1)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * candidate


class Linear(PlainCell):
    """The bare recurrence h' = sigmoid(a) h + b; the incoming edges give a and b."""

    inputs_per_feature = 2

    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        gate, rest = total.chunk(2, dim=1)
        return torch.sigmoid(gate), rest


class GatedCell(Cell):
    """A cell that carries c' = f c + (1 - f) z, and whose output is read from c'."""

    carried = 1

    @abstractmethod
    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and (1 - f) z."""

    @abstractmethod
    def output(self, total: Tensor, state: Tensor) -> Tensor:
        """Return what others read, given c'."""

    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        a, b = self.coefficients(total)
        state = a * previous.chunk(2, dim=1)[1] + b
        return torch.cat([self.output(total, state), state], dim=1)

    def over_time(self, totals: Tensor, initial: Tensor, time: int = 0) -> Tensor:
        total = totals.flatten(0, 1)
        states = scan(*self.coefficients(total), initial.chunk(2, dim=1)[1], totals, time)
        outputs = self.output(total, states.flatten(0, 1)).view_as(states)
        return torch.cat([outputs, states], dim=2)


class SruCell(GatedCell):
    """
    Simple recurrent unit (arXiv 1709.02755): c' = f c + (1 - f) i, h = r c' + (1 - r) x.

    The incoming edges give i, the pre-activations of f and r, and the highway's x.
    """

    inputs_per_feature = 4

    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        value, gate, _, _ = total.chunk(4, dim=1)
        return torch.sigmoid(gate), torch.sigmoid(-gate) * value

    def output(self, total: Tensor, state: Tensor) -> Tensor:
        _, _, reset, highway = total.chunk(4, dim=1)
        return torch.sigmoid(reset) * state + torch.sigmoid(-reset) * highway


class QrnnCell(GatedCell):
    """
    Quasi-recurrent pooling (arXiv 1611.01576): c' = f c + (1 - f) tanh(z), h = sigmoid(o) c'.

    The incoming edges give z and the pre-activations of f and o, from this frame and, by edges
    that stream, from those before.
    """

    inputs_per_feature = 3

    def coefficients(self, total: Tensor) -> tuple[Tensor, Tensor]:
        value, gate, _ = total.chunk(3, dim=1)
        return torch.sigmoid(gate), torch.sigmoid(-gate) * torch.tanh(value)

    def output(self, total: Tensor, state: Tensor) -> Tensor:
        return torch.sigmoid(total.chunk(3, dim=1)[2]) * state


class GilrLstmCell(Cell):
    """
    An LSTM whose gates read a linear surrogate of its output (PLR18, section 3.3).

    s' = g s + (1 - g) tanh(j); c' = f c + i z and h = o c', where f, i, o (sigmoid) and z (tanh)
    are made of the incoming edges and of U s. The edges give g, j, f, i, o, z; the value is h,
    s, c. On feature maps U acts on every pixel alike.
    """

    inputs_per_feature = 6
    carried = 2

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        channels, *size = shape
        self.recurrent = (nn.Conv2d(channels, 4 * channels, 1, bias=False) if size
                          else nn.Linear(channels, 4 * channels, bias=False))
        self.surrogate = GilrCell()

    def _gates(self, total: Tensor, surrogate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return f, i z and o."""
        f, i, o, z = (total + self.recurrent(surrogate)).chunk(4, dim=1)
        return torch.sigmoid(f), torch.sigmoid(i) * torch.tanh(z), torch.sigmoid(o)

    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        _, surrogate, state = previous.chunk(3, dim=1)
        channels = surrogate.shape[1]
        of_surrogate, of_gates = total.split([2 * channels, 4 * channels], dim=1)
        f, impulse, o = self._gates(of_gates, surrogate)
        state = f * state + impulse
        return torch.cat([o * state, self.surrogate(of_surrogate, surrogate), state], dim=1)

    def over_time(self, totals: Tensor, initial: Tensor, time: int = 0) -> Tensor:
        _, surrogate, state = initial.chunk(3, dim=1)
        channels = surrogate.shape[1]
        of_surrogate, of_gates = totals.split([2 * channels, 4 * channels], dim=2)
        surrogates = self.surrogate.over_time(of_surrogate, surrogate, time)
        before = shifted(surrogates, surrogate, time)
        f, impulse, o = self._gates(of_gates.flatten(0, 1), before.flatten(0, 1))
        states = scan(f, impulse, state, totals, time)
        return torch.cat([o.view_as(states) * states, surrogates, states], dim=2)


def scan(a: Tensor, b: Tensor, initial: Tensor, totals: Tensor, time: int) -> Tensor:
    """Scan coefficients whose first two axes are those of ``totals``, flattened."""
    frames = totals.shape[:2]
    return linear_recurrence(a.unflatten(0, frames), b.unflatten(0, frames), initial, time)


def shifted(values: Tensor, initial: Tensor, time: int) -> Tensor:
    """Return the values of the frame before."""
    earlier = values.narrow(time, 0, values.shape[time] - 1)
    return torch.cat([initial.unsqueeze(time), earlier], dim=time)


CELLS: dict[str, type[Cell]] = {
    'gilr': GilrCell,
    'mingru': MinGruCell,
    'sru': SruCell,
    'qrnn': QrnnCell,
    'gilr_lstm': GilrLstmCell,
    'linear': Linear,
}
