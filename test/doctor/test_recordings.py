"""The doctor before recordings: what is odd is a warning, what cannot be used an error."""

import json

import numpy as np
import pytest
import rclpy
from stream_agent.doctor.findings import exit_code, Severity
from stream_agent.doctor.node import main
from stream_agent.doctor.recordings import check_recordings
from support.recordings_files import drive, joy, raw, stamps, START, tub, twist_stamped, write

OK, _, WARN, ERROR = Severity


def beside_zeros(path):
    """Write a drive with fifty zeros a second of somebody else."""
    commands = [(t, twist_stamped(t, 0.5, np.sin(i / 10))) for i, t in enumerate(stamps(100))]
    commands += [(t, twist_stamped(t, 0.0, 0.0)) for t in
                 (START + 3_000_000 + i * 20_000_000 for i in range(250))]
    return write(path, ('/camera', [(t, raw(t, np.full((12, 16, 3), i, np.uint8)))
                                    for i, t in enumerate(stamps(100))]), ('/cmd_vel', commands))


def test_sound_recordings(tmp_path):
    paths = [drive(tmp_path / 'bag', 10), tub(tmp_path / 'tub', 10),
             drive(tmp_path / 'joy', 10, command=joy)]
    found = check_recordings(paths)
    assert [one.level for one in found] == [OK] * 3 and not exit_code(found)
    assert found[0].said == ('bag: 10 frames at 20.0 Hz (stamps: header), 10 commands (yaw rate; '
                             'stamps: header)')


def test_odd_recordings(tmp_path):
    beside_zeros(tmp_path / 'bags' / 'mixed')
    slow = drive(tmp_path / 'bags' / 'slow', 20, period=10**8)
    torn = drive(tmp_path / 'bags' / 'torn', 20)
    (storage,) = torn.glob('*.mcap')
    storage.write_bytes(storage.read_bytes()[:100])
    found = check_recordings([tmp_path / 'bags'])
    assert [one.level for one in found] == [OK, WARN, OK, ERROR, ERROR] and exit_code(found)
    assert found[1].said.endswith('that are always 0, 0: 250 are left out')
    assert found[1].remedy == 'stop the second one, or give --publishers all to take them'
    assert found[3].said.startswith(f"'{torn}': ") and found[3].remedy
    assert found[4].said == f"'{slow}': topic '/camera': 10.0 Hz, where 20.0 Hz is expected"
    (missing,) = check_recordings([tmp_path / 'nothing'])
    assert missing.level is ERROR


@pytest.mark.parametrize('form', ['table', 'json'])
def test_the_command_needs_no_robot(tmp_path, capsys, monkeypatch, form):
    monkeypatch.setattr(rclpy, 'init', None)
    path = beside_zeros(tmp_path / 'mixed')
    assert main(['--bag', str(path), *(['--json'] if form == 'json' else [])]) == 0
    out = capsys.readouterr().out
    if form == 'json':
        assert [one['level'] for one in json.loads(out)['findings']] == ['OK', 'WARN']
    else:
        assert out.endswith('\n1 warning\n')
    # What is proposed can be tried.
    assert main(['--bag', str(path), '--publishers', 'all']) == 0
    assert '350 commands (yaw rate' in ' '.join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(['--publishers', 'all'])
    assert '--publishers: this has an effect only with --bag' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(['--bag', str(path), '--robot', 'turtlebot4'])
    assert '--robot: this has an effect only without --bag' in capsys.readouterr().err
    assert main(['--bag', str(path), '--image-topic', '/front']) == 1
    assert "there is no topic '/front'" in ' '.join(capsys.readouterr().out.split())
