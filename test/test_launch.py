"""The launch files: what they describe, and real launches with untrained policies."""

import os
import shutil
import signal

from jobs import is_running, Job, ROOT, save_untrained, wait_for
import pytest
from stream_agent.installation import installed_share

pytest.importorskip('launch_ros', reason='launch_ros does not import: ROS 2 is not installed, '
                    'and its wheels have no launch tools')

ARGUMENTS = {
    'agent.launch.py': {
        'checkpoint', 'baseline', 'device', 'namespace', 'image_topic', 'cmd_vel_topic',
        'params_file', 'use_sim_time', 'autostart', 'record', 'output', 'respawn', 'log_level'},
    'simulation.launch.py': {'baseline', 'params_file', 'respawn', 'duration', 'course_seed'},
}
pytestmark = pytest.mark.real_time
CONFIGURED = 'sequential policy on cpu'
real_launch = pytest.mark.skipif(
    not (shutil.which('ros2') and installed_share()),
    reason='`ros2 launch` does not find the package: AMENT_PREFIX_PATH has no installation of it')


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
    """Return the file of an untrained policy."""
    return str(save_untrained(tmp_path_factory.mktemp('policy')))


@pytest.fixture
def launch(policy, tmp_path):
    """Launch the simulation with an untrained policy and given arguments."""
    jobs = []

    def start(*arguments):
        jobs.append(Job(['ros2', 'launch', 'stream_agent', 'simulation.launch.py',
                         f'checkpoint:={policy}', 'device:=cpu', f'output:={tmp_path}/results',
                         *arguments], tmp_path))
        return jobs[-1]

    yield start
    for job in jobs:
        job.close()


@pytest.mark.parametrize('name', ARGUMENTS)
def test_every_argument_is_there_and_described(name):
    from launch.launch_description_sources import get_launch_description_from_python_launch_file
    description = get_launch_description_from_python_launch_file(str(ROOT / 'launch' / name))
    arguments = {item.name: item.description for item in description.entities
                 if hasattr(item, 'default_value')}
    assert set(arguments) == ARGUMENTS[name]
    assert all(len(text) > 10 and text != 'no description given' for text in arguments.values())


@real_launch
def test_the_simulation_ends_the_launch_and_the_recorder_reports(launch, policy, tmp_path):
    job = launch('duration:=2.0', f'baseline:={policy}', 'namespace:=robot',
                 'image_topic:=camera/image', 'cmd_vel_topic:=base/cmd_vel')
    wait_for(lambda: '/robot/camera/image' in job.said)
    assert job.popen.wait(80) == 0, job.said
    assert (tmp_path / 'results' / 'latest' / 'report.html').stat().st_size > 10_000
    assert 'No message' not in job.said
    assert 'start_timeout is over' not in job.said


@real_launch
def test_a_policy_that_cannot_be_configured_ends_the_launch_with_an_error(launch):
    job = launch('baseline:=/nowhere')
    assert job.popen.wait(60) == 1
    assert 'baseline was not configured; its error above says why' in job.said


@real_launch
def test_a_crash_ends_the_launch_with_an_error(launch):
    job = launch('baseline:=none', 'record:=false')
    wait_for(lambda: CONFIGURED in job.said)
    started = job.nodes()
    assert sorted(started) == ['agent', 'gate', 'simulation']
    os.kill(started['agent'], signal.SIGSEGV)
    assert job.popen.wait(60) == 1
    assert 'agent-1 ended with exit code -11' in job.said
    assert not any(is_running(pid) for pid in started.values())


@real_launch
def test_a_crashed_agent_comes_back_unconfigured(launch):
    job = launch('baseline:=none', 'record:=false', 'respawn:=true')
    wait_for(lambda: CONFIGURED in job.said)
    before = job.nodes()
    os.kill(before['agent'], signal.SIGSEGV)
    wait_for(lambda: job.nodes().get('agent', before['agent']) != before['agent'])
    # Twice the time that the first one took.
    with pytest.raises(AssertionError):
        wait_for(lambda: job.said.count(CONFIGURED) > 1, timeout=10.0)
    after = job.nodes()
    job.popen.send_signal(signal.SIGINT)
    assert job.popen.wait(60) == 0, job.said
    assert not any(is_running(pid) for pid in after.values())
