"""Holds tests to their markers, by which some are left out: those that start processes."""

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
