"""Parameter files: found, merged as ROS merges them, and refused with a sentence."""

from pathlib import Path

import pytest
from stream_agent.share import find_robot, ParameterFileError, ParameterFiles

ROBOTS = Path(__file__).parents[1] / 'config' / 'robots'


@pytest.fixture
def files(tmp_path):
    """Write files, and read them."""
    def read(*texts):
        paths = [tmp_path / f'{i}.yaml' for i in range(len(texts))]
        for path, text in zip(paths, texts):
            path.write_text(text)
        return ParameterFiles(paths)
    return read


GATE = '/**/gate: {ros__parameters: {max_speed: 0.5, stop_period: 1e-1}}\n'
ALL = '/**: {ros__parameters: {max_speed: 0.9}}\n'


@pytest.mark.parametrize('texts, name, expected', [
    ([GATE], '/gate', {'max_speed': 0.5, 'stop_period': 0.1}),
    ([GATE], '/one/gate', {'max_speed': 0.5, 'stop_period': 0.1}),
    ([GATE], '/agent', {}),
    # The later section wins, also where it is the more general.
    ([GATE, ALL], '/gate', {'max_speed': 0.9, 'stop_period': 0.1}),
    ([ALL, GATE], '/gate', {'max_speed': 0.5, 'stop_period': 0.1}),
    # Sections of one name are one, at the place of the first.
    ([ALL, GATE, ALL], '/gate', {'max_speed': 0.5, 'stop_period': 0.1}),
    ([GATE, GATE.replace('0.5', '0.4')], '/gate', {'max_speed': 0.4, 'stop_period': 0.1}),
    (['one: {gate: {ros__parameters: {a: 1}}}'], '/one/gate', {'a': 1}),
    (['one: {gate: {ros__parameters: {a: 1}}}'], '/gate', {}),
    (['gate: {ros__parameters: {a: 1}}'], '/one/gate', {}),
    (['/*/gate: {ros__parameters: {a: 1}}'], '/one/gate', {'a': 1}),
    (['/*/gate: {ros__parameters: {a: 1}}'], '/one/two/gate', {})])
def test_sections_hold_for_the_processes_that_ros_gives_them(files, texts, name, expected):
    assert files(*texts).of(name) == expected


@pytest.mark.parametrize('text, said', [
    ('gate: [', 'is not valid YAML: '),
    ('', 'has no section with ros__parameters; config/robot.yaml shows what'),
    ('- 1', 'has no section with ros__parameters'),
    ('max_speed: 0.5', "'max_speed' is not in a section; put it below the name of a process")])
def test_what_is_no_parameter_file_is_a_sentence(files, text, said):
    with pytest.raises(ParameterFileError) as fault:
        files(text)
    assert said in str(fault.value) and '0.yaml' in str(fault.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ParameterFileError, match='No such file or directory; give the path'):
        ParameterFiles([tmp_path / 'none.yaml'])


def test_robots_are_found_by_name_and_path():
    file = find_robot('donkeycar', ROBOTS)
    assert find_robot(str(file), ROBOTS) == file == ROBOTS / 'donkeycar.yaml'
    topics = {'image_topic': 'camera/image_raw', 'cmd_vel_topic': 'drive'}
    assert ParameterFiles([file]).topics() == ParameterFiles([file]).topics('/one') == topics
    with pytest.raises(ParameterFileError, match="there is no 'tortoise'; shipped robots are "
                       'differential_drive, donkeycar'):
        find_robot('tortoise', ROBOTS)


def test_without_a_robot_topics_are_the_usual_ones(files):
    assert files(GATE).topics() == {'image_topic': 'image', 'cmd_vel_topic': 'cmd_vel'}
