"""
Processes of ours without the seconds that imports take.

A server imports what the nodes import, once, and forks for every process that a test asks for: a
real process with its own interpreter state, ROS context and signals. It does not import rclpy,
whose threads would not survive the fork. How a process starts from nothing is tested by the main
job and by the installation.
"""

from importlib import import_module
import inspect
import json
import os
from pathlib import Path
import select
import signal
import socket
import subprocess
import sys
import time

IMPORTED = ('engine.engine', 'engine.packed', 'measurement.recording', 'measurement.report',
            'network.checkpoint')
LARGEST_REQUEST = 1 << 20


class ForkedProcess:
    """A process that the server forked; what tests use of ``subprocess.Popen``."""

    def __init__(self, connection: socket.socket, arguments: list[str], cwd: Path,
                 environment: dict[str, str], output: int) -> None:
        request = json.dumps([arguments, str(cwd), environment]).encode()
        socket.send_fds(connection, [request], [output])
        self._connection = connection
        self.pid = int(connection.recv(16))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._connection.recv(16))
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            select.select([self._connection], [], [], timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The tests' end of the server, which is started when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / 'fork_server'
        self._server: subprocess.Popen | None = None

    def start(self, arguments: list[str], cwd: Path, environment: dict[str, str], output: int
              ) -> ForkedProcess:
        """
        Run ``python -m stream_agent ARGUMENTS``.

        :param output: File descriptor for stdout and stderr.
        """
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(self._path)], cwd=cwd,
                env={**environment, 'OPENBLAS_NUM_THREADS': '1'})
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end = time.monotonic() + 60
        while True:
            try:
                connection.connect(str(self._path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert self._server.poll() is None and time.monotonic() < end
                time.sleep(0.05)
        return ForkedProcess(connection, arguments, cwd, environment, output)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)


def serve(path: str) -> list[str]:
    """
    Fork for every request, until SIGTERM.

    :returns: In a forked process, its arguments.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path + '.new')
    listener.listen(16)
    os.rename(path + '.new', path)
    running: dict[int, socket.socket] = {}
    while True:
        if select.select([listener], [], [], 0.01)[0]:
            connection, _ = listener.accept()
            request, (output, *_), _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 1)
            assert len(os.listdir('/proc/self/task')) == 1, 'a thread would not survive the fork'
            pid = os.fork()
            if not pid:
                for other in (listener, connection, *running.values()):
                    other.close()
                return become(request, output)
            os.close(output)
            running[pid] = connection
            connection.send(str(pid).encode())
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            with running.pop(pid) as connection:
                try:
                    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                except OSError:  # nobody asks any more
                    pass


def become(request: bytes, output: int) -> list[str]:
    """Turn a forked process into what was asked for; returns its arguments."""
    arguments, cwd, environment = json.loads(request)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(output)
    sys.stdout.reconfigure(write_through=True)
    return arguments


def main() -> int:
    """Import, serve, and in a forked process run its command."""
    for name in IMPORTED:
        import_module(f'stream_agent.{name}')
    # rclpy's first log message asks inspect for its place, which goes through all modules once,
    # and with torch's among them takes longer than a frame.
    inspect.getmodule(inspect.currentframe(), 'of no module')
    command = import_module('stream_agent.__main__')
    arguments = serve(sys.argv[1])
    sys.argv = [command.__file__, *arguments]
    return command.main(arguments)


if __name__ == '__main__':
    sys.exit(main())
