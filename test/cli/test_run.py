"""The main job without launch tools: real processes, their ends and crashes."""

import os
from pathlib import Path
import signal
import sys

import pytest
from stream_agent import share
from stream_agent.cli.process_group import ProcessGroup
from stream_agent.cli.run import node_commands, parser
from stream_agent.share import InstallationError, policy_file
from support.jobs import is_running, Job, ROOT, save_untrained, wait_for

pytestmark = pytest.mark.real_time

PATIENT = 'import time; print("up", flush=True); time.sleep(60)'
OBEDIENT = ('import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(0)); '
            'print("up", flush=True); time.sleep(60)')
STUBBORN = ('import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); '
            'print("up", flush=True); time.sleep(60)')


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
        jobs.append(Job(
            [sys.executable, '-m', 'stream_agent', 'run', '--without-launch', '--output',
             str(tmp_path / 'results'), '--checkpoint', policy, '--baseline', policy,
             *arguments], tmp_path))
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


def test_a_crash_while_stopping_is_reported(group):
    group.start('bad', python(
        'import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); '
        'print("up", flush=True); time.sleep(60)'))
    wait_for(lambda: group._processes['bad'].pass_on() and group._processes['bad'].lines)
    group.stop(['bad'], 5.0)
    assert group.failures == ['bad crashed with exit code 3; its last lines:\n    up']


def test_what_ignores_sigint_is_killed_with_all_it_started(group):
    group.start('stubborn', python(
        f'import subprocess, sys; child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}]); '
        f'print(child.pid, flush=True); {STUBBORN}'))
    lines = group._processes['stubborn'].lines
    wait_for(lambda: group._processes['stubborn'].pass_on() and len(lines) == 3)
    child = next(int(line) for line in lines if line != 'up')
    group.stop(['stubborn'], 0.5)
    assert group.failures == ['stubborn did not end within 0.5 s of SIGINT; killed']
    wait_for(lambda: not is_running(child))


def test_one_that_is_just_starting_may_die_of_sigint(group):
    group.start('patient', python(PATIENT))
    group.stop(['patient'], 5.0)
    assert group.failures == []


def test_the_main_job_drives_and_reports(main_job, tmp_path):
    job = main_job('--duration', '2')
    assert job.popen.wait(80) == 0, job.said
    assert job.said.rstrip().endswith('report.html')
    assert (tmp_path / 'results' / 'latest' / 'report.html').stat().st_size > 10_000


def test_the_main_job_names_the_agent_that_crashes_and_leaves_nothing_running(main_job):
    job = main_job()
    wait_for(lambda: '[agent] ' in job.said)
    started = job.nodes()
    assert sorted(started) == ['agent', 'baseline', 'gate', 'recorder', 'simulation']
    os.kill(started['agent'], signal.SIGSEGV)
    assert job.popen.wait(30) == 1
    assert 'stream_agent run: agent crashed with exit code -11 (SIGSEGV)' in job.said
    assert not any(is_running(pid) for pid in started.values())


def test_sigint_stops_the_main_job_with_a_report(main_job):
    job = main_job()
    wait_for(lambda: 'probing' in job.said)
    started = job.nodes()
    job.popen.send_signal(signal.SIGINT)
    assert job.popen.wait(30) == 0, job.said
    assert not any(is_running(pid) for pid in started.values())
    assert 'stream_agent run:' not in job.said
    assert job.said.rstrip().endswith('report.html')


def test_a_killed_main_job_leaves_no_orphan(main_job):
    job = main_job()
    wait_for(lambda: len(job.nodes()) == 5)
    started = job.nodes()
    job.popen.kill()
    job.popen.wait()
    wait_for(lambda: not any(is_running(pid) for pid in started.values()))


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
    assert str(caught.value) == "policy 'lain': no such file; shipped policies are lane"


def test_the_baseline_drives_in_the_shadow():
    commands = node_commands(parser().parse_args([]), Path('config'))
    assert 'policy_command:=baseline/policy_command' in commands['baseline']
    assert 'policy_command:=baseline/policy_command' not in commands['agent']
    assert not any('robot.yaml' in word for word in commands['simulation'])


def test_without_a_baseline_the_simulation_waits_for_one_less():
    commands = node_commands(parser().parse_args(['--baseline', 'none']), Path('config'))
    assert list(commands) == ['recorder', 'gate', 'agent', 'simulation']
    assert commands['simulation'][-1] == 'start_subscribers:=2'
