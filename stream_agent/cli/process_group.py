"""Several processes as one job: started together, stopped by SIGINT, crashes told by name."""

from collections import deque
from collections.abc import Iterable
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
LAST_LINES = 12
WAKE_UP_PERIOD = 0.1


def end_with_parent() -> None:
    """Ask Linux, in a new process, for SIGINT when the process that started it is gone."""
    # A shell that starts a job in the background lets it, and so its children, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == 'linux':
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


class Process:
    """
    A process and what it says.

    :param name: For people.
    :param prefix: Precedes every line that is passed on.
    """

    def __init__(self, name: str, command: list[str], prefix: str) -> None:
        self.name = name
        self.lines = deque(maxlen=LAST_LINES)
        self._prefix = prefix
        self._rest = b''
        # In a session of its own, so that Ctrl-C reaches it only from here, in the right order.
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'}, start_new_session=True,
            preexec_fn=end_with_parent)
        os.set_blocking(self.popen.stdout.fileno(), False)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def pass_on(self) -> bool:
        """Print what there is to read, line by line; false at the end of the output."""
        while True:
            try:
                data = os.read(self.popen.stdout.fileno(), 65536)
            except BlockingIOError:
                return True
            *lines, self._rest = (self._rest + data).split(b'\n')
            if not data and self._rest:
                lines, self._rest = [self._rest], b''
            for line in lines:
                self.lines.append(line.decode(errors='replace').rstrip())
                print(self._prefix + self.lines[-1], flush=True)
            if not data:
                return False

    def kill(self) -> None:
        """End it and all that it has started."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    @property
    def failure(self) -> str | None:
        """Return a sentence with the last lines if it crashed."""
        code = self.popen.poll()
        if code in (None, 0):
            return None
        reason = f' ({signal.Signals(-code).name})' if code < 0 else ''
        last = ''.join(f'\n    {line}' for line in self.lines)
        return (f'{self.name} crashed with exit code {code}{reason}; '
                + (f'its last lines:{last}' if last else 'it had said nothing'))


class ProcessGroup:
    """
    The processes of a job; for one thread.

    ``failures`` has a sentence for each that crashed, ended early, or would not be stopped.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._processes: dict[str, Process] = {}
        self._selector = selectors.DefaultSelector()
        self._leaving = False

    def start(self, name: str, command: list[str], prefix: str = '') -> None:
        """Start a process, unless the job is about to end."""
        if self._leaving:
            return
        self._processes[name] = process = Process(name, command, prefix)
        self._selector.register(process.popen.stdout, selectors.EVENT_READ, process)

    def leave(self) -> None:
        """End ``wait`` soon; may be called by a signal handler."""
        self._leaving = True

    def wait(self, until: str) -> None:
        """
        Pass on what the processes say until one of them ends, or until ``leave``.

        :param until: Name of the process whose end is no failure.
        """
        while not self._leaving:
            self._pass_on()
            for process in list(self._processes.values()):
                if not process.running:
                    self._forget(process)
                    if process.failure or process.name != until:
                        self.failures.append(process.failure or f'{process.name} ended too early')
                    self.leave()

    def stop(self, names: Iterable[str], timeout: float) -> None:
        """
        Stop processes with SIGINT, and those that do not obey with SIGKILL.

        :param timeout: Time that they have to leave [s].
        """
        asked = [self._processes[name] for name in names if name in self._processes]
        # Twice, since an interpreter that is just starting may swallow the first.
        for _ in range(2):
            for process in asked:
                process.popen.send_signal(signal.SIGINT)
            end = time.monotonic() + timeout / 2
            while time.monotonic() < end and any(process.running for process in asked):
                self._pass_on()
        for process in asked:
            if process.running:
                process.kill()
                self.failures.append(
                    f'{process.name} did not end within {timeout:g} s of SIGINT; killed')
                self._forget(process)
                continue
            self._forget(process)
            # One that is just starting may not handle SIGINT yet.
            if process.failure and process.popen.returncode != -signal.SIGINT:
                self.failures.append(process.failure)

    def _pass_on(self) -> None:
        for key, _ in self._selector.select(WAKE_UP_PERIOD):
            if not key.data.pass_on():
                self._selector.unregister(key.fileobj)

    def _forget(self, process: Process) -> None:
        """Pass on what a process that has ended left to read, and close it."""
        process.pass_on()
        if process.popen.stdout in self._selector.get_map():
            self._selector.unregister(process.popen.stdout)
        process.popen.stdout.close()
        del self._processes[process.name]
