"""What comes from outside, in every form: benchmark/fuzz.py in its short form."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.real_time
@pytest.mark.any_time
def test_images_and_commands_of_every_kind_leave_everything_as_it_was():
    """10,000 images without DDS, 300 images and 300 commands to real processes."""
    process = subprocess.run([sys.executable, ROOT / 'benchmark' / 'fuzz.py', '--quick', '--json'],
                             capture_output=True, text=True, timeout=110)
    assert process.returncode == 0, process.stdout + process.stderr
    counts = json.loads(process.stdout)
    assert counts['faults'] == [] and counts['gate: sent'] == 300
    assert counts['raw: good ones answered'] == counts['compressed: good ones answered'] == 2
    assert counts['gate: good ones answered'] == 3
    # Of every kind some are read and some refused, but for those that must be.
    for kind in ('raw, fields', 'raw, bytes', 'jpg, file', 'jpg, bytes', 'png, bytes'):
        assert counts[f'{kind}: read'] > 5 and counts[f'{kind}: refused'] > 100
    assert not {'jpg, cut: read', 'png, cut: read', 'raw, whole: refused'} & counts.keys()
