"""A signal ends a process in time, even while it does something that cannot be interrupted."""

from contextlib import suppress
import os
import threading

# A node that is told to end has this long to come back to its loop [s].
PATIENCE = 1.0


class PromptEnd:
    """
    Ends the process, with exit code 0, if its loop does not come back after a signal.

    Configuring an agent can take seconds, in which nobody looks whether a signal has come. Until
    it is configured it commands nothing, and a gate that hears nothing stops the base.

    :param patience: From the signal on [s].
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        # Plain locks and a thread that is there before: a signal handler must not wait for what
        # the code that it interrupts may hold.
        self._asked, self._back = threading.Lock(), threading.Lock()
        self._asked.acquire()
        self._back.acquire()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self._asked.acquire()
        if not self._back.acquire(timeout=self._patience):
            os._exit(0)

    def asked(self) -> None:
        """Begin to wait for the loop; for a signal handler, and only the first call counts."""
        with suppress(RuntimeError):
            self._asked.release()

    def back(self) -> None:
        """Stop waiting: the loop has come back, and the node may take its time to stop."""
        with suppress(RuntimeError):
            self._back.release()
