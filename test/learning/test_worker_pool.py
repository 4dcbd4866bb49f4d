"""Processes that train side by side: none outlives what it works for."""

from pathlib import Path
import subprocess
import sys

import pytest
from support.jobs import is_running, wait_for

# One worker is done when its parent is killed, the other is not.
CODE = """
import subprocess, sys
from stream_agent.learning.worker_pool import run_side_by_side
if __name__ == '__main__':
    print('up', flush=True)
    run_side_by_side(subprocess.check_call, [['true'], ['touch', 'begun'], sys.argv[1:]], 2)
"""
BUSY = ['sh', '-c', 'touch busy; until [ -e enough ]; do sleep 0.1; done; touch finished']


def children_of(pid):
    return [int(child) for child in Path(
        f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.mark.child_process
def test_workers_end_with_a_parent_that_is_killed_but_finish_what_they_do(tmp_path):
    (tmp_path / 'code.py').write_text(CODE)
    parent = subprocess.Popen([sys.executable, 'code.py', *BUSY], cwd=tmp_path,
                              stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / 'busy').exists() and (tmp_path / 'begun').exists())
    workers = [pid for pid in children_of(parent.pid)
               if 'spawn_main' in Path(f'/proc/{pid}/cmdline').read_text()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    wait_for(lambda: sum(map(is_running, workers)) == 1)
    (tmp_path / 'enough').touch()
    wait_for(lambda: not any(map(is_running, workers)))
    assert (tmp_path / 'finished').exists()
