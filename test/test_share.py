"""Parameter files: found, merged as ROS merges them, and refused with a sentence."""

from pathlib import Path
import re

import pytest
from stream_agent.share import (
    check_parameter_files, find_robot, ParameterFileError, ParameterFiles, write_file)

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
    ('- 1', 'has no section with ros__parameters; write it as config/robot.yaml'),
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


def test_values_are_those_that_ros_reads(files):
    assert files('a: {ros__parameters: {b: 1e-3, c: [1e3, 2.0], d: x1e3, e: 010, f: 1_0, g: on, '
                 'h: 2026-02-30, i: []}}').of('/a') == {
        'b': 0.001, 'c': [1000.0, 2.0], 'd': 'x1e3', 'e': 8, 'f': '1_0', 'g': True,
        'h': '2026-02-30', 'i': None}


def test_a_value_is_known_as_it_is_written_with_its_place(files):
    read = files('# A robot.\n/**/gate:\n  ros__parameters:\n    a: 007')
    (given,) = read.given('/gate').values()
    assert (given.value, given.text, given.section) == (7, '007', '/**/gate')
    assert given.place.endswith('0.yaml:4') and not given.is_shared


@pytest.mark.parametrize('texts, said', [
    ([GATE, ALL], None),
    # By its place in the first file the shared section comes first.
    ([ALL + GATE, ALL.replace('0.9', '0.1')],
     '1.yaml:1: max_speed 0.1 has no effect, as ROS takes 0.5 of {}/0.yaml:2 (section '
     "'/**/gate'); put it into the section '/**/gate'"),
    ([ALL + GATE, ALL.replace('0.9', '0.50')], None),
    ([GATE.replace('0.5', '1'), GATE],
     '1.yaml:1: max_speed 0.5 has no effect, as ROS takes 1 of {}/0.yaml:1 (section '
     "'/**/gate'); write that one with a decimal point"),
    ([GATE, GATE.replace('0.5', '1_0.0')],
     '1.yaml:1: max_speed 1_0.0 has no effect, as ROS takes 0.5 of {}/0.yaml:1 (section '
     "'/**/gate'); write a number with a decimal point, which 1_0.0 is not to ROS")])
def test_a_value_that_cannot_override_an_earlier_one_is_told(files, tmp_path, texts, said):
    assert [*files(*texts).ignored('/gate')] == (
        [f'{tmp_path}/{said.format(tmp_path)}'] if said else [])


@pytest.mark.parametrize('process, remedy', [
    ('/gate', 'write -p gate:max_speed:=0.2'),
    ('/one/gate', "put it into the section '/**/gate'")])
def test_an_argument_that_a_section_overrides_is_told(tmp_path, process, remedy):
    path = tmp_path / 'robot.yaml'
    path.write_text(ALL + GATE)

    def read(*more):
        return ParameterFiles.of_arguments(
            ['--ros-args', '--params-file', str(path), '-p', 'max_speed:=0.2', *more])

    (said,) = read().ignored(process)
    assert said == (f'-p max_speed:=0.2: max_speed 0.2 has no effect, as ROS takes 0.5 of '
                    f"{path}:2 (section '/**/gate'); {remedy}")
    # The remedy helps.
    mine = tmp_path / 'mine.yaml'
    mine.write_text(GATE.replace('0.5', '0.2'))
    remedied = (read('-p', 'gate:max_speed:=0.2') if process == '/gate'
                else read('--params-file', str(mine)))
    assert remedied.of(process)['max_speed'] == 0.2
    assert not [*remedied.ignored(process)]


@pytest.mark.parametrize('rule, process, refused', [
    ('gatte:max_speed:=0.2', '/gate', True), ('agent:max_speed:=0.2', '/gate', True),
    ('gate:max_speed:=0.2', '/left/gate', True), ('gate:max_speed:=0.2', '/gate', False),
    ('third:checkpoint:=a', '/third', False), ('max_speed:=0.2', '/left/gate', False)])
def test_an_argument_for_another_process_is_told(rule, process, refused):
    remedy = re.sub(r'^\w+:(?!=)', '', rule)
    said = [*ParameterFiles.of_arguments(['--ros-args', '-p', rule]).ignored(process)]
    assert said == ([f"-p {rule} has no effect, as this process is '{process}'; write "
                     f'-p {remedy}'] if refused else [])
    assert not [*ParameterFiles.of_arguments(['--ros-args', '-p', remedy]).ignored(process)]


@pytest.mark.parametrize('text, space, section, nearest, meant', [
    (GATE.replace('/**/gate', 'gate'), '/one', 'gate', '/one/gate', True),
    (GATE.replace('gate', 'gatte'), '', '/**/gatte', '/gate', True),
    (GATE.replace('gate', 'Gate'), '', '/**/Gate', '/gate', True),
    (GATE.replace('/**/gate', '/two/gate'), '/one', '/two/gate', '/one/gate', True),
    # A file for two robots.
    (GATE.replace('/**/gate', '/two/gate') + GATE.replace('/**/gate', '/one/gate'), '/one',
     '/two/gate', '/one/gate', False),
    (GATE.replace('gate', 'simulator'), '', '/**/simulator', '/simulation', True),
    (GATE.replace('gate', 'amcl'), '', '/**/amcl', '/baseline', False),
    ('/two/**: {ros__parameters: {a: 1}}', '/one', '/two/**', None, False)])
def test_a_section_for_none_of_our_processes_is_named(
        files, tmp_path, text, space, section, nearest, meant):
    (stray,) = files(text).strays(space)
    assert (stray.section, stray.place, stray.meant) == (section, f'{tmp_path}/0.yaml:1', meant)
    if nearest:
        name = nearest.rpartition('/')[2]
        assert str(stray).endswith(
            f"the section '{section}' is for none of our processes, the nearest of which is "
            f"'{nearest}'; if that is meant, write '/**/{name}'")
        assert not files(text.replace(section, f'/**/{name}', 1)).strays(space) or not meant


@pytest.mark.parametrize('text', [
    GATE, ALL, '/*: {ros__parameters: {a: 1}}', '/**/baseline_2: {ros__parameters: {a: 1}}', ''])
def test_sections_of_our_processes_are_no_strays(files, text):
    assert files(text).strays('') == []


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


def test_a_file_below_a_file_is_named_itself(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError) as caught:
        write_file(tmp_path / 'file' / 'new', 'text')
    assert caught.value.filename == str(tmp_path / 'file' / 'new')
