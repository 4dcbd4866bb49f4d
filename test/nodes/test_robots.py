"""The shipped robots: complete, known to the ROS nodes, and of use to the simulator."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from stream_agent.gate.settings import GateSettings
from stream_agent.nodes.gate_node import GateNode
from stream_agent.simulation.settings import read_settings, SimulationSettings
import yaml

FILES = sorted((Path(__file__).parents[2] / 'config' / 'robots').glob('*.yaml'))
names = pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
NODES = ('robot', '', 'agent', 'baseline', 'gate', 'recorder', 'simulation')


def sections(file):
    return {name.removeprefix('/**').lstrip('/'): section['ros__parameters']
            for name, section in yaml.safe_load(file.read_text()).items()}


def test_there_are_robots():
    assert len(FILES) >= 5


@names
def test_a_robot_is_complete_and_consistent(file):
    found = sections(file)
    assert set(found) == set(NODES)
    assert set(found['robot']) == {'image_topic', 'cmd_vel_topic'}
    gate, recorder = found['gate'], found['recorder']
    assert {'max_speed', 'max_yaw_rate', 'max_acceleration', 'max_yaw_acceleration',
            'command_type'} <= set(gate)
    assert ('wheel_base' in gate) == (gate['command_type'] == 'ackermann')
    for name in ('command_type', 'wheel_base'):
        assert gate.get(name) == recorder.get(name)
    assert len({found[name]['image_transport'] for name in (
        'agent', 'baseline', 'recorder')}) == 1
    known = {item.name for item in fields(GateSettings)}
    GateSettings(**found[''], **{name: value for name, value in gate.items() if name in known})
    # The expert may do nothing that the gate would cut.
    assert found['simulation']['target_speed'] <= gate['max_speed']
    assert found['']['camera_period'] == pytest.approx(1 / found['simulation']['rate'])
    assert set(found['simulation']) <= {item.name for item in fields(SimulationSettings)}
    read_settings(file)


@names
def test_every_line_of_numbers_says_what_it_is(file):
    lines = [line for line in file.read_text().splitlines() if line.startswith('    ')]
    assert all(' # ' in line for line in lines)


@pytest.mark.real_time
@pytest.mark.any_time
@names
def test_the_gate_takes_the_file(make_node, refusal, file, capfd):
    given = {**sections(file)[''], **sections(file)['gate']}
    arguments = ('--params-file', str(file))
    if given['command_type'] == 'ackermann' and not find_spec('ackermann_msgs'):
        assert "needs the package 'ackermann_msgs'" in refusal(GateNode, *arguments)
        return
    gate = make_node(GateNode, *arguments)
    assert {name: gate.get_parameter(name).value for name in given} == given
    assert capfd.readouterr().err == ''
