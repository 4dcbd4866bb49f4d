import numpy as np
import pytest
from stream_agent.measurement.response import departure, first_response
from stream_agent.measurement.traces import make_run
from support.recordings import winding_road


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
    """A memory goes on moving after each change; only its first move is the response."""
    rows, _ = winding_road({'agent': {'latency': 4e-3}}, 6.0)
    changed = np.arange(20, 170, 16)
    goal, value, moved = 0.0, 0.0, []
    for i, row in enumerate(rows):
        if i - late in changed:
            goal = 0.4 - goal
        value += 0.5 * (goal - value)
        moved.append(row._replace(yaw_rate=value, speed=0.8))
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
    """Whoever loses the changed frame answers with the next."""
    response = measured(seconds=200.0, noise=0.002, lost=0.3)
    assert len(response.frames) >= 35
    assert response.counts[0] == pytest.approx(0.7 * response.changes, abs=8)
    assert response.counts[1] == pytest.approx(0.21 * response.changes, abs=8)


def test_a_change_before_anything_was_answered_is_not_judged():
    rows, _ = winding_road({'agent': {'latency': 4e-3}}, 3.0)
    run = make_run(rows, [rows[2].stamp_ns])
    assert first_response(run, run.traces['agent']).changes == 0


def test_a_steady_drift_is_no_departure():
    drift = np.column_stack([np.zeros(40), np.linspace(0, 2, 40)])
    assert departure(drift, 20) is None
    drift[23:, 1] += 0.2
    assert departure(drift, 20) == 23


def test_the_speed_departs_too():
    commands = np.zeros((20, 2))
    commands[12:, 0] = 0.1
    assert departure(commands, 10) == 12
