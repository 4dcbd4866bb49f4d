"""Requests to stop a training: they are noted, and it ends between two gradient steps."""

import multiprocessing
from multiprocessing.synchronize import Event
import signal
import threading
import time

from stream_agent.learning import sharing

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One Ctrl-C may come twice, from the terminal and from what started this process.
SAME_REQUEST = 1.0

_told: Event | None = None


def listen_to(event: Event) -> None:
    """Be a worker: stop when the process that started this one says so, and not by signals."""
    global _told
    _told = event
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class StopRequests:
    """
    What asks a training to stop while it runs: Ctrl-C, SIGTERM, or the process that started it.

    A second Ctrl-C ends a process at once, if it is the only one: several would wait for it.
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> 'StopRequests':
        if _told is None and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        now = time.monotonic()
        if self._asked is not None and sharing.ranks() == 1 and now > self._asked + SAME_REQUEST:
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
