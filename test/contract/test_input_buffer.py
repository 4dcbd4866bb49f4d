"""Which message goes with a trigger: against a slow statement of the same, and at the edges."""

from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.contract.alignment import Absence, InputBuffer, KEPT, MOST_OTHERS, MOST_VECTORS
from stream_agent.contract.messages import MissingValue
from stream_agent.contract.settings import InputSettings, ODOMETRY, SCAN
from support.strategies import examples

S = 10**9


def settings(**changes):
    return InputSettings(**{'type': ODOMETRY, 'fields': ('x',), 'units': ('m',), 'low': (0.0,),
                            'high': (1.0,), 'oldest': 0.5} | changes)


def buffer_with(messages, **changes):
    """Return a buffer that has messages of (stamp, arrival, value) in seconds."""
    buffer = InputBuffer(settings(**changes))
    for stamp, arrival, value in messages:
        buffer.add(round(stamp * S), round(arrival * S), np.array([float(value)]))
    return buffer


def at(buffer, stamp, now):
    return buffer.at(round(stamp * S), round(now * S))


class AllMessages:
    """Keeps everything since the clock was set back, and looks at all of it for each trigger."""

    def __init__(self, chosen):
        self.chosen, self.kept = chosen, []

    def add(self, stamp, arrival, values):
        time = stamp if self.chosen.stamp == 'header' else arrival
        newest = max((one[0] for one in self.kept), default=time)
        if newest - time > self.chosen.oldest * S:
            self.kept = []
        self.kept.append((time, len(self.kept), arrival, values))

    def at(self, stamp, now):
        oldest = self.chosen.oldest * S
        if not self.kept:
            return 'missing'
        before = [one for one in self.kept
                  if self.chosen.align == 'newest' or one[0] <= stamp]
        if not before:
            return 'future'
        time, _, arrival, values = max(before, key=lambda one: one[:2])
        if stamp - time > oldest or min(stamp, now) - arrival > oldest and time <= stamp + oldest:
            return 'old'
        if time - stamp > oldest:
            return 'future'
        after = [one for one in self.kept if one[0] > stamp]
        if self.chosen.align == 'interpolate' and after and time < stamp:
            later, _, _, more = min(after, key=lambda one: one[:2])
            return values + (more - values) * ((stamp - time) / (later - time))
        return values


@given(align=st.sampled_from(['newest', 'hold', 'interpolate']),
       stamp=st.sampled_from(['header', 'arrival']), oldest=st.sampled_from([0.0, 0.2, 1.0]),
       events=st.lists(st.tuples(
           # Seconds to the next event; whether a message or a trigger; how late it is.
           st.sampled_from([0.01, 0.05, 0.1, 0.3]), st.booleans(),
           st.sampled_from([0.0, 0.01, 0.04, 0.15, 0.6, 5.0, -0.3, -4.0])), max_size=40))
@examples(600)
def test_a_buffer_gives_what_all_messages_would(align, stamp, oldest, events):
    chosen = settings(align=align, stamp=stamp, oldest=oldest)
    buffer, slow, now = InputBuffer(chosen), AllMessages(chosen), 100 * S
    for i, (pause, is_message, late) in enumerate(events):
        now += round(pause * S)
        if is_message:
            for one in (buffer, slow):
                one.add(now - round(late * S), now, np.array([float(i)]))
            continue
        # Only messages of the last two seconds are kept.
        late = min(late, 1.5)
        found, expected = (one.at(now - round(late * S), now) for one in (buffer, slow))
        if isinstance(expected, str):
            assert isinstance(found, Absence) and found.reason == expected
        else:
            np.testing.assert_allclose(found, expected)


def test_each_alignment_takes_another_message():
    messages = [(1.0, 1.02, 10), (1.1, 1.12, 20), (1.2, 1.22, 30)]
    for align, expected in (('newest', 30), ('hold', 20), ('interpolate', 25)):
        assert at(buffer_with(messages, align=align), 1.15, 1.25)[0] == pytest.approx(expected)
    # Exactly at a message it is that one; where no later one has come, the last.
    for align in ('hold', 'interpolate'):
        assert at(buffer_with(messages, align=align), 1.1, 1.25) == [20]
        assert at(buffer_with(messages, align=align), 1.3, 1.35) == [30]


def test_absence_says_why_and_by_how_much():
    messages = [(1.0, 1.0, 1)]
    for buffer, stamp, reason, said in (
            (buffer_with([]), 1.0, 'missing', 'no message has come'),
            (buffer_with(messages), 1.75, 'old',
             'its newest message is 0.75 s old, and 0.5 s is allowed'),
            (buffer_with(messages, align='hold'), 0.75, 'future',
             'its messages are 0.25 s later than the trigger; let both stamps be of one clock'),
            (buffer_with(messages), 0.25, 'future', 'its messages are 0.75 s later')):
        absent = at(buffer, stamp, stamp + 0.01)
        assert absent.reason == reason and str(absent).startswith(said)


def test_the_limit_itself_is_allowed():
    buffer = buffer_with([(1.0, 1.0, 7)])
    assert at(buffer, 1.5, 1.5) == [7]
    assert buffer.at(1_500_000_001, 1_500_000_001).reason == 'old'
    assert at(buffer, 0.5, 1.0) == [7]


def test_a_clock_ahead_of_ours_does_not_make_old_messages_new():
    # The sender's clock is 10 s ahead; it ends, and our time reaches its last stamp.
    buffer = buffer_with([(11.0, 1.0, 1), (11.1, 1.1, 2)])
    assert at(buffer, 1.1, 1.15).reason == 'future'
    absent = at(buffer, 11.1, 11.15)
    assert absent.reason == 'old' and absent.age == pytest.approx(10.0)
    # A trigger by the same clock agrees with it.
    assert at(buffer, 11.1, 1.15) == [2]
    assert buffer.lag == pytest.approx(-10.0)


def test_a_stamp_far_ahead_neither_drops_what_is_right_nor_stays():
    for align in ('newest', 'hold'):
        buffer = buffer_with([(1.0, 1.0, 1), (9.0, 1.1, 2)], align=align)
        assert align == 'newest' or at(buffer, 1.2, 1.2) == [1]
        # Within the limit of it, but much later.
        buffer.add(round(8.9 * S), round(8.9 * S), np.array([3.0]))
        assert at(buffer, 8.95, 8.95) == [3]
        assert at(buffer, 9.05, 9.05) == [3]


def test_a_clock_that_is_set_back_empties_the_buffer():
    for align in ('newest', 'hold', 'interpolate'):
        buffer = buffer_with([(100 + i / 10, 100 + i / 10, i) for i in range(20)], align=align)
        assert at(buffer, 101.9, 101.9) == [19]
        buffer.add(5 * S, 5 * S, np.array([50.0]))
        buffer.add(6 * S, 6 * S, np.array([60.0]))
        assert at(buffer, 6.1, 6.1) == [60]
        # One that is only late is sorted in.
        buffer.add(round(5.9 * S), round(6.05 * S), np.array([59.0]))
        assert at(buffer, 6.1, 6.1) == [60]
        if align == 'hold':
            assert at(buffer, 5.95, 6.1) == [59]


def test_a_stamp_that_nobody_set_is_refused_where_it_counts():
    with pytest.raises(MissingValue, match='its stamp is 0, as nobody set it; let its driver '
                       'stamp it, or write stamp: arrival'):
        buffer_with([(0, 1.0, 1)])
    assert at(buffer_with([(0, 1.0, 1)], stamp='arrival'), 1.1, 1.1) == [1]


def test_a_forgotten_message_is_missing():
    buffer = buffer_with([(1.0, 1.0, 1)])
    buffer.clear()
    assert at(buffer, 1.0, 1.0).reason == 'missing'


@pytest.mark.parametrize('align, kind, most', [
    ('newest', ODOMETRY, 1), ('hold', ODOMETRY, MOST_VECTORS), ('hold', SCAN, MOST_OTHERS)])
def test_memory_is_bounded(align, kind, most):
    changes = {'type': kind, 'align': align, 'oldest': 3600.0}
    if kind == SCAN:
        changes |= {'fields': (), 'units': (), 'low': (), 'high': (6.0,)}
    buffer = InputBuffer(settings(**changes))
    for i in range(MOST_VECTORS + 50):
        buffer.add(S + i * 10**6, S + i * 10**6, i)
    assert len(buffer._times) == len(buffer._messages) == most
    assert buffer.at(S + i * 10**6, S + i * 10**6) == i


def test_what_no_trigger_can_want_is_not_kept():
    buffer = buffer_with([(i / 10 + 1, i / 10 + 1, i) for i in range(200)], align='hold')
    assert len(buffer._times) == (0.5 + KEPT / S) * 10 + 1
