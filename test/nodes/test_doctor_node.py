"""The doctor before real processes: healthy ones, and one fault after the other."""

import json
from pathlib import Path
import re
import signal

from geometry_msgs.msg import TwistStamped
import pytest
import rclpy
from stream_agent.doctor.findings import exit_code, Severity
from stream_agent.doctor.node import examine
from stream_agent.doctor.options import parse
from stream_agent.doctor.parameters import AGENT, GATE, parameters_of
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.messages import COMMAND_QOS, twist_to_command
from stream_agent.share import ParameterFiles
from support.jobs import ROOT, save_scanning

pytestmark = pytest.mark.real_time

ROBOT = str(Path(__file__).parents[1] / 'support' / 'fake_robot.py')
OK, NOT_CHECKED, WARN, ERROR = Severity
PARAMETERS = """
/**: {ros__parameters: {camera_period: 0.05}}
/**/agent: {ros__parameters: {backend: eager, threads: 1}}
/**/gate: {ros__parameters: {max_speed: 1.0}}
"""


@pytest.fixture
def params(tmp_path):
    """Write parameters that fit the fake robot and the shipped policy."""
    path = tmp_path / 'params.yaml'
    path.write_text(PARAMETERS)
    return path


@pytest.fixture
def robot_is_there(start, peer):
    """Start a robot with faults, and wait for its odometry."""
    def start_robot(namespace='', **wrong):
        start(ROBOT, json.dumps(wrong), '--ros-args', '-r', f'__ns:=/{namespace}')
        peer.spin_until(lambda: peer.node.count_publishers(f'/{namespace}/odom'.replace(
            '//', '/')), 20.0)
    return start_robot


@pytest.fixture
def doctor(peer, params, tmp_path):
    """Examine with options; returns the findings by their checks, and holds the exit code."""
    def run(*options, checkpoint='none'):
        found = examine(parse([
            '--params-file', str(params), '--output', str(tmp_path), '--checkpoint', checkpoint,
            '--seconds', '0.7', '--wait', '2', *options]))
        assert len({one.check for one in found}) == len(found)
        assert exit_code(found) == any(one.level is ERROR for one in found)
        return {one.check: one for one in found}
    return run


def test_in_the_simulator_all_is_right(start_node, start, peer, params, tmp_path):
    start_node('simulation', rate=20.0, allow_foreign_listeners=True)
    peer.spin_until(lambda: peer.node.count_publishers('odom'), 20.0)
    command = start('-m', 'stream_agent', 'doctor', '--params-file', str(params), '--seconds',
                    '1', '--output', str(tmp_path), '--json', '--device', 'cpu')
    code = command.wait(40.0)
    findings = json.loads(command.output)['findings']
    assert [one for one in findings if one['level'] not in ('OK', 'not checked')] == []
    assert code == 0
    assert [one['check'] for one in findings if one['level'] == 'not checked'] == ['wheels']
    said = {one['check']: one['said'] for one in findings}
    assert set(said) == {
        'parameters', 'policy', 'limits', 'device', 'response', 'step', 'image topic', 'rate',
        'image', 'stamps', 'base', 'rivals', 'wheels', 'disk'}
    assert 'from /simulation, best effort, volatile' in said['image topic']
    assert said['base'] == "'/cmd_vel': /simulation subscribes to geometry_msgs/msg/TwistStamped"
    assert said['image'].startswith('160 x 120 mono8; the policy takes 160 x 90')


def test_nobody_is_there(doctor, params):
    params.write_text(PARAMETERS.replace('1.0', '99.0'))
    found = doctor('--seconds', '0.5', '--device', 'cuda:77', checkpoint='lane_streaming')
    assert {check: one.level for check, one in found.items()} == {
        'parameters': ERROR, 'policy': OK, 'limits': WARN, 'device': ERROR,
        'response': NOT_CHECKED, 'step': NOT_CHECKED, 'image topic': ERROR, 'rate': NOT_CHECKED,
        'image': NOT_CHECKED, 'stamps': NOT_CHECKED, 'base': WARN, 'rivals': OK,
        'wheels': NOT_CHECKED, 'disk': OK}
    assert found['parameters'].said == f'gate: {params}:4: max_speed is 99.0'
    assert found['device'].said.startswith("device 'cuda:77' is not available")
    assert found['base'].said == "nobody subscribes to '/cmd_vel'"


def test_a_robot_that_comes_late_is_waited_for(start, doctor):
    start(ROBOT, '{"late": 3.0}')
    found = doctor('--wait', '20', '--seconds', '0.5')
    assert found['image topic'].level is OK
    assert found['base'].level is OK


def test_frames_elsewhere_and_commands_of_another_type(robot_is_there, doctor):
    robot_is_there(image_topic='front/compressed', compressed=True, twist=True)
    found = doctor('--wheels-up')
    assert found['policy'].said == "policy 'none': no such file"
    assert found['image topic'].said == "nobody publishes '/image'"
    assert '/front (image_transport compressed)' in found['image topic'].remedy
    assert found['base'].level is ERROR and '/base uses geometry_msgs/msg/Twist;' in (
        found['base'].said)
    assert found['base'].remedy == "set command_type of gate and recorder to 'twist'"
    assert found['wheels'].said == 'refused until the errors above are fixed'


def test_a_slow_old_small_camera_and_a_rival(robot_is_there, doctor, peer):
    commands = peer.hear(TwistStamped, 'cmd_vel')
    robot_is_there(period=0.1, age=0.15, size=(30, 40), rival=True)
    found = doctor('--wheels-up', checkpoint='lane_streaming')
    assert {check: found[check].level for check in ('image topic', 'rate', 'image', 'stamps')} == {
        'image topic': OK, 'rate': WARN, 'image': WARN, 'stamps': WARN}
    (period,) = re.findall(r'set camera_period to (0\.\d+) for', found['rate'].remedy)
    assert float(period) == pytest.approx(0.1, abs=0.003)
    assert found['image'].said == ('40 x 30 mono8; the policy takes 40 x 23 of it to 120 x 60, '
                                   'which adds no detail')
    assert found['stamps'].said.startswith('0.15')
    assert found['rivals'].level is ERROR
    assert 'published by /teleop, bypassing the gate' in found['rivals'].said
    assert found['wheels'].level is NOT_CHECKED
    peer.spin(0.1)
    assert commands == []


def test_damaged_compressed_frames_without_stamps_and_a_base_that_is_deaf(
        robot_is_there, doctor, params):
    params.write_text(PARAMETERS.replace('threads: 1', 'image_transport: compressed'))
    robot_is_there(image_topic='eye/compressed', compressed=True, damaged=True, zero=True,
                   durability='TRANSIENT_LOCAL')
    found = doctor('--image-topic', 'eye')
    assert found['parameters'].level is WARN
    assert found['image topic'].level is OK
    assert "of format 'jpeg' ends early" in found['image'].said
    assert found['image'].level is ERROR
    assert found['stamps'].level is WARN and 'are zero' in found['stamps'].said
    assert found['base'].level is ERROR
    assert '/base asks for reliable, transient local and cannot receive' in found['base'].said


@pytest.mark.parametrize('drives_on, level, said', [
    (False, OK, 'the base stops by itself, 0.'), (True, WARN, 'the base still drives ')])
def test_whether_the_base_stops_by_itself(robot_is_there, doctor, peer, drives_on, level, said):
    commands = peer.hear(TwistStamped, 'cmd_vel')
    robot_is_there(drives_on=drives_on)
    found = doctor('--wheels-up', '--seconds', '0.5')['wheels']
    assert found.level is level and found.said.startswith(said)
    peer.spin(0.2)
    speeds = [twist_to_command(one.message).speed for one in commands]
    assert max(speeds) == 0.05 and speeds.count(0.05) < 25
    assert speeds[-5:] == [0.0] * 5


def test_wheels_stop_where_the_doctor_is_stopped(robot_is_there, start, peer, params, tmp_path):
    commands = peer.hear(TwistStamped, 'cmd_vel')
    robot_is_there(drives_on=True)
    process = start('-m', 'stream_agent', 'doctor', '--params-file', str(params), '--seconds',
                    '0.5', '--output', str(tmp_path), '--checkpoint', 'none', '--wheels-up')
    peer.spin_until(lambda: commands, 30.0)
    process.signal(signal.SIGINT)
    process.signal(signal.SIGTERM)
    assert process.wait() == 130
    peer.spin(0.1)
    speeds = [twist_to_command(one.message).speed for one in commands]
    assert speeds[-5:] == [0.0] * 5 and len(speeds) < 25
    assert 'Traceback' not in process.output


def test_a_gate_that_runs_keeps_the_wheels_from_turning(robot_is_there, doctor):
    robot_is_there('one')
    # Its name is what tells it from a rival.
    gate = rclpy.create_node('gate', namespace='one')
    gate.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    found = doctor('--wheels-up', '--seconds', '0.5', '--namespace', 'one')
    gate.destroy_node()
    assert "'/one/image': sensor_msgs/msg/Image from /one/camera" in found['image topic'].said
    assert found['rivals'].said == "nobody but the gate publishes '/one/cmd_vel'"
    assert found['wheels'].said.startswith('refused, as /one/gate commands the base')


@pytest.mark.parametrize('options, said', [
    (['--robot', 'tortoise'], "there is no 'tortoise'; shipped robots are"),
    (['--seconds', '0'], "'0' is not a number from 0.5 to 3600 s"),
    (['--image-topic', 'a b'], 'argument --image-topic: Invalid topic name'),
    (['--namespace', '1'], 'argument --namespace: Invalid namespace'),
    (['--ros-args', '-p', 'x'], "Couldn't parse parameter override rule"),
    (['--wheel-up?'], "there is no option '--wheel-up?'; did you mean '--wheels-up'?")])
@pytest.mark.any_time
def test_bad_arguments_end_with_two(capfd, options, said):
    with pytest.raises(SystemExit) as ended:
        parse(options)
    assert ended.value.code == 2
    assert said in capfd.readouterr().err


@pytest.mark.any_time
def test_parameters_are_those_that_ros_and_the_nodes_know(peer, params, tmp_path):
    other = tmp_path / 'other.yaml'
    other.write_text('/**: {ros__parameters: {max_speed: 2e-1}}\n'
                     'one: {gate: {ros__parameters: {max_yaw_rate: 1.5}}}')
    words = [word for path in (params, other) for word in ('--params-file', str(path))]
    gate = GateNode(cli_args=['--ros-args', '-r', '__ns:=/one', *words])
    agent = AgentNode()
    given = {name: value.value for name, value in gate._parameter_overrides.items()}
    known = [{name for name in node._parameters if name != 'start_type_description_service'}
             for node in (gate, agent)]
    gate.destroy_node()
    agent.destroy_node()
    assert ParameterFiles([params, other]).of('/one/gate') == given
    assert given['max_speed'] == 1.0 and given['max_yaw_rate'] == 1.5
    assert known == [set(parameters_of(GATE)), set(parameters_of(AGENT))]


# The contract, line by line

CAR = ('--robot', 'scan_car', '--device', 'cpu')
SCANS = {'scan topic', 'scan rate', 'scan stamps', 'scan values'}


@pytest.fixture(scope='module')
def scanning(tmp_path_factory):
    """Return the file of a policy that reads scan and odometry."""
    return str(save_scanning(tmp_path_factory.mktemp('policy'), odometry=[2]))


def test_of_the_simulated_car_every_line_holds(start_node, peer, doctor, scanning, params):
    params.write_text('/**/gate: {ros__parameters: {max_speed: 1.0}}')
    start_node('simulation', '--params-file', str(ROOT / 'config' / 'robots' / 'scan_car.yaml'),
               allow_foreign_listeners=True)
    peer.spin_until(lambda: peer.node.count_publishers('imu'), 20.0)
    found = doctor(*CAR, checkpoint=scanning)
    assert {check: one for check, one in found.items() if one.level not in (OK, NOT_CHECKED)} == {}
    assert SCANS | {'contract', 'clocks', 'imu values', 'odometry values', 'image rate'} <= set(
        found)
    assert found['contract'].said == (
        'the policy reads scan, odometry, and steps with scan; it does not read image, imu, last, '
        'age')
    assert found['scan values'].said.startswith('127 rays of 0.05 to 6 m, of which ')
    assert found['image'].said.endswith('not compared with a policy, as it reads none of these')


def test_lines_that_do_not_hold(robot_is_there, doctor, scanning, params):
    """The scanner is narrow and on another computer, the gyroscope has no datum, odometry fits."""
    params.write_text('/**: {ros__parameters: {camera_period: 0.05}}')
    robot_is_there(scan={'angle_min': -1.0, 'angle_max': 1.0, 'lag': 0.3},
                   imu={'covariance': -1.0})
    found = doctor(*CAR, checkpoint=scanning)
    assert found['scan values'].level is ERROR and 'rad' in found['scan values'].said
    assert found['scan stamps'].level is ERROR
    assert '0.30' in found['scan stamps'].said
    assert found['scan stamps'].said.endswith('; the agent drops such frames')
    assert 'chrony' in found['scan stamps'].remedy
    assert found['clocks'].level is WARN
    assert found['clocks'].said.startswith("messages of 'scan' are 0.30")
    assert "than those of 'odometry'" in found['clocks'].said
    # What this policy does not read is no error.
    assert found['imu values'].level is WARN
    assert 'angular_velocity' in found['imu values'].said and 'covariances is -1' in (
        found['imu values'].said)
    assert 'the policy does not read it' in found['imu values'].said
    assert found['odometry values'].level is OK
    assert found['odometry rate'].level is WARN
    assert found['odometry rate'].said.endswith('inputs.odometry.rate is 30 Hz')


def test_a_policy_that_does_not_fit_and_inputs_that_nobody_sends(
        robot_is_there, doctor, tmp_path, scanning):
    text = (ROOT / 'config' / 'robots' / 'scan_car.yaml').read_text()
    (tmp_path / 'mine.yaml').write_text(text.replace(
        'topic: scan ', 'topic: front/scan ').replace('angle_min: -2.0 ', 'angle_min: -1.0 '))
    robot_is_there(scan={}, imu={'acceleration': 30.0, 'stamped': False})
    found = doctor('--robot', str(tmp_path / 'mine.yaml'), '--device', 'cpu', checkpoint=scanning)
    assert found['contract'].level is ERROR
    assert "angle_min is -1.0 in the robot's contract, and the policy was trained with -2" in (
        found['contract'].said)
    assert re.search(r'mine.yaml:\d+', found['contract'].said)
    assert found['scan topic'] == (
        ERROR, 'scan topic', "nobody publishes '/front/scan'",
        'start its driver, or set inputs.scan.topic to one of that type: /scan')
    assert {found[f'scan {check}'].level for check in ('rate', 'stamps', 'values')} == {
        NOT_CHECKED}
    assert found['imu stamps'].said.endswith('are zero, and stamps count (the policy does not '
                                             'read it)')
    assert found['imu values'].said.startswith(
        'linear_acceleration.x is outside -10 to 10 m/s^2 in 100% of the messages (30 to 30)')


def test_an_arm(robot_is_there, doctor, params):
    params.write_text('/**: {ros__parameters: {camera_period: 0.05}}')
    robot_is_there(joint_states={'count': 5})
    found = doctor('--robot', 'six_joint_arm', '--wheels-up', '--image-topic', 'eye')
    assert found['policy'].level is ERROR
    assert found['joints topic'].level is OK
    assert found['joints values'].level is ERROR and 'joint_6' in found['joints values'].said
    assert found['joints'].level is WARN
    assert found['joints'].said == ("'/joint_states' has no position of joint_6; it has joint_1, "
                                    'joint_2, joint_3, joint_4, joint_5')
    assert found['actuators'].said == ("'/velocity_controller/commands': /base subscribes to "
                                       'std_msgs/msg/Float64MultiArray')
    assert found['wheels'].said == 'the robot has none, and --wheels-up moves nothing else'
    assert 'base' not in found


def test_a_contract_that_cannot_hold_is_a_line(doctor, params):
    params.write_text('/**: {ros__parameters: {inputs: {scan: {trigger: true}}}}')
    found = doctor(*CAR, '--wait', '0.5')
    assert found['parameters'].level is ERROR
    assert found['parameters'].said.endswith('inputs.image and inputs.scan are both the trigger')
    assert found['parameters'].remedy == 'leave `trigger: true` to one'
