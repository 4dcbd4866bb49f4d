"""Simulated time: whether it stands, and what a jump does (T1)."""

import pytest
from stream_agent.command import Command, STOP
from stream_agent.gate.gate import Gate, Level, Outcome
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.simulated_time import SimulatedTime

SLOW = Command(0.05, 0.05)
STANDS = 'simulated time has not advanced for 0.25 s'


@pytest.mark.parametrize('readings, now, stands', [
    ([], 9.0, False),
    ([(None, 0.0)], 9.0, False),                    # real time
    ([(0, 0.0), (0, 0.1)], 0.1, True),              # no message yet
    ([(0, 0.0), (5, 0.1)], 0.1, False),             # the first
    ([(5, 0.0), (5, 0.2)], 0.25, False),
    ([(5, 0.0), (5, 0.2)], 0.2501, True),           # paused
    ([(5, 0.0), (5, 0.2), (6, 0.3)], 0.3, False),   # and resumed
    ([(5, 0.0), (4, 0.3)], 0.5, False),             # going back is not standing
    ([(5, 0.0), (0, 0.3)], 0.3, True),              # a reset that has not gone on yet
    ([(5, 0.0), (5, 1.0), (None, 1.1)], 1.1, False)])
def test_whether_it_stands(readings, now, stands):
    time = SimulatedTime()
    for value, at in readings:
        time.note(value, at)
    assert time.stands(now, 0.25) is stands


@pytest.fixture
def gate():
    """Return a gate that drives in simulated time, at the steady time 1 s."""
    gate = Gate(GateSettings(), 0.0)
    gate.note_simulated_time(100, 1.0)
    assert gate.on_command(SLOW, 0.01, 1.0).command == SLOW
    return gate


def test_until_simulated_time_begins_nothing_passes():
    gate = Gate(GateSettings(), 0.0)
    gate.note_simulated_time(0, 0.0)
    assert gate.on_command(SLOW, 0.0, 0.1) == (None, Outcome.HELD, Level.OK, '')
    assert gate.health(0.1) == (Level.WARN, f'stopped: {STANDS}')


def test_a_pause_is_a_zero_however_fresh_commands_look(gate):
    given = []
    for i in range(1, 40):
        now = 1.0 + 0.02 * i
        gate.note_simulated_time(100, now)
        given.append(gate.on_command(SLOW, 0.01, now))
        given.append(gate.on_timer(now))
    sent = [verdict for verdict in given if verdict and verdict.command == STOP]
    assert (sent[0].outcome, sent[0].level, sent[0].message) == (
        Outcome.HELD, Level.WARN, f'{STANDS}, so the robot is stopped')
    # After 0.26 s, and then ten a second.
    assert given.index(sent[0]) == 2 * 12
    assert len(sent) == pytest.approx(6, abs=1)
    gate.note_simulated_time(101, 1.8)
    assert gate.on_command(SLOW, 0.01, 1.81).command == SLOW


@pytest.mark.parametrize('seconds, said', [(-3.0, '-3.000'), (0.6, '0.600')])
def test_a_jump_is_a_zero_in_a_sentence_and_then_a_start(gate, seconds, said):
    verdict = gate.on_time_jump(seconds, 1.1)
    assert verdict == (STOP, Outcome.JUMPED, Level.WARN, f'simulated time has jumped by {said} s, '
                       'so the robot is stopped')
    assert gate.counts[Outcome.JUMPED] == 1
    # It stands already.
    assert gate.on_time_jump(seconds, 1.11) is None
    assert gate.on_timer(1.21).command == STOP
    started = gate.on_command(Command(0.5, 0.0), 0.01, 1.22)
    assert 0 < started.command.speed <= 2.5 * 0.01 + 1e-9
