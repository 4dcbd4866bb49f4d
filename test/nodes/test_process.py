"""Arguments of a process: help for all of its parameters, and nothing that is silently unread."""

from importlib import import_module

import pytest
from stream_agent.__main__ import COMMANDS
from stream_agent.bounded_settings import settings_fields
from stream_agent.gate.settings import GateSettings
from stream_agent.nodes.process import plain_arguments

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
