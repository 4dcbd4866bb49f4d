"""Holds tests to their markers: who may start a process, and who has the machine alone."""

import fcntl
import multiprocessing.process
import sys

import pytest

STARTS = {'subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn'}
# What the standard library asks when a package that is imported wants to know the machine.
ASKED_BY_LIBRARIES = {'uname', 'lscpu', '/sbin/ldconfig', 'gcc', 'ld'}
_started: list[str] = []


def _note(event: str, arguments: tuple) -> None:
    if event in STARTS and not (
            event == 'subprocess.Popen' and str(arguments[0]) in ASKED_BY_LIBRARIES):
        _started.append(event)


sys.addaudithook(_note)


@pytest.fixture(autouse=True)
def only_marked_tests_start_processes(request, monkeypatch):
    """Fail a test that starts a process without being marked as one that does."""
    if {'child_process', 'real_time'} & {mark.name for mark in request.node.iter_markers()}:
        yield
        return
    start = multiprocessing.process.BaseProcess.start
    monkeypatch.setattr(multiprocessing.process.BaseProcess, 'start',
                        lambda process: (_started.append('multiprocessing'), start(process)))
    _started.clear()
    yield
    assert not _started, f'it starts a process ({_started[0]}): mark it with child_process'


@pytest.fixture(autouse=True)
def machine_is_free(request, tmp_path_factory):
    """Let a test in real time that is marked ``alone`` run beside no other one of that kind."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if 'real_time' not in marks:
        yield
        return
    # All workers of pytest-xdist share the folder above their own.
    with open(tmp_path_factory.getbasetemp().parent / 'machine.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if 'alone' in marks else fcntl.LOCK_SH)
        yield
