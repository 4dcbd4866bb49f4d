"""The closed-loop study: its schemes, its rows, and how they are held against the marks."""

from dataclasses import replace
import json

import numpy as np
import pytest
from stream_agent.driving.compute_model import TimingFigures
from stream_agent.measurement.bootstrap import Interval
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import with_schedule
from studies import rows
from studies.__main__ import main
from studies.closed_loop import command
from studies.closed_loop.picture import draw
from studies.closed_loop.schemes import CHAIN, plain_schemes, schemes
from studies.closed_loop.study import FULL, QUICK, schedule_of, study_row
from studies.closed_loop.tables import cells_of, SchemeResult, tables, verdicts
import torch

pytestmark = pytest.mark.thorough

PERIOD = 1 / 60
TINY = replace(QUICK, courses=2, duration=1.5, drive=4.0, schedule=replace(
    QUICK.schedule, rounds=2, environments=1, updates=2, last_updates=0, batch=2))


def scheme(kind, cost, device):
    return next(one for one in plain_schemes(cost, device, PERIOD) if one.kind == kind)


@pytest.mark.parametrize('cost', [0.16, 0.8, 1.6, 3.2, 6.4])
def test_what_is_meant_to_keep_up_does(cost):
    kinds = {one.name: one for device in ('parallel', 'serial')
             for one in schemes(cost, device, PERIOD)}
    assert kinds['k updates'].candidate.frame_cost <= PERIOD * 1.001
    if cost > 1:
        assert kinds['smaller'].candidate.frame_cost <= PERIOD * 1.001
    if cost < 6.4:
        assert kinds['multi-rate'].candidate.frame_cost <= PERIOD * 1.001
    assert kinds['sequential'].candidate.frame_cost == pytest.approx(cost * PERIOD)
    assert kinds['sequential'].key != kinds['sequential+commands'].key


def test_what_is_the_same_on_both_devices_is_trained_once():
    assert (scheme('sequential', 3.2, 'serial').key == scheme('sequential', 3.2, 'parallel').key
            == scheme('pipelined', 0.8, 'parallel').key.replace(
                scheme('sequential', 0.8, 'serial').key,
                scheme('sequential', 3.2, 'serial').key))
    assert scheme('multi-rate', 0.8, 'serial').key == scheme('hybrid', 0.8, 'parallel').key
    assert scheme('k updates', 6.4, 'parallel').key == scheme('streaming', 6.4, 'parallel').key
    assert scheme('planned', 6.4, 'parallel').key == scheme('streaming', 6.4, 'parallel').key
    assert scheme('planned', 0.16, 'serial').key == scheme('sequential', 0.16, 'serial').key


@pytest.mark.parametrize('cost', [0.16, 1.6, 3.2])
def test_with_a_held_image_only_what_changed_is_computed(cost):
    """Without the memory, whose steps are fewer on purpose, all values are the same."""
    candidate = scheme('k updates', cost, 'parallel').candidate
    plain = with_schedule(candidate.rollout.graph, {})
    torch.manual_seed(0)
    networks = [RolloutNetwork(graph, candidate.rollout.pattern)
                for graph in (candidate.rollout.graph, plain)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        torch.nn.init.zeros_(network.transforms['memory-command'].linear.weight)
        network.eval()
    frames = torch.rand(2, 9, 1, 36, 64) - 0.5
    with torch.inference_mode():
        found, expected = (network(frames, network.initial_state(2), candidate.updates_per_frame
                                   )[0] for network in networks)
    # Before an image is through, layers that wait for it have seen nothing, or zeros.
    assert torch.allclose(found[:, 4:], expected[:, 4:], atol=1e-6)
    assert not torch.allclose(found[:, 4], found[:, 5], atol=1e-4)


@pytest.mark.parametrize('layers, expected', [(1, 1), (2, 2), (5, 5), (7, 7)])
def test_a_smaller_network_costs_what_it_may(layers, expected):
    graph = CHAIN.smaller(layers)
    assert CHAIN.costs(graph, 1.0).total() == expected
    assert CHAIN.read_out < {*graph.by_name} < {*CHAIN.graph.by_name}
    assert ('memory' in graph.by_name) == (layers > 1)


def test_all_drive_as_long_in_training_and_bear_as_much_loss():
    schedules = {one.name: schedule_of(one, FULL)
                 for one in plain_schemes(6.4, 'parallel', PERIOD)}
    assert {name: schedule.frames for name, schedule in schedules.items()} == {
        'sequential': 150, 'smaller': 960, 'streaming': 960, 'k updates': 960, 'planned': 960,
        'hybrid': 172, 'pipelined': 960}
    assert {schedule.window - schedule.burn_in for schedule in schedules.values()} == {12}


@pytest.mark.slow
def test_a_row_is_trained_driven_and_laid_out(tmp_path):
    found = {}
    for one in schemes(6.4, 'parallel', PERIOD):
        if one.name in ('sequential', 'smaller+commands'):
            row = study_row(one, 1, TINY, tmp_path / 'policy.safetensors')
            assert len(row['mean_squares']) == len(row['departures']) == 2
            assert max(row['seconds']) <= 0.5 + PERIOD
            found[6.4, 'parallel', one.name] = one, [row]
    cells = cells_of(found, PERIOD)
    sequential, other = cells
    assert sequential.ratio.estimate == 1.0
    assert other.ratio.estimate == pytest.approx(other.rms / sequential.rms)
    assert sequential.figures.newest == pytest.approx(10.0, abs=0.01)
    assert '\nsmaller+commands  ' in tables(cells, markdown=False)
    assert '| smaller+commands | ' in tables(cells, markdown=True)
    draw(cells, tmp_path / 'picture.svg')
    assert 'no mark was run' in (tmp_path / 'picture.svg').read_text()


def cell(name, cost, rms, more, device='parallel'):
    squares = np.full((1, 4), rms ** 2)
    return SchemeResult(cost, device, name, squares, np.ones((1, 4)),
                        Interval(rms / 0.1, 0.0, 9.0),
                        Interval(more, more - 0.5, more + 0.5), TimingFigures(1, 1, 1, 60, 0))


def test_marks_are_missed_in_words(tmp_path):
    cells = [cell('sequential', 6.4, 0.1, 0.0), cell('smaller+commands', 6.4, 0.06, 0.0),
             cell('planned', 6.4, 0.055, -1.0), cell('sequential', 1.6, 0.1, 0.0),
             cell('planned', 1.6, 0.11, 1.0)]
    found = {(verdict.cost, verdict.what.split(' of ')[0], 'peer' in verdict.what): verdict
             for verdict in verdicts(cells)}
    assert {key: verdict.reached for key, verdict in found.items()} == {
        (1.6, 'lateral RMS', False): False, (1.6, 'departures a minute', False): False,
        (6.4, 'lateral RMS', False): True, (6.4, 'departures a minute', False): True,
        (6.4, 'lateral RMS', True): False}
    missed = found[6.4, 'lateral RMS', True]
    assert missed.value.estimate == pytest.approx(0.055 / 0.06)
    assert str(missed).startswith('MISSED: parallel, 6.4 periods a pass: lateral RMS of planned '
                                  'relative to the best peer, smaller+commands, 0.92')
    draw(cells, tmp_path / 'picture.svg')
    assert 'missed at 1.6: 1.10 of sequential, mark 1' in (tmp_path / 'picture.svg').read_text()


@pytest.mark.slow
def test_the_command_makes_each_row_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, 'QUICK', TINY)
    monkeypatch.setattr(rows, 'run_side_by_side', lambda work, jobs, _: list(map(work, jobs)))
    asked = ['closed-loop', '--quick', '--ratios', '6.4', '--devices', 'parallel', '--output',
             str(tmp_path), '--workers', '2', '--draw', str(tmp_path / 'driven.png')]
    assert main(asked) == 0
    first = capsys.readouterr()
    assert first.err.startswith('2 of 2 rows, ')
    assert '\nstreaming       0.' in first.out or '\nstreaming       1.' in first.out
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.json')}
    assert len(kept) == len([*tmp_path.glob('*.safetensors')]) == 2
    assert main([*asked, '--json']) == 0
    again = capsys.readouterr()
    assert not again.err and {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [cell['scheme'] for cell in json.loads(again.out)['cells']] == [
        'sequential', 'streaming']
    assert main([*asked, '--seeds', '2', '--minutes', '-1']) == 0
    assert len([*tmp_path.glob('*.json')]) == 2
