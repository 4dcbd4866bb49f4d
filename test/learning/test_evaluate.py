"""The tool that lets policies drive: under the wall clock, and on computers that are not there."""

from itertools import pairwise
import json
from pathlib import Path

import numpy as np
import pytest
from stream_agent.cli.evaluate import main, parse
from stream_agent.driving.compute_model import ComputeModel, EmulatedRollout, timings
from stream_agent.driving.evaluation import difference, rms_ratio, timed
from stream_agent.graph_files.graph_file import graph_from_data, save_costs
from stream_agent.network.checkpoint import load_policy
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.theory.patterns import sequential_pattern
from stream_agent.theory.planning.costs import NodeCosts

POLICIES = Path(__file__).parents[2] / 'config' / 'policies'
SEQUENTIAL, STREAMING = (POLICIES / f'lane_{name}.safetensors' for name in (
    'sequential', 'streaming'))


@pytest.mark.child_process
def test_policies_drive_on_an_emulated_computer(tmp_path, capsys):
    assert main([str(SEQUENTIAL), str(STREAMING), '--pass-periods', '1.6', '--courses', '2',
                 '--laps', '0.15', '--workers', '1', '--pushes', '0.5', '--json',
                 '--plot', str(tmp_path / 'figures.svg')]) == 0
    sequential, streaming = json.loads(capsys.readouterr().out)
    # Passes of 1.6 periods begin after 0, 0.6, 0.2, 0.8 and 0.4 periods of waiting.
    assert sequential['latency'] * 30 == pytest.approx(0.4 + 1.6, abs=0.01)
    assert streaming['latency'] * 30 == pytest.approx(0.4 + 0.2, abs=0.01)
    assert sequential['rate'] == pytest.approx(30 / 1.6, rel=0.01)
    assert sequential['rms_ratio'] == [1.0, 1.0, 1.0]
    assert streaming['rms_ratio'][0] == pytest.approx(
        streaming['lateral_rms'] / sequential['lateral_rms'], abs=0.1)
    assert sequential['unanswered'] / sequential['frames'] == pytest.approx(3 / 8, abs=0.05)
    assert 'lane_streaming' in (tmp_path / 'figures.svg').read_text()


@pytest.mark.slow
@pytest.mark.child_process
def test_several_computers_with_and_without_disturbances(tmp_path, capsys):
    words = [str(SEQUENTIAL), str(STREAMING), '--pass-periods', '0.8', '1.6', '--courses', '1',
             '--laps', '0.1', '--jitter', '0.3', '--drop-bursts', '60']
    assert main([*words, '--workers', '1', '--plot', str(tmp_path / 'curves.svg')]) == 0
    said = capsys.readouterr().out
    assert '1.6 camera periods a pass, undisturbed\n' in said
    assert ('0.8 camera periods a pass, jitter 0.3, 60 bursts of lost images a minute\n'
            in said)
    assert ('emulated serial device, 0.8, 1.6 camera periods a pass, with and without jitter 0.3, '
            '60 bursts of lost images a minute' in said)
    picture = (tmp_path / 'curves.svg').read_text()
    assert all(text in picture for text in ('lateral RMS [mm]', 'jerk', '1.6', 'disturbed'))
    assert main([*words, '--workers', '1', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row['pass_periods'], row['jitter'], row['driver']) for row in rows] == [
        (passes, jitter, name) for passes in (0.8, 1.6) for jitter in (0.0, 0.3)
        for name in ('lane_sequential', 'lane_streaming')]
    fast, disturbed = rows[0], rows[2]
    assert fast['unanswered'] == 0 < disturbed['unanswered']
    # Both miss the same images, where a computer is fast enough for all.
    assert abs(disturbed['unanswered'] - rows[3]['unanswered']) < 0.1 * disturbed['frames']
    assert all(f"{row['jerk']:.1f} m/s3" in said for row in rows)


@pytest.mark.parametrize('words, policies, passes', [
    ('a b --pass-periods 1 2', 'a b', [1, 2]), ('--pass-periods 1 2 a b', 'a b', [1, 2]),
    ('a --pass-periods 1 b --pass-periods 2 --json', 'a b', [1, 2]),
    ('--pass-periods=1 a', 'a', [1]), ('--laps 3 --pass-periods 2 --pushes 1 a', 'a', [2])])
def test_policies_may_stand_after_the_costs_of_a_pass(words, policies, passes):
    arguments = parse(words.split())
    assert [*map(str, arguments.policies)] == policies.split()
    assert arguments.pass_periods == passes


def test_costs_of_a_file_are_taken_as_they_are_or_scaled(tmp_path):
    nodes = [node.name for node in load_policy(STREAMING).network.graph.nodes][1:]
    save_costs(tmp_path / 'costs.yaml', NodeCosts(
        {name: 0.001 * (1 + i) for i, name in enumerate(nodes)}, overhead=0.001))
    (plain,) = timed([str(SEQUENTIAL)], ComputeModel('serial', tmp_path / 'costs.yaml'), 0.1)
    count = len(nodes)
    total = 0.001 * (count * (count + 1) / 2 + 1)
    assert plain.timeline.work[0] == pytest.approx((total, total))
    (twice,) = timed([str(SEQUENTIAL)], ComputeModel('serial', tmp_path / 'costs.yaml', 2.0), 0.1)
    assert twice.timeline.work[0] == pytest.approx((0.2, 0.2))


def test_one_file_has_the_costs_of_a_graph_and_of_a_part_of_it(tmp_path):
    whole, part = (graph_from_data({
        'nodes': {'image': {'shape': [1, 4, 4]}, 'command': {'shape': [2]},
                  **{name: {'shape': [3]} for name in deep}},
        'edges': list(map('->'.join, pairwise(['image', *deep, 'command']))),
        'output': 'command'}) for deep in (['first', 'second'], []))
    save_costs(tmp_path / 'costs.yaml', NodeCosts({'first': 0.2, 'second': 0.1, 'command': 0.1}))
    runs = [EmulatedRollout(name, graph, sequential_pattern(graph))
            for name, graph in (('whole', whole), ('part', part))]
    computer = ComputeModel(costs=tmp_path / 'costs.yaml', pass_periods=2.0)
    assert [one.timeline.work[0].busy for one in timings(runs, computer, 0.1)] == pytest.approx(
        [0.2, 0.05])
    # Of a part alone, the file still says what a whole pass takes.
    (alone,) = timings(runs[1:], computer, 0.1)
    assert alone.timeline.work[0].busy == pytest.approx(0.05)


@pytest.mark.parametrize('options, said', [
    (['--execution', 'parallel'], '--execution: this is of an emulated computer; add '
     '--pass-periods or --costs'),
    (['--pass-periods', '0'], "'0' is not a number from 1e-06 to 1e+06 camera periods"),
    (['--costs', 'a.yaml', '--jitter', '0.1', '--plot', 'a.svg'], 'add --pass-periods'),
    (['--drop-bursts', '5'], '--drop-bursts: this is of an emulated computer'),
    (['--pass-periods', '2', '3', '--jitter', '-1'], "'-1' is not a number from 0 to 2"),
    (['--pass-periods', '2', '--real-time'], '--real-time takes the time of this computer')])
def test_options_that_mean_nothing_are_refused(options, said, capsys):
    with pytest.raises(SystemExit):
        main([str(SEQUENTIAL), *options])
    assert said in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('given, said', [
    ('lane_stremaing', "policy 'lane_stremaing': no such file; did you mean 'lane_streaming'?"),
    (str(STREAMING).replace('ing.', 'ign.'), f"did you mean '{STREAMING}'?"),
    (str(STREAMING.parent), f'{STREAMING.parent}: a folder; give a file in it: aware_sequential')])
def test_policies_are_looked_at_before_anything_is_driven(given, said, capsys):
    assert main([given, 'lane_streaming', '--courses', '10000']) == 1
    assert said in capsys.readouterr().err


def test_what_cannot_be_emulated_is_said_in_a_sentence(capsys):
    assert main([str(STREAMING), '--pass-periods', '2', '--execution', 'parallel',
                 '--pipelined', '--workers', '1']) == 1
    assert 'lane_streaming.safetensors: the edge' in capsys.readouterr().err


def test_intervals_are_paired_over_courses():
    random = np.random.default_rng(1)
    hard = random.uniform(1.0, 100.0, 24)
    better = 0.81 * hard * random.uniform(0.95, 1.05, 24)
    found = rms_ratio(better, hard)
    assert found.low < 0.9 < found.high
    assert found.high - found.low < 0.03
    assert difference(hard - 2.0, hard) == pytest.approx((-2.0, -2.0, -2.0))
    # Trainings that differ widen it, and one course tells nothing of others.
    unlike = np.stack([0.5 * better, better, 1.5 * better])
    assert np.ptp(rms_ratio(unlike, hard)) > 3 * np.ptp(found)
    assert np.isnan(rms_ratio(better[:1], hard[:1]).low)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(2)
    held = 0
    for i in range(200):
        hard = random.lognormal(0.0, 0.5, (2, 12))
        ours, theirs = (hard.mean(axis=0) * random.lognormal(0.0, 0.2, (1, 12)) for _ in range(2))
        found = rms_ratio(ours, theirs, seed=i)
        held += found.low <= 1.0 <= found.high
    assert 180 <= held <= 199


@pytest.mark.slow
@pytest.mark.child_process
def test_a_road_with_signs_is_scored(tmp_path, capsys):
    robot = tmp_path / 'signs.yaml'
    robot.write_text('simulation: {ros__parameters: {signs: true, rate: 60.0, width_px: 64, '
                     'height_px: 48, look_ahead: 0.4, max_yaw_rate: 2.5}}')
    words = [str(STREAMING), '--robot', str(robot), '--courses', '1', '--laps', '0.6',
             '--workers', '1']
    assert main([*words, '--json']) == 0
    expert, policy = json.loads(capsys.readouterr().out)
    assert expert['task_score'] > 0.97 and expert['signs_obeyed'] == 1.0
    # It knows one speed of four.
    assert policy['task_score'] < 0.6
    assert policy['task_scores'] == [policy['task_score']]
    # Another course.
    assert main([*words, '--first-course', str(FIRST_HELD_OUT_SEED + 1)]) == 0
    said = capsys.readouterr().out
    assert f'{policy["lateral_rms"]:.4f} m' not in said
    assert 'in lane and at the right speed 100.0%, signs obeyed 100.0%; by course 100%\n' in said
