"""The launch files: what they describe, and real launches with untrained policies."""

import json
import os
from pathlib import Path
import shutil
import signal
import sys

import pytest
from stream_agent.gazebo.world_folder import write_world
from stream_agent.measurement.recording import read_rows
from stream_agent.share import installed_share
from stream_agent.simulation.settings import SimulationSettings
from support.jobs import is_running, Job, ROOT, save_scanning, save_untrained, wait_for
import yaml

pytest.importorskip('launch_ros', reason='launch_ros does not import: ROS 2 is not installed, '
                    'and its wheels have no launch tools')

ARGUMENTS = {
    'agent.launch.py': {
        'checkpoint', 'baseline', 'device', 'ranks', 'pass_periods', 'costs', 'namespace',
        'robot', 'image_topic', 'cmd_vel_topic', 'params_file', 'use_sim_time',
        'autostart', 'record', 'output', 'respawn', 'prefix', 'log_level'},
    'simulation.launch.py': {'baseline', 'params_file', 'respawn', 'duration', 'course_seed',
                             'pushes', 'handover', 'drive_file', 'allow_foreign_listeners'},
    'gazebo.launch.py': {'baseline', 'params_file', 'use_sim_time', 'respawn', 'world', 'vehicle',
                         'headless'},
}
pytestmark = pytest.mark.real_time
OLD = ROOT / 'test' / 'support' / 'old_robot.yaml'
CONFIGURED = 'sequential policy on cpu'
WAITING = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print('up', *sys.argv, flush=True)
time.sleep(seconds)
"""
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

    def start(*arguments, file='simulation.launch.py'):
        jobs.append(Job(['ros2', 'launch', 'stream_agent', file,
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
def test_one_drive_of_the_main_job_is_launched(launch, tmp_path):
    job = launch('duration:=3.0', 'robot:=reflex', 'checkpoint:=reflex_planned', 'baseline:=none',
                 'pass_periods:=6.4', 'costs:=reflex_costs', 'pushes:=1.5', 'handover:=1.0',
                 f'drive_file:={tmp_path}/drive.json')
    wait_for(lambda: 'EMULATED COMPUTER: serial device, 6.4 camera periods a pass, costs of '
             'reflex_costs; commands come every 0.0237 s' in job.said)
    (gate,) = [Path(f'/proc/{pid}/cmdline').read_text().split('\0')
               for name, pid in job.nodes().items() if name == 'gate']
    given = [yaml.safe_load(Path(word).read_text()) for option, word in zip(gate, gate[1:])
             if option == '--params-file'][-1]
    # Five answers of this computer, as five camera periods for others.
    assert given['/**']['ros__parameters']['max_age'] == pytest.approx(5 * 6.4 / 60)
    assert job.popen.wait(80) == 0, job.said
    drive = json.loads((tmp_path / 'drive.json').read_text())
    assert len(drive['frames']['time']) == 180 and drive['score'] is not None
    assert any(drive['frames']['push'])


@real_launch
def test_a_car_drives_by_its_scan_alone(launch, tmp_path):
    """No image is needed: the simulation waits for the scan's subscribers, and rows are scans."""
    job = launch('duration:=2.0', 'robot:=scan_car', f'checkpoint:={save_scanning(tmp_path)}',
                 'baseline:=none', 'namespace:=car')
    assert job.popen.wait(80) == 0, job.said
    rows = read_rows((tmp_path / 'results' / 'latest').resolve())
    answered = [row for row in rows if row.policy == 'agent' and row.arrival_ns]
    assert len(answered) > 50 and all(row.frame_arrival_ns for row in answered)
    assert sum(row.gated_arrival_ns is not None for row in answered) > 40
    assert 'start_timeout is over' not in job.said and 'No message' not in job.said


@real_launch
@pytest.mark.parametrize('robot', ['turtlebot3', 'donkeycar'])
def test_in_the_simulator_robots_have_their_topics_and_hear_its_types(launch, robot, tmp_path):
    """Compressed images, and a base that takes steering angles, are what the simulator lacks."""
    job = launch('duration:=2.0', f'robot:={robot}', 'baseline:=none')
    assert job.popen.wait(80) == 0, job.said
    rows = read_rows((tmp_path / 'results' / 'latest').resolve())
    assert sum(row.gated_arrival_ns is not None for row in rows) > 25
    assert "subscribers of '/camera/image_raw'" in job.said


@real_launch
def test_an_arm_has_no_simulator(launch):
    job = launch('robot:=six_joint_arm')
    assert job.popen.wait(60) == 1
    assert ('output.type is float64_multi_array, and a simulator here drives a base; take a robot '
            'with a base, or learn from recordings') in job.said
    assert 'process started' not in job.said


@real_launch
def test_a_contract_that_cannot_hold_ends_the_launch(agent, tmp_path):
    (tmp_path / 'mine.yaml').write_text(
        '/**: {ros__parameters: {inputs: {scan: {trigger: true}}}}\n')
    job = agent('robot:=scan_car', f'params_file:={tmp_path}/mine.yaml')
    assert job.popen.wait(60) == 1
    assert 'inputs.image and inputs.scan are both the trigger; leave `trigger: true` to one' in (
        job.said)
    assert 'process started' not in job.said


@real_launch
def test_what_a_file_says_of_the_gate_holds_for_an_emulated_computer_too(agent, tmp_path):
    (tmp_path / 'mine.yaml').write_text('/**/gate: {ros__parameters: {max_age: 0.3}}')
    job = agent(f'params_file:={tmp_path}/mine.yaml', 'pass_periods:=20.0')
    wait_for(lambda: CONFIGURED in job.said)
    words = Path(f'/proc/{job.nodes()["gate"]}/cmdline').read_text().split('\0')
    given = {}
    for option, word in zip(words, words[1:]):
        if option == '--params-file':
            for section in yaml.safe_load(Path(word).read_text()).values():
                given |= section['ros__parameters']
    assert given['max_age'] == 0.3
    assert given['command_timeout'] == pytest.approx(5 * 20 / 30)


@pytest.fixture
def agent(launch):
    """Launch agents without a simulation; what is said tells their topics."""
    return lambda *arguments: launch('record:=false', *arguments, file='agent.launch.py')


@real_launch
@pytest.mark.parametrize('arguments, image, file', [
    (['robot:=turtlebot3'], 'camera/image_raw:=camera/image_raw', 'turtlebot3.yaml'),
    (['robot:=turtlebot4', 'image_topic:=mine', 'namespace:=one'],
     'oakd/rgb/preview/image_raw:=mine', 'turtlebot4.yaml'),
    ([f'robot:={OLD}'], 'image:=camera/image_raw', 'old_robot.yaml'),
    ([], 'image:=image', 'robot.yaml')])
def test_a_robot_has_its_topics_unless_others_are_given(agent, arguments, image, file):
    job = agent(*arguments, 'prefix:=nice -n 3')
    wait_for(lambda: CONFIGURED in job.said)
    for name, pid in job.nodes().items():
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 3
        words = Path(f'/proc/{pid}/cmdline').read_text().split('\0')
        assert image in words and 'cmd_vel:=cmd_vel' in words
        assert words[words.index('--enclave') + 1] == f'/stream_agent/{name}'
        environment = Path(f'/proc/{pid}/environ').read_text().split('\0')
        assert 'ROS_SECURITY_ENCLAVE_OVERRIDE=' in environment
        # The last file wins.
        files = [words[i + 1] for i, word in enumerate(words) if word == '--params-file']
        assert [Path(path).name for path in files[:3]] == ['robot.yaml', file, file]


@real_launch
def test_ranks_are_the_agent_s(agent, policy):
    job = agent('ranks:=2', f'baseline:={policy}')
    wait_for(lambda: job.said.count(CONFIGURED) == 2)
    # Of a sequential rollout nothing can be spread.
    assert job.said.count('one process computes the network: 1 of 2 ranks has no work') == 1


@real_launch
def test_a_robot_that_there_is_not_is_a_sentence(agent):
    job = agent('robot:=tortoise')
    assert job.popen.wait(60) == 1
    assert ("robot: there is no 'tortoise'; shipped robots are differential_drive, donkeycar, "
            'f1tenth, reflex, scan_car, six_joint_arm, turtlebot3, turtlebot4; the path of '
            'another such file may be given too') in job.said


@real_launch
@pytest.mark.parametrize('section, namespace, said', [
    ('gate', 'one', "mine.yaml:1: the section 'gate' is for none of our processes, the nearest of "
     "which is '/one/gate'; if that is meant, write '/**/gate'"),
    ('/**/gatte', '', "mine.yaml:1: the section '/**/gatte' is for none of our processes, the "
     "nearest of which is '/gate'; if that is meant, write '/**/gate'"),
    ('/**', '', 'gate: {}/mine.yaml:1: max_speed 0.1 has no effect, as ROS takes 0.5 of '),
    (None, '', "'{}/mine.yaml': No such file or directory; give the path of a parameter file")])
def test_parameters_without_effect_end_the_launch(agent, tmp_path, section, namespace, said):
    if section:
        (tmp_path / 'mine.yaml').write_text(f'{section}: {{ros__parameters: {{max_speed: 0.1}}}}')
    job = agent(f'params_file:={tmp_path}/mine.yaml',
                *([f'namespace:={namespace}'] if namespace else []))
    assert job.popen.wait(60) == 1
    assert said.format(tmp_path) in job.said
    assert 'process started' not in job.said


@real_launch
def test_what_is_for_others_is_warned_of(agent, tmp_path):
    (tmp_path / 'shared.yaml').write_text(
        '/**: {ros__parameters: {robot_name: x}}\n/amcl: {ros__parameters: {alpha1: 0.2}}')
    job = agent(f'params_file:={tmp_path}/shared.yaml')
    wait_for(lambda: CONFIGURED in job.said)
    assert "shared.yaml:2: the section '/amcl' is for none of our processes" in job.said
    for name in ('agent', 'gate'):
        assert f"{name}: there is no parameter 'robot_name' ({tmp_path}/shared.yaml:1)" in job.said


@real_launch
def test_a_launch_may_set_parameters_for_everybody(tmp_path):
    file = tmp_path / 'all.launch.py'
    file.write_text(
        'from launch import LaunchDescription\n'
        'from launch_ros.actions import Node, SetParameter\n'
        'def generate_launch_description():\n'
        "    return LaunchDescription([SetParameter('robot_name', 'x'), Node(\n"
        "        package='stream_agent', executable='gate', parameters=[{'max_speed': 1}])])\n")
    job = Job(['ros2', 'launch', str(file)], tmp_path)
    try:
        wait_for(lambda: "gate: there is no parameter 'robot_name'; the nearest" in job.said)
        # It goes on, where a refusal would have ended it.
        with pytest.raises(AssertionError):
            wait_for(lambda: 'process has' in job.said, timeout=2.0)
    finally:
        job.close()


@real_launch
def test_arguments_are_taken_as_they_are_written(launch, tmp_path):
    job = Job(['ros2', 'launch', 'stream_agent', 'agent.launch.py', 'checkpoint:=007',
               'output:=20260730', 'device:=0', 'use_sim_time:=True'], tmp_path)
    try:
        assert job.popen.wait(60) == 1
        assert "configure: [Errno 2] No such file or directory: '007'" in job.said or (
            "policy '007'" in job.said)
        assert (tmp_path / '20260730').is_dir()
    finally:
        job.close()


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
    environment = Path(f'/proc/{started["simulation"]}/environ').read_text()
    assert 'share/stream_agent/config/fastdds.xml' in environment
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


@real_launch
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_launch_alone_ends_all_within_two_seconds(agent, number):
    job = agent()
    wait_for(lambda: CONFIGURED in job.said)
    nodes = job.nodes()
    assert set(nodes) == {'agent', 'gate'}
    # As systemd and `docker stop` do it; a terminal would tell the nodes, too.
    os.kill(job.popen.pid, number)
    wait_for(lambda: not any(is_running(pid) for pid in nodes.values()), timeout=2.0)
    job.popen.wait(10)


@pytest.fixture
def gazebo(tmp_path, monkeypatch):
    """
    Stand in for an installation of Gazebo, which no test machine has: what is started, waits.

    :returns: The folder of a world.
    """
    prefix = tmp_path / 'gazebo'
    for path, seconds in (('bin/gz', 600), ('lib/ros_gz_sim/create', 0),
                          ('lib/ros_gz_bridge/parameter_bridge', 600)):
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(f'#!{sys.executable}\nseconds = {seconds}\n{WAITING}')
        (prefix / path).chmod(0o755)
    for package in ('ros_gz_sim', 'ros_gz_bridge'):
        (prefix / 'share' / package).mkdir(parents=True)
        index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages'
        index.mkdir(parents=True, exist_ok=True)
        (index / package).touch()
    monkeypatch.setenv('PATH', f'{prefix}/bin:{os.environ["PATH"]}')
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')
    write_world(SimulationSettings(), 3, tmp_path / 'world')
    return tmp_path / 'world'


@real_launch
def test_gazebo_gets_the_world_and_leaves_nothing_running(launch, gazebo):
    job = launch('headless:=true', f'world:={gazebo}', 'vehicle:=bicycle', 'record:=false',
                 file='gazebo.launch.py')
    world = f'{gazebo}/world.sdf'
    wait_for(lambda: f'sim -r -v 3 -s --headless-rendering {world}' in job.said)
    wait_for(lambda: f'-file {gazebo}/bicycle.sdf -x ' in job.said)
    wait_for(lambda: job.said.count('/parameter_bridge') >= 2 and job.said.count(CONFIGURED) == 2)
    wait_for(lambda: {'agent', 'baseline', 'gate', 'expert', 'bridge', 'camera_bridge'} <= set(
        job.nodes()))
    assert 'not on the course' not in job.said
    children = [*job.nodes().values(), *processes_of(world)]
    assert len(processes_of(world)) == 1
    job.popen.send_signal(signal.SIGINT)
    assert job.popen.wait(60) == 0, job.said
    assert not any(is_running(pid) for pid in children)


@real_launch
def test_a_robot_that_does_not_come_onto_the_course_is_said_once(launch, gazebo):
    create = gazebo.parent / 'gazebo' / 'lib' / 'ros_gz_sim' / 'create'
    create.write_text(create.read_text().replace('seconds = 0', 'seconds = 600'))
    job = launch(f'world:={gazebo}', 'baseline:=none', 'record:=false', file='gazebo.launch.py')
    said = 'the robot is not on the course after 10 s, as `create` waits for Gazebo'
    wait_for(lambda: said in job.said)
    job.popen.send_signal(signal.SIGINT)
    job.popen.wait(60)
    assert job.said.count(said) == 1


@real_launch
@pytest.mark.skipif(not shutil.which('setpriv'), reason='setpriv is not installed')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launch_alone_ends_gazebo_too(launch, gazebo, number):
    job = launch(f'world:={gazebo}', 'baseline:=none', 'record:=false', file='gazebo.launch.py')
    wait_for(lambda: CONFIGURED in job.said and job.said.count('/parameter_bridge') >= 2)
    children = [*job.nodes().values(), *processes_of(f'{gazebo}/world.sdf')]
    assert len(children) == 6
    os.kill(job.popen.pid, number)
    wait_for(lambda: not any(is_running(pid) for pid in children), timeout=2.0)


@real_launch
@pytest.mark.parametrize('number, code', [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_the_end_of_gazebo_is_the_end_of_all(launch, gazebo, number, code):
    job = launch(f'world:={gazebo}', 'baseline:=none', 'record:=false', file='gazebo.launch.py')
    wait_for(lambda: CONFIGURED in job.said)
    wait_for(lambda: f'sim -r -v 3 {gazebo}/world.sdf' in job.said)
    (server,) = processes_of(f'{gazebo}/world.sdf')
    nodes = job.nodes()
    os.kill(server, number)
    assert job.popen.wait(60) == code, job.said
    assert ('Gazebo ended with exit code -9' in job.said) == bool(code)
    assert nodes and not any(is_running(pid) for pid in nodes.values())


@real_launch
@pytest.mark.skipif(bool(shutil.which('gz')), reason='Gazebo is installed')
def test_gazebo_that_is_not_installed_is_a_sentence(launch, tmp_path):
    job = launch(f'world:={tmp_path}', file='gazebo.launch.py')
    assert job.popen.wait(60) == 1
    assert ("Gazebo is not installed: the command 'gz', the package 'ros_gz_sim', the package "
            "'ros_gz_bridge' cannot be found; install it by `sudo apt install "
            'ros-${ROS_DISTRO}-ros-gz` and source ROS again') in job.said


@real_launch
def test_a_folder_that_is_no_world_is_a_sentence(launch, gazebo, tmp_path):
    job = launch(f'world:={tmp_path}', file='gazebo.launch.py')
    assert job.popen.wait(60) == 1
    assert f"world: '{tmp_path}' has no file 'world.sdf'; write one by" in job.said


def processes_of(word):
    """Return the processes of Gazebo that have a word on their command line."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_text().split('\0')
        except OSError:
            continue
        if word in words and 'sim' in words:
            found.append(int(path.parent.name))
    return found
