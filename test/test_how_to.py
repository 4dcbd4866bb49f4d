"""The how-to page: its files are read, its commands run, and its notebook computes."""

import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys

import pytest
from stream_agent.measurement.recording import HEADERS, ROWS_FILE
from stream_agent.share import installed_share, ParameterFiles
from support.jobs import DOMAIN, Job, ROOT, save_untrained, wait_for
from test_docs import BLOCK, what_it_takes

PAGE = (ROOT / 'docs' / 'how_to.md').read_text()
SECTIONS = dict(re.findall(r'^## (.*)\n((?:(?!^## ).*\n)*)', PAGE, re.MULTILINE))
COLUMNS = HEADERS[ROWS_FILE].split(',')
FILES = [block for language, block in BLOCK.findall(PAGE) if language == 'yaml']


def blocks(section: str, language: str = '') -> list[str]:
    return [block for kind, block in BLOCK.findall(SECTIONS[section]) if kind == language]


def test_sections_are_short_and_name_a_pitfall():
    assert len(SECTIONS) == 10
    assert {name: length for name, text in SECTIONS.items()
            if (length := len(text.splitlines()) + 1) > 25} == {}
    assert all(text.count('**Pitfall:**') == 1 for text in SECTIONS.values())


@pytest.mark.parametrize('text', FILES, ids=[block.split(':')[0] for block in FILES])
def test_parameter_files_of_the_page_hold(text, tmp_path):
    (tmp_path / 'mine.yaml').write_text(text)
    files = ParameterFiles([ROOT / 'config' / 'robot.yaml', tmp_path / 'mine.yaml'])
    others = set(re.findall(r'^(\w+):', text, re.MULTILINE))
    assert others <= {'twist_mux'}
    assert [stray for stray in files.strays('') if stray.section.strip('/') not in others] == []
    for section in set(re.findall(r'^/\*\*/(\w+):', text, re.MULTILINE)):
        given = files.given(f'/{section}')
        assert any('mine.yaml' in one.place for one in given.values())
        assert {f'  {name}' for name, one in given.items()
                if not one.is_shared} <= what_it_takes(section)


def test_parameters_that_are_changed_while_driving_are_there():
    named = re.findall(r'ros2 param \w+ /(?:\w+/)?(\w+) (\w+)', PAGE)
    assert len(named) >= 3
    assert all(f'  {name}' in what_it_takes(process) for process, name in named)


def write_rows(folder: Path) -> None:
    """Write 100 frames of two policies: one errs by 0.1 rad/s, one answers half of them."""
    lines = [HEADERS[ROWS_FILE]]
    for frame in range(100):
        stamp = 1_796_044_762_710_675_377 + frame * 33_333_333
        for policy, yaw_rate, latency in (('agent', 0.1, 0.002), ('baseline', 0.0, 0.004)):
            answered = policy == 'agent' or frame % 2
            arrival = str(stamp + round(latency * 1e9)) if answered else ''
            row = {'stamp_ns': stamp, 'policy': policy, 'update': 0, 'arrival_ns': arrival,
                   'latency': latency if answered else '', 'speed': 0.8 if answered else '',
                   'yaw_rate': yaw_rate if answered else '', 'reference_speed': 0.8,
                   'reference_yaw_rate': 0.0, 'frame_arrival_ns': stamp}
            lines.append(','.join(str(row.get(name, '')) for name in COLUMNS))
    folder.mkdir(parents=True)
    (folder / 'rows.csv').write_text('\n'.join(lines) + '\n')


def test_the_notebook_names_columns_that_are_there():
    (code,) = blocks('Columns of rows.csv in a notebook', 'python')
    named = set(re.findall(r'\b(?:answered|rows)\.(\w+)', code)) - {'groupby', 'csv'}
    named |= set(re.findall(r"'(\w+_ns)'", code))
    assert {'arrival_ns', 'yaw_rate', 'policy'} <= named <= set(COLUMNS)


def test_the_notebook_computes(tmp_path, monkeypatch, capsys):
    pytest.importorskip('pandas')
    (code,) = blocks('Columns of rows.csv in a notebook', 'python')
    write_rows(tmp_path / 'results' / 'latest')
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    exec(code, space)
    said = capsys.readouterr().out
    assert re.search(r'agent +2.0 +2.0\nbaseline +4.0 +4.0', said)
    assert re.search(r'agent +0.1\nbaseline +0.0', said)
    # No digit of a stamp is lost.
    assert space['rows'].arrival_ns[0] == 1_796_044_762_712_675_377


@pytest.fixture
def policy(tmp_path):
    return save_untrained(tmp_path)


@pytest.mark.real_time
def test_agent_and_gate_drive_without_launch(policy, tmp_path):
    (block,) = blocks('Without ros2 launch')
    (tmp_path / 'config').symlink_to(ROOT / 'config')
    *starts, end = block.splitlines()
    assert [line[-1] for line in starts] == ['&', '&', '&'] and end.startswith('kill %1 %2 %3 ')
    command = '\n'.join(starts).replace('lane_streaming', str(policy))
    others = tmp_path / 'others'
    others.mkdir()
    job = Job(['bash', '-c', command.replace('python', sys.executable) + '\nwait'], tmp_path)
    simulation = Job([sys.executable, '-m', 'stream_agent', 'simulation', '--ros-args',
                      '-r', 'image:=/camera/image_raw', '-p', 'duration:=2.0',
                      '-p', 'start_subscribers:=2', '-p', 'probe_changes:=0',
                      '-p', 'allow_foreign_listeners:=true'], others)
    try:
        wait_for(lambda: 'drove' in simulation.said, 90)
        assert re.search(r'\d\d frames published', simulation.said)
    finally:
        simulation.close()
        for pid in children(job.popen.pid):
            os.kill(pid, signal.SIGTERM)
        job.popen.wait(60)
    assert 'recording agent to' in job.said and 'frames accepted' in job.said
    assert (tmp_path / 'results' / 'latest' / 'rows.csv').read_text().count(',agent,') > 10


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.mark.real_time
@pytest.mark.skipif(not (shutil.which('ros2') and installed_share()),
                    reason='`ros2` does not find the package')
def test_a_policy_is_stopped_resumed_and_limited(policy, tmp_path):
    job = Job(['ros2', 'launch', 'stream_agent', 'simulation.launch.py', f'checkpoint:={policy}',
               'baseline:=none', 'record:=false', 'allow_foreign_listeners:=true'], tmp_path)
    try:
        wait_for(lambda: 'commands arrive' in job.said, 90)
        for section, ends in (
                ('Stop and resume', ['Transitioning successful', 'inactive [2]',
                                     'Transitioning successful']),
                ('Change a limit while driving', ['Set parameter successful',
                                                  'Double value is: 0.3', None])):
            (block,) = blocks(section)
            for line, end in zip(block.splitlines(), ends, strict=True):
                said = ros2(line)
                assert end is None or said.endswith(end), f'{line}: {said}'
        assert 'm/s' in said and 'Max value: 20.0' in said
        refused = ros2('ros2 param set /gate max_speed 30000.0')
        assert refused in PAGE.replace('`', '')
    finally:
        job.popen.send_signal(signal.SIGINT)
        job.popen.wait(60)


def ros2(line: str) -> str:
    """Run a line of the page in the test run's domain; return what it prints."""
    for _ in range(5):
        result = subprocess.run(
            ['bash', '-c', f'export ROS_DOMAIN_ID={DOMAIN} '
             f'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST; {line}'],
            capture_output=True, text=True, timeout=60)
        said = (result.stdout + result.stderr).strip()
        # As the page says, of a daemon that has just begun to look around.
        if said != 'Node not found':
            break
    return said
