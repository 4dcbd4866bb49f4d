"""The stack on which the handlers of signals run."""

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes


class SignalStack(ctypes.Structure):
    """``stack_t`` of <signal.h>."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


def signal_stack() -> SignalStack | None:
    """Return the alternative stack of this thread; None where the system has no such thing."""
    exchange = getattr(ctypes.CDLL(None), 'sigaltstack', None)
    stack = SignalStack()
    return stack if exchange and exchange(None, ctypes.byref(stack)) == 0 else None


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """
    Undo what is done to this thread's alternative stack.

    OpenVINO's CPU plugin sets one that is too small for Python's handlers, and that is gone with
    the plugin: the next Ctrl-C would end the process by a segmentation fault.
    """
    stack = signal_stack()
    try:
        yield
    finally:
        if stack:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)
