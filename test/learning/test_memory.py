"""Freed memory stays with the process, also where it was large."""

import subprocess
import sys

import pytest

# Pages that the system had to hand out while an array came and went, without and with it.
CODE = """
import resource
import numpy as np
from stream_agent.learning.trainer import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.empty(2**26, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The first arrays after it may still be new memory.
print(faults(), keep_freed_memory(), faults(), faults())
"""


@pytest.mark.child_process
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='this is about glibc')
def test_no_page_is_handed_out_twice():
    without, done, _, again = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True, check=True).stdout.split()
    if done == 'False':
        pytest.skip('the C library is not glibc')
    assert int(again) < int(without) / 20
