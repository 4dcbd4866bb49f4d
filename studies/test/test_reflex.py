"""The study of reflex and recognition: its schemes, its drivers, its rows and its marks."""

import argparse
from dataclasses import replace
import json
import math

import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.driving.compute_model import figures_of
from stream_agent.learning.settings import RecognitionSchedule
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.vehicle import DifferentialDrive
from stream_agent.theory.patterns import sequential_pattern
from studies import rows
from studies.__main__ import main
from studies.reflex import command
from studies.reflex.drivers import Forecast, random_delays, ReflexCollector, ReflexDriver
from studies.reflex.picture import draw
from studies.reflex.schemes import CHAIN, HEAD, operations, plain_schemes, schemes
from studies.reflex.study import (
    freeze, FULL, LIMITS, preprocessing_of, QUICK, schedule_of, SETTINGS, study_row)
from studies.reflex.tables import COLUMNS, ReflexResult, tables, verdicts
import torch

pytestmark = pytest.mark.thorough

PERIOD = SETTINGS.period
TINY = replace(QUICK, courses=2, duration=8.0, drive=2.0, recognition=RecognitionSchedule(
    views=100, recognition_steps=2), schedule=replace(
        QUICK.schedule, rounds=2, environments=2, updates=2, last_updates=0, batch=2))


def scheme(name, cost=6.4, device='serial'):
    return next(one for one in schemes(cost, device, PERIOD) if one.name == name)


def driver(one, count=1):
    network = RolloutNetwork(one.candidate.rollout.graph, one.candidate.rollout.pattern)
    return ReflexDriver(one, network, preprocessing_of(network), LIMITS, count, SETTINGS,
                        one.timeline)


def image(seed=0):
    pixels = np.random.default_rng(seed).integers(256, size=(48, 64)).astype(np.uint8)

    class Frame:
        image = pixels
    return Frame()


def test_peers_are_there_where_they_exist():
    serial, parallel = ({one.name for one in schemes(6.4, device, PERIOD)}
                        for device in ('serial', 'parallel'))
    assert {'sequential', 'smaller', 'narrower', 'random delays', 'frozen trunk', 'hybrid',
            'multi-rate', 'planned', 'sequential+commands', 'sequential+commands+age',
            'sequential+forecast', 'planned+forecast'} <= serial
    assert {'pipelined', 'staggered', 'streaming'} <= parallel - serial
    assert not any('+' in name for name in parallel)
    keys = [one.key for one in plain_schemes(6.4, 'serial', PERIOD)
            if one.kind not in ('multi-rate', 'planned')]
    assert len({*keys}) == len(keys)


@pytest.mark.parametrize('cost', [1.6, 3.2, 6.4])
def test_a_narrower_network_has_all_layers_and_fits_the_period(cost):
    narrow, whole = scheme('narrower', cost), scheme('sequential', cost)
    graphs = [one.candidate.rollout.graph for one in (narrow, whole)]
    assert [*graphs[0].by_name] == [*graphs[1].by_name]
    share = operations(graphs[0]) / operations(graphs[1])
    assert 0.9 / cost < share <= 1 / cost
    assert narrow.candidate.frame_cost == pytest.approx(PERIOD)


def test_operations_are_those_of_every_transform():
    # image->sight: 12 x 5 x 5 weights at 12 x 16 places; the rest is dense.
    small = scheme('smaller').candidate.rollout.graph
    dense = 12 * 12 * 16 * 48 + 48 * 32 + (48 + 32) * 2
    assert operations(small) == 12 * 25 * 12 * 16 + dense


def test_copies_answer_every_image_as_late_as_a_pass():
    one = scheme('staggered', device='parallel')
    assert one.copies == 7
    figures = figures_of(one.candidate, one.timeline)
    assert (figures.latency / PERIOD, figures.rate) == pytest.approx((6.4, 60.0))


def test_every_copy_remembers_its_own_images():
    one = replace(scheme('staggered', device='parallel'), copies=2)
    pair, (first, second) = driver(one), (driver(replace(one, copies=1)) for _ in range(2))
    for alone in (first, second):
        alone._network.load_state_dict(pair._network.state_dict())
    for i in range(6):
        alone = (first, second)[i % 2]
        assert pair.commands([image(i)], [[]], 0.0) == alone.commands([image(i)], [[]], 0.0)
    pair.forget(0)
    first.forget(0)
    assert pair.commands([image(9)], [[]], 0.0) == first.commands([image(9)], [[]], 0.0)


def test_every_copy_learns_from_its_own_images():
    one = scheme('staggered', device='parallel')
    network = RolloutNetwork(one.candidate.rollout.graph, one.candidate.rollout.pattern)
    collector = ReflexCollector(SETTINGS, preprocessing_of(network), LIMITS, 1, 70, 1,
                                one.timeline, scheme=one)
    episodes, _ = collector.collect(network, True, np.random.default_rng(1))
    # Answers to the last seven images are not out at the end.
    assert [len(episode) for episode in episodes] == [9] * 7


def test_a_frozen_trunk_says_what_it_said_alone_and_only_the_head_learns():
    one = scheme('frozen trunk')
    graph = one.candidate.rollout.graph
    network = RolloutNetwork(graph, one.candidate.rollout.pattern)
    trunk = RolloutNetwork(CHAIN.graph, sequential_pattern(CHAIN.graph))
    freeze(network, trunk)
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert learning and all(HEAD in name for name in learning)
    still, state = torch.rand(1, 1, 48, 64) - 0.5, network.initial_state()
    said, known = [], trunk.initial_state()
    for _ in range(3):
        said.append(trunk.step(still, known))
        known = said[-1][1]
    wave = graph.hyperperiod
    for frame in range(1, 3 * wave + 1):
        output, state = network.step(still, state)
        if frame % wave == 0:
            expected = said[frame // wave - 1][0]
            assert torch.allclose(state.values['command'], expected, atol=1e-6)
    # The head begins as the trunk's read-out, with the memory of the wave before.
    output, _ = network.step(still, state)
    assert torch.allclose(output, said[-1][0], atol=1e-6)
    shares = figures_of(one.candidate, one.timeline), figures_of(
        scheme('multi-rate').candidate, scheme('multi-rate').timeline)
    assert shares[0] == pytest.approx(shares[1])


def test_the_forecast_is_where_the_vehicle_will_be():
    forecast = Forecast(SETTINGS, LIMITS)
    commands = [(0.0, Command(1.2, 0.0)), (0.8, Command(1.2, 0.8)), (0.95, Command(1.6, -0.6))]
    vehicle = DifferentialDrive(speed_time_constant=SETTINGS.speed_time_constant,
                                turn_time_constant=SETTINGS.turn_time_constant)
    poses, clock = {}, 0.0
    for (_, given), until in zip(commands, (0.8, 0.95, 1.1)):
        while clock < until - 1e-9:
            poses[round(clock, 3)] = vehicle.motion.pose
            vehicle.step(given, 0.01)
            clock += 0.01
    start, end = poses[0.9], vehicle.motion.pose
    moved, = forecast.moved([time for time, _ in commands],
                            np.array([[given] for _, given in commands]), 0.9, 1.1)
    left = (-(end.x - start.x) * math.sin(start.yaw) + (end.y - start.y) * math.cos(start.yaw))
    assert moved == pytest.approx((left, end.yaw - start.yaw), abs=5e-4)


def test_a_forecast_steers_back_as_pure_pursuit_would():
    """On a straight lane, what the pose adds to the expert's yaw rate is what is forecast."""
    forecast, speed = Forecast(SETTINGS, LIMITS), 1.2
    (_, added), = forecast.correction(np.array([[0.01, 0.02]]), np.array([speed]))
    ahead = SETTINGS.look_ahead
    left = -0.01 * math.cos(0.02) - ahead * math.sin(0.02)
    assert added * LIMITS.max_yaw_rate == pytest.approx(
        speed * 2 * left / (ahead ** 2 + 0.01 ** 2), rel=0.01)


def test_a_driver_adds_its_forecast_and_targets_leave_it_out():
    one = scheme('sequential+forecast')
    told, plain = driver(one), driver(replace(one, inputs=()))
    plain._network.load_state_dict(told._network.state_dict())
    assert told.commands([image()], [[]], 0.0) == plain.commands([image()], [[]], 0.0)
    turning = [Command(1.2, 2.0)]
    corrected, = told.commands([image()], [turning], 0.0)
    network_says, = plain.commands([image()], [[]], 0.0)
    assert corrected.yaw_rate < network_says.yaw_rate - 0.5
    assert corrected.yaw_rate - network_says.yaw_rate == pytest.approx(
        told.added[0][1] * LIMITS.max_yaw_rate)


def test_ages_are_written_beside_the_commands():
    one = scheme('sequential+commands+age')
    told, plain = driver(one), driver(replace(one, inputs=('commands',)))
    for _ in range(2):
        told.commands([image()], [[Command(1.0, 0.0)]], 0.0)
        plain.commands([image()], [[Command(1.0, 0.0)]], 0.0)
    pixels, others = told.observations[0]['image'], plain.observations[0]['image']
    changed = np.argwhere(pixels != others)
    assert {*changed[:, 1]} == {44, 45}
    # The second image waits 0.4 camera periods... and a pass takes 6.4.
    wait, work = pixels[0, 45, [0, 40]] / 255 * 0.25 / PERIOD
    assert (wait, work) == pytest.approx((0.4, 6.4), abs=0.05)


def test_random_delays_are_around_the_usual_ones():
    timeline = scheme('random delays').timeline
    drawn = random_delays(timeline, 0.5, np.random.default_rng(1))
    shares = np.array([work.response for work in drawn.work]) / timeline.work[0].response
    assert 0.5 <= shares.min() < 0.55 and 1.45 < shares.max() <= 1.5
    assert shares.mean() == pytest.approx(1.0, abs=0.05)
    assert {work.busy / work.response for work in drawn.work} == {1.0}


def test_windows_show_as_much_road_and_steps_cost_as_much():
    found = {one.name: schedule_of(one, FULL) for device in ('serial', 'parallel')
             for one in plain_schemes(6.4, device, PERIOD)}
    loss = {name: one.window - one.burn_in for name, one in found.items()}
    assert (loss['sequential'], loss['multi-rate'], loss['narrower'], loss['staggered']) == (
        10, 43, 60, 9)
    assert {name: one.batch for name, one in found.items() if one.batch != FULL.schedule.batch
            } == {'pipelined': 8, 'streaming': 8, 'planned': 8}


def row(of, score, obeyed, seed=1):
    courses = {name: [value, value + 1] for name, value in {
        'task_score': score, 'mean_squares': 0.01, 'speed_squares': 0.04,
        'signs_obeyed': obeyed, 'seconds_until_obeyed': 1.0,
        'departures_per_minute': 2.0}.items()}
    return {'seed': seed, 'courses': courses, 'recognised': 0.5, 'operations': 10 ** 6,
            'tries': []}


def result(name, score, obeyed=70.0, device='serial'):
    one = scheme(name, device=device)
    return ReflexResult(device, one, (row(one, score, obeyed),))


def test_marks_are_held_and_what_is_missed_is_said(tmp_path):
    cells = [result('planned', 50.0), result('sequential', 30.0), result('smaller', 39.0),
             result('narrower', 45.0), result('sequential+forecast', 48.0),
             result('frozen trunk', 46.0)]
    found = {one.what: one for one in verdicts(cells)}
    assert {what: one.reached for what, one in found.items()} == {
        'points of planned above sequential': True, 'points of planned above smaller': False,
        'points of planned above narrower': False,
        'points of planned above the best that knows more, sequential+forecast': False,
        'signs obeyed by planned [%]': False}
    assert found['points of planned above smaller'].value.estimate == pytest.approx(11.0)
    assert str(found['points of planned above smaller']).startswith(
        'MISSED: serial, 6.4 periods a pass: points of planned above smaller 11.00 (11.00 to '
        '11.00), mark 12 (signs obeyed 70 % against 70 %, lateral RMS')
    draw(cells, tmp_path / 'picture.svg')
    assert 'missed: points of planned above narrower 5.0, mark 6' in (
        tmp_path / 'picture.svg').read_text()
    lines = tables(cells, markdown=True).splitlines()
    assert lines[3] == '| scheme (trainings) | ' + ' | '.join(COLUMNS) + ' |'
    assert '| planned (1) | 50.5 | +20.0 (+20.0 to +20.0) | +11.0 (' in '\n'.join(lines)


@pytest.mark.slow
@pytest.mark.parametrize('name, device', [
    ('random delays', 'serial'), ('smaller', 'serial'), ('narrower+commands+age', 'serial'),
    ('staggered', 'parallel'), ('streaming', 'parallel')])
def test_every_kind_is_trained_and_driven(name, device, tmp_path):
    found = study_row(scheme(name, device=device), 1, TINY, tmp_path / 'policy.safetensors')
    assert len(found['courses']['task_score']) == 2
    assert 0 <= found['task_score'] <= 100
    assert (found['recognised'] is None) == (name == 'smaller')
    assert found['r'] == 6.4 and found['kind'] == name.partition('+')[0]


@pytest.mark.slow
def test_the_best_of_several_tries_is_kept(tmp_path):
    budget = replace(TINY, learning_rates=(2e-3, 1e-9))
    found = study_row(scheme('sequential'), 1, budget, tmp_path / 'policy.safetensors')
    assert [one['learning_rate'] for one in found['tries']] == [2e-3, 1e-9]
    assert all(0 <= one['task_score'] <= 100 for one in found['tries'])


@pytest.mark.slow
def test_the_command_makes_each_row_once_and_trunks_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, 'QUICK', TINY)
    monkeypatch.setattr(rows, 'run_side_by_side', lambda work, jobs, _: list(map(work, jobs)))
    asked = ['reflex', '--quick', '--output', str(tmp_path), '--workers', '1']
    assert main([*asked, '--schemes', 'frozen trunk']) == 0
    assert capsys.readouterr().out.splitlines()[3].startswith('frozen trunk (1)')
    # The sequential one, which was its trunk, is there already.
    assert len([*tmp_path.glob('*.json')]) == 2
    assert main([*asked, '--draw', str(tmp_path / 'driven.png')]) == 0
    first = capsys.readouterr()
    assert first.err.startswith('1 of 1 rows, ')
    assert len([*(tmp_path / 'recognition').glob('*.safetensors')]) == 1
    assert main([*asked, '--json']) == 0
    again = capsys.readouterr()
    assert not again.err
    assert [cell['scheme'] for cell in json.loads(again.out)['cells']] == [
        'sequential', 'planned']
    assert main([*asked, '--seeds', '2', '--minutes', '-1']) == 0
    assert len([*tmp_path.glob('*.json')]) == 3
    assert main([*asked, '--schemes', 'fastest']) == 1
    assert 'no such scheme on serial device at 6.4: fastest' in capsys.readouterr().err


def test_bounds_are_printed_without_training(monkeypatch, capsys):
    monkeypatch.setattr(command, 'QUICK', TINY)
    assert main(['reflex', '--quick', '--bounds']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == ['sequential', 'planned']


def test_what_matters_most_comes_first():
    arguments = command_arguments()
    budget = command.complete(arguments)
    jobs = command.jobs_for(list(command.wanted(arguments)), arguments, budget)
    first = [(job.scheme.name, job.scheme.pass_periods, job.seed) for job in jobs[:9]]
    assert first[:5] == [(name, 6.4, 1) for name in command.CORE]
    # Planned is streaming there, and is made once.
    assert first[5:8] == [(name, 6.4, 1) for name in command.CORE_PARALLEL
                          if name != 'streaming']
    assert first[8] == ('planned', 3.2, 1)
    assert all(job.seed == 1 for job in jobs if job.scheme.pass_periods < 3.2)
    assert [job.scheme.inputs for job in jobs].index(('commands',)) > [
        (job.scheme.kind, job.seed) for job in jobs].index(('planned', 3))


def command_arguments():
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args([])
