"""What users and launch files give: taken where it can be meant, and where it came from."""

from pathlib import Path
import subprocess
import sys

import pytest
from stream_agent.doctor.findings import Severity
from stream_agent.doctor.node import Setup
from stream_agent.doctor.options import parse
from stream_agent.nodes import parameters
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.record_bag_node import RecordNode
from stream_agent.nodes.recorder_node import RecorderNode
from stream_agent.nodes.simulation_node import SimulationNode

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]
OK, _, WARN, ERROR = Severity
OWN = '/**/gate: {{ros__parameters: {{{}}}}}'
SHARED = '/**: {{ros__parameters: {{{}}}}}'


@pytest.fixture
def node(make_node, monkeypatch, tmp_path):
    """Make a node of ours as its process does, which knows its arguments; files are written."""
    def make(kind, *words, text=None):
        if text is not None:
            (tmp_path / 'mine.yaml').write_text(text)
            words = [*words, '--params-file', str(tmp_path / 'mine.yaml')]
        monkeypatch.setattr(parameters, 'arguments', ['--ros-args', *words])
        return make_node(kind, *words)
    return make


@pytest.fixture
def doctor(tmp_path):
    """Return the doctor's findings on parameters, but for what is right."""
    def examine(text, *options):
        (tmp_path / 'mine.yaml').write_text(text)
        findings = Setup(parse(['--params-file', str(tmp_path / 'mine.yaml'), *options])).findings
        return [one for one in findings if one.level is not OK]
    return examine


@pytest.mark.parametrize('kind, name, text, value', [
    (GateNode, 'max_speed', '1', 1.0),
    (GateNode, 'stop_input', 'yes', True),
    (AgentNode, 'device', '0', '0'),
    (AgentNode, 'threads', '2.0', 2),
    (AgentNode, 'checkpoint', '007', '007'),
    (AgentNode, 'checkpoint', '1e3', '1e3'),
    (AgentNode, 'checkpoint', 'on', 'on'),
    (AgentNode, 'checkpoint', '.5', '.5'),
    (AgentNode, 'checkpoint', 'null', 'null'),
    (AgentNode, 'checkpoint', '0x10', '0x10'),
    (SimulationNode, 'rate', '30', 30.0),
    (RecordNode, 'name', '20260730', '20260730'),
    (RecorderNode, 'policies', 'agent=policy_command', ['agent=policy_command'])])
def test_a_value_is_taken_as_it_is_meant(node, tmp_path, kind, name, text, value):
    others = (['-p', f'output:={tmp_path}'] if kind in (RecordNode, RecorderNode) else [])
    made = node(kind, *others, '-p', f'{name}:={text}')
    assert made.get_parameter(name).value == value
    made.destroy_node()
    section = f'/**: {{ros__parameters: {{{name}: {text}}}}}'
    assert node(kind, *others, text=section).get_parameter(name).value == value


@pytest.mark.parametrize('rule, said', [
    ('max_speed:="1"', "max_speed is '1'; set it to a number from 0 to 20 m/s"),
    ('max_speed:=1_0.0', "max_speed is '1_0.0'; set it to a number from 0 to 20 m/s"),
    ('max_speed:=true', 'max_speed is True; set it to a number from 0 to 20 m/s'),
    ('max_speed:=[1.0]', 'max_speed is [1.0]; set it to a number from 0 to 20 m/s'),
    ('stop_input:=1', 'stop_input is 1; set it to true or false')])
def test_another_value_is_a_sentence(node, doctor, tmp_path, rule, said):
    with pytest.raises(ValueError) as refused:
        node(GateNode, '-p', rule)
    assert str(refused.value).startswith(said)
    place, text = f'{tmp_path}/mine.yaml:1: ', OWN.format(rule.replace(':=', ': '))
    with pytest.raises(ValueError) as refused:
        node(GateNode, text=text)
    assert str(refused.value).startswith(place + said)
    findings = doctor(text)
    # What cannot override the shipped file's value is told as such.
    assert all(one.level is ERROR and (said.startswith(one.said.removeprefix(f'gate: {place}'))
                                       or 'has no effect' in one.said) for one in findings)
    assert findings


def test_a_file_without_parameters_is_warned_of(doctor, tmp_path):
    for text in ('', '# nothing', '/**/gate: {}', '/**/gate: {ros__parameters: {}}'):
        (finding,) = doctor(text)
        assert finding.level is WARN
        assert finding.said == f"'{tmp_path}/mine.yaml' has no parameters"


def test_a_list_of_numbers_is_a_list_of_texts(node, tmp_path):
    with pytest.raises(ValueError, match="policies: '7' is not of the form 'name=topic'"):
        node(RecorderNode, '-p', 'policies:=[7, 8]', '-p', f'output:={tmp_path}')


def test_without_the_arguments_a_text_is_what_yaml_leaves_of_it(make_node):
    assert make_node(AgentNode, '-p', 'checkpoint:=12').get_parameter('checkpoint').value == '12'


def test_names_of_others_in_shared_sections_are_warned_of(node, doctor, tmp_path, capfd):
    assert node(GateNode, text=SHARED.format('robot_name: x, max_speed: 0.3')).get_parameter(
        'max_speed').value == 0.3
    assert (f"gate: there is no parameter 'robot_name' ({tmp_path}/mine.yaml:1); the nearest is "
            in capfd.readouterr().err)
    (finding,) = doctor(SHARED.format('robot_name: x'))
    assert finding.level is WARN
    assert "mine.yaml:1: agent, baseline, gate, recorder have no parameter 'robot_name'" in (
        finding.said)


def test_the_camera_period_of_all_is_not_warned_of_where_it_is_not_needed(node, capfd):
    node(SimulationNode, text=SHARED.format('camera_period: 0.02'))
    assert 'camera_period' not in capfd.readouterr().err
    with pytest.raises(ValueError, match="simulation: there is no parameter 'camera_period'"):
        node(SimulationNode, text='/**/simulation: {ros__parameters: {camera_period: 0.02}}')


def test_names_of_others_in_own_sections_are_refused(node, doctor, tmp_path):
    for text in (OWN.format('robot_name: x'),
                 SHARED.format('robot_name: y') + '\n' + OWN.format('robot_name: x')):
        with pytest.raises(ValueError, match="gate: there is no parameter 'robot_name' "):
            node(GateNode, text=text)
        assert [one.said for one in doctor(text) if one.level is ERROR] == [
            f'gate: {tmp_path}/mine.yaml:{text.count(chr(10)) + 1}: there is no parameter '
            "'robot_name'"]


def test_names_of_others_by_a_launch_are_warned_of(node, monkeypatch, capfd):
    words = ['-p', 'robot_name:=x']
    with pytest.raises(ValueError, match="there is no parameter 'robot_name'; the nearest is"):
        node(GateNode, *words)
    monkeypatch.setattr(parameters, 'started_by_launch', lambda: True)
    node(GateNode, *words)
    assert "gate: there is no parameter 'robot_name'; the" in capfd.readouterr().err
    with pytest.raises(ValueError, match='there is no parameter'):
        node(GateNode, '-p', 'gate:robot_name:=x')


@pytest.mark.parametrize('name', ['robot.launch.py', 'launch'])
def test_a_launch_is_known_as_the_parent(tmp_path, name):
    parent = tmp_path / name
    parent.write_text('import subprocess, sys\n'
                      'subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)\n')
    asked = 'from stream_agent.nodes.parameters import started_by_launch as s; print(s())'
    words = [str(parent), asked, name] if name == 'launch' else [str(parent), asked]
    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2]).stdout
    assert said == 'True\n'
    assert not parameters.started_by_launch()


@pytest.mark.parametrize('section, space', [('gate', '/robot1'), ('/**/gatte', ''),
                                            ('/robot2/gate', '/robot1')])
def test_a_section_that_misses_its_process_is_refused(node, doctor, section, space):
    text = f'{section}: {{ros__parameters: {{max_speed: 0.1}}}}'
    words = ['-r', f'__ns:={space}'] if space else []
    said = (f"mine.yaml:1: the section '{section}' is for none of our processes, the nearest of "
            f"which is '{space}/gate'")
    with pytest.raises(ValueError) as refused:
        node(GateNode, *words, text=text)
    assert said in str(refused.value)
    (finding,) = doctor(text, '--namespace', space or '/')
    assert finding.level is ERROR and said in finding.said
    assert finding.remedy == "if that is meant, write '/**/gate'"
    # The remedy helps.
    right = text.replace(section, '/**/gate')
    assert node(GateNode, *words, text=right).get_parameter('max_speed').value == 0.1
    assert doctor(right, '--namespace', space or '/') == [] or space == ''


def test_sections_of_others_are_a_warning(node, doctor):
    text = '/amcl: {ros__parameters: {alpha1: 0.2}}'
    node(GateNode, text=text)
    (finding,) = doctor(text)
    assert finding.level is WARN
    assert "the section '/amcl' is for none of our processes, the nearest" in finding.said


def test_a_value_without_effect_is_refused(node, doctor, tmp_path):
    (tmp_path / 'robot.yaml').write_text(OWN.format('max_speed: 1'))
    with pytest.raises(ValueError, match='max_speed 0.5 has no effect, as ROS takes 1 of .*; wri'):
        node(GateNode, '--params-file', str(tmp_path / 'robot.yaml'),
             text=OWN.format('max_speed: 0.5'))
    (finding,) = doctor(SHARED.format('max_speed: 0.1'))
    assert finding.level is ERROR
    assert finding.said.startswith(f'gate: {tmp_path}/mine.yaml:1: max_speed 0.1 has no effect, ')
    assert finding.remedy == "put it into the section '/**/gate'"
