"""A stop that the policy asks for: a ramp by stop_deceleration, whatever else happens (G10)."""

from dataclasses import replace
import math

from hypothesis import given, settings as hypothesis_settings, strategies
import pytest
from stream_agent.command import Command, STOP
from stream_agent.gate.gate import Gate, Level, Outcome
from stream_agent.gate.limits import Limiter
from stream_agent.gate.settings import GateSettings

T = 1 / 30
FAST = GateSettings(max_speed=1.0, max_acceleration=100.0, max_yaw_acceleration=100.0)


def driving(command, settings=FAST):
    """Return a gate that passes this command on, last at the steady time 1 s."""
    gate = Gate(settings, 0.0)
    for i in range(30, -1, -1):
        gate.on_stop_input(False, 1.0 - i * T)
        verdict = gate.on_command(command, 0.01, 1.0 - i * T)
    assert verdict.command == command
    return gate


def braked(gate, asked_at, seconds=2.0, tick=0.02):
    """Ask for a stop; return what is sent until the end: [(time since it was asked, command)]."""
    sent = [(0.0, gate.on_stop_asked(asked_at).command)]
    for i in range(1, round(seconds / tick) + 1):
        verdict = gate.on_timer(asked_at + i * tick)
        if verdict:
            sent.append((i * tick, verdict.command))
    return sent


@pytest.mark.parametrize('speed', [0.5, 1.0, -1.0])
@pytest.mark.parametrize('deceleration', [2.5, 1.0])
def test_standstill_comes_by_the_deceleration(speed, deceleration):
    gate = driving(Command(speed, 0.4), replace(FAST, stop_deceleration=deceleration))
    sent = braked(gate, 1.01)
    stands = next(at for at, command in sent if command == STOP)
    assert stands == pytest.approx(abs(speed) / deceleration, abs=0.021)
    # No jump on the way, the first step at once, and the path is that of before.
    previous, previous_at = speed, -0.01
    for at, command in sent:
        assert abs(command.speed - previous) <= deceleration * (at - previous_at) + 1e-9
        assert abs(command.speed) < abs(previous) or command == STOP
        if command != STOP:
            assert command.yaw_rate / command.speed == pytest.approx(0.4 / speed)
        previous, previous_at = command.speed, at


def test_a_robot_that_turns_where_it_stands_stops_by_its_yaw_acceleration():
    gate = driving(Command(0.0, -1.0), replace(FAST, max_yaw_acceleration=4.0))
    sent = braked(gate, 1.0)
    assert next(at for at, command in sent if command == STOP) == pytest.approx(0.25, abs=0.021)
    assert sent[3][1] == pytest.approx((0.0, -0.76))


def test_then_zeros_are_repeated_as_after_any_stop():
    sent = braked(driving(Command(0.5, 0.0)), 1.0)
    zeros = [at for at, command in sent if command == STOP]
    assert zeros[0] == pytest.approx(0.2, abs=0.021)
    assert len(zeros) == pytest.approx(1 + (2.0 - 0.2) / 0.1, abs=1)
    sent = braked(driving(Command(0.5, 0.0), replace(FAST, release_after_stop=True)), 1.0, 5.0)
    assert 2.1 <= sent[-1][0] <= 2.25


def test_it_is_counted_and_reported():
    gate = driving(Command(0.5, 0.0))
    verdict = gate.on_stop_asked(1.01)
    assert verdict == (pytest.approx((0.475, 0.0)), Outcome.BRAKING, Level.OK, '')
    assert gate.health(1.02) == (Level.OK, 'stopped, as the policy asked for it')
    given = [gate.on_timer(1.01 + 0.02 * i) for i in range(1, 11)]
    assert [verdict.outcome for verdict in given if verdict] == [Outcome.BRAKING] * 10
    assert (gate.counts[Outcome.ASKED], gate.counts[Outcome.BRAKING]) == (1, 11)
    assert gate.counts[Outcome.TIMEOUT] == 0
    assert gate.health(9.0) == (Level.OK, 'stopped, as the policy asked for it')


def test_a_robot_that_stands_is_sent_nothing_new():
    gate = Gate(FAST, 0.0)
    assert gate.on_stop_asked(0.01) == (None, Outcome.ASKED, Level.OK, '')
    assert gate.counts[Outcome.ASKED] == 1
    assert gate.health(0.02) == (Level.OK, 'waiting for the first policy command')
    gate = driving(STOP)
    assert gate.on_stop_asked(1.01).command == STOP
    assert gate.on_timer(1.02) is None


def test_a_later_command_drives_on_from_where_the_ramp_is():
    gate = driving(Command(1.0, 0.0), replace(FAST, max_acceleration=5.0))
    gate.on_stop_asked(1.0)
    assert gate.on_timer(1.2).command.speed == pytest.approx(0.5)
    assert gate.on_command(Command(1.0, 0.0), 0.01, 1.22).command.speed == pytest.approx(0.6)
    assert gate.on_timer(1.24) is None
    assert gate.health(1.24) == (Level.OK, 'passing policy commands on')


def test_a_stop_in_the_middle_of_a_stop_does_not_begin_it_again():
    gate = driving(Command(1.0, 0.0))
    gate.on_stop_asked(1.0)
    assert gate.on_stop_asked(1.1).command.speed == pytest.approx(0.75)
    assert gate.on_stop_asked(1.2).command.speed == pytest.approx(0.5)
    assert gate.counts[Outcome.ASKED] == 3


@pytest.mark.parametrize('interruption', ['nan', 'stop input', 'time', 'contested'])
def test_what_stops_at_once_does_so_in_the_middle_of_a_ramp(interruption):
    gate = driving(Command(1.0, 0.0), replace(FAST, stop_input=interruption == 'stop input'))
    gate.on_stop_asked(1.0)
    verdict = {'nan': lambda: gate.on_command(Command(math.nan, 0.0), 0.01, 1.1),
               'stop input': lambda: gate.on_stop_input(True, 1.1),
               'time': lambda: gate.on_time_jump(-1.0, 1.1),
               'contested': lambda: [gate.on_command(Command(0.1, 0.0), 0.01, 1.1, 1)
                                     for _ in range(2)][1]}[interruption]()
    assert verdict.command == STOP
    later = [gate.on_timer(1.1 + 0.02 * i) for i in range(1, 20)]
    assert {one.command for one in later if one} == {STOP}


def test_commands_that_are_refused_do_not_end_the_ramp():
    gate = driving(Command(1.0, 0.0))
    gate.on_stop_asked(1.0)
    assert gate.on_command(Command(1.0, 0.0), 0.3, 1.02).outcome is Outcome.STALE
    assert gate.on_timer(1.04).command.speed == pytest.approx(0.9)


def test_a_stall_delays_standstill_by_nothing():
    gate = driving(Command(1.0, 0.0))
    gate.on_stop_asked(1.0)
    assert gate.on_timer(1.41).command == STOP


def test_a_clock_that_went_back_does_not_speed_up():
    limiter = Limiter(0.0)
    limiter.limit(Command(0.5, 0.2), 0.05, FAST)
    assert limiter.brake(0.01, FAST) == (0.5, 0.2)


@pytest.mark.parametrize('command', [Command(0.5, -0.2), Command(-0.5, 0.2)])
def test_a_stop_has_no_sign(command):
    limiter = Limiter(0.0)
    limiter.limit(command, 0.05, FAST)
    assert [math.copysign(1.0, value) for value in limiter.brake(9.0, FAST)] == [1.0, 1.0]


def test_after_a_stop_another_policy_may_drive_at_once():
    gate = Gate(FAST, 0.0)
    gate.on_command(Command(0.1, 0.0), 0.01, 1.0, 500)
    gate.on_stop_asked(1.02, 501)
    assert gate.on_command(Command(0.1, 0.0), 0.01, 1.04, 1).outcome is Outcome.PASSED


def test_a_stop_of_another_policy_does_not_hide_the_one_that_drives():
    gate = Gate(FAST, 0.0)
    gate.on_command(Command(0.1, 0.0), 0.01, 1.0, 500)
    gate.on_stop_asked(1.02, 3)
    assert gate.on_command(Command(0.1, 0.0), 0.01, 1.04, 1).outcome is Outcome.CONTESTED


@hypothesis_settings(max_examples=200, deadline=None)
@given(strategies.floats(-1.0, 1.0), strategies.floats(-2.0, 2.0), strategies.floats(0.0, 0.24),
       strategies.sampled_from([0.001, 0.02, 0.033, 0.05]))
def test_whatever_it_does_it_stands_in_time(speed, yaw_rate, wait, tick):
    gate = driving(Command(speed, yaw_rate), replace(FAST, max_yaw_acceleration=100.0))
    bound = abs(speed) / 2.5 + abs(yaw_rate) / 100.0
    sent = braked(gate, 1.0 + wait, 1.0, tick)
    assert all(command == STOP for at, command in sent if at >= bound + tick)
    assert sent[-1][0] >= bound + tick
