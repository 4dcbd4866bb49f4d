"""The command line of the planner, on costs from a file and on measured ones."""

import json
import os
from pathlib import Path

import pytest
from stream_agent.cli.plan import main
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning.policy_jobs import pattern_of
from stream_agent.measurement.machine import core_times, CoreTimes, disturbance
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import streaming_edges

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
LANE = load_graph(GRAPHS / 'lane.yaml')
SLOW = {name: 0.006 for name in LANE.by_name if name != 'image'}


@pytest.fixture
def costs(tmp_path):
    """Return a file of costs under which a whole pass takes 1.5 camera periods."""
    path = tmp_path / 'costs.yaml'
    path.write_text(json.dumps({'nodes': SLOW, 'overhead': 0.0001, 'source': 'a slow robot'}))
    return path


def plan(capsys, *arguments):
    assert main(['lane', *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_json_has_the_recommendation_and_what_it_beats(capsys, costs):
    data = json.loads(plan(capsys, '--rate', 30, '--costs', costs, '--json'))
    assert data['exact'] and data['patterns_weighed'] == 2**14
    chosen = data['recommended']
    assert (chosen['kind'], chosen['keeps_up']) == ('multi-rate', True)
    assert chosen == data['candidates'][0]
    assert chosen['schedule']['features']['period'] == 3
    assert not data['compared']['sequential']['keeps_up']
    assert data['compared']['sequential']['frame_cost'] == pytest.approx(8 * 0.006 + 0.0001)
    assert data['costs']['source'] == 'a slow robot'


def test_a_network_that_is_too_slow_is_said_to_be(capsys, tmp_path):
    path = tmp_path / 'costs.yaml'
    path.write_text(json.dumps({'nodes': dict.fromkeys(SLOW, 0.05)}))
    said = plan(capsys, '--costs', path)
    assert 'This network is too slow for this camera: a command comes every ' in said
    assert 'Nothing keeps up. A smaller network, a lower rate or a faster device would help.' in (
        said)


def test_whole_seconds_and_zeros_are_costs_too(capsys, tmp_path):
    path = tmp_path / 'costs.yaml'
    path.write_text(json.dumps({'nodes': dict.fromkeys(SLOW, 0)}))
    for execution in ('serial', 'parallel'):
        data = json.loads(plan(capsys, '--costs', path, '--execution', execution, '--json'))
        assert data['recommended']['frame_cost'] == 0


def test_the_table_marks_the_recommendation_and_who_keeps_up(capsys, costs):
    lines = plan(capsys, '--rate', 30, '--costs', costs).splitlines()
    assert 'all 16,384 valid patterns were weighed' in lines
    (chosen,) = [line for line in lines if line.startswith('* multi-rate')]
    assert ' yes ' in chosen
    (sequential,) = [line for line in lines if line.startswith('  sequential')]
    assert ' no ' in sequential
    assert '* recommended: multi-rate, ' in '\n'.join(lines)
    assert 'to train it, write its graph with --write FILE' in lines


def test_the_recommended_graph_is_written_and_trains_under_its_pattern(capsys, costs, tmp_path):
    path = tmp_path / 'planned.yaml'
    data = json.loads(plan(capsys, '--costs', costs, '--write', path, '--json'))
    graph = load_graph(path)
    assert {node.name: {'period': node.period, 'offset': node.offset}
            for node in graph.nodes if node.period > 1} == data['recommended']['schedule']
    said = plan(capsys, '--costs', costs, '--write', path).splitlines()
    (command,) = [line for line in said if line.startswith('to train it: ')]
    argument = command.split("--pattern '")[1].rstrip("'")
    pattern = pattern_of(graph, argument)
    assert streaming_edges(pattern) == data['recommended']['streams']
    RolloutNetwork(graph, pattern)


def test_the_graph_s_own_schedule_competes_and_is_trained_as_it_is(capsys):
    assert main(['gated_policy', '--json']) == 0
    data = json.loads(capsys.readouterr().out)
    own = data['compared']['scheduled sequential']
    assert own['schedule'] == {'context': {'period': 2, 'offset': 0}}
    assert data['compared']['sequential']['schedule'] == {}
    assert main(['gated_policy']) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    if data['recommended']['schedule'] != own['schedule']:
        assert said == 'to train it, write its graph with --write FILE'


def test_costs_are_measured_saved_and_checked(capsys, tmp_path):
    path = tmp_path / 'costs.yaml'
    said = plan(capsys, '--save-costs', path, '--check')
    assert 'forecasts against the engine' in said
    assert len([line for line in said.splitlines() if 'measured' in line]) == 6
    again = json.loads(plan(capsys, '--costs', path, '--json'))
    assert again['costs']['nodes'].keys() == SLOW.keys()


def test_parallel_execution_and_held_images(capsys, costs):
    data = json.loads(plan(capsys, '--costs', costs, '--execution', 'parallel',
                           '--updates-per-frame', 4, '--json'))
    assert {candidate['updates_per_frame'] for candidate in data['candidates']} <= {1, 2, 3, 4}
    assert data['recommended']['keeps_up']


@pytest.mark.slow
def test_the_trade_off_is_drawn(capsys, costs, tmp_path):
    for name in ('plan.svg', 'plan.png'):
        plan(capsys, '--costs', costs, '--draw', tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize('arguments, sentence', [
    (['lan'], "plan: there is no file 'lan', and no shipped graph of that name; did you mean "
     "'lane'?"),
    (['lane', '--costs', 'nowhere.yaml'], "plan: costs 'nowhere.yaml': no such file; shipped "
     'costs are reflex_costs'),
    (['lane', '--costs', 'reflex_cost'], "plan: costs 'reflex_cost': no such file; did you mean "
     "'reflex_costs'?"),
    (['lane', '--costs', 'reflex'], "plan: costs 'reflex': no such file; did you mean "
     "'reflex_costs'?"),
    (['lane', '--threads', '999'], f'plan: --threads: this machine has {os.cpu_count()} cores, '
     'not 999'),
    (['lane', '--write', '/'], "plan: '/' cannot be written: it is a folder; give the name of "
     'a file in it'),
    (['mnist_sr', '--costs', '{costs}'],
     "plan: {costs}: the node 'h1' has no cost; give one for each of h1, h2, out"),
    (['lane', '--command-time', '3'], 'plan: --command-time: the rules for a lane do not ask for '
     'it; give --task signs, or leave it out'),
    (['lane', '--execution', 'parallel', '--check'], 'plan: --check: the engine computes one node '
     'after the other; leave --execution parallel out'),
    (['lane', '--costs', '{costs}', '--draw', '/nowhere/plan.svg'],
     "plan: '/nowhere/plan.svg' cannot be written: there is no folder '/nowhere'; make it, or "
     'give another path')])
def test_mistakes(capsys, costs, arguments, sentence):
    assert main([argument.format(costs=costs) for argument in arguments]) == 1
    assert capsys.readouterr().err.strip() == sentence.format(costs=costs)


def test_a_task_s_score_is_forecast_and_decides(capsys, tmp_path):
    asked = ['reflex', '--rate', '60', '--costs', str(GRAPHS / 'reflex_costs.yaml'),
             '--pass-periods', '6.4', '--task', 'signs']
    assert main([*asked, '--json']) == 0
    data = json.loads(capsys.readouterr().out)
    assert data['scene'] == {'steering_time': pytest.approx(0.4 / 1.4),
                             'command_time': pytest.approx(5 / 1.4)}
    assert data['recommended'] == data['candidates'][0]
    assert data['recommended']['forecast_score'] > (
        data['compared']['sequential']['forecast_score'] + 20)
    assert 'truncated' in {candidate['kind'] for candidate in data['candidates']}
    assert main([*asked, '--steering-time', '9', '--json']) == 0
    slow = json.loads(capsys.readouterr().out)
    assert slow['compared']['sequential']['forecast_score'] > (
        slow['candidates'][0]['forecast_score'] - 1)
    assert main([*asked, '--execution', 'parallel', '--draw', str(tmp_path / 'plan.svg')]) == 0
    lines = capsys.readouterr().out.splitlines()
    (header,) = [line for line in lines if 'keeps up' in line and 'rollout' in line]
    (peer,) = [line for line in lines if line.startswith('  pipelined')]
    score = data['compared']['sequential']['forecast_score']
    (sequential,) = [line for line in lines if line.startswith('  sequential  ')]
    place = header.index('score')
    assert float(sequential[place:place + 5]) == pytest.approx(score, abs=0.1)
    assert peer.endswith('sequential, a frame follows when the most expensive node is free')
    assert any('Forecast score: ' in line for line in lines)
    assert 'pipelined' in (tmp_path / 'plan.svg').read_text()


def test_costs_are_scaled_to_the_camera(capsys, costs):
    data = json.loads(plan(capsys, '--rate', 50, '--costs', costs, '--pass-periods', 3, '--json'))
    sequential = data['compared']['sequential']['frame_cost']
    assert sequential == pytest.approx(3 / 50)
    assert data['costs']['overhead'] == pytest.approx(3 / 50 * 0.0001 / 0.0481)


def test_costs_of_nothing_are_not_scaled(capsys, tmp_path):
    path = tmp_path / 'costs.yaml'
    path.write_text(json.dumps({'nodes': dict.fromkeys(SLOW, 0)}))
    assert main(['lane', '--costs', str(path), '--pass-periods', '2']) == 1
    assert capsys.readouterr().err == (
        'plan: --pass-periods: all costs are 0 and cannot be scaled; leave it out, or give the '
        'durations of the nodes\n')


def test_without_a_task_no_score_is_forecast(capsys, costs):
    data = json.loads(plan(capsys, '--costs', costs, '--json'))
    assert data['scene'] is None and data['recommended']['forecast_score'] is None
    assert 'score' not in plan(capsys, '--costs', costs)


def test_a_picture_of_another_kind(capsys):
    with pytest.raises(SystemExit):
        main(['lane', '--draw', 'plan.jpg'])
    assert "'plan.jpg' is neither .svg nor .png" in capsys.readouterr().err


@pytest.mark.parametrize('rate', ['0', '-3', 'nan', 'fast', '1e9'])
def test_a_rate_that_no_camera_has(capsys, rate):
    with pytest.raises(SystemExit) as stop:
        main(['lane', f'--rate={rate}'])
    assert stop.value.code == 2
    assert f"'{rate}' is not a number from 0.001 to 10000 Hz" in capsys.readouterr().err


def test_a_graph_of_somebody_else_is_not_written_over(capsys, costs, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('# mine\n')
    assert main(['lane', '--costs', str(costs), '--write', str(path)]) == 1
    assert capsys.readouterr().err == (
        f"plan: --write: '{path}' is there already, and was not written by plan; give another "
        'name, or remove it\n')
    assert path.read_text() == '# mine\n'


# Of 100 s on two cores: idle, stolen, and used by the process that measures.
@pytest.mark.parametrize('idle, stolen, own, said', [
    (100.0, 0.0, 99.0, ''),
    (80.0, 3.0, 100.0, ''),
    (40.0, 0.0, 100.0, 'others used 0.6 of 2 cores, and its host took 0% of the time; do not '
     'trust what was measured'),
    (90.0, 10.0, 100.0, 'others used 0.0 of 2 cores, and its host took 5% of the time')])
def test_a_busy_machine_is_said_with_its_figures(idle, stolen, own, said, monkeypatch):
    monkeypatch.setattr('os.cpu_count', lambda: 2)
    monkeypatch.setattr('stream_agent.measurement.machine.core_times',
                        lambda: CoreTimes(1200.0, idle + 7, stolen + 5, own + 3))
    found = disturbance(CoreTimes(1000.0, 7.0, 5.0, 3.0))
    assert said in found
    assert bool(said) == bool(found)


def test_a_machine_that_tells_nothing_is_not_called_busy(monkeypatch, tmp_path):
    monkeypatch.setattr('stream_agent.measurement.machine.KERNEL_TIMES', tmp_path / 'none')
    assert core_times() is None
    assert disturbance(None) == ''


def test_what_was_measured_on_a_busy_machine_is_marked(capsys, costs, monkeypatch):
    monkeypatch.setattr('stream_agent.cli.plan.disturbance', lambda before: 'very busy')
    for given, said in (([], 'plan: very busy\n'), (['--costs', str(costs)], '')):
        assert main(['lane', *given]) == 0
        assert capsys.readouterr().err == said
    assert main(['lane', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['measured_while_busy'] == 'very busy'
