"""What a training shows while it runs: a line of the terminal, and curves in TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
import time
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_RATES = 1.0


class ProgressError(ValueError):
    """Progress that cannot be shown; the message says what to do."""


class Progress:
    """
    Shows the loss, frames/s, the time left, and what else there is.

    :param first: The gradient step that comes first, after a training was resumed.
    :param frames: Frames in a gradient step, of all processes together.
    :param position: Line of the terminal; None for none.
    :param tensorboard: Folder of the curves; None for none.
    """

    def __init__(self, label: str, first: int, steps: int, frames: int, position: int | None,
                 tensorboard: Path | None) -> None:
        self._bar = tqdm(total=steps, initial=first, desc=label, position=position, unit='step',
                         disable=position is None)
        self._writer = open_writer(tensorboard / label, first) if tensorboard else None
        self._frames = frames
        self._rate = 0.0
        self._since = (time.perf_counter(), first)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def show(self, step: int, loss: float, figures: Mapping[str, Any]) -> None:
        """
        Show one gradient step.

        :param step: From 0 on.
        :param figures: By name, what else is shown; numbers have curves.
        """
        self._count(step + 1)
        self._bar.set_postfix({'loss': f'{loss:.5f}', 'frames/s': f'{self._rate:.0f}', **figures},
                              refresh=False)
        self._bar.update()
        if self._writer:
            for name, value in {'loss': loss, 'frames/s': self._rate, **figures}.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)

    def _count(self, done: int) -> None:
        """Find the frames per second now and then, over what came since the last time."""
        start, first = self._since
        now = time.perf_counter()
        if now - start >= SECONDS_BETWEEN_RATES or not self._rate:
            self._rate = (done - first) * self._frames / (now - start)
            self._since = now, done


def open_writer(folder: Path, first: int) -> Any:
    """
    Return what writes curves.

    :param first: Steps from here on are forgotten, should the folder have some.
    :raises ProgressError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ProgressError('--tensorboard: TensorBoard is not installed; '
                            "pip install 'stream_agent[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=first)
