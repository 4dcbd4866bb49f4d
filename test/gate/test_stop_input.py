"""The stop input: every transition, several publishers, and that silence stops (G8, G12)."""

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
        stop_input.hear(stop, at, SETTINGS)
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


# --- several publishers ---------------------------------------------------------------------

class Publishers:
    """A stop input and those who publish it, each with sequence numbers of its own."""

    def __init__(self, **first_numbers: int) -> None:
        self.stop_input = StopInput()
        self.numbers = first_numbers
        self.now = 10.0
        self.silent, self.stops = set(), set()

    def wait(self, seconds: float, there: int | None = None) -> list[str]:
        """Let everybody speak ten times a second; return the reasons to stop of that time."""
        reasons = []
        for i in range(round(seconds * 10)):
            for name in self.numbers:
                self.now += 0.1 / len(self.numbers)
                if name not in self.silent:
                    self.numbers[name] += 1
                    self.stop_input.hear(
                        name in self.stops, self.now, SETTINGS, self.numbers[name])
                if i % 3 == 0:
                    self.stop_input.note_publishers(
                        len(self.numbers) if there is None else there, self.now, SETTINGS)
                reasons.append(self.stop_input.reason(self.now, SETTINGS))
        return reasons


def test_two_who_say_false_let_it_drive():
    assert set(Publishers(a=0, b=0).wait(5.0)) == {''}
    assert set(Publishers(a=700, b=3).wait(5.0)) == {''}


@pytest.mark.parametrize('numbers', [{'a': 0, 'b': 0}, {'a': 900, 'b': 4}, {'a': 4, 'b': 900}])
@pytest.mark.parametrize('name', ['a', 'b'])
def test_any_of_two_stops(numbers, name):
    several = Publishers(**numbers)
    several.wait(2.0)
    several.stops = {name}
    # Within the round in which it is said, and without a gap whatever the other says.
    assert set(several.wait(3.0)[2:]) == {SAYS_STOP}
    several.stops = set()
    reasons = several.wait(2.0)
    assert set(reasons[:8]) == {SAYS_STOP} and set(reasons[14:]) == {''}


@pytest.mark.parametrize('name', ['a', 'b'])
def test_any_of_two_that_is_silent_stops(name):
    several = Publishers(a=20, b=900)
    several.wait(2.0)
    several.silent = {name}
    reasons = several.wait(3.0)
    assert set(reasons[:8]) == {''}
    assert set(reasons[13:]) == {'1 of 2 publishers of the stop input are silent'}
    several.silent = set()
    assert set(several.wait(1.0)[2:]) == {''}


def test_all_silent_is_said_as_for_one():
    several = Publishers(a=20, b=900)
    several.wait(2.0)
    several.silent = {'a', 'b'}
    assert several.wait(1.0)[-1] == SILENT


def test_who_has_left_is_missed_until_a_reset():
    several = Publishers(a=20, b=900)
    several.wait(2.0)
    several.silent = {'b'}
    assert several.wait(3.0, there=1)[-1] == '1 of 2 publishers of the stop input are silent'
    several.stop_input.forget()
    assert set(several.wait(3.0, there=1)) == {''}


def test_who_never_says_anything_stops_after_the_timeout():
    several = Publishers(a=20)
    several.wait(2.0)
    reasons = several.wait(2.0, there=2)
    assert set(reasons[:4]) == {''}
    assert set(reasons[6:]) == {'1 of 2 publishers of the stop input are silent'}
    # A process that was killed leaves the graph later.
    assert set(several.wait(2.0, there=1)[1:]) == {''}


@pytest.mark.parametrize('waited, reason', [
    (0.25, ''), (0.5, ''), (0.75, '1 of 2 publishers of the stop input are silent')])
def test_who_joins_has_the_timeout_to_say_something(waited, reason):
    stop_input = StopInput()
    stop_input.note_publishers(1, 0.0, SETTINGS)
    stop_input.note_publishers(2, 4.0, SETTINGS)
    stop_input.note_publishers(2, 4.25, SETTINGS)
    stop_input.hear(False, 4.0 + waited, SETTINGS, 7)
    assert stop_input.reason(4.0 + waited, SETTINGS) == reason


@pytest.mark.parametrize('waited, reason', [(0.25, SAYS_STOP), (0.5, SAYS_STOP), (0.75, '')])
def test_a_stop_of_one_of_several_counts_for_the_timeout(waited, reason):
    stop_input = StopInput()
    stop_input.hear(True, 4.0, SETTINGS, 900)
    stop_input.hear(False, 4.0 + waited, SETTINGS, 901)
    stop_input.hear(False, 4.0 + waited, SETTINGS, 7)
    assert stop_input.reason(4.0 + waited, SETTINGS) == reason


def test_who_is_restarted_is_not_expected_twice():
    several = Publishers(a=900)
    several.wait(2.0)
    several.numbers['a'] = 0
    assert set(several.wait(3.0)) == {''}


def test_two_that_the_graph_does_not_show_yet_are_two():
    several = Publishers(a=900, b=3)
    several.stops = {'b'}
    assert set(several.wait(1.0, there=1)[1:]) == {SAYS_STOP}


def test_without_numbers_several_cannot_be_told_apart_and_stop():
    stop_input, now = StopInput(), 1.0
    for i in range(20):
        now += 0.05
        stop_input.hear(False, now, SETTINGS)
        stop_input.note_publishers(2, now, SETTINGS)
    assert stop_input.reason(now, SETTINGS) == '1 of 2 publishers of the stop input are silent'
    stop_input.note_publishers(1, now, SETTINGS)
    assert stop_input.reason(now, SETTINGS) == ''


def test_a_reset_of_the_gate_forgets_who_has_left(gate):
    for number, now in ((900, 1.0), (3, 1.01), (901, 1.4), (902, 1.8)):
        gate.on_stop_input(False, now, number)
        gate.note_publishers(1, 2 if now < 1.1 else 1, now)
    assert gate.health(1.81)[1] == 'stopped: 1 of 2 publishers of the stop input are silent'
    gate.reset_fault()
    assert gate.on_command(SLOW, 0.01, 1.82).command == SLOW


EVERYBODY = strategies.lists(strategies.tuples(
    strategies.sampled_from([0.001, 0.02, 0.1, 0.3]), strategies.sampled_from('ab'),
    strategies.booleans()), max_size=60)


@hypothesis_settings(max_examples=300, deadline=None)
@given(EVERYBODY, strategies.integers(0, 60), strategies.integers(0, 60))
def test_whatever_comes_nothing_passes_while_the_last_word_of_one_is_stop(events, first, second):
    stop_input, now, numbers, last = StopInput(), 0.0, {'a': first, 'b': second}, {}
    for wait, name, stop in events:
        now += wait
        numbers[name] += 1
        stop_input.hear(stop, now, SETTINGS, numbers[name])
        stop_input.note_publishers(2, now, SETTINGS)
        last[name] = (stop, now)
        said = [stop for stop, at in last.values() if now - at <= 0.5]
        if any(said):
            assert stop_input.reason(now, SETTINGS)
