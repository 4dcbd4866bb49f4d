"""What a running training shows (a terminal line, curves in TensorBoard), and what stops it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
import multiprocessing
from multiprocessing.synchronize import Event
from pathlib import Path
import signal
import sys
import threading
import time
from typing import Any

from stream_agent.learning import distributed
from tqdm import tqdm

SECONDS_BETWEEN_RATES = 1.0
# Where there is no terminal, such as in the log of a service.
SECONDS_BETWEEN_LINES = 30.0


class ProgressError(ValueError):
    """Progress that cannot be shown; the message says what to do."""


def curve_writer() -> Any:
    """
    Return TensorBoard's class that writes curves.

    :raises ProgressError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ProgressError('--tensorboard: TensorBoard is not installed; '
                            "pip install 'stream_agent[tensorboard]'") from None
    return SummaryWriter


class Progress(AbstractContextManager):
    """
    Shows the loss, frames/s, the time left, and a learner's figures.

    A terminal has a bar; any other output of errors gets a line now and then, and at the end.

    :param first: The first gradient step, where a training was resumed; earlier curves of it are
        cut off there.
    :param frames: Frames in a gradient step, of all processes together.
    :param position: Line of the terminal; None for none.
    :param tensorboard: Folder of the curves; None for none.
    :raises ProgressError: If TensorBoard is not installed.
    """

    def __init__(self, label: str, first: int, steps: int, frames: int, position: int | None,
                 tensorboard: Path | None) -> None:
        self._bar = tqdm(total=steps, initial=first, desc=label, position=position, unit='step',
                         disable=None if position is not None else True)
        self._in_lines = position is not None and self._bar.disable
        self._label, self._first, self._steps = label, first, steps
        self._begun = self._told = time.perf_counter()
        self._writer = None
        if tensorboard:
            self._writer = curve_writer()(str(tensorboard / label), purge_step=first)
        self._frames = frames
        self._rate = 0.0
        self._since = (time.perf_counter(), first)

    def __exit__(self, *_) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def show(self, step: int, loss: float, figures: Mapping[str, Any]) -> None:
        """
        Show one gradient step.

        :param step: From 0 on.
        :param figures: What else is shown, by name; numbers have curves.
        """
        start, first = self._since
        now = time.perf_counter()
        if now - start >= SECONDS_BETWEEN_RATES or not self._rate:
            self._rate = (step + 1 - first) * self._frames / (now - start)
            self._since = now, step + 1
        if self._in_lines and (now - self._told >= SECONDS_BETWEEN_LINES
                               or step + 1 == self._steps):
            self._told = now
            self._print_line(step + 1, now, {'loss': f'{loss:.5f}', **figures})
        self._bar.set_postfix({'loss': f'{loss:.5f}', 'frames/s': f'{self._rate:.0f}', **figures},
                              refresh=False)
        self._bar.update()
        if self._writer:
            for name, value in {'loss': loss, 'frames/s': self._rate, **figures}.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)

    def _print_line(self, done: int, now: float, figures: Mapping[str, Any]) -> None:
        left = (now - self._begun) / (done - self._first) * (self._steps - done)
        shown = ', '.join(f'{name} {value}' for name, value in figures.items())
        print(f'{self._label}: step {done} of {self._steps}, {shown}, {self._rate:.0f} frames/s, '
              f'{left:.0f} s left', file=sys.stderr, flush=True)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One Ctrl-C may arrive twice: from the terminal and from the process that started this one.
SAME_REQUEST = 1.0

_told: Event | None = None


def listen_to(event: Event) -> None:
    """Stop when the process that started this worker says so, not by signals."""
    global _told
    _told = event
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopRequests:
    """
    What asks a training to stop while it runs: Ctrl-C, SIGTERM, or the process that started it.

    A second Ctrl-C ends a process immediately if it is alone; others would wait for it.
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> 'StopRequests':
        if _told is None and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        now = time.monotonic()
        if (self._asked is not None and distributed.world_size() == 1
                and now > self._asked + SAME_REQUEST):
            raise KeyboardInterrupt
        self._asked = self._asked or now

    @property
    def requested(self) -> bool:
        """Whether to stop now."""
        if self._asked is not None:
            return True
        if _told is None:
            return False
        parent = multiprocessing.parent_process()
        return _told.is_set() or (parent is not None and not parent.is_alive())
