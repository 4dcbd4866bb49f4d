"""
The recorder's rules in their full length, over real DDS; each test prints what it measured.

Minutes long, so they run only where they are asked for: ``pytest -s -m soak test/nodes``.
"""

import os
import re
import shlex
import signal
import threading
import time

import numpy as np
import pytest
from stream_agent.measurement.recording import read_rows
from test_recorder_node import folder_of, full_pipe, on_a_dead_disk, Stage

pytestmark = [pytest.mark.real_time, pytest.mark.soak, pytest.mark.timeout(900)]

SECONDS = 60
RATE = 30


@pytest.fixture
def stage(peer):
    return Stage(peer)


def jitter(stage):
    """Return the percentiles of how long the publisher of a command was held up [ms]."""
    return np.percentile(stage.published, (50, 99, 100)) * 1e3


def test_a_dead_disk_holds_up_no_command(stage, start, start_node, tmp_path):
    """The same minute beside a recorder whose disk works, and one whose disk hangs (C1)."""
    measured = []
    for dead in (False, True):
        output = tmp_path / str(dead)
        output.mkdir()
        stage.published.clear()
        if dead:
            end = full_pipe(output / 'pipe')
            recorder = on_a_dead_disk(start, output)
        else:
            recorder = start_node('recorder', output=str(output))
        stage.wait_for_recorder()
        stage.play(SECONDS * RATE)
        measured.append(jitter(stage))
        recorder.signal(signal.SIGINT)
        assert recorder.wait(30.0) == int(dead), recorder.output
    os.close(end)
    print('\nC1: publishing a command, p50, p99, worst: disk works {}, hangs {} ms'.format(
        *(' / '.join(f'{value:.3f}' for value in one) for one in measured)))
    # A tenth of what counts as late, for what else the machine does.
    assert measured[1][1] < 2 * measured[0][1] + 0.5


def test_on_a_machine_20_times_slower_no_row_is_missing(stage, start, start_node, tmp_path):
    """The recorder runs for 2 ms of every 40; killed in its report, it has lost nothing (C6)."""
    recorder = start_node('recorder', output=str(tmp_path))
    stage.wait_for_recorder()
    over = threading.Event()

    def slow_down():
        while not over.wait(0.002):
            os.kill(recorder.popen.pid, signal.SIGSTOP)
            time.sleep(0.038)
            os.kill(recorder.popen.pid, signal.SIGCONT)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        stage.play(SECONDS * RATE)
        time.sleep(1.0)
        begin = time.monotonic()
        recorder.signal(signal.SIGINT)
        while 'recorded to' not in recorder.output and time.monotonic() < begin + 60:
            time.sleep(0.05)
        written = time.monotonic() - begin
    finally:
        over.set()
        thread.join()
    recorder.signal(signal.SIGKILL)
    recorder.wait()
    rows = read_rows(folder_of(tmp_path))
    assert {row.stamp_ns for row in rows} == set(stage.stamps)
    assert all(row.arrival_ns for row in rows)
    again = start(*shlex.split(re.search('`python (.*)` makes it', recorder.output)[1]))
    assert again.wait(30.0) == 0, again.output
    print(f'\nC6: 20 times slower, {len(rows)} of {2 * len(stage.stamps)} rows, on the disk '
          f'{written:.1f} s after the signal')
