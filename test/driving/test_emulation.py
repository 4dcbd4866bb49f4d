"""Emulated computers: their timelines against theory and against a count of single ticks."""

from dataclasses import replace
from itertools import islice
import math

from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.driving.compute_model import (
    figures_of, immediate, Timeline, timeline_of, TimingError, Work)
from stream_agent.driving.drivers import CommandRows
from stream_agent.driving.drives import drive_together, Trial
from stream_agent.driving.vehicles import CommandDelayLine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern, update_order
from stream_agent.theory.planning.candidates import Candidate, cut, Device, Rollout, waves
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.rollout import response_cone, sources_of
from support.graphs import bare_graph
from support.strategies import examples, scheduled_networks
import torch

LIMITS = CommandScale(2.0, 4.0)
LATE = Timeline((Work(0.07, 0.05),), 1 / 30)
CHAIN = bare_graph('x->a a->b b->c c->d b->d d->d', 'd', streams='d->d')
SMALL = graph_from_data({
    'nodes': {'image': {'shape': [1, 12, 16]}, 'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [{'source': 'image', 'target': 'command', 'transform': 'dense'}],
    'output': 'command'})


def candidate(graph, pattern, costs, execution, period=1.0, updates=1):
    device = Device(NodeCosts(costs), execution, period)
    return Candidate('any', Rollout(graph, pattern, device), updates_per_frame=updates)


def ticks(graph, pattern, costs, execution, period, frames, pipelined=False):
    """
    Return (image, answer) of every frame, by letting processors work tick by tick.

    Costs and period are whole ticks. A serial processor does the cone first; parallel nodes
    begin when what they read in this frame is there.
    """
    sources = sources_of(graph, pattern)
    order = [v for v in update_order(graph, pattern) if v not in graph.inputs]
    now, newest, taken, left = 0, -1, [], []
    while len(taken) < frames or not all(graph.output in done for _, _, done in taken):
        if now % period == 0:
            newest = now // period
        idle = not left if not pipelined else not any(v == order[0] for v, *_ in left)
        if idle and len(taken) < frames and newest > (taken[-1][0] if taken else -1):
            number = len(taken) + 1
            done = {}
            taken.append((newest, number, done))
            cone = response_cone(graph, pattern, number)
            todo = [v for v in [*cone, *(v for v in order if v not in cone)]
                    if graph.node(v).updates_at(number)]
            left += [[v, costs[v], number, {u for u, r in sources[v] if not r and u in todo},
                      done] for v in todo]
        busy = set()
        for job in left:
            v, _, number, waits, done = job
            processor = 0 if execution == 'serial' else v
            if processor not in busy and all(done.get(u, math.inf) <= now for u in waits):
                busy.add(processor)
                job[1] -= 1
                if job[1] == 0:
                    done[v] = now + 1
        left = [job for job in left if job[1]]
        now += 1
    return [(image, done[graph.output]) for image, _, done in taken]


@given(scheduled_networks(max_inner=3), st.data())
@examples(60)
def test_a_timeline_is_what_processors_do_tick_by_tick(graph, data):
    graph = replace(graph, nodes=tuple(
        replace(node, period=1, offset=0) if node.name == graph.output else node
        for node in graph.nodes))
    costs = {node.name: data.draw(st.integers(1, 5)) for node in graph.nodes
             if node.name not in graph.inputs}
    period = data.draw(st.integers(1, 9))
    execution = data.draw(st.sampled_from(['serial', 'parallel']))
    for pattern in (sequential_pattern(graph), newest_image_pattern(graph)):
        timeline = timeline_of(candidate(graph, pattern, costs, execution, period))
        expected = ticks(graph, pattern, costs, execution, period, 12)
        assert [(one.image, one.answer) for one in islice(timeline, 12)] == expected


@pytest.mark.parametrize('cost', [1, 2, 3, 4, 7])
def test_a_pipeline_is_what_processors_do_tick_by_tick(cost):
    costs = dict.fromkeys('abcd', cost)
    timeline = timeline_of(candidate(CHAIN, sequential_pattern(CHAIN), costs, 'parallel', 3),
                           pipelined=True)
    expected = ticks(CHAIN, sequential_pattern(CHAIN), costs, 'parallel', 3, 15, pipelined=True)
    assert [(one.image, one.answer) for one in islice(timeline, 15)] == expected


@given(st.floats(0.0, 0.1), st.floats(0.01, 0.2), st.floats(0.0, 2.0))
@examples(30)
def test_images_within_a_time_are_those_that_come_before_it(response, busy, seconds):
    timeline = Timeline((Work(response, busy), Work(response, 0.0)), 1 / 30)
    assert timeline.images_within(seconds) == sum(
        one.image / 30 < seconds - 1e-7 for one in islice(timeline, 100))


def test_worked_example():
    # Four nodes of 0.4 periods, one after the other: two of three images, and then fewer.
    costs = dict.fromkeys('abcd', 0.4)
    sequential = candidate(CHAIN, sequential_pattern(CHAIN), costs, 'serial')
    assert [one.image for one in islice(timeline_of(sequential), 7)] == [0, 1, 3, 4, 6, 8, 9]
    assert [round(one.answer, 9) for one in islice(timeline_of(sequential), 4)] == [
        1.6, 3.2, 4.8, 6.4]
    streaming = candidate(CHAIN, newest_image_pattern(CHAIN), costs, 'parallel')
    assert [(one.image, one.answer) for one in islice(timeline_of(streaming), 3)] == [
        (0, 0.4), (1, 1.4), (2, 2.4)]
    thrice = candidate(CHAIN, newest_image_pattern(CHAIN), dict.fromkeys('abcd', 0.25),
                       'parallel', updates=3)
    assert [(one.image, one.answer) for one in islice(timeline_of(thrice), 3)] == [
        (0, 0.75), (1, 1.75), (2, 2.75)]


@pytest.mark.parametrize('cost', [0.02, 0.2, math.pi / 10, math.e / 4])
@pytest.mark.parametrize('execution', ['serial', 'parallel'])
@pytest.mark.parametrize('make', [sequential_pattern, newest_image_pattern,
                                  lambda graph: cut(graph, {'d'})])
def test_figures_are_what_the_planner_forecasts(cost, execution, make):
    one = candidate(CHAIN, make(CHAIN), dict.fromkeys('abcd', cost), execution)
    found = figures_of(one, timeline_of(one))
    waits = 0.0 if one.keeps_up else 0.5
    # A cost that is no simple share of the period meets images at all ages in between.
    assert found.latency == pytest.approx(waits + one.response_latency, abs=0.02)
    assert found.newest == pytest.approx(one.newest_age, abs=0.02)
    assert found.deep == pytest.approx(one.oldest_age, abs=0.03)
    assert found.rate == pytest.approx(1 / one.interval, rel=0.01)
    assert found.dropped == pytest.approx(1 - 1 / one.interval, abs=0.01)


def test_layers_that_take_turns_are_younger_than_the_planners_worst_frame():
    device = Device(NodeCosts(dict.fromkeys('abcd', 0.4)), 'serial', 1.0)
    _, wave = waves(CHAIN, {'d'}, device, 3)
    found = figures_of(wave, timeline_of(wave))
    # A wave lasts three frames. Its end is read when it is 3, 4 and 5 frames old, its middle
    # a frame earlier; then come a node of 0.4 and half a period in force.
    assert (wave.newest_age, wave.oldest_age) == pytest.approx((4.9, 5.9))
    assert (found.newest, found.deep) == pytest.approx((3.9, 4.9), abs=0.01)


def test_what_cannot_be_pipelined_is_refused():
    costs = dict.fromkeys('abcd', 1.0)
    with pytest.raises(TimingError, match='a serial device works on one node at a time'):
        timeline_of(candidate(CHAIN, sequential_pattern(CHAIN), costs, 'serial'), pipelined=True)
    with pytest.raises(TimingError, match="the edge 'a->b' streams, so a frame waits"):
        timeline_of(candidate(CHAIN, newest_image_pattern(CHAIN), costs, 'parallel'),
                    pipelined=True)


def test_answers_act_to_the_instant_several_periods_later():
    settings = SimulationSettings(turn_time_constant=0.0, speed_time_constant=0.0,
                                  max_yaw_rate=6.0)
    environment = DrivingEnvironment(settings, 1)
    environment.place(speed=0.5)
    yaw, period = environment.now.pose.yaw, settings.period
    line = CommandDelayLine(environment, kept=2)
    line.forget(Command(0.5, 0.0))
    for command, at in ((1.0, 0.25), (-2.0, 0.5), (2.0, 2.75)):
        line.add(Command(0.5, command), at * period)
    assert line.commands_before(0.3 * period) == [Command(0.5, 1.0)]
    turned = []
    for _ in range(3):
        line.send(0.5, None)
        environment.skip()
        turned.append((environment.now.pose.yaw - yaw) / period)
    # Pushed by 0.5 rad/s all the time: 0 for a quarter, 1 for a quarter, -2, then 2.
    assert np.diff([0.0, *turned]) == pytest.approx([0.25 - 1.0 + 0.5, -1.5, -1.5 + 0.5 + 0.5])
    assert line.commands_before(9.0) == [Command(0.5, 2.0), Command(0.5, -2.0)]


def test_while_the_expert_drives_answers_are_its_own():
    environment = DrivingEnvironment(SimulationSettings(), 1)
    line = CommandDelayLine(environment, kept=2)
    line.add(Command(9.0, 9.0), 0.5 * environment.settings.period)
    line.send(0.0, Command(0.4, 0.1))
    assert line.commands_before(1.0) == [Command(0.4, 0.1)]
    line.add(Command(9.0, 9.0), 0.5)
    line.forget(Command(0.0, 0.0))
    assert line.commands_before(1.0) == []


def test_commands_stand_in_the_lowest_rows():
    pixels = np.full((1, 6, 16), 7, np.uint8)
    written = CommandRows(count=4).written(pixels, LIMITS, [Command(2.0, -4.0), Command(1.0, 0.0)])
    assert written[0, -2].tolist() == [255] * 4 + [191] * 4 + [128] * 8
    assert written[0, -1].tolist() == [0] * 4 + [128] * 12
    assert (written[:, :-2] == 7).all()
    assert (pixels == 7).all()


def drives(timeline, seeds=(1, 2), **others):
    torch.manual_seed(0)
    network = RolloutNetwork(SMALL, sequential_pattern(SMALL))
    network.transforms['image-command'].linear.bias.data = torch.tensor([0.6, 0.2])
    settings = SimulationSettings(width_px=32, height_px=24)
    trial = Trial(settings, seeds, **{'duration': 2.0, 'handover': 0.5, **others})
    return drive_together(network, Preprocessing((1, 12, 16)), LIMITS, timeline, trial)


def test_drives_count_what_was_not_taken_and_leave_out_what_the_expert_drove():
    found = drives(immediate(1 / 30))
    assert [drive.unanswered for drive in found] == [0, 0]
    half = drives(Timeline((Work(0.05, 0.05),), 1 / 30))
    for drive in half:
        frames = len(drive.lateral_errors)
        assert frames <= 60 - 15
        assert drive.unanswered == pytest.approx(frames / 3, abs=2)


def test_drives_side_by_side_are_those_one_by_one():
    conditions = {'pushes': 1.0, 'duration': 3.0}
    together = drives(LATE, **conditions)
    for seed, drive in zip((1, 2), together):
        (alone,) = drives(LATE, (seed,), **conditions)
        assert alone.departures == drive.departures > 0
        np.testing.assert_allclose(alone.lateral_errors, drive.lateral_errors, atol=1e-5)
