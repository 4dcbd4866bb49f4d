"""The stop input: every transition, and that silence stops the robot (G8)."""

from dataclasses import replace
import math

from hypothesis import given, settings as hypothesis_settings, strategies
import pytest
from stream_agent.command import Command, STOP
from stream_agent.gate.gate import Gate, Level, Outcome
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.stop_input import StopInput

SETTINGS = GateSettings(stop_input=True)
SLOW = Command(0.05, 0.05)
SAYS_STOP, SILENT = 'the stop input says stop', 'nothing arrived on the stop input for 0.5 s'


@pytest.mark.parametrize('said, now, reason', [
    ([], 0.0, SILENT),
    ([(True, 0.0)], 0.1, SAYS_STOP),
    ([(False, 0.0)], 0.1, ''),
    ([(False, 0.0)], 0.5, ''),
    ([(False, 0.0)], 0.51, SILENT),
    ([(True, 0.0)], 0.51, SILENT),
    ([(False, 0.0), (True, 0.1)], 0.2, SAYS_STOP),
    ([(True, 0.0), (False, 0.1)], 0.2, ''),
    ([(False, 0.0), (False, 0.4)], 0.8, '')])
def test_every_transition(said, now, reason):
    stop_input = StopInput()
    for stop, at in said:
        stop_input.hear(stop, at)
    assert stop_input.reason(now, SETTINGS) == reason
    assert stop_input.reason(now, replace(SETTINGS, stop_input=False)) == ''


@pytest.fixture
def gate():
    """Return a gate that drives, at the time 1 s."""
    gate = Gate(SETTINGS, 0.0)
    assert gate.on_stop_input(False, 0.9) is None
    assert gate.on_command(SLOW, 0.01, 1.0).command == SLOW
    return gate


def test_until_the_stop_input_is_heard_nothing_passes():
    gate = Gate(SETTINGS, 0.0)
    assert gate.on_command(SLOW, 0.01, 0.0) == (None, Outcome.HELD, Level.OK, '')
    assert gate.on_timer(0.0).command == STOP
    assert gate.health(0.0) == (Level.WARN, f'stopped: {SILENT}')


def test_a_stop_is_a_zero_at_once_and_zeros_go_on(gate):
    verdict = gate.on_stop_input(True, 1.01)
    assert verdict.command == STOP and verdict.outcome is Outcome.HELD
    assert verdict.level is Level.WARN
    assert verdict.message == f'{SAYS_STOP}, so the robot is stopped'
    assert gate.on_stop_input(True, 1.02) is None
    assert gate.on_command(SLOW, 0.01, 1.03).command is None
    repeated = [gate.on_timer(1.01 + 0.02 * i) for i in range(1, 23)]
    assert [verdict.command for verdict in repeated if verdict] == [STOP] * 4
    assert gate.health(1.4) == (Level.WARN, f'stopped: {SAYS_STOP}')
    assert gate.counts[Outcome.HELD] == 2


def test_it_drives_on_from_standstill_once_that_is_said(gate):
    gate.on_stop_input(True, 1.01)
    assert gate.on_stop_input(False, 1.5) is None
    started = gate.on_command(Command(0.5, 0.0), 0.01, 1.51)
    assert started.outcome is Outcome.CLAMPED
    # What 2.5 m/s2 give in the two camera periods that count at most.
    assert 0 < started.command.speed <= 2.5 * 2 / 30 + 1e-9


def test_silence_stops_by_the_timer_and_by_the_next_command(gate):
    assert gate.on_command(SLOW, 0.01, 1.4).command == SLOW
    assert gate.on_timer(1.4) is None
    verdict = gate.on_timer(1.41)
    assert (verdict.command, verdict.outcome) == (STOP, Outcome.HELD)
    assert verdict.message == f'{SILENT}, so the robot is stopped'
    gate.on_stop_input(False, 2.0)
    assert gate.on_command(SLOW, 0.01, 2.01).command == SLOW
    assert gate.on_command(SLOW, 0.01, 2.55).command == STOP


SAID = strategies.tuples(
    strategies.sampled_from([0.001, 0.02, 1 / 30, 0.2, 0.6]),
    strategies.sampled_from(['drive', 'drive', 'stop', 'go', 'go', 'timer']))


@hypothesis_settings(max_examples=300, deadline=None)
@given(strategies.lists(SAID, max_size=60))
def test_whatever_comes_nothing_passes_unless_go_is_the_last_word_and_fresh(events):
    gate, now, go_at = Gate(SETTINGS, 0.0), 0.0, -math.inf
    for wait, event in events:
        now += wait
        if event in ('stop', 'go'):
            verdict = gate.on_stop_input(event == 'stop', now)
            go_at = now if event == 'go' else -math.inf
        else:
            verdict = (gate.on_command(SLOW, 0.01, now) if event == 'drive'
                       else gate.on_timer(now))
        moves = verdict is not None and verdict.command not in (None, STOP)
        assert moves == (event == 'drive' and now - go_at <= 0.5)
