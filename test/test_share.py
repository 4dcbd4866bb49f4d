"""Parameter files: found, merged as ROS merges them, and refused with a sentence."""

from pathlib import Path

import pytest
from stream_agent.share import (
    check_parameter_files, find_robot, ParameterFileError, ParameterFiles)

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
    ('gate: [', '0.yaml:1: not YAML: '),
    ('', 'has no section with ros__parameters; config/robot.yaml shows what'),
    ('- 1', 'has no section with ros__parameters'),
    ('max_speed: 0.5', "'max_speed' is not in a section; put it below the name of a process")])
def test_what_is_no_parameter_file_is_a_sentence(files, text, said):
    with pytest.raises(ParameterFileError) as fault:
        files(text)
    assert said in str(fault.value) and '0.yaml' in str(fault.value)


SECTION = 'gate:\n  ros__parameters:\n    max_speed: 0.5\n'


@pytest.mark.parametrize('text, said', [
    (SECTION + '    max_speed: 5.0\n', ":4: 'max_speed' is defined twice, first at "),
    (SECTION + SECTION, ":4: 'gate' is defined twice, first at "),
    (SECTION + '    other: &a 0.5\n', ':4: anchors and aliases (&a) are not supported; write'),
    (SECTION + '    <<: *a\n', ':4: anchors and aliases (*a) are not supported; write'),
    (SECTION.replace('0.5', '!!python/object/apply:os.getcwd []'),
     ':3: tags (!!python/object/apply:os.getcwd) are not supported; leave it out'),
    (SECTION + '---\n' + SECTION, ':4: a second document begins here; a file holds one'),
    ('a: ' + '[' * 50 + ']' * 50, ':1: nested over 40 deep; write it flat'),
    (SECTION + '#' * 2**20, 'is over 1 MiB; give a file of parameters alone'),
    (SECTION + '#é' * (2**19 - 10), 'is over 1 MiB; give a file of parameters alone'),
    (SECTION + '    day: 2026-02-30\n', 'is not valid YAML: day'),
    (b'gate: \xff', "is not valid YAML: 'utf-8' codec"),
    (SECTION.replace('0.5', '\x1b'), "character '\\x1b' is not allowed; write plain text")])
def test_what_can_be_read_in_two_ways_is_refused_at_its_place(tmp_path, text, said):
    path = tmp_path / 'robot.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (lambda: ParameterFiles([path]),
                 lambda: check_parameter_files(['--ros-args', '--params-file', str(path)])):
        with pytest.raises(ParameterFileError) as fault:
            read()
        assert said in str(fault.value) and str(path) in str(fault.value)


def test_all_files_of_a_process_are_checked_and_nothing_else(tmp_path):
    good, bad = tmp_path / 'good.yaml', tmp_path / 'bad.yaml'
    good.write_text(SECTION)
    bad.write_text(SECTION + SECTION)
    check_parameter_files(['--ros-args', '--params-file', str(good), '-p', str(bad)])
    with pytest.raises(ParameterFileError, match='bad.yaml:4'):
        check_parameter_files(
            ['--ros-args', '--params-file', str(good), '-r', 'a:=b', '--params-file', str(bad)])


def test_numbers_are_those_that_ros_reads(files):
    assert files('a: {ros__parameters: {b: 1e-3, c: [1e3, 2.0], d: x1e3}}').of('/a') == {
        'b': 0.001, 'c': [1000.0, 2.0], 'd': 'x1e3'}


def test_shipped_files_are_read_in_one_way():
    for path in ROBOTS.parent.rglob('*.yaml'):
        check_parameter_files(['--params-file', str(path)])


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
