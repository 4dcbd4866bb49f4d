import numpy as np
import pytest
from stream_agent.measurement.comparison import error_in_effect, in_effect
from stream_agent.measurement.rows import Row
from stream_agent.measurement.traces import make_run
from support.recordings import ns

NAN = float('nan')


def row(time, arrival, yaw_rate, reference, update=0):
    return Row(ns(time), 'agent', update, arrival if arrival is None else ns(arrival), 0.0,
               1.0, yaw_rate, 1.0, reference, None, NAN, NAN, None)


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
