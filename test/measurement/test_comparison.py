from collections import Counter
from functools import partial
import math

import numpy as np
import pytest
from stream_agent.measurement.bootstrap import paired_interval
from stream_agent.measurement.comparison import (
    classify, compare, departure, error_in_effect, first_response, in_effect, shown)
from stream_agent.measurement.rows import Element, Row
from stream_agent.measurement.traces import make_run
from support.recordings import ns, PERIOD, winding_road

NAN = float('nan')
EARLY = {'latency': 3e-3, 'jitter': 1e-3, 'noise': 0.02}
LATE = {'latency': 15e-3, 'jitter': 1e-3, 'noise': 0.02}


def comparison_of(policies, seconds=20.0, **description):
    rows, changes = winding_road(policies, seconds, driving=next(iter(policies)))
    return compare(make_run(rows, changes, {
        'policies': dict.fromkeys(policies, 'topic'), 'camera_period': PERIOD, **description}))


def test_classes_are_those_of_ros2_performance():
    """Late, too late, lost (C3)."""
    latencies = np.array([1e-3, 5e-3, 5.1e-3, 33e-3, 33.4e-3, 1.0, NAN])
    assert classify(latencies, 1 / 30) == {'on time': 2, 'late': 2, 'too late': 2, 'lost': 1}


def test_a_fast_camera_has_stricter_classes_and_a_slow_one_capped_ones():
    assert classify(np.array([1.9e-3, 2.1e-3, 9.9e-3, 10.1e-3]), 0.01) == {
        'on time': 1, 'late': 2, 'too late': 1, 'lost': 0}
    assert classify(np.array([4.9e-3, 5.1e-3, 49e-3, 51e-3]), 0.1) == {
        'on time': 1, 'late': 2, 'too late': 1, 'lost': 0}


def test_figures_of_a_trace_made_by_hand():
    """Ten frames a second, answered after 1, 1, 30, 80 ms, never, and 1 ms."""
    latencies = [1e-3, 1e-3, 30e-3, 80e-3, None, 1e-3]
    rows = [Row(ns(i / 10), 'agent', 0, None if latency is None else ns(i / 10 + latency), NAN,
                (0.5, NAN if latency is None else 0.1 * i), (0.75, 0.0), None, (NAN, NAN),
                ns(i / 10))
            for i, latency in enumerate(latencies)]
    figures = compare(make_run(rows)).figures['agent']
    assert figures.frames == 6
    assert figures.classes == {'on time': 3, 'late': 1, 'too late': 1, 'lost': 1}
    assert figures.latency['p50'] == pytest.approx(1e-3)
    assert figures.latency['worst'] == pytest.approx(80e-3)
    # Arrivals at 0.001, 0.101, 0.230, 0.380 and 0.501 s.
    assert figures.interval['p50'] == pytest.approx(0.125)
    assert figures.interval['worst'] == pytest.approx(0.150)
    assert figures.error == pytest.approx([0.25, (0 + 1 + 2 + 3 + 5) / 50])
    # The command of frame 1 costs 99 ms, and 30 of the next 100, and so on; from 1 ms on.
    assert figures.effect[1] == pytest.approx(
        (0.1 * 99 + 0.1 * 30 + 0.2 * 70 + 0.2 * 80 + 0.3 * 20 + 0.3 * 100) / 400)
    assert np.isnan(figures.gated['p50'])


def test_the_gates_latency_is_its_own():
    figures = comparison_of({'agent': {'latency': 4e-3}, 'baseline': LATE}).figures
    assert figures['agent'].gated['p50'] == pytest.approx(4.6e-3, abs=1e-6)
    assert np.isnan(figures['baseline'].gated['p50'])


def test_differences_name_the_better_policy_in_either_order():
    for policies in ({'agent': EARLY, 'baseline': LATE}, {'baseline': LATE, 'agent': EARLY}):
        by_name = {d.quantity: d for d in comparison_of(policies).differences}
        assert by_name['latency'].better == 'agent'
        sign = -1 if next(iter(policies)) == 'agent' else 1
        assert by_name['latency'].interval.estimate == pytest.approx(sign * 12e-3, abs=2e-4)
        assert by_name['speed error'].better == ''


def test_lateness_alone_shows_in_effect_and_not_in_the_error_per_frame():
    """Both are exactly right about every frame; one says so 30 ms later."""
    policies = {'agent': {'latency': 1e-3}, 'baseline': {'latency': 31e-3}}
    comparison = comparison_of(policies, seconds=45.0)
    by_name = {d.quantity: d for d in comparison.differences}
    assert by_name['yaw rate error'].better == ''
    assert by_name['yaw rate error in effect'].better == 'agent'
    assert comparison.figures['agent'].error[1] == pytest.approx(0, abs=1e-12)


@pytest.mark.thorough
def test_two_copies_of_one_policy(monkeypatch):
    """A/A through the whole comparison: no difference in at least 95 % of 40 runs (C4)."""
    monkeypatch.setattr('stream_agent.measurement.comparison.paired_interval',
                        partial(paired_interval, resamples=200))
    none = Counter()
    for seed in range(40):
        rows, _ = winding_road({'one': EARLY, 'other': EARLY}, 20.0, seed=seed)
        none.update(d.quantity for d in compare(make_run(rows)).differences if d.better == '')
    assert len(none) == 5
    assert min(none.values()) >= 38


def test_errors_leave_out_the_time_after_a_change_of_the_scene():
    """The policy is wrong only in the second after the changes at 5, 10 and 15 s."""
    rows, changes = winding_road({'agent': {'latency': 1e-3}}, 20.0)
    rows = [row._replace(command=(row.command[0], row.command[1] + 1.0))
            if any(0 <= row.stamp_ns - change < 1e9 for change in changes) else row
            for row in rows]
    assert compare(make_run(rows, changes)).figures['agent'].error[1] == pytest.approx(0, abs=1e-9)
    wrong = compare(make_run(rows)).figures['agent'].error[1]
    assert wrong == pytest.approx(3 * 30 / 600, rel=0.02)


def test_the_lateral_error_is_that_of_the_driving_policy():
    rows, _ = winding_road({'agent': EARLY, 'baseline': LATE}, 5.0)
    rows = [row._replace(lateral_error=0.03 if i % 4 < 2 else -0.04) for i, row in enumerate(rows)]
    figures = compare(make_run(rows, [], {'driving': 'agent'})).figures
    assert figures['agent'].lateral == pytest.approx(np.sqrt((0.03 ** 2 + 0.04 ** 2) / 2))
    assert np.isnan(figures['baseline'].lateral)


def test_a_change_in_the_start_up_takes_no_frames_from_the_lateral_error():
    """Frames 30 to 90 are not settled, and of 0 to 120 not all were answered: 120 on count."""
    rows, _ = winding_road({'agent': EARLY, 'baseline': LATE}, 10.0)
    rows = [row._replace(lateral_error=0.5 if row.stamp_ns < ns(5) else 0.03,
                         arrival_ns=row.arrival_ns if row.policy == 'agent'
                         or row.stamp_ns >= ns(4) else None) for row in rows]
    comparison = compare(make_run(rows, [ns(1)], {'driving': 'agent'}))
    assert comparison.start_up == 120
    assert comparison.figures['agent'].lateral == pytest.approx(
        np.sqrt((30 * 0.5 ** 2 + 150 * 0.03 ** 2) / 180))


def test_frames_before_every_policy_answered_are_left_out():
    rows, _ = winding_road({'agent': EARLY, 'baseline': LATE}, 10.0)
    rows = [row._replace(arrival_ns=None) if row.policy == 'baseline' and row.stamp_ns < ns(4)
            else row for row in rows]
    comparison = compare(make_run(rows))
    assert comparison.start_up == 120
    assert comparison.figures['baseline'].classes['lost'] == 0
    assert {figures.frames for figures in comparison.figures.values()} == {180}


def test_a_policy_that_dies_loses_its_frames():
    rows, _ = winding_road({'agent': EARLY, 'baseline': LATE}, 10.0)
    rows = [row._replace(arrival_ns=None) if row.policy == 'baseline' and row.stamp_ns > ns(6)
            else row for row in rows]
    assert compare(make_run(rows)).figures['baseline'].classes['lost'] == 119


def test_a_silent_policy_is_named_and_the_other_still_measured():
    comparison = comparison_of({'agent': EARLY, 'baseline': {'latency': 0, 'lost': 1.0}})
    assert comparison.silent == ['baseline']
    assert list(comparison.figures) == ['agent']
    assert comparison.differences == []


def test_pattern_and_prediction_come_from_the_diagnostics():
    said = {'agent: frames': {'pattern': 'streaming', 'first response frame': '1'}}
    figures = comparison_of({'agent': {'latency': 4e-3, 'frames_late': 1}}, diagnostics=said
                            ).figures['agent']
    assert figures.label == 'agent (streaming)'
    assert (figures.response.predicted, figures.response.counts) == (1, {1: 3})


def test_the_worst_second_is_counted_from_the_arrivals():
    rows, _ = winding_road({'agent': {'latency': 2e-3}}, 10.0)
    rows = [row._replace(arrival_ns=None) if ns(5) <= row.stamp_ns < ns(5.32) else row
            for row in rows]
    mean, worst = compare(make_run(rows)).figures['agent'].rate
    assert worst == 20
    assert mean == pytest.approx(29.1, abs=0.2)


def test_nothing_recorded_is_not_an_error():
    comparison = compare(make_run([], description={'policies': {'agent': 'policy_command'}}))
    assert comparison.silent == ['agent'] and comparison.figures == {}


# The error in effect

def row(time, arrival, yaw_rate, reference, update=0):
    return Row(ns(time), 'agent', update, arrival if arrival is None else ns(arrival), 0.0,
               (1.0, yaw_rate), (1.0, reference), None, (NAN, NAN), None)


def effect_of(*rows):
    run = make_run(rows)
    return error_in_effect(run, run.traces['agent'])


def test_a_right_command_costs_its_lateness():
    """The reference steps by 2 at t = 1, the command follows 0.25 s later: 0.25 x 2 / 1."""
    errors = effect_of(row(0, 0, 0.0, 0.0), row(1, 1.25, 2.0, 2.0), row(2, 2.25, 2.0, 2.0))
    assert errors[:2] == pytest.approx(np.array([[0, 0], [0, 0.5]]))
    assert np.isnan(errors[2]).all()


def test_a_wrong_command_costs_what_it_is_wrong_by():
    errors = effect_of(row(0, 0, 0.3, 0.0), row(1, 1, 0.3, 0.0), row(2, 2, 0.3, 0.0))
    assert errors[:2, 1] == pytest.approx([0.3, 0.3])


def test_errors_of_either_sign_do_not_cancel():
    errors = effect_of(row(0, 0, 1.0, 0.0), row(1, 1.5, -1.0, 0.0), row(2, 2.5, 0.0, 0.0))
    assert errors[:2, 1] == pytest.approx([1.0, 1.0])


def test_a_lost_command_leaves_the_one_before_in_effect():
    errors = effect_of(row(0, 0, 1.0, 1.0), row(1, None, NAN, 3.0), row(2, 2, 3.0, 3.0))
    assert errors[:2, 1] == pytest.approx([0.0, 2.0])


def test_what_arrived_last_is_in_effect_even_if_it_answers_an_older_frame():
    errors = effect_of(row(0, 1.5, 5.0, 0.0), row(1, 1.25, 0.0, 0.0), row(2, 2, 0.0, 0.0))
    assert np.isnan(errors[0]).all()
    assert np.isnan(errors[1]).all()  # nothing was in effect before 1.25
    assert in_effect(np.array([1.25, 1.5]), np.array([[0.0], [5.0]]), np.array([1.0, 1.3, 2.0])
                     ).ravel().tolist() == pytest.approx([NAN, 0.0, 5.0], nan_ok=True)


def test_later_updates_of_a_frame_take_effect():
    errors = effect_of(row(0, 0, 1.0, 0.0), row(0, 0.5, 0.0, 0.0, update=1), row(1, 1, 0.0, 0.0))
    assert errors[0, 1] == pytest.approx(0.5)


def test_without_a_reference_the_error_is_unknown():
    errors = effect_of(row(0, 0, 1.0, NAN), row(1, 1, 1.0, 0.0), row(2, 2, 1.0, 0.0))
    assert errors[:2, 1] == pytest.approx([NAN, 1.0], nan_ok=True)


@pytest.mark.parametrize('seed', range(5))
def test_it_equals_a_sum_over_many_moments(seed):
    """The other way to integrate: look 200,000 times."""
    random = np.random.default_rng(seed)
    rows = [row(i / 30, i / 30 + random.exponential(0.03), random.normal(), random.normal())
            for i in range(60)]
    run = make_run(rows)
    trace = run.traces['agent']
    times = np.linspace(0, run.stamps[-1], 200_000, endpoint=False)
    order = np.argsort(trace.arrivals)
    error = np.abs(in_effect(trace.arrivals[order], trace.commands[order], times)
                   - in_effect(run.stamps, run.reference, times))[:, 1]
    known = ~np.isnan(effect := error_in_effect(run, trace)[:, 1])
    begin = times >= run.stamps[known.argmax()]
    assert effect[known].mean() == pytest.approx(error[begin].mean(), rel=2e-3)


# The first response

def measured(seconds=31.0, **policy):
    rows, changes = winding_road({'agent': {'latency': 4e-3, **policy}}, seconds)
    run = make_run(rows, changes)
    return first_response(run, run.traces['agent'])


@pytest.mark.parametrize('late', [0, 1, 3, 6])
def test_a_policy_that_knows_an_older_frame_responds_that_late(late):
    response = measured(frames_late=late, noise=0.005)
    assert response.changes == 6
    assert response.counts == {late: 6}
    assert np.median(response.seconds) == pytest.approx(late / 30 + 4e-3, abs=1e-4)


@pytest.mark.parametrize('late', [0, 2, 5])
def test_changes_half_a_second_apart_and_answered_bit_by_bit(late):
    """A memory keeps moving after each change; only its first move is the response."""
    rows, _ = winding_road({'agent': {'latency': 4e-3}}, 6.0)
    changed = np.arange(20, 170, 16)
    goal, value, moved = 0.0, 0.0, []
    for i, row in enumerate(rows):
        if i - late in changed:
            goal = 0.4 - goal
        value += 0.5 * (goal - value)
        moved.append(row._replace(command=(0.8, value)))
    run = make_run(moved, [rows[i].stamp_ns for i in changed])
    response = first_response(run, run.traces['agent'])
    assert response.changes == len(changed)
    assert response.counts == {late: len(changed)}


def test_a_policy_that_does_not_respond_is_not_said_to():
    response = measured(frames_late=10**6, noise=0.01)
    assert response.changes == 6
    # Noise may exceed 1.5 times its largest step of a second once in a while.
    assert len(response.frames) <= 2


def test_lost_frames_count_as_frames():
    """A policy that loses the changed frame responds with the next."""
    response = measured(seconds=200.0, noise=0.002, lost=0.3)
    assert len(response.frames) >= 35
    assert response.counts[0] == pytest.approx(0.7 * response.changes, abs=8)
    assert response.counts[1] == pytest.approx(0.21 * response.changes, abs=8)


def test_a_change_before_anything_was_answered_is_not_judged():
    rows, _ = winding_road({'agent': {'latency': 4e-3}}, 3.0)
    run = make_run(rows, [rows[2].stamp_ns])
    assert first_response(run, run.traces['agent']).changes == 0


def test_a_steady_drift_is_not_a_departure():
    drift = np.column_stack([np.zeros(40), np.linspace(0, 2, 40)])
    assert departure(drift, 20) is None
    drift[23:, 1] += 0.2
    assert departure(drift, 20) == 23


def test_the_speed_departs_too():
    commands = np.zeros((20, 2))
    commands[12:, 0] = 0.1
    assert departure(commands, 10) == 12


# Commands of any actuators

ARM = (Element('shoulder', 'rad/s'), Element('elbow', 'rad/s'), Element('grip, left', 'N'))


def arm_rows(policies, frames=300):
    """Record policies, each by its latency [s] and what it adds to the reference."""
    rows = []
    for i in range(frames):
        wanted = (0.1, 0.5 * math.sin(0.3 * i), -2.0)
        for name, (latency, errors) in policies.items():
            command = tuple(one + error for one, error in zip(wanted, errors))
            rows.append(Row(ns(i * PERIOD), name, 0, ns(i * PERIOD + latency), latency, command,
                            wanted, None, (NAN,) * 3, ns(i * PERIOD)))
    return rows


def test_vectors_are_compared_element_by_element():
    rows = arm_rows({'agent': (2e-3, (0.0, 0.01, 0.0)), 'baseline': (9e-3, (0.2, 0.01, -0.5))})
    comparison = compare(make_run(rows, elements=ARM))
    assert comparison.figures['agent'].error == pytest.approx([0.0, 0.01, 0.0])
    assert comparison.figures['baseline'].error == pytest.approx([0.2, 0.01, 0.5])
    better = {each.quantity: (each.unit, each.better) for each in comparison.differences}
    assert better['shoulder error'] == ('rad/s', 'agent')
    assert better['elbow error'] == ('rad/s', '')
    assert better['grip, left error'] == ('N', 'agent')
    assert [*better][1:4] == ['shoulder error', 'elbow error', 'grip, left error']
    # What moves most is shown.
    assert shown(comparison.run) == (1, ARM[1])


def test_frames_without_a_command_for_want_of_an_input_are_the_agents_count():
    said = {'dropped missing scan': '7', 'dropped old scan': '2', 'dropped future odometry': '1',
            'dropped stale': '5', 'dropped missing x': 'many'}
    run = make_run(arm_rows({'agent': (2e-3, (0, 0, 0))}),
                   description={'diagnostics': {'agent: frames': said}}, elements=ARM)
    assert compare(run).figures['agent'].missing == {'scan': 9, 'odometry': 1}
