"""A process that is told to end while it cannot listen, in a process of its own."""

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.child_process

STUCK = """
import os, signal, time
from stream_agent.nodes.process import PromptEnd
prompt = PromptEnd(0.3)
signal.signal(signal.SIGTERM, lambda *_: prompt.asked())
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
"""


def ends(code):
    """Run a program; returns its exit code and how long it took [s]."""
    begin = time.monotonic()
    result = subprocess.run([sys.executable, '-c', STUCK + code], timeout=20)
    return result.returncode, time.monotonic() - begin


def test_a_loop_that_does_not_come_back_ends_the_process():
    code, duration = ends('time.sleep(10); raise SystemExit(3)')
    assert code == 0
    assert duration < 5


def test_a_loop_that_comes_back_may_take_its_time_to_stop():
    assert ends('prompt.back(); time.sleep(0.6); raise SystemExit(3)')[0] == 3


def test_without_a_signal_nothing_happens():
    assert ends('raise SystemExit(3)')[0] == 3
