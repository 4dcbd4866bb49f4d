"""
The linear recurrence h_t = a_t h_{t-1} + b_t over all frames at once.

PLR18 is Martin, Cundy: Parallelizing linear recurrent neural nets over sequence length,
ICLR 2018 (arXiv 1709.04057).
"""

from functools import cache
from importlib import import_module
from math import prod
from types import ModuleType

import torch
from torch import Tensor

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def linear_recurrence(a: Tensor, b: Tensor, initial: Tensor | None = None, dim: int = 1
                      ) -> Tensor:
    """
    Compute h_t = a_t h_{t-1} + b_t elementwise for t = 1 ... T.

    All frames are computed at once, by the kernel that ``kernel_for`` names. Gradients reach a,
    b and the initial value; second derivatives are not implemented, and asking for them raises
    RuntimeError. The state is float32 for bfloat16 and float16, the result is of their type.

    :param a: Factors, with T frames along ``dim``.
    :param b: What is added, of the same shape and type.
    :param initial: h_0, the shape of a without the axis ``dim``; None for zeros.
    :param dim: The axis of time.
    :returns: h_1 ... h_T, the shape and type of a, contiguous.
    :raises ValueError: If shapes or types do not fit together.
    """
    check(a, b, dim)
    dim %= a.ndim
    wanted = [*a.shape[:dim], *a.shape[dim + 1:]]
    if initial is None:
        initial = a.new_zeros(wanted)
    if list(initial.shape) != wanted:
        raise ValueError(f'initial: the shape is {list(initial.shape)}, but that of a without '
                         f'the axis of time, {dim}, is {wanted}')
    if initial.device != a.device:
        raise ValueError(f'initial: the device is {initial.device}, but of a it is {a.device}; '
                         'make them equal')
    return Scan.apply(a, b, initial, dim)


def check(a: Tensor, b: Tensor, dim: int) -> None:
    """Refuse factors and terms that cannot be scanned."""
    if not -a.ndim <= dim < a.ndim:
        raise ValueError(f'dim: {dim} is not an axis of a, {list(a.shape)}')
    if a.dtype not in TYPES:
        raise ValueError(f'a: the type {a.dtype} cannot be scanned; '
                         f'types are {", ".join(map(str, TYPES))}')
    for what, of_a, of_b in (('the shape', list(a.shape), list(b.shape)),
                             ('the type', a.dtype, b.dtype), ('the device', a.device, b.device)):
        if of_a != of_b:
            raise ValueError(f'b: {what} is {of_b}, but of a it is {of_a}; make them equal')


def kernel_for(device: torch.device | str, shape: tuple[int, ...] = (1, 1, 1), dim: int = 1
               ) -> str:
    """
    Return the name of the kernel that scans tensors of a shape.

    :returns: 'numba': serial over time on the CPU. 'triton serial' and 'triton chunked': serial
        and parallel over time on a GPU. 'torch': chunks of sqrt(T) frames in torch's operations,
        where numba or triton is not installed, and on other devices.
    """
    kind = torch.device(device).type
    if kind == 'cpu' and _installed('numba'):
        return 'numba'
    if kind == 'cuda' and _installed('triton'):
        from stream_agent.network.recurrence import triton_kernels
        return f'triton {triton_kernels.way(*as_three_axes(shape, dim))}'
    return 'torch'


@cache
def _installed(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:  # it may be there, and not fit the NumPy that is there
        return False
    return True


def _kernels(device: torch.device) -> ModuleType:
    """Return the module with the forward and the backward scan for a device."""
    name = {'numba': 'numba_kernels', 'triton': 'triton_kernels', 'torch': 'chunked'}[
        kernel_for(device).split()[0]]
    return import_module(f'stream_agent.network.recurrence.{name}')


def as_three_axes(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """Return (outer, T, inner): what lies before and after the axis of time becomes one axis."""
    dim %= len(shape)
    return prod(shape[:dim]), shape[dim], prod(shape[dim + 1:])


class Scan(torch.autograd.Function):
    """The recurrence and its gradients (PLR18, section 2.3)."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, initial: Tensor, dim: int) -> Tensor:
        given, kernels = a, _kernels(a.device)
        state = torch.float64 if a.dtype == torch.float64 else torch.float32
        kind = a.dtype if a.dtype in kernels.TYPES else state
        axes = outer, _, inner = as_three_axes(a.shape, dim)
        a, b = (x.detach().to(kind).contiguous().view(axes) for x in (a, b))
        start = initial.detach().to(state).contiguous().view(outer, inner)
        h = kernels.forward(a, b, start) if a.numel() else torch.empty_like(a)
        ctx.save_for_backward(a, h, start)
        ctx.initial = initial.dtype, initial.shape
        return h.view(given.shape).to(given.dtype)

    @staticmethod
    def backward(ctx, given: Tensor):
        # torch's once_differentiable would take them for zero where dL/dh is a constant.
        if torch.is_grad_enabled():
            raise RuntimeError('linear_recurrence has no second derivatives; leave out '
                               'create_graph=True')
        a, h, start = ctx.saved_tensors
        grad = given.to(a.dtype).contiguous().view(a.shape)
        if a.numel():
            da, db, first = _kernels(a.device).backward(a, h, start, grad)
        else:
            da, db, first = torch.empty_like(a), torch.empty_like(a), torch.zeros_like(start)
        kind, shape = ctx.initial
        return (*(x.view(given.shape).to(given.dtype) for x in (da, db)),
                first.view(shape).to(kind), None)
