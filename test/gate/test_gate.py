"""The gate as a whole, in simulated time: verdicts, counts, sentences, and what never happens."""

from dataclasses import replace
import hashlib
import math
import random

from hypothesis import given, settings as hypothesis_settings, strategies
import pytest
from stream_agent.command import Command, STOP
from stream_agent.gate.faults import Fault
from stream_agent.gate.gate import Gate, Level, Outcome, Verdict
from stream_agent.gate.settings import GateSettings

SETTINGS = GateSettings()
T = SETTINGS.camera_period
NAN = Command(math.nan, 0.0)
SLOW = Command(0.1, 0.1)


class Drive:
    """A gate, a camera and a clock."""

    def __init__(self, settings: GateSettings = SETTINGS, start: float = 50.0) -> None:
        self.gate = Gate(settings, start)
        self.now = start

    def command(self, command: Command, age: float = 0.01, after: float = T,
                number: int | None = None) -> Verdict:
        """Let a policy command come some seconds after the last."""
        self.now += after
        return self.gate.on_command(command, age, self.now, number)

    def commands(self, command: Command, count: int) -> list[Verdict]:
        """Let as many policy commands come at the camera's rate."""
        return [self.command(command) for _ in range(count)]

    def wait(self, seconds: float, tick: float = 0.02) -> list[tuple[float, Verdict]]:
        """Let only the timer run; return what it gave, with the seconds waited until then."""
        start, given = self.now, []
        for i in range(1, round(seconds / tick) + 1):
            self.now = start + i * tick
            verdict = self.gate.on_timer(self.now)
            if verdict:
                given.append((i * tick, verdict))
        return given

    @property
    def health(self):
        return self.gate.health(self.now)


# --- passing on -----------------------------------------------------------------------------

def test_a_reachable_command_passes_unchanged():
    drive = Drive()
    drive.commands(SLOW, 3)
    assert drive.command(SLOW) == Verdict(SLOW, Outcome.PASSED)


def test_a_command_out_of_reach_is_clamped_and_counted_as_both():
    drive = Drive()
    verdict = drive.command(Command(9.0, 0.0))
    assert verdict.command == pytest.approx((2.5 * T, 0.0))
    assert (verdict.outcome, verdict.message) == (Outcome.CLAMPED, '')
    assert drive.gate.counts[Outcome.PASSED] == drive.gate.counts[Outcome.CLAMPED] == 1


def test_an_ordinary_stop_ramps():
    drive = Drive()
    drive.commands(Command(0.5, 0.0), 30)
    speeds = [verdict.command.speed for verdict in drive.commands(STOP, 7)]
    assert speeds == pytest.approx([0.5 - 2.5 * T * i for i in range(1, 6)] + [0.0] * 2,
                                   abs=1e-12)


def test_lowered_limits_hold_from_the_next_command_on():
    drive = Drive()
    drive.commands(Command(0.5, 0.0), 30)
    drive.gate.settings = replace(SETTINGS, max_speed=0.2)
    assert [verdict.command.speed for verdict in drive.commands(Command(0.5, 0.0), 5)] == (
        pytest.approx([0.5 - 2.5 * T, 0.5 - 5 * T, 0.5 - 7.5 * T, 0.2, 0.2]))


# --- before the first policy command --------------------------------------------------------

def test_until_the_first_command_there_are_zeros():
    """A respawned gate stops what its predecessor set going."""
    drive = Drive()
    given = drive.wait(10.0)
    assert given[0][0] == 0.02
    assert len(given) == pytest.approx(100, abs=1)
    assert {verdict for _, verdict in given} == {Verdict(STOP, Outcome.STOPPED)}
    assert drive.gate.counts == {Outcome.STOPPED: len(given)}
    assert drive.health == (Level.OK, 'waiting for the first policy command')


def test_a_multiplexed_robot_is_released_before_the_first_command_too():
    drive = Drive(replace(SETTINGS, release_after_stop=True))
    given = drive.wait(10.0)
    assert len(given) in (20, 21)
    assert given[-1][0] <= 2.0


# --- G1: the watchdog -----------------------------------------------------------------------

def test_without_commands_the_robot_is_stopped():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    given = drive.wait(5.0)
    assert given[0] == (0.26, Verdict(
        STOP, Outcome.TIMEOUT, Level.WARN, 'no fresh policy command for 0.25 s, so the robot is '
        'stopped: check that camera and agent run'))
    assert {verdict for _, verdict in given[1:]} == {Verdict(STOP, Outcome.STOPPED)}
    assert len(given) == pytest.approx(48, abs=1)
    assert drive.gate.counts[Outcome.TIMEOUT] == 1
    assert drive.health == (Level.WARN, 'stopped, as no fresh policy command arrives')


def test_a_multiplexed_robot_is_released_after_two_seconds():
    drive = Drive(replace(SETTINGS, release_after_stop=True))
    drive.commands(Command(0.5, 1.0), 30)
    given = drive.wait(10.0)
    assert len(given) in (20, 21)
    assert 2.1 <= given[-1][0] <= 2.26
    assert drive.command(SLOW).command != STOP


def test_after_a_timeout_the_robot_starts_from_standstill():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    drive.wait(1.0)
    assert drive.command(Command(0.5, 1.0), after=0.0).command.speed <= 2.5 * 0.1
    assert drive.wait(0.24) == []


@pytest.mark.parametrize('age', [0.3, -0.3, math.nan])
def test_commands_that_are_not_fresh_do_not_feed_the_watchdog(age):
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    stops = []
    for _ in range(30):
        drive.command(Command(0.5, 1.0), age=age, after=0.01)
        stops += drive.wait(0.02, tick=0.01)
    # The first of them after 0.25 s, to 10 ms; then ten a second.
    assert stops[0][1].outcome is Outcome.TIMEOUT
    assert len(stops) == pytest.approx(1 + (0.9 - 0.25) / 0.1, abs=1)


def test_frames_stopped_a_hundred_times():
    random.seed(2)
    drive = Drive()
    for i in range(100):
        drive.commands(Command(0.5, 1.0), random.randrange(1, 60))
        drive.wait(random.uniform(0.0, 0.02), tick=0.001)
        given = drive.wait(random.uniform(0.6, 3.0))
        at, verdict = given[0]
        assert (verdict.command, verdict.outcome) == (STOP, Outcome.TIMEOUT)
        assert at <= 0.25 + 0.02
        assert all(verdict.command == STOP for _, verdict in given)
        assert drive.gate.counts[Outcome.TIMEOUT] == i + 1


def test_a_command_between_timeout_and_timer_drives_on():
    drive = Drive()
    drive.commands(SLOW, 30)
    assert drive.command(SLOW, after=0.3) == Verdict(SLOW, Outcome.PASSED)
    assert drive.wait(0.24) == []


# --- G2: the age of the frame ---------------------------------------------------------------

@pytest.mark.parametrize('age, outcome', [
    (math.nextafter(-0.1, -1.0), Outcome.FUTURE), (-0.1, Outcome.PASSED),
    (0.0, Outcome.PASSED), (-0.0, Outcome.PASSED), (0.25, Outcome.PASSED),
    (math.nextafter(0.25, 1.0), Outcome.STALE), (1e9, Outcome.STALE), (-1e9, Outcome.FUTURE),
    (math.inf, Outcome.STALE), (-math.inf, Outcome.FUTURE), (math.nan, Outcome.STALE)])
def test_both_borders_of_the_age(age, outcome):
    drive = Drive()
    drive.commands(SLOW, 3)
    verdict = drive.command(SLOW, age=age)
    assert verdict.outcome is outcome
    assert verdict.command == (SLOW if outcome is Outcome.PASSED else None)


def test_ages_swept_across_both_borders():
    drive = Drive()
    drive.commands(SLOW, 3)
    for age_ms in range(-1000, 1001):
        verdict = drive.command(SLOW, age=age_ms / 1000)
        assert (verdict.command is not None) == (-100 <= age_ms <= 250), age_ms


def test_an_old_frame_is_refused_in_a_sentence():
    assert Drive().command(SLOW, age=0.3124) == Verdict(
        None, Outcome.STALE, Level.WARN, 'policy command answers a frame 0.312 s old; at most '
        '0.25 s pass: check the load, and the clocks')


def test_a_frame_from_the_future_is_refused_in_a_sentence():
    assert Drive().command(SLOW, age=-0.2) == Verdict(
        None, Outcome.FUTURE, Level.WARN, 'policy command answers a frame 0.200 s in the '
        'future; at most 0.1 s pass: synchronise the clocks of camera and gate')


# --- G3, G8: invalid commands and faults ----------------------------------------------------

INVALID = ('policy command is (nan, 0.0); only numbers within float range reach the wheels, so '
           'the robot is stopped: check the policy')


def test_an_invalid_command_stops_at_once_in_a_sentence():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    assert drive.command(NAN) == Verdict(STOP, Outcome.INVALID, Level.ERROR, INVALID)
    assert drive.health == (Level.ERROR, 'shut by an invalid policy command until 10 good ones '
                            'arrive in a row')


def test_ten_good_commands_clear_a_transient_fault_and_the_eleventh_drives():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    drive.command(NAN)
    assert drive.commands(SLOW, 10) == [Verdict(None, Outcome.WITHHELD)] * 10
    assert drive.gate.counts[Outcome.WITHHELD] == 10
    assert drive.gate.fault is Fault.NONE
    verdict = drive.command(SLOW)
    assert verdict.command == pytest.approx((2.5 * 2 * T * 0.6, 0.1))


def test_the_zero_of_a_fault_is_repeated_while_good_commands_are_withheld():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    drive.command(NAN)
    given = []
    for _ in range(9):
        given += drive.wait(0.06)
        assert drive.command(SLOW, after=0.0).outcome is Outcome.WITHHELD
    assert [verdict.command for _, verdict in given] == [STOP] * 5


def test_three_invalid_commands_latch_and_only_a_reset_opens():
    drive = Drive()
    drive.commands(Command(0.5, 1.0), 30)
    first, second, third = drive.commands(NAN, 3)
    assert [verdict.command for verdict in (first, second, third)] == [STOP] * 3
    # The second was said just before; that it latches is said anew.
    assert (first.message, second.message) == (INVALID, '')
    assert (third.level, third.message) == (
        Level.ERROR, INVALID + '; after 3 in a row, call ~/reset_fault too')
    assert {verdict.command for verdict in drive.commands(SLOW, 50)} == {None}
    assert drive.health == (Level.ERROR, 'shut by 3 invalid policy commands in a row: check the '
                            'policy, then call ~/reset_fault')
    drive.gate.reset_fault()
    assert drive.gate.fault is Fault.NONE
    assert drive.command(SLOW).command.speed > 0


def test_a_latched_gate_releases_a_multiplexed_robot_though_nan_goes_on():
    drive = Drive(replace(SETTINGS, release_after_stop=True))
    drive.commands(NAN, 3)
    given = []
    for _ in range(100):
        assert drive.command(NAN, after=0.0).command is None
        given += drive.wait(0.04)
    assert 19 <= len(given) <= 20
    assert drive.gate.counts[Outcome.INVALID] == 103


def test_a_fault_after_a_release_is_answered_with_zeros_again():
    drive = Drive(replace(SETTINGS, release_after_stop=True))
    assert drive.wait(5.0)[-1][0] <= 2.0
    assert drive.command(NAN).command == STOP
    assert drive.wait(1.0)[0][1].command == STOP


def test_content_goes_before_time():
    verdict = Drive().command(NAN, age=99.0)
    assert (verdict.command, verdict.outcome) == (STOP, Outcome.INVALID)


def test_stale_commands_do_not_clear_a_fault():
    drive = Drive()
    drive.command(NAN)
    drive.commands(SLOW, 9)
    assert drive.command(SLOW, age=0.3).outcome is Outcome.STALE
    assert drive.gate.fault is Fault.TRANSIENT
    drive.commands(SLOW, 9)
    assert drive.gate.fault is Fault.TRANSIENT


# --- G11: more than one source --------------------------------------------------------------

CONTESTED = ('policy commands come from more than one source, so the robot is stopped: stop all '
             'but one, then call ~/reset_fault')


def test_commands_of_two_sources_stop_and_only_a_reset_opens():
    drive = Drive()
    for number in range(500, 530):
        assert drive.command(SLOW, number=number).command is not None
    assert drive.command(SLOW, number=1) == Verdict(
        STOP, Outcome.CONTESTED, Level.ERROR, CONTESTED)
    assert drive.gate.fault is Fault.CONTESTED
    assert drive.health == (Level.ERROR, 'shut as policy commands came from more than one '
                            'source: stop all but one, then call ~/reset_fault')
    # Said once a second; the zero is repeated by the timer alone.
    given = [drive.command(SLOW, number=number) for number in (530, 2, 531, 3)]
    assert given == [Verdict(None, Outcome.CONTESTED)] * 4
    assert drive.gate.counts[Outcome.CONTESTED] == 5
    assert {verdict.command for _, verdict in drive.wait(0.5)} == {STOP}
    # One of them has left, which is no reason to believe the other.
    for number in range(4, 40):
        assert drive.command(SLOW, number=number) == Verdict(None, Outcome.WITHHELD)
    drive.gate.reset_fault()
    assert drive.command(SLOW, number=41).command == SLOW


def test_a_reset_while_both_send_is_followed_by_the_next_fault():
    drive = Drive()
    for number in (500, 1, 501, 2):
        drive.command(SLOW, number=number)
    drive.gate.reset_fault()
    assert drive.command(SLOW, number=502).outcome is Outcome.PASSED
    assert drive.command(SLOW, number=3).outcome is Outcome.CONTESTED
    assert drive.gate.fault is Fault.CONTESTED


def test_a_reset_counts_nobody_who_sent_before_it():
    drive = Drive()
    for number in (500, 1):
        drive.command(SLOW, number=number, after=0.01)
    drive.gate.reset_fault()
    assert drive.command(SLOW, number=501, after=0.01).command.speed > 0
    assert drive.gate.fault is Fault.NONE


def test_a_policy_that_is_back_after_the_timeout_is_not_another():
    drive = Drive()
    drive.command(SLOW, number=500)
    assert drive.command(SLOW, number=1, after=0.26).outcome is Outcome.PASSED
    assert drive.command(SLOW, number=1, after=0.25).outcome is Outcome.CONTESTED


def test_a_latched_gate_stays_latched_by_what_latched_it_first():
    drive = Drive()
    drive.commands(NAN, 3)
    assert drive.command(SLOW, number=500).outcome is Outcome.WITHHELD
    assert drive.command(SLOW, number=1) == Verdict(
        None, Outcome.CONTESTED, Level.ERROR, CONTESTED)
    assert drive.gate.fault is Fault.LATCHED


def test_without_numbers_two_publishers_hold_the_robot_until_one_is_left():
    drive = Drive()
    drive.gate.note_publishers(1, 0, drive.now)
    drive.commands(SLOW, 3)
    drive.gate.note_publishers(2, 0, drive.now)
    reason = ('policy commands have 2 publishers, and the middleware does not number their '
              'messages, so that the gate cannot tell who sends')
    assert drive.command(SLOW) == Verdict(
        STOP, Outcome.HELD, Level.WARN, f'{reason}, so the robot is stopped')
    assert drive.health == (Level.WARN, f'stopped: {reason}')
    assert drive.command(SLOW) == Verdict(None, Outcome.HELD)
    drive.gate.note_publishers(1, 0, drive.now)
    assert drive.command(SLOW).command == SLOW


def test_before_the_first_command_it_does_not_matter_who_could_send():
    drive = Drive()
    drive.gate.note_publishers(2, 0, drive.now)
    assert drive.health == (Level.OK, 'waiting for the first policy command')


def test_with_numbers_a_publisher_that_sends_nothing_holds_nothing():
    drive = Drive()
    drive.gate.note_publishers(2, 0, drive.now)
    assert drive.command(SLOW, number=5).command.speed > 0


# --- G6: clamping ---------------------------------------------------------------------------

def test_a_policy_that_is_clamped_all_the_time_is_warned_of_once_a_second():
    drive = Drive()
    verdicts = drive.commands(Command(1.0, 0.0), round(10 / T))
    frames = [i for i, verdict in enumerate(verdicts) if verdict.message]
    # Five seconds after the first, then every second, to a frame or so.
    assert [round(b - a) for a, b in zip([0, *frames], frames)] == pytest.approx(
        [150, 30, 30, 30, 30], abs=1)
    (text,) = {verdict.message for verdict in verdicts} - {''}
    assert text == ('100% of the policy commands of the last 5 s were clamped: check that '
                    'policy and gate have the same limits (G6)')
    assert {verdict.level for verdict in verdicts if verdict.message} == {Level.WARN}
    assert drive.health == (Level.WARN, '100% of the policy commands are clamped')


@pytest.mark.parametrize('every, warned', [(4, True), (6, False)])
def test_a_fifth_of_clamped_commands_is_the_border(every, warned):
    drive = Drive(replace(SETTINGS, max_acceleration=100.0))
    verdicts = [drive.command(Command(0.6 if i % every == 0 else 0.4, 0.0)) for i in range(600)]
    assert any(verdict.message for verdict in verdicts) is warned
    assert (drive.health[0] is Level.WARN) is warned


def test_exactly_a_fifth_is_not_more_than_a_fifth():
    drive = Drive(replace(SETTINGS, max_acceleration=100.0))
    verdicts = [drive.command(Command(0.6 if i % 5 == 0 else 0.4, 0.0), after=1.25)
                for i in range(20)]
    assert [verdict.message for verdict in verdicts] == [''] * 20
    assert drive.health == (Level.OK, 'passing policy commands on')


def test_a_start_is_no_reason_to_warn():
    drive = Drive()
    verdicts = drive.commands(Command(0.5, 0.3), 600)
    assert [verdict.message for verdict in verdicts] == [''] * 600
    assert drive.health == (Level.OK, 'passing policy commands on')


def test_what_is_wrong_on_every_frame_is_said_once_a_second():
    drive = Drive()
    verdicts = [drive.command(SLOW, age=0.5) for _ in range(round(5 / T))]
    assert sum(bool(verdict.message) for verdict in verdicts) == 5
    assert drive.gate.counts[Outcome.STALE] == round(5 / T)


def test_it_is_said_again_after_exactly_a_second():
    drive = Drive()
    assert [bool(drive.command(SLOW, age=0.5, after=0.5).message) for _ in range(5)] == [
        True, False, True, False, True]


# --- what never happens ---------------------------------------------------------------------

ANY_NUMBER = strategies.one_of(strategies.floats(-3.0, 3.0), strategies.floats())
ANY_COMMAND = strategies.builds(Command, ANY_NUMBER, ANY_NUMBER)
EVENT = strategies.tuples(
    strategies.sampled_from([0.0, 0.001, 0.02, T, T, T, 2 * T, 0.1, 0.25, 0.4, 3.0]),
    strategies.one_of(strategies.none(), strategies.none(), ANY_COMMAND, ANY_COMMAND,
                      strategies.just('reset')),
    strategies.one_of(strategies.just(0.01), strategies.just(0.01), strategies.floats(-0.3, 0.5),
                      strategies.floats()))


def is_within(value: float, change: float, elapsed: float, greatest: float, rate: float) -> bool:
    """Say whether a value and its change are what G4 allows."""
    step = rate * min(max(elapsed, 0.0), 2 * T)
    return abs(value) <= greatest and abs(change) <= step + 1e-12


@hypothesis_settings(max_examples=400, deadline=None)
@given(strategies.lists(EVENT, max_size=60), strategies.booleans())
def test_whatever_comes_every_pair_of_commands_obeys_the_limits(events, release):
    gate = Gate(replace(SETTINGS, release_after_stop=release), 0.0)
    sent, sent_at, now = STOP, 0.0, 0.0
    for wait, event, age in events:
        now += wait
        if event == 'reset':
            gate.reset_fault()
            continue
        verdict = (gate.on_timer(now) if event is None else gate.on_command(event, age, now))
        if verdict is None or verdict.command is None:
            continue
        command = verdict.command
        if verdict.outcome in (Outcome.PASSED, Outcome.CLAMPED):
            assert -0.1 <= age <= 0.25
            assert is_within(command.speed, command.speed - sent.speed, now - sent_at, 0.5, 2.5)
            assert is_within(
                command.yaw_rate, command.yaw_rate - sent.yaw_rate, now - sent_at, 2.0, 3.2)
        else:
            assert command == STOP
        sent, sent_at = command, now
    assert gate.counts[Outcome.PASSED] >= gate.counts[Outcome.CLAMPED]


@hypothesis_settings(max_examples=200, deadline=None)
@given(strategies.lists(strategies.tuples(
    strategies.floats(0.0, 0.5), ANY_COMMAND, strategies.floats(-0.3, 0.5)), max_size=40))
def test_whatever_comes_the_robot_stands_soon_after_the_last_good_command(events):
    """The last command sent is zero whenever the last that passed is 0.27 s old or older."""
    drive = Drive(start=0.0)
    sent, passed_at = STOP, -math.inf
    for wait, command, age in events:
        for i in range(round(wait / 0.02)):
            verdict = drive.wait(0.02)
            sent = verdict[0][1].command if verdict else sent
            assert sent == STOP or drive.now - passed_at < 0.25 + 0.02 + 1e-9
        verdict = drive.command(command, age=age, after=0.0)
        if verdict.command is not None:
            sent = verdict.command
            passed_at = drive.now if verdict.outcome is not Outcome.INVALID else passed_at


def recorded(seed):
    """Return what a gate of a base says to 400 random events, as text."""
    draw = random.Random(seed)
    gate = Gate(GateSettings(
        max_speed=draw.uniform(0, 2), max_yaw_rate=draw.uniform(0, 4),
        max_acceleration=draw.uniform(0.1, 10), max_yaw_acceleration=draw.uniform(0.1, 10),
        stop_deceleration=draw.uniform(0.1, 5), release_after_stop=draw.random() < 0.3,
        stop_input=draw.random() < 0.2), 0.0)
    now = 0.0
    for number in range(101, 501):
        now += draw.choice((0.001, 0.02, T, T, T, 0.05, 0.1, 0.4 if draw.random() < 0.2 else 0.02))
        what, verdict = draw.random(), None
        if what < 0.6:
            command = Command(*(
                draw.uniform(-3, 3) if draw.random() < 0.98 else draw.choice(
                    (math.nan, math.inf, 1e39)) for _ in range(2)))
            age = (draw.uniform(-0.02, 0.1) if draw.random() < 0.95 else draw.uniform(-0.3, 0.5))
            verdict = gate.on_command(command, age, now, number)
        elif what < 0.85:
            verdict = gate.on_timer(now)
        elif what < 0.88:
            verdict = gate.on_stop_asked(now, number)
        elif what < 0.95:
            verdict = gate.on_stop_input(draw.random() < 0.1, now, number)
        elif what < 0.96:
            verdict = gate.on_time_jump(draw.uniform(-1, 1), now)
        elif what < 0.98:
            gate.reset_fault()
        else:
            yield repr(gate.health(now))
        yield repr(verdict)


def test_a_base_is_guarded_bit_by_bit_as_before_there_were_vectors():
    """The digest is that of the gate which knew bases alone."""
    digest = hashlib.sha256()
    for seed in range(40):
        digest.update('\n'.join(recorded(seed)).encode())
    assert digest.hexdigest() == (
        '522302493545996ffa992fc412def441945bd2c4e33058661f374c10461c2e44')
