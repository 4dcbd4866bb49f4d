"""train --init: another training begins with a policy, and says from which it came."""

from dataclasses import replace
import hashlib
import json
from pathlib import Path
import signal

import pytest
from stream_agent.cli.train import main
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning.initial_policy import load_initial, name_after
from stream_agent.learning.progress import Progress
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import policy_file, share_folder
from stream_agent.theory.patterns import sequential_pattern
from support.recordings_files import drive, tub, twist_stamped
from support.trainer_job import SMALL_TEXT
import torch

SIMULATOR = ['--rounds', '1', '--updates', '4', '--last-updates', '0', '--environments', '1',
             '--frames', '30']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return a folder with recordings, and a policy that has learnt some of them."""
    folder = tmp_path_factory.mktemp('trained')
    (folder / 'small.yaml').write_text(SMALL_TEXT)
    for i in range(5):
        drive(folder / 'bags' / f'drive_{i}', 20 + i, command=answer)
    assert main(['--graph', str(folder / 'small.yaml'), '--output', str(folder), '--pattern',
                 'sequential', '--bag', str(folder / 'bags'), '--cache', str(folder / 'cache'),
                 '--streams', '4', '--epochs', '60', '--crop-top', '0.1', '--learning-rate',
                 '0.003', '--updates-per-frame', '2', '--no-augmentation']) == 0
    return folder


def answer(stamp, speed, steering):
    """Return a command that the picture's brightness tells."""
    return twist_stamped(stamp, 0.4 + steering / 10, steering)


def train(folder, output, *options):
    return main(['--output', str(output), '--init', str(folder / 'small_sequential.safetensors'),
                 *options])


def on_bags(folder):
    return ['--bag', str(folder / 'bags'), '--cache', str(folder / 'cache'), '--streams', '4']


def test_without_a_step_it_is_the_old_policy_and_with_more_it_is_better(trained, tmp_path, capsys):
    before = load_policy(trained / 'small_sequential.safetensors')
    for epochs in ('0', '30'):
        assert train(trained, tmp_path / epochs, *on_bags(trained), '--epochs', epochs,
                     '--learning-rate', '0.003', '--no-augmentation') == 0
    same, further = (load_policy(tmp_path / epochs / 'small_sequential.safetensors')
                     for epochs in ('0', '30'))
    assert same.training['held_out_r2'] == before.training['held_out_r2']
    for name, value in before.network.state_dict().items():
        assert torch.equal(same.network.state_dict()[name], value)
    for policy in same, further:
        assert policy.network.graph == before.network.graph
        assert policy.network.pattern == before.network.pattern
        assert policy.preprocessing == before.preprocessing and policy.limits == before.limits
        assert policy.pattern_name == 'sequential' and policy.updates_per_frame == 2
        data = (trained / 'small_sequential.safetensors').read_bytes()
        assert policy.training['init'] == {
            'file': 'small_sequential.safetensors', 'sha256': hashlib.sha256(data).hexdigest(),
            'command': 'stream_agent train', 'date': before.training['date']}
    assert before.preprocessing.crop_top == 0.1
    # What was learnt is kept, and what was not yet is learnt.
    assert before.training['held_out_r2']['speed'] < 0.5
    assert min(further.training['held_out_r2'].values()) > 0.9


@pytest.mark.slow
def test_first_in_the_simulator_and_then_from_recordings(trained, tmp_path, capsys):
    for i, data in enumerate((SIMULATOR, on_bags(trained) + ['--epochs', '1', '--max-yaw-rate',
                                                             '4'])):
        assert main(['--output', str(tmp_path), *data,
                     *(['--init', str(tmp_path / 'lane_streaming.safetensors')] if i else
                       ['--init', 'lane_streaming', '--seed', '2'])]) == 0
    policy = load_policy(tmp_path / 'lane_streaming.safetensors')
    assert policy.limits == CommandScale(1.0, 4.0)
    assert policy.preprocessing.crop_top == 0.25
    # Each says where it came from.
    assert policy.training['init']['file'] == 'lane_streaming.safetensors'
    shipped = policy.training['init']['init']
    assert shipped['file'] == 'lane_streaming.safetensors'
    assert shipped['sha256'] != policy.training['init']['sha256']
    # What was begun with is kept.
    kept = tmp_path / 'lane_streaming.1.safetensors'
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == policy.training['init']['sha256']
    assert f'  an earlier one is kept as {kept}' in capsys.readouterr().out.splitlines()


CONTINUES = ', with which --init continues; leave the option out, or train without --init'
DOES_NOT_FIT = "--init '{init}' does not fit --graph "


@pytest.mark.parametrize('options, said', [
    (['--pattern', 'image->sen'], "no edge 'image->sen'; the nearest is 'image->seen'; "),
    (['--pattern', 'planned'], '--pattern planned depends on an emulated computer, and recordings '
     'are learnt from without one; give the edges that stream, as `plan` names them, '),
    (['--freeze', 'seen', 'comand'], "--freeze: no node 'comand'; did you mean 'command'?"),
    (['--freeze', 'seen', 'com*'], '--freeze seen com*: no weight is left to train; leave out the '
     "node that is to learn, such as the output 'command'\n"),
    (['--crop-top', '0.2'], "--crop-top 0.2: '{init}' has 0.1" + CONTINUES),
    (['--crop-bottom', '0.2'], "--crop-bottom 0.2: '{init}' has 0.0" + CONTINUES),
    (['--updates-per-frame', '3'], "--updates-per-frame 3: '{init}' has 2" + CONTINUES),
    (['--graph', 'donkey'], DOES_NOT_FIT + "'{graphs}/donkey.yaml': the node 'image' has the "
     'shape [1, 15, 30] in the policy and the shape ['),
    (['--graph', '{folder}/wider.yaml'], DOES_NOT_FIT + "'{folder}/wider.yaml': the node 'seen' "
     'has the shape [6] in the policy and the shape [7] in the graph; leave --graph out to '
     'continue with its own, or train without --init'),
    (['--graph', '{folder}/other.yaml'], DOES_NOT_FIT + "'{folder}/other.yaml': the tensor '")])
def test_what_contradicts_the_policy_is_refused(trained, tmp_path, capsys, options, said):
    (trained / 'wider.yaml').write_text(SMALL_TEXT.replace('[6]', '[7]'))
    (trained / 'other.yaml').write_text(SMALL_TEXT.replace(
        'image->command]', '{source: image, target: command, transform: readout, kernel: 3}]'))
    words = {'init': trained / 'small_sequential.safetensors', 'folder': trained,
             'graphs': share_folder() / 'config' / 'graphs'}
    assert train(trained, tmp_path, *[option.format(**words) for option in options],
                 *on_bags(trained)) == 1
    found = capsys.readouterr()
    assert found.err.startswith(f'train: {said.format(**words)}') and not found.out
    assert not list(tmp_path.iterdir())


def test_the_same_options_and_a_graph_that_fits_are_accepted(trained, tmp_path):
    (trained / 'softer.yaml').write_text(SMALL_TEXT.replace('relu', 'elu'))
    assert train(trained, tmp_path, '--graph', str(trained / 'softer.yaml'), '--pattern',
                 'sequential', '--crop-top', '0.1', '--updates-per-frame', '2',
                 *on_bags(trained), '--epochs', '0') == 0
    policy = load_policy(tmp_path / 'small_sequential.safetensors')
    assert policy.network.graph.node('seen').activation == 'elu'


@pytest.mark.parametrize('source', ['bags', 'simulator'])
def test_another_pattern_begins_with_the_weights_and_frozen_ones_stay(
        trained, tmp_path, source):
    data = on_bags(trained) + ['--epochs', '5'] if source == 'bags' else SIMULATOR
    before = load_policy(trained / 'small_sequential.safetensors')
    save_policy(tmp_path / 'small_sequential.safetensors',
                replace(before, limits=CommandScale(1.0, 4.0)))
    assert train(tmp_path, tmp_path, *data, '--pattern', 'streaming', '--freeze', 's*n') == 0
    policy = load_policy(tmp_path / 'small_streaming.safetensors')
    assert policy.pattern_name == 'streaming' and policy.training['frozen'] == ['s*n']
    assert {edge for edge, r in policy.network.pattern.items() if r} == {('seen', 'command')}
    for name, value in before.network.state_dict().items():
        same = torch.equal(policy.network.state_dict()[name], value)
        assert same == (name.split('.')[1] == 'image-seen'), name


def test_what_plan_writes_for_recordings_begins_with_the_weights(trained, tmp_path):
    written = tmp_path / 'planned.yaml'
    written.write_text(SMALL_TEXT.replace('[6],', '[6], period: 2,'))
    assert train(trained, tmp_path, '--graph', str(written), '--pattern', 'seen->command',
                 *on_bags(trained), '--epochs', '0') == 0
    before, after = (load_policy(path).network for path in (
        trained / 'small_sequential.safetensors', tmp_path / 'small_hybrid.safetensors'))
    assert after.graph.node('seen').period == 2 and after.pattern['seen', 'command'] == 1
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name])


BODIES = """
nodes:
  image: {shape: [1, 15, 30]}
  seen:
    shape: [6]
    body:
    - {name: conv, kind: convolution, of: [image], channels: 6, kernel: [5, 5], stride: [3, 3]}
    - {name: act, kind: relu, of: [conv]}
    - {name: norm, kind: affine, of: [act], shape: []}
    - {name: pool, kind: mean, of: [norm], axes: [2, 3]}
  memory:
    shape: [4]
    body:
    - {name: cell, kind: gru_cell, of: [seen, memory]}
  command: {shape: [2]}
edges:
- {source: image, target: seen, transform: operand}
- {source: seen, target: memory, transform: operand}
- {source: memory, target: memory, transform: operand, streams: true}
- memory->command
- seen->command
"""


def test_bodies_learn_in_another_pattern_and_frozen_ones_stay(tmp_path):
    (tmp_path / 'own.yaml').write_text(BODIES)
    graph = load_graph(tmp_path / 'own.yaml')
    network = RolloutNetwork(graph, sequential_pattern(graph))
    save_policy(tmp_path / 'own.safetensors', Policy(
        network, Preprocessing((1, 15, 30)), CommandScale(1.0, 4.0), 'sequential', {}))
    for options, stays in (([], ''), (['--freeze', 'seen'], 'bodies.seen.')):
        assert main(['--init', str(tmp_path / 'own.safetensors'), '--output', str(tmp_path),
                     '--pattern', 'streaming', '--pass-periods', '2', *SIMULATOR, '--replace',
                     *options]) == 0
        found = load_policy(tmp_path / 'own_streaming.safetensors').network
        assert found.pattern['seen', 'command'] == found.pattern['memory', 'memory'] == 1
        for name, value in network.state_dict().items():
            assert torch.equal(found.state_dict()[name], value) == bool(
                stays and name.startswith(stays)), name


def test_a_frozen_policy_in_another_pattern_resumes_with_the_same_nodes_alone(
        trained, tmp_path, capsys, monkeypatch):
    common = [*on_bags(trained), '--pattern', 'streaming']
    monkeypatch.setattr(Progress, 'show', lambda *_: signal.raise_signal(signal.SIGINT))
    assert train(trained, tmp_path, *common, '--freeze', 'seen') == 130
    assert train(trained, tmp_path, *common) == 1
    assert ("the training in it began with frozen nodes = ['seen'], and this one has no frozen "
            'nodes; give the same options' in capsys.readouterr().err)


@pytest.mark.parametrize('pattern, kept', [('planned', 38), ('smaller', 6)])
def test_what_a_planner_makes_of_the_graph_begins_with_its_weights(tmp_path, pattern, kept):
    """Without a step, so that all weights are those of before."""
    costs = tmp_path / 'costs.yaml'
    graph = load_policy(policy_file(Path('lane_sequential'))).network.graph
    costs.write_text(json.dumps({'nodes': {name: 1.0 for name in graph.by_name
                                           if name not in graph.inputs}}))
    assert main(['--init', 'lane_sequential', '--output', str(tmp_path), '--pattern', pattern,
                 '--pass-periods', '3.2', '--costs', str(costs), *SIMULATOR,
                 '--updates', '0']) == 0
    before, policy = (load_policy(path).network for path in (
        share_folder() / 'config' / 'policies' / 'lane_sequential.safetensors',
        tmp_path / f'lane_{pattern}.safetensors'))
    weights = policy.state_dict()
    assert policy.graph != before.graph and len(weights) == kept
    for name, value in weights.items():
        assert torch.equal(before.state_dict()[name], value)


def test_freezing_needs_a_policy(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['--freeze', 'image', '--output', str(tmp_path)])
    assert capsys.readouterr().err.startswith(
        'train: error: --freeze: this keeps weights of a trained policy; add --init\n')


def test_commands_that_the_policy_cannot_reach_are_refused(trained, tmp_path, capsys):
    drive(tmp_path / 'fast', 60, command=answer)
    path = trained / 'small_sequential.safetensors'
    common = ['--bag', str(tmp_path / 'fast'), '--cache', str(tmp_path / 'cache'), '--epochs', '0']
    assert train(trained, tmp_path, *common) == 1
    assert capsys.readouterr().err == (
        f"train: --init: '{path}' is limited to max-speed 0.63, and the new data go up to 0.99; "
        'give --max-speed 0.99, which scales up all that it commands, or train without --init\n')
    assert train(trained, tmp_path, *common, '--max-speed', '0.99') == 1
    assert capsys.readouterr().err.startswith(
        f"train: --init: '{path}' is limited to max-yaw-rate 2.3, and the new data go up to 5.9; ")
    assert train(trained, tmp_path, *common, '--max-speed', '0.99', '--max-yaw-rate', '5.9') == 0
    assert load_policy(tmp_path / 'small_sequential.safetensors').limits == CommandScale(0.99, 5.9)
    # The expert of the simulator drives 0.8 m/s, at most.
    assert train(trained, tmp_path, *SIMULATOR) == 1
    assert capsys.readouterr().err == (
        f"train: --init: '{path}' is limited to max-speed 0.63, and the new data go up to 0.8; "
        'choose a slower --robot, or train without --init\n')


def test_another_kind_of_steering_is_refused(trained, tmp_path, capsys):
    tub(tmp_path / 'tub', 20)
    assert train(trained, tmp_path, '--bag', str(tmp_path / 'tub'), '--cache',
                 str(tmp_path / 'cache')) == 1
    assert capsys.readouterr().err == (
        f"train: --init: '{trained / 'small_sequential.safetensors'}' steers by yaw rate, and "
        'the new data by steering; give data of the same kind (--wheelbase turns steering angles '
        'into yaw rates), or train without --init\n')


def test_a_training_resumes_with_its_own_initial_policy_alone(
        trained, tmp_path, capsys, monkeypatch):
    path = tmp_path / 'small_sequential.safetensors'
    policy = load_policy(trained / 'small_sequential.safetensors')
    save_policy(path, policy)
    command = ['--init', str(path), '--output', str(tmp_path / 'out'), *on_bags(trained)]
    monkeypatch.setattr(Progress, 'show', lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(command) == 130
    save_policy(path, replace(policy, training={}))
    assert main(command) == 1
    assert ('the training in it began with another initial policy; give the same options'
            in capsys.readouterr().err)
    assert main([*command[2:], '--graph', str(trained / 'small.yaml'), '--pattern', 'sequential',
                 '--crop-top', '0.1', '--updates-per-frame', '2']) == 1
    assert 'began with another initial policy' in capsys.readouterr().err


def test_damaged_files_are_said(tmp_path, capsys):
    (tmp_path / 'damaged.safetensors').write_bytes(b'{}')
    assert main(['--init', str(tmp_path / 'damaged.safetensors')]) == 1
    assert capsys.readouterr().err.startswith(
        f"train: {tmp_path / 'damaged.safetensors'}: not a safetensors file")


@pytest.mark.parametrize('name, stem', [
    ('lane', 'lane'), ('lane.1', 'lane'), ('lane.stopped', 'lane'), ('lane.stopped.2', 'lane'),
    ('v1.2_lane', 'v1.2_lane'), ('lane.best', 'lane.best')])
def test_what_the_new_policy_is_called(tmp_path, name, stem):
    assert name_after(tmp_path / f'{name}.safetensors') == stem


def test_names_of_patterns_are_names_of_files(trained, tmp_path):
    policy = load_policy(trained / 'small_sequential.safetensors')
    save_policy(tmp_path / 'odd.safetensors', replace(policy, pattern_name='../../a b'))
    assert load_initial(tmp_path / 'odd.safetensors', None).label == '______a_b'
