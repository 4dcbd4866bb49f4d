"""The unit for systemd and the image for Docker: what of them can be checked where neither is."""

import configparser
from pathlib import Path
import re
import shutil
import subprocess

import pytest

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / 'config' / 'service'
UNIT = SERVICE / 'stream_agent.service'
DECLARED = set(re.findall(r"DeclareLaunchArgument\(\s*'(\w+)'",
                          (ROOT / 'launch' / 'agent.launch.py').read_text()))


def read_unit():
    """Return the sections of the unit; of a key that is repeated, the last value."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    return unit


def test_the_unit_stops_everybody_by_sigint_and_never_drives_by_itself():
    service = read_unit()['Service']
    assert service['KillSignal'] == 'SIGINT'
    assert service['KillMode'] == 'control-group'
    assert float(service['TimeoutStopSec']) > 2.0
    assert 'autostart:=false' in service['ExecStart']


@pytest.mark.child_process
@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd is not installed')
def test_systemd_accepts_the_unit(tmp_path):
    # It looks for programs, which are elsewhere on other machines.
    (tmp_path / UNIT.name).write_text(
        UNIT.read_text().replace('/bin/bash', shutil.which('bash')))
    found = subprocess.run(['systemd-analyze', 'verify', str(tmp_path / UNIT.name)],
                           capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, '')


@pytest.mark.child_process
def test_the_unit_starts_what_a_shell_starts(tmp_path):
    # As systemd replaces variables, and with a ros2 that shows its arguments.
    (tmp_path / 'setup.bash').write_text(f'PATH={tmp_path}:$PATH')
    (tmp_path / 'ros2').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'ros2').chmod(0o755)
    command = read_unit()['Service']['ExecStart'].split("'")[1]
    for name, value in {'ROS_SETUP': tmp_path / 'setup.bash', 'STREAM_AGENT_SETUP': '/dev/null',
                        'STREAM_AGENT_ARGUMENTS': 'robot:=turtlebot4 respawn:=false'}.items():
        assert f'${{{name}}}' in command
        command = command.replace(f'${{{name}}}', str(value))
    words = subprocess.run(['bash', '-c', command], check=True, capture_output=True,
                           text=True).stdout.split()
    assert words[:4] == ['launch', '--noninteractive', 'stream_agent', 'agent.launch.py']
    assert words[-2:] == ['robot:=turtlebot4', 'respawn:=false']
    assert {word.split(':=')[0] for word in words[4:]} <= DECLARED


def test_the_image_is_stopped_by_sigint_and_never_drives_by_itself():
    lines = (SERVICE / 'Dockerfile').read_text().replace('\\\n', ' ').splitlines()
    kept = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines
            if line and not line.startswith('#')}
    assert kept['STOPSIGNAL'] == 'SIGINT'
    assert 'exec ros2 launch' in kept['ENTRYPOINT']
    assert 'autostart:=false' in kept['CMD']
    assert set(re.findall(r'(\w+):=', kept['CMD'])) <= DECLARED
