"""Any actuators: the base's rules hold for vectors of every kind and length."""

from dataclasses import replace
import math
import random

from hypothesis import given, settings as hypothesis_settings, strategies
import pytest
from stream_agent.contract.settings import OutputSettings
from stream_agent.gate.faults import Fault
from stream_agent.gate.gate import Gate, Level, Outcome, Verdict
from stream_agent.gate.limits import FLOAT_MAX
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.vectors import ElementLimits, FRESH, VectorLimiter

SETTINGS = GateSettings()
T = SETTINGS.camera_period
QUANTITIES = ['velocity', 'effort', 'position']
UNITS = {'velocity': 'rad/s', 'effort': 'N m', 'position': 'rad'}
STILL = {'base': 0.0, 'elbow': 0.0}
SLOW = {'base': 0.02, 'elbow': -0.01}
FAR = {'base': 0.9, 'elbow': -0.9}


def output_of(quantity, names=('base', 'elbow'), **others):
    """Return an output whose elements go from -1 to 1, and change by 2 in a second."""
    given = {'lowest': (-1.0,), 'highest': (1.0,), 'max_rate': (2.0,), **others}
    return OutputSettings(type='float64_multi_array', topic='commands', names=names,
                          quantity=quantity, units=(UNITS[quantity],) * len(names), **given)


class Drive:
    """A gate of a vector and a clock; what is measured is what was sent."""

    def __init__(self, quantity, settings=SETTINGS, measured=True, start=50.0, **output):
        self.output = output_of(quantity, **output)
        self.limiter = VectorLimiter(self.output, start)
        self.gate = Gate(settings, start, self.limiter)
        self.now = start
        self.rest = dict.fromkeys(self.output.names, 0.0)
        self.sent = None
        if measured:
            self.measure(self.rest)

    def measure(self, positions, age=0.0):
        self.limiter.note_measured(positions, age, self.now)

    def note(self, verdict):
        """Remember what is sent."""
        if verdict is not None and verdict.command is not None:
            self.sent = verdict.command
        return verdict

    def command(self, command, age=0.01, after=T, number=None):
        self.now += after
        return self.note(self.gate.on_command(command, age, self.now, number))

    def commands(self, command, count):
        return [self.command(command) for _ in range(count)]

    def wait(self, seconds, tick=0.02):
        """Let only the timer run; return what it gave."""
        start, found = self.now, []
        for i in range(1, round(seconds / tick) + 1):
            self.now = start + i * tick
            verdict = self.note(self.gate.on_timer(self.now))
            if verdict:
                found.append(verdict)
        return found

    @property
    def stop(self):
        """What a stop now is: zeros, or what was sent last."""
        return self.sent if self.output.stop == 'hold' and self.sent else self.rest


@pytest.fixture(params=QUANTITIES)
def drive(request):
    """Drive each kind of quantity, from rest to a command in reach."""
    made = Drive(request.param)
    made.commands(SLOW, 3)
    return made


# --- G4: limits -----------------------------------------------------------------------------

def test_a_reachable_command_passes_unchanged_in_any_order(drive):
    assert drive.command(SLOW) == Verdict(SLOW, Outcome.PASSED)
    backwards = dict(reversed(SLOW.items()))
    assert list(backwards) != list(SLOW)
    assert drive.command(backwards) == Verdict(SLOW, Outcome.PASSED)


def test_a_command_out_of_reach_is_clamped_element_by_element(drive):
    verdict = drive.command({'base': 9.0, 'elbow': -0.01})
    assert verdict.outcome is Outcome.CLAMPED
    assert verdict.command == pytest.approx({'base': 0.02 + 2.0 * T, 'elbow': -0.01})
    assert drive.commands({'base': 9.0, 'elbow': -FLOAT_MAX}, 60)[-1].command == {
        'base': 1.0, 'elbow': -1.0}


def test_each_element_has_limits_of_its_own():
    drive = Drive('velocity', lowest=(-1.0, 0.0), highest=(0.5, 3.0), max_rate=(1.0, 4.0))
    assert drive.command({'base': -9.0, 'elbow': 9.0}).command == pytest.approx(
        {'base': -T, 'elbow': 4 * T})
    drive.commands({'base': -9.0, 'elbow': 9.0}, 60)
    assert drive.sent == {'base': -1.0, 'elbow': 3.0}
    drive.commands({'base': 9.0, 'elbow': -9.0}, 60)
    assert drive.sent == {'base': 0.5, 'elbow': 0.0}


@pytest.mark.parametrize('elapsed, licensed', [
    (0.0, 0.0), (0.01, 0.01), (2 * T, 2 * T), (2.001 * T, 2 * T), (3600.0, 2 * T), (-1.0, 0.0)])
def test_a_stalled_clock_licenses_one_step(elapsed, licensed):
    limiter = VectorLimiter(output_of('velocity'), 100.0)
    assert limiter.limit(FAR, 100.0 + elapsed, SETTINGS) == pytest.approx(
        {'base': 2 * licensed, 'elbow': -2 * licensed}, abs=1e-12)


@pytest.mark.parametrize('quantity', ['velocity', 'position'])
def test_with_an_acceleration_it_comes_to_rest_at_the_target_and_at_the_limit(quantity):
    drive = Drive(quantity, max_acceleration=(4.0,))
    for target in (0.9, 1.0, 5.0, -5.0, -0.3):
        values, start = [], (drive.sent or drive.rest)['base']
        for _ in range(120):
            values.append(drive.command({'base': target, 'elbow': 0.0}).command['base'])
        rates = [(after - before) / T for before, after in zip([start, *values], values)]
        aim = min(max(target, -1.0), 1.0)
        assert values[-1] == aim
        assert min(start, aim) - 1e-12 <= min(values) and max(values) <= max(start, aim) + 1e-12
        assert max(map(abs, rates)) <= 2.0 + 1e-9
        assert all(abs(b - a) <= 4.0 * T + 1e-9 for a, b in zip([0.0, *rates], rates))
    # Not by creeping: the way of 2 takes 1.5 s by these limits.
    drive.commands({'base': 1.0, 'elbow': 0.0}, 90)
    frames = [verdict.command['base'] for verdict in drive.commands(
        {'base': -1.0, 'elbow': 0.0}, 60)].index(-1.0)
    assert frames * T == pytest.approx(1.5, abs=0.15)


@hypothesis_settings(max_examples=300, deadline=None)
@given(strategies.lists(strategies.tuples(
    strategies.floats(-2.0, 2.0),
    strategies.one_of(strategies.floats(1e-9, 2 * T), strategies.sampled_from([T, 2 * T]))),
    min_size=1, max_size=60), strategies.floats(0.01, 50.0), strategies.floats(0.01, 5.0))
def test_no_limit_is_overshot_whatever_the_times_between_steps(steps, acceleration, rate):
    limits = ElementLimits(-0.7, 0.4, rate, acceleration)
    value, speed = 0.1, 0.0
    for target, elapsed in steps:
        after, faster = limits.approach(value, speed, target, elapsed)
        assert -0.7 <= after <= 0.4
        assert abs(after - value) <= rate * elapsed + 1e-9
        assert abs(faster - speed) <= acceleration * elapsed + 1e-9
        assert after - value == pytest.approx(faster * elapsed, abs=1e-9)
        value, speed = after, faster
        # It can always come to rest within the limits.
        assert -0.7 - 1e-9 <= value + speed * abs(speed) / (2 * acceleration) <= 0.4 + 1e-9


@given(strategies.floats(-1.0, 1.0), strategies.floats(-FLOAT_MAX, FLOAT_MAX),
       strategies.floats(1e-6, 0.1))
def test_without_an_acceleration_it_goes_towards_the_target_and_no_further(start, target, elapsed):
    limits = ElementLimits(-1.0, 1.0, 2.0, math.inf)
    aim, (after, _) = limits.clip(target), limits.approach(start, 0.3, target, elapsed)
    assert after == (aim if abs(aim - start) < 2.0 * elapsed * (1 - 1e-9) else pytest.approx(
        start + math.copysign(min(2.0 * elapsed, abs(aim - start)), aim - start), abs=1e-9))


def test_a_stop_has_no_sign():
    limits = ElementLimits(-1.0, 1.0, 2.0, math.inf)
    assert math.copysign(1.0, limits.approach(0.1, 0.0, -0.0, 1.0)[0]) == 1.0
    drive = Drive('velocity')
    drive.commands(SLOW, 3)
    drive.gate.on_stop_asked(drive.now + 1.0)
    assert [math.copysign(1.0, value) for value in drive.limiter.stop(60.0).values()] == [1, 1]


# --- before the first command; where positions begin ----------------------------------------

@pytest.mark.parametrize('quantity', ['velocity', 'effort'])
def test_until_the_first_command_there_are_zeros(quantity):
    drive = Drive(quantity, measured=False)
    found = drive.wait(10.0)
    assert len(found) == pytest.approx(100, abs=1)
    assert [verdict for verdict in found if verdict != Verdict(STILL, Outcome.STOPPED)] == []
    assert drive.gate.health(drive.now) == (Level.OK, 'waiting for the first policy command')


def test_of_positions_nothing_is_sent_before_all_are_measured():
    drive = Drive('position', measured=False)
    reason = ("no position of 'base' was measured within 0.5 s: check that 'joint_states' has it "
              'as a number, stamped by this clock')
    assert drive.wait(1.0) == []
    assert drive.gate.health(drive.now) == (Level.WARN, f'stopped: {reason}')
    assert drive.command(SLOW) == Verdict(
        None, Outcome.HELD, Level.WARN, f'nothing is sent: {reason}')
    assert drive.command(SLOW) == Verdict(None, Outcome.HELD)
    drive.measure({'base': 0.3, 'camera': 7.0})
    assert "'elbow'" in drive.gate.health(drive.now)[1]
    drive.measure({'elbow': math.nan})
    assert drive.command(SLOW).command is None
    assert drive.gate.last_stop(drive.now) is None
    assert drive.gate.counts[Outcome.STOPPED] == 0
    drive.measure({'elbow': -0.2})
    # It is told to stay where it is, and moves from there.
    assert drive.wait(0.2)[0] == Verdict({'base': 0.3, 'elbow': -0.2}, Outcome.STOPPED)
    verdict = drive.command({'base': 9.0, 'elbow': -0.21}, after=0.01)
    assert verdict.command['elbow'] == -0.21
    assert 0.3 < verdict.command['base'] <= 0.3 + 2.0 * 0.21


def test_the_first_command_moves_from_what_is_measured_within_its_rate():
    drive = Drive('position', measured=False)
    drive.now += 5.0
    drive.measure({'base': 0.3, 'elbow': -0.2})
    assert drive.command(FAR, after=0.0).command == pytest.approx(
        {'base': 0.3 + 2.0 * 2 * T, 'elbow': -0.2 - 2.0 * 2 * T})


@pytest.mark.parametrize('age, after, counts', [
    (0.0, FRESH, True), (0.0, FRESH + 0.001, False), (0.4, 0.05, True), (0.4, 0.11, False),
    (FRESH + 0.001, 0.0, False), (-0.1, FRESH, True), (-0.101, 0.0, False),
    (math.nan, 0.0, False)])
def test_a_measurement_counts_for_half_a_second(age, after, counts):
    limiter = VectorLimiter(output_of('position'), 0.0)
    limiter.note_measured(STILL, age, 8.0)
    assert (limiter.stop(8.0 + after) == STILL) is counts


def test_nan_makes_a_position_unknown_again():
    drive = Drive('position')
    drive.measure({'base': math.nan})
    assert drive.wait(0.2) == []
    # What was sent since is known.
    drive.measure(STILL)
    drive.wait(0.2)
    drive.measure({'base': math.nan})
    assert drive.command(SLOW).outcome is Outcome.PASSED


def test_a_joint_beyond_its_limits_is_not_moved_unless_it_is_back_within_a_moment():
    drive = Drive('position', measured=False)
    drive.measure({'base': 1.2, 'elbow': 0.0})
    assert drive.command(SLOW) == Verdict(
        None, Outcome.HELD, Level.WARN, "nothing is sent: 'base' is measured at 1.2, beyond its "
        'limits from -1 to 1: move it back, or correct lowest and highest of the output')
    drive.measure({'base': 1.041})
    assert drive.command(SLOW, after=0.0).command is None
    drive.measure({'base': 1.039})
    assert drive.wait(0.2)[0].command == {'base': 1.0, 'elbow': 0.0}


def test_after_a_release_positions_begin_where_they_are_then():
    settings = replace(SETTINGS, release_after_stop=True)
    drive = Drive('position', settings)
    drive.commands(FAR, 20)
    drive.wait(5.0)
    assert drive.gate.on_timer(drive.now) is None
    # Somebody else has moved it.
    drive.measure({'base': -0.4, 'elbow': 0.6})
    assert drive.command(FAR).command == pytest.approx(
        {'base': -0.4 + 2.0 * 2 * T, 'elbow': 0.6 - 2.0 * 2 * T})
    drive.wait(5.0)
    assert drive.command(FAR).command is None
    # A fault after a release is answered by staying there, if that is known.
    assert drive.command({}).command is None
    drive.measure({'base': 0.1, 'elbow': 0.2})
    assert drive.wait(0.3)[0].command == {'base': 0.1, 'elbow': 0.2}


# --- G1, G2, G3, G8, G10, G11, T1 for each kind ---------------------------------------------

def test_without_commands_it_is_stopped_and_that_is_repeated(drive):
    drive.commands(FAR, 5)
    stop, found = drive.stop, drive.wait(2.0)
    assert (found[0].command, found[0].outcome) == (stop, Outcome.TIMEOUT)
    assert {verdict.outcome for verdict in found[1:]} == {Outcome.STOPPED}
    assert all(verdict.command == stop for verdict in found)
    assert len(found) == pytest.approx(18, abs=1)
    # From there it goes on within its rate.
    assert drive.command(FAR, after=T).command == pytest.approx(
        {name: stop[name] + math.copysign(2 * T, value) for name, value in FAR.items()}, abs=0.25)


@pytest.mark.parametrize('age, outcome', [
    (math.nextafter(-0.1, -1.0), Outcome.FUTURE), (-0.1, Outcome.PASSED), (0.25, Outcome.PASSED),
    (math.nextafter(0.25, 1.0), Outcome.STALE), (math.inf, Outcome.STALE),
    (math.nan, Outcome.STALE)])
def test_both_borders_of_the_age(drive, age, outcome):
    verdict = drive.command(SLOW, age=age)
    assert verdict.outcome is outcome
    assert verdict.command == (SLOW if outcome is Outcome.PASSED else None)


@pytest.mark.parametrize('command, said', [
    ({'base': math.nan, 'elbow': 0.0}, "is nan for 'base'; only numbers within float range reach "
     'the actuators'),
    ({'base': 0.0, 'elbow': -math.inf}, "is -inf for 'elbow'; only"),
    ({'base': 1e39, 'elbow': math.nan}, "is 1e+39 for 'base', nan for 'elbow'; only"),
    ({'base': 0.0}, 'has no number for elbow'),
    ({}, 'has no number for base, elbow'),
    ({'base': 0.0, 'elb\now': 0.0}, 'has no number for elbow'),
    ({**SLOW, 'wri\nst': 0.0}, "is for 'wri\\nst' too, which is not among the names of the "
     'output, base, elbow')])
def test_what_cannot_be_obeyed_stops_and_three_latch(drive, command, said):
    drive.commands(FAR, 5)
    stop = drive.stop
    first, _, third = drive.commands(command, 3)
    assert (first.command, first.outcome, first.level) == (stop, Outcome.INVALID, Level.ERROR)
    assert first.message.startswith(f'policy command {said}')
    assert first.message.endswith(', so the robot is stopped: check the policy')
    assert third.message == first.message + '; after 3 in a row, call ~/reset_fault too'
    assert drive.gate.fault is Fault.LATCHED
    assert {verdict.outcome for verdict in drive.commands(SLOW, 20)} == {Outcome.WITHHELD}
    drive.gate.reset_fault()
    assert drive.command(SLOW).outcome in (Outcome.PASSED, Outcome.CLAMPED)


def test_ten_good_commands_clear_a_transient_fault(drive):
    drive.command({})
    assert drive.commands(SLOW, 10) == [Verdict(None, Outcome.WITHHELD)] * 10
    assert drive.command(SLOW).command is not None


def test_two_sources_stop_until_a_reset(drive):
    drive.wait(0.3)
    drive.command(FAR, number=500)
    stop = drive.stop
    verdict = drive.command(FAR, number=3, after=0.01)
    assert (verdict.command, verdict.outcome) == (stop, Outcome.CONTESTED)
    assert drive.command(FAR, number=4).command is None
    drive.gate.reset_fault()
    assert drive.command(FAR, number=5).command is not None


@pytest.mark.parametrize('quantity', QUANTITIES)
def test_the_stop_input_stops_and_holds(quantity):
    drive = Drive(quantity, replace(SETTINGS, stop_input=True))
    assert drive.command(FAR).outcome is Outcome.HELD
    drive.gate.on_stop_input(False, drive.now)
    drive.commands(FAR, 5)
    stop = drive.stop
    assert drive.gate.on_stop_input(True, drive.now).command == stop
    assert drive.command(FAR).outcome is Outcome.HELD
    drive.gate.on_stop_input(False, drive.now)
    drive.commands(FAR, 5)
    # Silence.
    stop, found = drive.stop, []
    for _ in range(20):
        found += [verdict for verdict in [drive.command(FAR)] if verdict.command is not None
                  and verdict.outcome is Outcome.HELD]
    assert [verdict.command for verdict in found] == [drive.stop]


def test_a_jump_of_simulated_time_stops(drive):
    drive.commands(FAR, 5)
    stop = drive.stop
    verdict = drive.gate.on_time_jump(-1.0, drive.now)
    assert (verdict.command, verdict.outcome) == (stop, Outcome.JUMPED)
    assert drive.gate.on_time_jump(-1.0, drive.now) is None


def test_a_policy_that_is_clamped_all_the_time_is_warned_of(drive):
    verdicts = drive.commands({'base': 5.0, 'elbow': 0.0}, round(8 / T))
    said = [verdict.message.partition('% ') for verdict in verdicts if verdict.message]
    assert [(int(share) >= 99, text) for share, _, text in said] == [
        (True, 'of the policy commands of the last 5 s were clamped: check that policy and gate '
         'have the same limits (G6)')] * 3


@pytest.mark.parametrize('quantity', ['velocity', 'effort'])
def test_a_stop_that_is_asked_for_slows_all_elements_down_together(quantity):
    drive = Drive(quantity, max_rate=(2.0, 8.0))
    command = {'base': 0.8, 'elbow': -0.4}
    drive.commands(command, 40)
    verdict = drive.gate.on_stop_asked(drive.now + 0.1)
    assert verdict == (pytest.approx({'base': 0.6, 'elbow': -0.3}), Outcome.BRAKING, Level.OK, '')
    drive.now += 0.1
    found = drive.wait(0.4)
    assert all(verdict.command['elbow'] == pytest.approx(-0.5 * verdict.command['base'])
               for verdict in found)
    # 0.8 by 2.0 in a second.
    standing = [i for i, verdict in enumerate(found) if verdict.command == STILL]
    assert (standing[0] + 1) * 0.02 == pytest.approx(0.3, abs=0.021)
    assert drive.gate.health(drive.now) == (Level.OK, 'stopped, as the policy asked for it')
    assert drive.wait(1.0)[-1].outcome is Outcome.STOPPED


def test_a_stop_that_is_asked_for_holds_positions_immediately():
    drive = Drive('position')
    drive.commands(FAR, 5)
    sent = drive.sent
    assert drive.gate.on_stop_asked(drive.now) == Verdict(sent, Outcome.BRAKING)
    assert {verdict.outcome for verdict in drive.wait(1.0)} == {Outcome.STOPPED}
    assert drive.sent == sent
    # Standing still already, it is sent nothing new.
    assert drive.gate.on_stop_asked(drive.now).command is None


def test_where_positions_have_an_acceleration_they_slow_down_before_they_hold():
    drive = Drive('position', max_acceleration=(4.0,))
    drive.commands({'base': 1.0, 'elbow': -1.0}, 10)
    values = [drive.sent['base'], drive.gate.on_stop_asked(drive.now + 0.02).command['base']]
    drive.now += 0.02
    values += [verdict.command['base'] for verdict in drive.wait(1.0)]
    rates = [(after - before) / 0.02 for before, after in zip(values, values[1:])]
    assert rates[0] == pytest.approx(10 * 4.0 * T - 4.0 * 0.02, abs=1e-6)
    assert all(0.0 <= after <= max(before - 0.08, 0.0) + 1e-6
               for before, after in zip(rates, rates[1:]))
    assert values[-1] < 1.0 and rates[-1] == 0.0
    assert drive.sent['elbow'] == pytest.approx(-values[-1])
    # An emergency on the way is immediate.
    drive.commands({'base': -1.0, 'elbow': 1.0}, 10)
    drive.gate.on_stop_asked(drive.now + 0.02)
    sent = drive.limiter.stop(drive.now + 0.02)
    assert drive.gate.on_time_jump(-1.0, drive.now + 0.03).command == sent


@pytest.mark.parametrize('quantity', QUANTITIES)
def test_a_command_ends_a_stop_that_was_asked_for(quantity):
    drive = Drive(quantity)
    drive.commands(FAR, 60)
    drive.gate.on_stop_asked(drive.now + 0.02)
    drive.now += 0.02
    before = drive.limiter.brake(drive.now, SETTINGS)
    after = drive.command(FAR).command
    assert all(abs(after[name] - before[name]) <= 2.0 * T + 1e-9 for name in FAR)
    assert drive.gate.on_timer(drive.now) is None


@pytest.mark.parametrize('quantity', QUANTITIES)
def test_the_end_of_the_gate_is_a_stop(quantity):
    drive = Drive(quantity)
    drive.commands(FAR, 5)
    assert drive.gate.last_stop(drive.now) == drive.stop


# --- what never happens ---------------------------------------------------------------------

NUMBER = strategies.one_of(strategies.floats(-3.0, 3.0), strategies.floats(-3.0, 3.0),
                           strategies.floats())
EVENT = strategies.tuples(
    strategies.sampled_from([0.0, 0.001, 0.02, T, T, T, 2 * T, 0.1, 0.25, 0.4, 3.0]),
    strategies.sampled_from(['timer', 'timer', *['command'] * 6, 'missing', 'reset', 'asked',
                             'stop input', 'jump', 'measure']),
    strategies.one_of(strategies.just(0.01), strategies.just(0.01), strategies.floats(-0.3, 0.5),
                      strategies.floats()),
    strategies.integers(0, 2**32))


def values_of(draw, names):
    """Return a number for each name, in any order, a few of them special."""
    shuffled = draw.sample(names, len(names))
    special = draw.random() < 0.05
    return {name: draw.choice((math.nan, -math.inf, 1e39, 5e-324)) if special
            and draw.random() < 0.3 else draw.uniform(-3.0, 3.0) for name in shuffled}


def happen(gate, limiter, event, names, now):
    """Let an event happen; return the verdict."""
    _, what, age, seed = event
    draw = random.Random(seed)
    command = values_of(draw, names)
    if what == 'missing':
        command.popitem()
    if what in ('command', 'missing'):
        return gate.on_command(command, age, now)
    if what == 'measure':
        limiter.note_measured({name: value / 4 for name, value in command.items()}, age, now)
    if what == 'reset':
        gate.reset_fault()
    return {'timer': lambda: gate.on_timer(now), 'asked': lambda: gate.on_stop_asked(now),
            'stop input': lambda: gate.on_stop_input(draw.random() < 0.3, now),
            'jump': lambda: gate.on_time_jump(-1.0, now)}.get(what, lambda: None)()


@hypothesis_settings(max_examples=300, deadline=None)
@given(strategies.integers(1, 12), strategies.sampled_from(QUANTITIES), strategies.booleans(),
       strategies.booleans(), strategies.lists(EVENT, max_size=60), strategies.randoms())
def test_whatever_comes_every_pair_of_commands_obeys_the_limits(
        count, quantity, second_order, release, events, draw):
    names = tuple(f'joint_{i}' for i in range(count))
    lowest, highest, rate, acceleration = (
        {name: draw.uniform(*ends) for name in names}
        for ends in ((-1.5, 0.0), (0.01, 1.5), (0.1, 5.0), (0.5, 20.0)))
    limiter = VectorLimiter(output_of(
        quantity, names, lowest=tuple(lowest.values()), highest=tuple(highest.values()),
        max_rate=tuple(rate.values()),
        max_acceleration=tuple(acceleration.values()) if second_order else ()), 0.0)
    gate = Gate(replace(SETTINGS, release_after_stop=release), 0.0, limiter)
    holds = quantity == 'position'
    sent = None if holds else dict.fromkeys(names, 0.0)
    speed, sent_at, now = dict.fromkeys(names, 0.0), 0.0, 0.0
    for event in events:
        now += event[0]
        silent = now - sent_at > SETTINGS.stop_duration
        verdict = happen(gate, limiter, event, names, now)
        if verdict is None or verdict.command is None:
            continue
        command, elapsed = verdict.command, min(now - sent_at, 2 * T)
        assert tuple(command) == names
        assert all(lowest[name] <= command[name] <= highest[name] for name in names)
        known = sent is not None and not (holds and release and silent)
        if verdict.outcome in (Outcome.PASSED, Outcome.CLAMPED):
            assert event[1] == 'command' and -0.1 <= event[2] <= 0.25
            for name in names if known else ():
                change = command[name] - sent[name]
                assert abs(change) <= rate[name] * elapsed + 1e-9
                if second_order and elapsed:
                    assert abs(change / elapsed - speed[name]) <= (
                        acceleration[name] * elapsed + 1e-6 / elapsed)
            if elapsed or not known:
                speed = dict(limiter._rates)
                assert not (known and second_order) or all(
                    speed[name] * elapsed == pytest.approx(command[name] - sent[name], abs=1e-9)
                    for name in names)
        elif verdict.outcome is Outcome.BRAKING:
            for name in names:
                assert abs(command[name] - sent[name]) <= rate[name] * (now - sent_at) + 1e-9
                assert holds or abs(command[name]) <= abs(sent[name])
            speed = {name: limiter._rates[name] for name in names}
        else:
            assert not known or command == (sent if holds else dict.fromkeys(names, 0.0))
            speed = dict.fromkeys(names, 0.0)
        sent, sent_at = command, now


@hypothesis_settings(max_examples=100, deadline=None)
@given(strategies.integers(1, 12), strategies.sampled_from(QUANTITIES), strategies.booleans(),
       strategies.lists(EVENT, max_size=40))
def test_whatever_comes_it_stands_soon_after_the_last_good_command(
        count, quantity, second_order, events):
    """What is sent no longer changes, or is zero, once the last that passed is 0.27 s old."""
    names = tuple(f'joint_{i}' for i in range(count))
    drive = Drive(quantity, start=0.0, names=names,
                  max_acceleration=(3.0,) if second_order else ())
    passed_at = -math.inf
    for event in events:
        for _ in range(round(event[0] / 0.02)):
            before = drive.sent
            drive.wait(0.02)
            if drive.now - passed_at >= 0.25 + 0.02 + 1e-9:
                still = before or drive.sent if drive.output.stop == 'hold' else drive.rest
                assert drive.sent in (None, still)
        if event[1] != 'asked':
            verdict = drive.note(happen(drive.gate, drive.limiter, event, names, drive.now))
            if verdict and verdict.outcome in (Outcome.PASSED, Outcome.CLAMPED):
                passed_at = drive.now
