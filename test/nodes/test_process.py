"""Arguments of a process: help for all of its parameters, and nothing that is silently unread."""

from importlib import import_module
import time

import pytest
from rosgraph_msgs.msg import Clock
from stream_agent.__main__ import COMMANDS
from stream_agent.bounded_settings import settings_fields
from stream_agent.doctor.node import main as doctor
from stream_agent.gate.settings import GateSettings
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.process import ClockLoad, CLOCKS_COUNTED, plain_arguments, run

NODES = [name for name, (module, _) in COMMANDS.items() if module.endswith('_node')
         and '.nodes.' in module]


@pytest.mark.parametrize('name', NODES)
def test_help_lists_parameters_and_starts_nothing(name, capsys):
    assert import_module(COMMANDS[name][0]).main(['--help']) == 0
    assert 'parameters:\n  ' in capsys.readouterr().out


def test_help_has_meaning_unit_range_and_default(capsys):
    assert plain_arguments(['-h'], (GateSettings,)) == 0
    text = capsys.readouterr().out
    for item in settings_fields(GateSettings):
        assert (f'  {item.name} (default {item.default!r})\n'
                f'      {item.metadata["meaning"]}') in text
    assert 'greatest speed passed on, forward and backward [0 to 20 m/s]' in text


@pytest.mark.parametrize('argument', ['--max-speed', '--max_speed=0.2', 'max_speed'])
def test_a_plain_argument_is_refused_with_the_parameter_that_was_meant(argument, capsys):
    assert plain_arguments([argument, '0.2'], (GateSettings,)) == 2
    assert '--ros-args -p max_speed:=VALUE' in capsys.readouterr().err


def test_ros_arguments_are_ros_s():
    words = ['--ros-args', '-p', 'max_speed:=0.2', '-r', '__ns:=/left', '--']
    assert plain_arguments(words, (GateSettings,)) is None


WRONG = {
    'a remapping': (['-r', 'a=b'], "Couldn't parse remap rule: '-r a=b'"),
    'a namespace': (['-r', '__ns:=/007'], "Couldn't parse remap rule: '-r __ns:=/007'"),
    'a name': (['-r', '__node:=a-b'], "Couldn't parse remap rule: '-r __node:=a-b'"),
    'a parameter': (['-p', 'max_speed=1'], "Couldn't parse parameter override rule: '-p max_spe"),
    'an option': (['--unknown'], '--unknown'),
    'an end': (['-p'], "Couldn't parse trailing -p flag. No parameter override rule found"),
    'a level': (['--log-level', 'foo'], "Couldn't parse log level: '--log-level foo'"),
    'an enclave': (['--enclave', 'a b'], "Enclave name is not valid: 'context name must be abso")}


@pytest.mark.parametrize('name', WRONG)
@pytest.mark.parametrize('start', [
    lambda words: run(lambda: None, words, (GateSettings,)), doctor], ids=['node', 'doctor'])
def test_arguments_that_ros_refuses_are_a_sentence(start, name, capfd):
    words, said = WRONG[name]
    try:
        code = start(['--ros-args', *words])
    except SystemExit as end:  # argparse's
        code = end.code
    assert code == 2
    line = capfd.readouterr().err.rstrip().split('\n')[-1]
    assert ': ROS refuses the arguments: ' in line and said in line
    assert line.endswith('; after --ros-args write -p NAME:=VALUE, -r FROM:=TO, or --params-file '
                         'FILE')
    assert '.c:' not in line and 'lexeme' not in line


@pytest.mark.parametrize('text, said', [
    ('/**: {ros__parameters: {a: &b 1}}', '{}:1: anchors and aliases (&b) are not supported; wri'),
    ('a: ' + '[' * 5000, '{}:1: nested over 40 deep; write it flat'),
    (None, "'{}': No such file or directory; give the path of a parameter file")])
@pytest.mark.parametrize('start', [
    lambda words: run(lambda: None, words, (GateSettings,)), doctor], ids=['node', 'doctor'])
def test_files_that_ros_refuses_are_a_sentence_before_it_sees_them(start, text, said, tmp_path,
                                                                   capfd):
    path = tmp_path / 'robot.yaml'
    if text:
        path.write_text(text)
    try:
        code = start(['--ros-args', '--params-file', str(path)])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert said.format(path) in capfd.readouterr().err.rstrip().split('\n')[-1]


@pytest.mark.real_time
@pytest.mark.any_time
@pytest.mark.parametrize('rate, words', [
    (1000.0, []), (100.0, []), (1000.0, ['-r', '/clock:=/slow_clock'])])
def test_a_fast_clock_is_warned_of_once(make_node, monkeypatch, capfd, rate, words):
    gate = make_node(GateNode, *words, use_sim_time=True)
    now = time.monotonic()
    monkeypatch.setattr(time, 'monotonic', lambda: now)
    ClockLoad(gate)
    (clock,) = [one for one in gate.subscriptions if one.msg_type is Clock]
    # The remedy helps: it is another topic.
    assert clock.topic_name == ('/slow_clock' if words else '/clock')
    for number in range(1, 3 * CLOCKS_COUNTED):
        now += 1 / rate
        msg = Clock()
        msg.clock.sec = number
        clock.callback(msg)
    assert gate.get_clock().now().nanoseconds == number * 1_000_000_000
    assert capfd.readouterr().err.count('/clock comes at 1000 Hz, which alone costs') == (
        rate == 1000)
