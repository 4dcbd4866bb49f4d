"""The main job without launch tools: real processes, their ends and crashes."""

import io
import json
import os
from pathlib import Path
import re
import signal
import sys
import time

import pytest
from stream_agent import share
from stream_agent.cli import process_group, run
from stream_agent.cli.process_group import in_yaml, ProcessGroup
from stream_agent.cli.robot_contract import trigger_of_policy
from stream_agent.cli.run import node_commands, parse
from stream_agent.cli.run_progress import Progress, Report
from stream_agent.measurement.recording import read_rows
from stream_agent.share import InstallationError, ParameterFiles, policy_file
from support.jobs import DOMAIN, is_running, Job, ROOT, save_untrained, wait_for
import yaml

pytestmark = pytest.mark.real_time

PATIENT = 'import time; print("up", flush=True); time.sleep(60)'
OBEDIENT = ('import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); '
            'print("up", flush=True); time.sleep(60)')
STUBBORN = ('import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
            'print("up", flush=True); time.sleep(60)')
# Works for three times as long as the others have to end.
BUSY = """
import signal, sys, time
def work(*_):
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass
    sys.exit(0)
signal.signal(signal.SIGTERM, work)
print('up', flush=True)
time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


@pytest.fixture
def group():
    the_group = ProcessGroup()
    yield the_group
    for process in the_group._processes.values():
        process.kill()


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
    """Return the file of an untrained policy."""
    return str(save_untrained(tmp_path_factory.mktemp('policy')))


@pytest.fixture
def main_job(policy, tmp_path, monkeypatch):
    """Start the main job with untrained policies and given arguments."""
    monkeypatch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)
    jobs = []

    def start(*arguments):
        folder = tmp_path / str(len(jobs))
        folder.mkdir()
        jobs.append(Job(
            [sys.executable, '-m', 'stream_agent', 'run', '--without-launch', '--output',
             str(tmp_path / 'results'), '--checkpoint', policy, '--baseline', policy,
             *arguments], folder, domain=False))
        return jobs[-1]

    yield start
    for job in jobs:
        job.close()


def test_a_crash_is_reported_by_name_with_exit_code_and_last_lines(group, capsys):
    group.start('good', python(OBEDIENT))
    group.start('bad', python('print("before"); print("the end"); raise SystemExit(7)'), '[bad] ')
    group.wait(until='good')
    group.stop(['good'], 5.0)
    assert group.failures == [
        'bad crashed with exit code 7; its last lines:\n    before\n    the end']
    assert '[bad] the end\n' in capsys.readouterr().out


def test_a_crash_by_a_signal_is_named(group):
    group.start('bad', python('import os; os.kill(os.getpid(), 11)'))
    group.wait(until='good')
    assert group.failures == ['bad crashed with exit code -11 (SIGSEGV); it had said nothing']


def test_an_early_end_is_a_failure_too(group):
    group.start('good', python(OBEDIENT))
    group.start('gone', python(''))
    group.wait(until='good')
    assert group.failures == ['gone ended too early']


def test_those_that_have_ended_before_are_not_waited_for_again(group):
    both = ['first', 'second']
    group.start('first', python(''))
    group.start('second', python('import time; time.sleep(0.5)'))
    group.wait(both, lambda: not group.has('first'))
    assert group.has('second')
    began = time.monotonic()
    group.wait(both, lambda: time.monotonic() > began + 10)
    assert not group.has('second') and time.monotonic() < began + 9
    assert group.failures == []


def test_a_crash_while_stopping_is_reported(group):
    group.start('bad', python(
        'import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); '
        'print("up", flush=True); time.sleep(60)'))
    wait_for(lambda: group._processes['bad'].pass_on() and group._processes['bad'].lines)
    group.stop(['bad'], 5.0)
    assert group.failures == ['bad crashed with exit code 3; its last lines:\n    up']


def test_what_ignores_the_signal_is_killed_with_all_it_started(group):
    group.start('stubborn', python(
        f'import subprocess, sys; child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}]); '
        f'print(child.pid, flush=True); {STUBBORN}'))
    lines = group._processes['stubborn'].lines
    wait_for(lambda: group._processes['stubborn'].pass_on() and len(lines) == 3)
    child = next(int(line) for line in lines if line != 'up')
    group.stop(['stubborn'], 0.5)
    assert group.failures == ['stubborn did not end within 0.5 s of SIGTERM; killed']
    wait_for(lambda: not is_running(child))


def test_one_that_is_just_starting_may_die_of_the_signal(group):
    group.start('patient', python(PATIENT))
    group.stop(['patient'], 5.0)
    assert group.failures == []


def start(group, name, code):
    """Start a program, and wait until it has said something."""
    group.start(name, python(code))
    process = group._processes[name]
    wait_for(lambda: process.pass_on() and process.lines)


def test_one_that_works_is_left_alone_until_it_has_done_its_work(group):
    start(group, 'busy', BUSY)
    group.stop(['busy'], 0.5, patient=True)
    assert group.failures == []


def test_one_that_does_nothing_is_not_waited_for(group):
    start(group, 'stubborn', STUBBORN)
    group.stop(['stubborn'], 0.5, patient=True)
    assert group.failures == ['stubborn did not end within 0.5 s of SIGTERM; killed']


def test_after_a_signal_nobody_is_waited_for_long(group):
    start(group, 'stubborn', STUBBORN)
    group.leave()
    begin = time.monotonic()
    group.stop(['stubborn'], 60.0, patient=True)
    assert 2.0 < time.monotonic() - begin < 3.0
    assert group.failures == ['stubborn did not end in time after SIGTERM; killed']
    assert group.interrupted


REPORTED = ["[INFO] [1.0] [recorder]: recording agent, baseline to '/there/it is'", '| agent |']


@pytest.mark.parametrize('last, fault', [
    ('report: /there/it is/report.html', ''),
    ('[recorder-3] report: /there/it is/report.html', ''),
    ("[ERROR] [2.0] [recorder]: no report: '/there': full",
     'the report was not written; make it from what was recorded: '
     "python -m stream_agent.measurement.report '/there/it is'")])
def test_a_report_that_is_missing_has_a_command_that_makes_it(last, fault):
    report = Report()
    for line in [*REPORTED, last]:
        report.hear(line)
    assert report.fault == fault


RECORDER = """
import signal, sys, time
def work(*_):
    end = time.process_time() + {seconds}
    while time.process_time() < end:
        pass
    print({said!r}, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, work)
print("recording agent to '/there'", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize('seconds, said, fault', [
    (1.5, 'report: /there/report.html', ''),
    (0.0, "no report: '/there/report.html': No space left on device",
     'the report was not written; make it from what was recorded: '
     'python -m stream_agent.measurement.report /there')])
def test_a_report_may_take_long_and_is_missed_if_there_is_none(
        group, monkeypatch, seconds, said, fault):
    monkeypatch.setattr(process_group, 'REPORT_TIMEOUT', 0.5)
    report = Report()
    run.drive(group, {'recorder': python(RECORDER.format(seconds=seconds, said=said)),
                      'simulation': python('import time; time.sleep(1.0)')}, report)
    assert group.failures == []
    assert report.fault == fault


BASE = """
import rclpy
from geometry_msgs.msg import TwistStamped
rclpy.init()
node = rclpy.create_node('base')
node.create_subscription(TwistStamped, 'cmd_vel', lambda msg: print('heard', flush=True), 10)
print('up', flush=True)
rclpy.spin(node)
"""


@pytest.fixture
def base(tmp_path):
    """Start a base in the ROS domain that is everybody's, or in one that was chosen."""
    jobs = []

    def start(domain):
        folder = tmp_path / 'base'
        folder.mkdir()
        jobs.append(Job([sys.executable, '-c', BASE], folder, domain))
        wait_for(lambda: 'up' in jobs[-1].said)
        return jobs[-1]

    yield start
    for job in jobs:
        job.close()


def rows_of(job):
    """Return the stamps of the frames that a main job has recorded."""
    folder = re.search('report: (.*)/report.html', job.said)[1]
    return {row.stamp_ns for row in read_rows(Path(folder))}


def test_two_main_jobs_at_once_and_a_base_hear_nothing_of_each_other(main_job, base):
    its_base = base(False)
    jobs = [main_job('--duration', '2', '--baseline', 'none') for _ in range(2)]
    for job in jobs:
        assert job.popen.wait(80) == 0, job.said
        assert 'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST rqt\n' in job.said
        assert 'another run was active on this machine' in job.said
        assert '60 frames published, 0 skipped' in job.said
    stamps = [rows_of(job) for job in jobs]
    assert not stamps[0] & stamps[1]
    for of_one in stamps:
        # Every frame of its own simulation, at its rate, and no other.
        *_, first, last = sorted(of_one)[-60::59]
        assert (last - first) * 1e-9 == pytest.approx(59 / 30, abs=0.025)
    assert its_base.said == 'up\n'


def test_a_base_in_the_domain_that_was_chosen_is_refused(main_job, base):
    base(True)
    job = main_job('--domain', DOMAIN)
    assert job.popen.wait(30) == 1
    assert job.said == (
        f"stream_agent run: in ROS domain {DOMAIN}: '/base' listens to '/cmd_vel' and might move "
        'a real robot; nothing was started. Leave out --domain and ROS_DOMAIN_ID for a domain of '
        'its own, or say --allow-foreign-listeners if it cannot move anything\n')


def test_the_main_job_names_the_agent_that_crashes_and_leaves_nothing_running(main_job):
    job = main_job()
    wait_for(lambda: '[agent] ' in job.said)
    started = job.nodes()
    assert sorted(started) == ['agent', 'baseline', 'gate', 'recorder', 'simulation']
    os.kill(started['agent'], signal.SIGSEGV)
    assert job.popen.wait(30) == 1
    assert 'stream_agent run: agent crashed with exit code -11 (SIGSEGV)' in job.said
    assert not any(is_running(pid) for pid in started.values())


@pytest.mark.parametrize('moment, number', [
    ('to look in', signal.SIGINT), ('[agent]', signal.SIGTERM), ('probing', signal.SIGINT),
    ('frames published', signal.SIGINT)])
def test_a_signal_ends_the_main_job_at_any_moment(main_job, moment, number):
    job = main_job('--duration', '0.5')
    wait_for(lambda: moment in job.said)
    started = job.nodes()
    job.popen.send_signal(number)
    begin = time.monotonic()
    assert job.popen.wait(30) == 130, job.said
    assert time.monotonic() - begin < 3.0
    assert not any(is_running(pid) for pid in started.values())
    assert 'crashed' not in job.said
    assert not re.search('(agent|baseline|gate|simulation) did not end', job.said)
    if 'recording agent' in job.said:
        assert re.search('report: .*report.html|stream_agent.measurement.report .*results',
                         job.said)


def test_a_killed_main_job_leaves_no_orphan(main_job):
    job = main_job()
    wait_for(lambda: len(job.nodes()) == 5)
    started = job.nodes()
    job.popen.kill()
    job.popen.wait()
    wait_for(lambda: not any(is_running(pid) for pid in started.values()))
    assert len(started) == 5


def test_a_policy_is_a_file_or_the_name_of_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr(share, 'share_folder', lambda: tmp_path)
    shipped = tmp_path / 'config' / 'policies' / 'lane.safetensors'
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    own = tmp_path / 'own.safetensors'
    own.touch()
    assert policy_file(Path('lane')) == shipped
    assert policy_file(own) == own
    with pytest.raises(InstallationError) as caught:
        policy_file(Path('lain'))
    assert str(caught.value) == "policy 'lain': no such file; did you mean 'lane'?"


def test_the_baseline_drives_in_the_shadow():
    commands = node_commands(parse(['--shadow']), CONFIG)
    assert 'policy_command:=baseline/policy_command' in commands['baseline']
    assert 'policy_command:=baseline/policy_command' not in commands['agent']
    assert not any('robot.yaml' in word for word in commands['simulation'])
    assert said_by(commands['recorder'])['policies'] == [
        'agent=policy_command', 'baseline=baseline/policy_command']


def test_without_a_baseline_the_simulation_waits_for_one_less():
    commands = node_commands(parse(['--baseline', 'none']), CONFIG)
    assert list(commands) == ['recorder', 'gate', 'agent', 'simulation']
    assert said_by(commands['simulation'])['start_subscribers'] == 2
    assert said_by(commands['simulation'])['allow_foreign_listeners'] is False
    # Nothing is said to be missing that was not wanted.
    assert said_by(commands['recorder'])['policies'] == ['agent=policy_command']


@pytest.mark.parametrize('args, baselines', [
    (['--shadow'], ['lane_sequential']), (['--baseline', 'none'], []),
    (['--baseline', 'a', '--baseline', 'none'], []), (['--baseline', 'none', 'b'], ['b'])])
def test_no_baseline_is_none_of_those_before(args, baselines):
    assert list(map(str, parse(args).baseline)) == baselines


CONFIG = ROOT / 'config'


def said_by(command):
    """Return the parameters that a command gives to its process, as YAML reads them."""
    given = [word.split(':', 1)[1].split(':=', 1) for option, word in zip(command, command[1:])
             if option == '-p']
    return {name: yaml.safe_load(value) for name, value in given}


def test_every_baseline_gets_a_process_and_a_place_in_the_report():
    commands = node_commands(parse(['--baseline', 'a', 'b', '--baseline', 'c']), CONFIG)
    names = ['baseline', 'baseline_2', 'baseline_3']
    assert list(commands) == ['recorder', 'gate', 'agent', *names, 'simulation']
    for name, path in zip(names, 'abc'):
        assert said_by(commands[name])['checkpoint'] == path
        assert f'__node:={name}' in commands[name]
        assert f'policy_command:={name}/policy_command' in commands[name]
    assert said_by(commands['recorder'])['policies'] == ['agent=policy_command', *(
        f'{name}={name}/policy_command' for name in names)]
    assert said_by(commands['simulation'])['start_subscribers'] == 5


def test_a_rate_holds_for_all_that_need_to_know_it():
    commands = node_commands(parse(['--rate', '20']), CONFIG)
    assert said_by(commands.pop('simulation'))['rate'] == 20.0
    assert [said_by(command)['camera_period'] for command in commands.values()] == [0.05] * 4


def test_a_robot_is_simulated_with_its_limits(tmp_path):
    commands = node_commands(parse(['--robot', 'donkeycar']), CONFIG)
    simulation = said_by(commands['simulation'])
    assert (simulation['vehicle'], simulation['rate']) == ('bicycle', 20.0)
    for name in ('agent', 'baseline', 'gate', 'recorder'):
        files = [word for word in commands[name] if word.endswith('.yaml')]
        assert [Path(file).name for file in files] == ['robot.yaml', 'donkeycar.yaml']
    # Its own base hears another type, and the simulator this one, on the robot's topics.
    assert {said_by(commands[name])['output.type'] for name in ('gate', 'recorder')} == {
        'twist_stamped'}
    assert [word for word in commands['simulation'] if ':=' in word][1:3] == [
        'cmd_vel:=drive', 'image:=camera/image_raw']


def test_compressed_images_of_a_robot_are_raw_ones_in_the_simulator():
    commands = node_commands(parse(['--robot', 'turtlebot3']), CONFIG)
    for name in ('agent', 'baseline', 'recorder'):
        said = said_by(commands[name])
        assert said['inputs.image.type'] == 'sensor_msgs/msg/Image'
        assert said['inputs.image.topic'] == 'camera/image_raw'
    assert 'image:=camera/image_raw' in commands['simulation']
    assert 'odom:=odom' not in commands['simulation']


def test_a_file_of_before_is_driven_as_before(tmp_path):
    file = str(Path(__file__).parents[1] / 'support' / 'old_robot.yaml')
    commands = node_commands(parse(['--robot', file]), CONFIG)
    assert said_by(commands['agent'])['image_transport'] == 'raw'
    assert said_by(commands['gate'])['command_type'] == 'twist_stamped'
    assert '-r' not in commands['simulation'][8:]


def test_an_arm_has_no_simulator():
    with pytest.raises(ValueError, match=r'six_joint_arm.yaml:\d+: output.type is '
                       'float64_multi_array, and a simulator here drives a base; take a robot'):
        node_commands(parse(['--robot', 'six_joint_arm']), CONFIG)


def test_the_recorder_s_frames_are_what_triggers_the_policy(tmp_path):
    contract = ParameterFiles([CONFIG / 'robots' / 'scan_car.yaml']).contract_of()
    for inputs, others, trigger in ((['scan'], {}, 'scan'), (['x'], {}, ''),
                                    (['image', 'scan'], {'scan': {}}, 'image'),
                                    (['image', 'scan'], {'image': {}}, 'scan')):
        graph = {'nodes': {name: {'shape': [2]} for name in (*inputs, 'out')}, 'output': 'out',
                 'edges': [{'source': name, 'target': 'out', 'transform': 'dense'}
                           for name in inputs]}
        header = json.dumps({'__metadata__': {
            'graph': json.dumps(graph), 'inputs': json.dumps(others)}})
        file = tmp_path / 'made.safetensors'
        file.write_bytes(len(header).to_bytes(8, 'little') + header.encode())
        assert trigger_of_policy(file, contract) == trigger
    assert trigger_of_policy('lane_streaming', contract) == 'image'
    assert trigger_of_policy('nowhere', contract) == ''
    file.write_bytes(b'\xff' * 20)
    assert trigger_of_policy(file, contract) == ''


def test_files_and_transforms_of_the_user_reach_every_process(tmp_path):
    files = [str(tmp_path / name) for name in ('a.yaml', 'b.yaml')]
    for file in files:
        Path(file).write_text('/**/gate: {ros__parameters: {max_speed: 0.1}}\n')
    commands = node_commands(parse(['--params-file', *files, '--allow', 'm.f', 'm.g']), CONFIG)
    for command in commands.values():
        assert [word for word in command if word.endswith('.yaml')][-2:] == files
    assert [said_by(commands[name])['allow'] for name in ('agent', 'baseline')] == ['m.f,m.g'] * 2


@pytest.mark.parametrize('args, said', [
    (['--checkpoint', 'nowhere'], "policy 'nowhere': no such file"),
    (['--baseline', 'lane_sequential', 'nowhere'], "policy 'nowhere': no such file"),
    (['--robot', 'nowhere'], "robot: there is no 'nowhere'"),
    (['--params-file', 'nowhere'], "nowhere': No such file"),
    (['--params-file', 'stray.yaml'], "stray.yaml:1: the section '/**/gatte' is for none of our "
     "processes, the nearest of which is '/gate'"),
    (['--checkpoint', 'pointer.safetensors'], 'pointer.safetensors: a Git LFS pointer, which '
     'stands for the file; fetch the file itself with `git lfs pull`'),
    (['--output', 'a_file'], "'a_file': File exists; a file is there already")])
def test_what_cannot_be_used_is_said_before_anything_starts(args, said, tmp_path, monkeypatch,
                                                            capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, 'choose_domains', None)
    Path('a_file').touch()
    Path('stray.yaml').write_text('/**/gatte: {ros__parameters: {max_speed: 0.1}}')
    Path('pointer.safetensors').write_text('version https://git-lfs.github.com/spec/v1\n')
    assert run.main(args) == 1
    found = capsys.readouterr().err
    assert found.startswith('stream_agent run: ')
    assert said in found


@pytest.mark.parametrize('text', ['007', '20260730', 'y', 'null', '1e3', 'a: b', '# no', '[', ''])
def test_text_stays_text_on_its_way_to_a_process(text):
    assert yaml.safe_load(in_yaml(text)) == text


class Stream(io.StringIO):
    """Where progress is written."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal


@pytest.mark.parametrize('terminal, said', [
    (False, 'stream_agent run: starting, 16 s\nstream_agent run: driving, 8 of 45 s\n'),
    (True, '\r\x1b[Kstream_agent run: starting, 8 s\r\x1b[Kstream_agent run: starting, 16 s'
     '\r\x1b[K\r\x1b[Kstream_agent run: driving, 0 of 45 s'
     '\r\x1b[Kstream_agent run: driving, 8 of 45 s\r\x1b[K')])
def test_progress_is_a_line_on_a_terminal_and_lines_now_and_then_elsewhere(terminal, said,
                                                                           capsys):
    stream, now = Stream(terminal), [0.0]
    progress = Progress(45.0, stream, lambda: now[0])
    for now[0] in (0.2, 8.0, 16.0):
        progress.tick()
    now[0] = 24.0
    progress.show('[INFO] [simulation]: driving for 45 s')
    for now[0] in (24.5, 32.0):
        progress.tick()
    progress.clear()
    assert stream.getvalue() == said
    assert capsys.readouterr().out == '[INFO] [simulation]: driving for 45 s\n'
