"""The shipped robots: complete, known to the ROS nodes, and of use to the simulator."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from stream_agent.gate.settings import GateSettings
from stream_agent.nodes.gate_node import GateNode
from stream_agent.share import ParameterFiles
from stream_agent.simulation.settings import read_settings, SimulationSettings
import yaml

FOLDER = Path(__file__).parents[2] / 'config' / 'robots'
FILES = sorted(FOLDER.glob('*.yaml'))
OLD = Path(__file__).parents[1] / 'support' / 'old_robot.yaml'
SIMULATED = [file for file in FILES if file.stem != 'six_joint_arm']
names = pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
simulated = pytest.mark.parametrize('file', SIMULATED, ids=lambda file: file.stem)


def sections(file):
    return {name.removeprefix('/**').lstrip('/'): section['ros__parameters']
            for name, section in yaml.safe_load(file.read_text()).items()}


def contract_of(file):
    return ParameterFiles([file]).contract_of('/agent')


def test_there_are_robots():
    assert len(FILES) >= 8


@names
def test_a_robot_says_everything_once(file):
    """What feeds a network and who obeys it is for all processes, so nobody says it again."""
    found, contract = sections(file), contract_of(file)
    assert set(found) <= {'', 'gate', 'simulation'}
    assert contract.given and contract.inputs[contract.trigger].trigger
    assert set(found['']) <= {'camera_period', 'wheel_base', 'inputs', 'output'}
    assert ('wheel_base' in found['']) == (contract.output.type == 'ackermann')
    rate = contract.inputs[contract.trigger].rate
    assert found['']['camera_period'] == pytest.approx(1 / rate)
    # For every process it is the same.
    files = ParameterFiles([FOLDER.parent / 'robot.yaml', file])
    assert all(files.contract_of(f'/{name}') == contract
               for name in ('agent', 'baseline', 'gate', 'recorder', 'simulation'))


@simulated
def test_a_base_has_limits_and_a_simulator(file):
    found = sections(file)
    gate = found['gate']
    assert {'max_speed', 'max_yaw_rate', 'max_acceleration', 'max_yaw_acceleration'} <= set(gate)
    known = {item.name for item in fields(GateSettings)}
    GateSettings(camera_period=found['']['camera_period'],
                 **{name: value for name, value in gate.items() if name in known})
    # The expert may do nothing that the gate would cut.
    assert found['simulation']['target_speed'] <= gate['max_speed']
    assert found['']['camera_period'] == pytest.approx(1 / found['simulation']['rate'])
    assert set(found['simulation']) <= {item.name for item in fields(SimulationSettings)}
    read_settings(file)


def test_the_scanner_of_the_car_covers_what_its_network_sees():
    scan, simulation = contract_of(FOLDER / 'scan_car.yaml').inputs['scan'], read_settings(
        FOLDER / 'scan_car.yaml')
    assert simulation.scan_angle_min < scan.angle_min < scan.angle_max < simulation.scan_angle_max
    assert simulation.scan_rays > scan.rays and scan.high == (simulation.scan_range_max,)


def test_an_arm_has_a_limit_for_each_joint():
    arm = contract_of(FOLDER / 'six_joint_arm.yaml')
    assert {arm.conversion('joints', (12,)).size} == {2 * len(arm.output.names)} == {12}
    assert {len(arm.output.lowest), len(arm.output.highest), len(arm.output.max_rate)} == {6}
    assert arm.output_scale().units == ('rad/s',) * 6


def test_the_arm_s_other_controller_is_as_the_comment_says(tmp_path):
    text = (FOLDER / 'six_joint_arm.yaml').read_text()
    mine = tmp_path / 'mine.yaml'
    mine.write_text(text.replace('type: float64_multi_array ', 'type: joint_trajectory ').replace(
        'topic: velocity_controller/commands ',
        'topic: joint_trajectory_controller/joint_trajectory ').replace(
        'quantity: velocity ', 'quantity: position ').replace('units: [rad/s] ', 'units: [rad] ')
        .replace('lowest: [-0.8, -0.8, -0.8, -1.2, -1.2, -1.2] ',
                 'lowest: [-3.1416, -2.2, -2.6, -3.1416, -2.2, -3.1416] ')
        .replace('highest: [0.8, 0.8, 0.8, 1.2, 1.2, 1.2] ',
                 'highest: [3.1416, 2.2, 2.6, 3.1416, 2.2, 3.1416] ')
        .replace('measured_topic: joint_states ', 'horizon: 0.03 '))
    output = contract_of(mine).output
    assert (output.type, output.quantity, output.stop) == ('joint_trajectory', 'position', 'hold')
    assert output.horizon == 0.03 and output.highest[1] == 2.2


@names
def test_every_line_of_numbers_says_what_it_is(file):
    lines = [line for line in file.read_text().splitlines()
             if line.startswith('    ') and not line.lstrip().startswith('#')]
    assert all(' # ' in line for line in lines)


@pytest.mark.real_time
@pytest.mark.any_time
@pytest.mark.parametrize('file', [*FILES, OLD], ids=lambda file: file.stem)
def test_the_gate_takes_the_file(make_node, refusal, file, capfd):
    found, arguments = sections(file), ('--params-file', str(file))
    output = contract_of(file).output
    if output.type == 'ackermann' and not find_spec('ackermann_msgs'):
        assert "needs the package 'ackermann_msgs'" in refusal(GateNode, *arguments)
        return
    gate = make_node(GateNode, *arguments)
    assert {name: gate.get_parameter(name).value for name in found['gate']} == found['gate']
    assert gate._type.kind.__name__ == {
        'twist_stamped': 'TwistStamped', 'float64_multi_array': 'Float64MultiArray'}[output.type]
    assert capfd.readouterr().err == ''


def test_a_file_of_before_means_what_it_meant():
    contract = contract_of(OLD)
    assert not contract.given
    (camera,) = contract.inputs.values()
    assert camera.type == 'sensor_msgs/msg/CompressedImage' and camera.trigger
    assert ParameterFiles([OLD]).topics() == {
        'image_topic': 'camera/image_raw', 'cmd_vel_topic': 'cmd_vel'}
