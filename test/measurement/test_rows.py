import itertools
import math

import pytest
from stream_agent.command import Command
from stream_agent.measurement.rows import (
    arrivals_measured, AT_ARRIVAL, FrameMatcher, HORIZON, MOST_OPEN, WHEN_TAKEN)
from support.recordings import Clock, ns

TURN = Command(0.5, 0.25)
SLOWER = Command(0.4, 0.2)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def maker(clock):
    return FrameMatcher(['agent', 'baseline'], driving='agent', clock=clock)


def close(maker, clock, seconds=HORIZON):
    """Let time pass in small steps, as the recorder's timer does."""
    rows = []
    for _ in range(8):
        clock.now += seconds / 8
        rows += maker.close()
    return rows


def test_a_row_joins_everything_of_its_frame_in_any_order(clock):
    """All orders of arrival make the same rows."""
    events = [
        lambda m: m.add_frame(ns(1), ns(1.001)),
        lambda m: m.add_reference(ns(1), TURN),
        lambda m: m.add_lateral_error(ns(1), 0.03),
        lambda m: m.add_command('agent', ns(1), ns(1.004), ns(1.0035), TURN),
        lambda m: m.add_command('baseline', ns(1), ns(1.020), ns(1.0195), SLOWER),
        lambda m: m.add_gated(ns(1.005), ns(1.0045), SLOWER)]
    results = set()
    for order in itertools.permutations(events):
        maker = FrameMatcher(['agent', 'baseline'], driving='agent', clock=clock)
        for event in order:
            event(maker)
        rows = [row._replace(gated=tuple(map(str, row.gated))) for row in close(maker, clock)]
        results.add(tuple(rows))
    (agent, baseline), = results
    assert agent == (ns(1), 'agent', 0, ns(1.004), pytest.approx(0.004), TURN, TURN,
                     ns(1.005), ('0.4', '0.2'), ns(1.001), 0.03)
    assert baseline == (ns(1), 'baseline', 0, ns(1.020), pytest.approx(0.020), SLOWER, TURN,
                        None, ('nan', 'nan'), ns(1.001), 0.03)


def test_stamps_are_matched_to_the_nanosecond(maker, clock):
    maker.add_frame(ns(1), ns(1))
    maker.add_command('agent', ns(1) + 1, ns(1.01), ns(1.01), TURN)
    assert [row.arrival_ns for row in close(maker, clock)] == [None, None]
    assert maker.without_frame == 1


def test_rows_stay_open_for_a_second(maker, clock):
    maker.add_frame(ns(1), ns(1))
    assert close(maker, clock, HORIZON - 0.01) == []
    clock.now += 0.02
    assert [row.policy for row in maker.close()] == ['agent', 'baseline']


def test_a_command_after_the_horizon_is_lost_and_counted(maker, clock):
    maker.add_frame(ns(1), ns(1))
    rows = close(maker, clock)
    maker.add_command('agent', ns(1), ns(2.5), ns(2.5), TURN)
    assert rows[0].arrival_ns is None and math.isnan(rows[0].latency)
    assert close(maker, clock) == []
    assert maker.without_frame == 1


def play(maker, clock, stamps):
    """Let frames come 30 times a second, each answered by both; return all rows."""
    rows = []
    for stamp_ns in stamps:
        clock.now += 1 / 30
        maker.add_frame(stamp_ns, stamp_ns)
        maker.add_reference(stamp_ns, TURN)
        for policy in ('agent', 'baseline'):
            maker.add_command(policy, stamp_ns, stamp_ns + 4_000_000, stamp_ns, TURN)
        rows += maker.close()
    return rows + maker.finish()


@pytest.mark.parametrize('stamps', [
    [*(ns(i / 30) for i in range(100)), ns(3600), *(ns(i / 30) for i in range(101, 211))],
    [*(ns(i / 30) for i in range(100)), ns(-3600), *(ns(i / 30) for i in range(101, 211))],
    [*(ns(i / 30) for i in range(100)), *(ns(i / 30 - 60) for i in range(100, 211))],
    [ns(i % 190 / 30) for i in range(211)]],
    ids=['an hour ahead', 'an hour back', 'clock set back', 'the same recording again'])
def test_no_stamp_closes_other_frames(maker, clock, stamps):
    rows = play(maker, clock, stamps)
    assert [row.stamp_ns for row in rows] == [stamp for stamp in stamps for _ in range(2)]
    assert all(row.arrival_ns for row in rows)
    assert maker.without_frame == 0


def test_what_waited_in_a_queue_while_nobody_looked_is_not_lost(maker, clock):
    """A machine 20 times too slow: the recorder gets to its messages every 4 s only."""
    for i in range(5):
        maker.add_frame(ns(i), ns(i))
        clock.now += 4.0
        rows = maker.close()
        maker.add_command('agent', ns(i), ns(i + 0.01), ns(i + 0.01), TURN)
        assert all(row.arrival_ns for row in rows if row.policy == 'agent')
    assert [row.arrival_ns for row in maker.finish() if row.policy == 'agent'][-1] == ns(4.01)
    assert maker.without_frame == 0


def test_at_the_end_a_stamp_far_ahead_makes_nothing_lost(maker):
    """The last frame's answers were on their way, although a later stamp was answered before."""
    maker.add_frame(ns(3600), ns(1))
    maker.add_command('agent', ns(3600), ns(1.01), ns(1.01), TURN)
    maker.add_frame(ns(2), ns(2))
    assert [row.stamp_ns for row in maker.finish()] == [ns(3600)]


def test_stamps_of_closed_frames_are_not_kept_for_ever(maker, clock):
    for i in range(3 * MOST_OPEN):
        maker.add_frame(ns(i), ns(i))
        clock.now += 1e-3
        maker.close()
    assert len(maker._closed) <= MOST_OPEN + 1
    close(maker, clock, 8.0)
    maker.add_frame(ns(-1), ns(-1))
    close(maker, clock, 2.0)
    assert list(maker._closed) == [ns(-1)]


def test_several_commands_of_one_frame_are_several_updates(maker, clock):
    maker.add_frame(ns(1), ns(1))
    maker.add_command('agent', ns(1), ns(1.02), ns(1.02), SLOWER)
    maker.add_command('agent', ns(1), ns(1.01), ns(1.01), TURN)
    rows = [row for row in close(maker, clock) if row.policy == 'agent']
    assert [(row.update, row.command) for row in rows] == [(0, TURN), (1, SLOWER)]


def test_the_gates_command_belongs_to_the_policy_command_before_it(maker, clock):
    for i in range(3):
        maker.add_frame(ns(i), ns(i))
        maker.add_command('agent', ns(i), ns(i + 0.01), ns(i + 0.009), TURN)
    maker.add_gated(ns(0.5), ns(0.005), SLOWER)  # a stop repeated before the first command
    maker.add_gated(ns(2.02), ns(2.015), TURN)  # the second frame's command was held back
    maker.add_gated(ns(2.03), ns(2.025), SLOWER)  # a stop after it
    rows = [row for row in close(maker, clock) if row.policy == 'agent']
    assert [row.gated_arrival_ns for row in rows] == [None, None, ns(2.02)]
    assert rows[2].gated == TURN


def test_a_command_at_the_gates_very_moment_is_the_one_before(maker, clock):
    """Equal stamps happen: clocks have steps."""
    maker.add_frame(ns(1), ns(1))
    maker.add_command('agent', ns(1), ns(1.01), ns(1.01), TURN)
    maker.add_gated(ns(1.02), ns(1.01), TURN)
    assert close(maker, clock)[0].gated_arrival_ns == ns(1.02)


def test_a_missed_image_still_makes_rows_if_the_reference_knows_the_frame(maker, clock):
    maker.add_reference(ns(1), TURN)
    maker.add_command('agent', ns(1), ns(1.01), ns(1.01), TURN)
    agent, baseline = close(maker, clock)
    assert agent.frame_arrival_ns is None and agent.latency == pytest.approx(0.01)


def test_at_the_end_only_what_a_later_answer_overtook_is_lost(maker):
    for i in range(3):
        maker.add_frame(ns(i), ns(i))
    maker.add_command('agent', ns(1), ns(1.01), ns(1.01), TURN)
    rows = maker.finish()
    assert [(row.stamp_ns, row.policy, row.arrival_ns) for row in rows] == [
        (ns(0), 'agent', None), (ns(1), 'agent', ns(1.01))]


@pytest.mark.parametrize('info, how', [
    ({'received_timestamp': ns(0.001)}, AT_ARRIVAL),
    ({'received_timestamp': ns(0.0199)}, WHEN_TAKEN),  # as Cyclone DDS does
    ({'received_timestamp': 0}, WHEN_TAKEN), ({}, WHEN_TAKEN)])
def test_middleware_that_stamps_a_message_when_it_is_taken_is_found_out(info, how):
    """The message was sent at 0 and waited until 0.020 s."""
    assert arrivals_measured(info.get('received_timestamp'), ns(0), ns(0.020)) == how
    assert arrivals_measured(ns(0), ns(0), ns(-0.1)) == WHEN_TAKEN  # a clock that was set back


def test_open_frames_and_gated_commands_are_bounded(maker):
    for i in range(3 * MOST_OPEN):
        maker.add_frame(ns(i), ns(i))
        maker.add_command('agent', ns(i), ns(i), ns(i), TURN)
        maker.add_gated(ns(i), ns(i), TURN)
    assert len(maker._gated) == len(maker._driving_sent) == MOST_OPEN
    assert len(maker.close()) == 2 * 2 * MOST_OPEN
    assert len(maker._open) == MOST_OPEN
