"""Several processes as one job: started together, stopped by a signal, crashes told by name."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
import ctypes
from functools import partial
import json
import math
import os
from pathlib import Path
import selectors
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
LAST_LINES = 12
WAKE_UP_PERIOD = 0.1
# Time that a process has to leave [s].
STOP_TIMEOUT = 5.0
# The recorder's report may take as long as it likes, but not without doing anything [s].
REPORT_TIMEOUT = 30.0
# Between the signal to those that drive and that to the recorder, if time is short [s].
HEAD_START = 0.3
# After it was asked to leave, what has not ended by then is killed [s]; in 3 s all is over.
LEAVE_TIME = 2.2


def end_with_parent(number: int) -> None:
    """Ask Linux for a signal to this process when the one that started it is gone."""
    if sys.platform == 'linux':
        LIBC.prctl(PR_SET_PDEATHSIG, number)


def begin(parent: int, number: int) -> None:
    """Prepare a new process, that ends with its parent."""
    # A shell that starts a job in the background lets it, and so its children, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(number)
    if os.getppid() != parent:
        os._exit(0)


def in_yaml(value: object) -> str:
    """Write the value of a parameter for ROS, such that text stays text: YAML reads JSON."""
    return json.dumps(str(value) if isinstance(value, Path) else value)


def node_command(executable: str, name: str, parameters: Mapping[str, object],
                 files: Iterable[Path], remappings: Iterable[str] = ()) -> list[str]:
    """
    Return the command of a process with one of our ROS nodes.

    :param parameters: What overrides the files.
    """
    return [sys.executable, '-m', 'stream_agent', executable, '--ros-args',
            '-r', f'__node:={name}', *remappings,
            *[word for file in files for word in ('--params-file', str(file))],
            # With the name, or sections of files that have it are stronger.
            *[word for key, value in parameters.items()
              for word in ('-p', f'{name}:{key}:={in_yaml(value)}')]]


class Process:
    """
    A process and what it says.

    :param name: For people.
    :param prefix: Precedes every line that is passed on; if None, none is.
    :param hear: Called with every line.
    :param show: Called with every line that is passed on.
    :param environment: Its environment variables; those of this process if None.
    :param number: The signal that stops it. SIGTERM ends an interpreter that is just starting,
        which may swallow SIGINT; but ``ros2 launch`` would leave its processes behind.
    """

    def __init__(self, name: str, command: list[str], prefix: str | None,
                 hear: Callable[[str], object], show: Callable[[str], object], number: int,
                 environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.number = number
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self._prefix = prefix
        self._hear, self._show = hear, show
        self._rest = b''
        # In a session of its own, so that Ctrl-C reaches it only from here, in the right order.
        self.popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**(environment or os.environ), 'PYTHONUNBUFFERED': '1'}, start_new_session=True,
            preexec_fn=partial(begin, os.getpid(), number))
        assert self.popen.stdout is not None  # a pipe
        self.output = self.popen.stdout
        os.set_blocking(self.output.fileno(), False)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    @property
    def worked(self) -> float:
        """Processor time that it has used so far; infinite where nobody tells [ticks]."""
        try:
            fields = Path(f'/proc/{self.popen.pid}/stat').read_text().rsplit(')', 1)[1].split()
        except OSError:
            return math.inf
        return float(fields[11]) + float(fields[12])

    def pass_on(self) -> bool:
        """Print what there is to read, line by line; false at the end of the output."""
        while True:
            try:
                data = os.read(self.output.fileno(), 65536)
            except BlockingIOError:
                return True
            *lines, self._rest = (self._rest + data).split(b'\n')
            if not data and self._rest:
                lines, self._rest = [self._rest], b''
            for line in lines:
                self.lines.append(line.decode(errors='replace').rstrip())
                self._hear(self.lines[-1])
                if self._prefix is not None:
                    self._show(self._prefix + self.lines[-1])
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

    :param show: Called with every line that one of them says.
    :param tick: Called again and again while they run.
    """

    def __init__(self, show: Callable[[str], object] = partial(print, flush=True),
                 tick: Callable[[], object] = bool) -> None:
        self._show, self._tick = show, tick
        self.failures: list[str] = []
        self._processes: dict[str, Process] = {}
        self._selector = selectors.DefaultSelector()
        self._over = False
        self._deadline = math.inf

    @property
    def interrupted(self) -> bool:
        """Whether ``leave`` was called."""
        return self._deadline < math.inf

    def start(self, name: str, command: list[str], prefix: str | None = '',
              hear: Callable[[str], object] = bool, number: int = signal.SIGTERM,
              environment: Mapping[str, str] | None = None) -> None:
        """Start a process, unless the job is about to end; see ``Process``."""
        if self.interrupted:
            return
        self._processes[name] = process = Process(
            name, command, prefix, hear, self._show, number, environment)
        self._selector.register(process.output, selectors.EVENT_READ, process)

    def has(self, name: str) -> bool:
        """Return whether a process was started, and has not been seen to end."""
        return name in self._processes

    def leave(self) -> None:
        """
        End ``wait`` and ``stop`` soon, and the second time immediately.

        For a signal handler.
        """
        now = time.monotonic()
        self._deadline = now if self.interrupted else now + LEAVE_TIME

    def wait(self, until: str | Iterable[str], done: Callable[[], bool] = bool) -> None:
        """
        Pass on what the processes say until some have ended, or ``done``, or until ``leave``.

        :param until: Names of the processes whose end is no failure, and that all have to end,
            some of which may have ended before; the end of any other one is a failure, and ends
            the waiting, too.
        """
        awaited = frozenset([until] if isinstance(until, str) else until)
        left = set(filter(self.has, awaited))
        while not self._over and not self.interrupted and not done():
            self._pass_on()
            for process in list(self._processes.values()):
                if not process.running:
                    self._forget(process)
                    left.discard(process.name)
                    failed = process.failure or process.name not in awaited
                    if failed:
                        self.failures.append(process.failure or f'{process.name} ended too early')
                    self._over |= bool(failed) or not left

    def ask(self, names: Iterable[str], seconds: float = 0.0) -> list[Process]:
        """
        Send processes their signal; returns those that there are.

        :param seconds: How long to wait for them at most [s].
        """
        asked = [self._processes[name] for name in names if name in self._processes]
        for process in asked:
            process.popen.send_signal(process.number)
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(process.running for process in asked):
            self._pass_on()
        return asked

    def end(self, drivers: Sequence[str], recorders: Sequence[str],
            written: Callable[[], bool]) -> None:
        """
        Stop those that drive, and then those that record, so that these see everything.

        :param written: Whether a recorder that has to be killed had nothing left to do.
        """
        if self.interrupted:
            self.ask(drivers, HEAD_START)
            self.ask(recorders)
        self.stop(drivers, STOP_TIMEOUT)
        self.stop(recorders, REPORT_TIMEOUT, patient=True, done=written)

    def stop(self, names: Iterable[str], timeout: float, patient: bool = False,
             done: Callable[[], bool] = bool) -> None:
        """
        Stop processes with their signal, and those that do not obey with SIGKILL.

        :param timeout: Time that they have to leave [s].
        :param patient: Whether that time counts only while one does nothing: as long as it uses
            the processor it is left alone, until ``leave``.
        :param done: Whether one that has to be killed had nothing left to do.
        """
        asked = self.ask(names)
        last = {process.name: (process.worked, time.monotonic()) for process in asked}
        while any(process.running for process in asked):
            self._pass_on()
            now = time.monotonic()
            for process in asked:
                worked, since = last[process.name]
                if patient and process.running and process.worked > worked:
                    last[process.name] = process.worked, now
                elif process.running and now - since > timeout:
                    self._kill(process, f'within {timeout:g} s of', done())
                if process.running and now > self._deadline:
                    self._kill(process, 'in time after', done())
        for process in asked:
            if process.name in self._processes:
                self._forget(process)
                # One that is just starting may not handle the signal yet.
                if process.failure and process.popen.returncode != -process.number:
                    self.failures.append(process.failure)

    def _kill(self, process: Process, in_time: str, done: bool) -> None:
        process.kill()
        if not done:
            self.failures.append(f'{process.name} did not end {in_time} '
                                 f'{signal.Signals(process.number).name}; killed')
        self._forget(process)

    def _pass_on(self) -> None:
        self._tick()
        for key, _ in self._selector.select(WAKE_UP_PERIOD):
            if not key.data.pass_on():
                self._selector.unregister(key.fileobj)

    def _forget(self, process: Process) -> None:
        """Pass on what a process that has ended left to read, and close it."""
        process.pass_on()
        if process.output in self._selector.get_map():
            self._selector.unregister(process.output)
        process.output.close()
        del self._processes[process.name]
