"""Checkpoints: what goes in comes out, and damaged files are refused with a sentence."""

from dataclasses import replace
import json
import math
from pathlib import Path
import pickle
import resource

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from stream_agent.command import Command
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, load_policy, Policy, save_policy)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import infer_shapes
from stream_agent.theory.patterns import read_newest_image, streaming_pattern
from support.graphs import EVERY_LAYER
import torch


@pytest.fixture
def policy():
    torch.manual_seed(0)
    pattern = read_newest_image(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    return Policy(RolloutNetwork(EVERY_LAYER, pattern), Preprocessing((1, 8, 8), 0.25),
                  CommandScale(1.0, 2.0), 'streaming', {'seed': 0, 'frames': 100})


@pytest.fixture
def path(policy, tmp_path):
    path = tmp_path / 'policy.safetensors'
    save_policy(path, policy)
    return path


def parts(path):
    with safe_open(str(path), framework='pt') as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


def test_a_policy_comes_back_whole(policy, path):
    loaded = load_policy(path)
    assert loaded.network.graph == policy.network.graph
    assert loaded.network.pattern == policy.network.pattern
    assert (loaded.preprocessing, loaded.limits, loaded.pattern_name, loaded.training) == (
        policy.preprocessing, policy.limits, 'streaming', {'seed': 0, 'frames': 100})
    frames = torch.randn(1, 4, 1, 8, 8)
    policy.network.eval()
    one, _ = policy.network(frames, policy.network.initial_state())
    other, _ = loaded.network(frames, loaded.network.initial_state())
    assert torch.equal(one, other)


def test_all_that_a_graph_can_say_comes_back(policy, path):
    """Shapes are written out, so that loading infers nothing."""
    said = graph_from_data({
        'nodes': {
            'image': {'shape': [1, 8, 8], 'noise': 0.25, 'dropout': 0.125},
            'a': {'channels': 4, 'period': 3, 'offset': 2, 'dropout': 0.5},
            'b': {'channels': 4, 'noise': 1e-3, 'normalisation': 'layer'},
            'c': {'channels': 4, 'activation': 'sigmoid', 'period': 2},
            'command': {'shape': [2]}},
        'edges': [
            {'source': 'image', 'target': 'a', 'transform': 'convolution', 'dilation': 2},
            {'source': 'a', 'target': 'b', 'transform': 'convolution', 'share': 'same'},
            {'source': 'b', 'target': 'c', 'transform': 'convolution', 'share': 'same'},
            {'source': 'b', 'target': 'command', 'transform': 'dense', 'product': 'gate',
             'noise': 0.5},
            {'source': 'c', 'target': 'command', 'transform': 'readout', 'product': 'gate',
             'dropout': 0.25, 'normalisation': 'layer', 'streams': True, 'kernel': 4}],
        'output': 'command'})
    network = RolloutNetwork(said, streaming_pattern(said))
    save_policy(path, replace(policy, network=network))
    loaded = load_policy(path).network
    assert loaded.graph == network.graph == infer_shapes(said)
    assert all(node.shape for node in graph_from_data(
        json.loads(parts(path)[0]['graph'])).nodes)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name])
               for name, value in loaded.state_dict().items())
    frames = torch.randn(1, 7, 1, 8, 8)
    assert torch.equal(loaded(frames, loaded.initial_state())[0],
                       network.eval()(frames, network.initial_state())[0])


@pytest.mark.parametrize('name', ['lane_streaming', 'lane_sequential'])
def test_policies_that_are_shipped_load(name):
    path = Path(__file__).parents[2] / 'config' / 'policies' / f'{name}.safetensors'
    network = load_policy(path).network
    assert {f'transforms.{key}' for key in ('image-borders.weight', 'image-command.1.linear.bias',
                                            'course-features.linear.weight')} | {
        'normalisations.strokes.weight'} <= network.state_dict().keys()
    assert torch.isfinite(network.step(torch.zeros(1, 1, 60, 120), network.initial_state())[0]
                          ).all()


def test_outputs_and_commands_are_each_other_s_inverse():
    limits = CommandScale(max_speed=0.5, max_yaw_rate=2.0)
    assert limits.command((0.5, -0.25)) == Command(0.25, -0.5)
    assert limits.output(Command(0.25, -0.5)) == (0.5, -0.25)


def test_nothing_is_left_behind_and_the_old_file_is_replaced(policy, path):
    save_policy(path, policy)
    assert [file.name for file in path.parent.iterdir()] == ['policy.safetensors']


@pytest.mark.parametrize('change, sentence', [
    (lambda weights: weights['transforms.image-command.1.linear.bias'].fill_(float('nan')),
     "the tensor 'transforms.image-command.1.linear.bias' holds NaN or infinity; train again"),
    (lambda weights: weights.pop('transforms.image-command.1.linear.bias'),
     "the tensor 'transforms.image-command.1.linear.bias' is missing; graph and weights differ"),
    (lambda weights: weights.update(extra=torch.zeros(1)),
     "the tensor 'extra' is not part of the graph; graph and weights differ"),
    (lambda weights: weights.update({'transforms.image-command.1.linear.bias': torch.zeros(3)}),
     "the tensor 'transforms.image-command.1.linear.bias' has the shape [3]; the graph needs [2]"),
])
def test_wrong_tensors_are_refused(path, change, sentence):
    metadata, weights = parts(path)
    change(weights)
    save_file(weights, path, metadata)
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert str(error.value) == f'{path}: {sentence}'


def edited(metadata, key, change):
    value = json.loads(metadata[key])
    change(value)
    return {**metadata, key: json.dumps(value)}


@pytest.mark.parametrize('change, sentence', [
    (lambda metadata: {**metadata, 'format': 'other 7'},
     "the metadata's format is 'other 7', 'stream_agent 1' is read; "
     'train a policy with this version'),
    (lambda metadata: {**metadata, 'graph': '{'},
     'the metadata is damaged: Expecting property name enclosed in double quotes: '
     'line 1 column 2 (char 1)'),
    (lambda metadata: edited(metadata, 'pattern', lambda value: value.update(streams=['a->b'])),
     "the metadata is damaged: no edge 'a->b'; edges are image->edges, edges->blurred, "
     'blurred->map_memory, map_memory->map_memory, blurred->memory, memory->memory, '
     'map_memory->memory, command->memory, memory->command, image->command, edges->edges, '
     'blurred->edges'),
    (lambda metadata: edited(metadata, 'pattern', lambda value: value.update(
        updates_per_frame='4')),
     "the metadata is damaged: updates_per_frame is '4'; it is 1 to 100"),
    (lambda metadata: edited(metadata, 'pattern', lambda value: value.update(
        updates_per_frame=0)),
     'the metadata is damaged: updates_per_frame is 0; it is 1 to 100'),
    (lambda metadata: {**metadata, 'preprocessing': '"all"'},
     "the metadata is damaged: 'str' object has no attribute 'pop'"),
    (lambda metadata: edited(metadata, 'graph', lambda value: value['edges'][0].update(
        transform='convolve')),
     "its graph cannot be built: edges[0] (image->edges): no transform named 'convolve'; did you "
     "mean 'convolution'? Choices are dense, convolution, pointwise, transposed, upsampling, "
     'pooling, readout, keypoints, identity'),
    (lambda metadata: edited(metadata, 'preprocessing', lambda value: value.update(
        shape=[1, 9, 9])),
     "the preprocessing gives [1, 9, 9], the node 'image' takes [1, 8, 8]"),
    (lambda metadata: edited(metadata, 'graph', lambda value: value.update(output='memory')),
     "the output 'memory' has the shape [5]; a command is [2]: speed, yaw rate"),
])
def test_wrong_metadata_is_refused(path, change, sentence):
    metadata, weights = parts(path)
    save_file(weights, path, change(metadata))
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert str(error.value) == f'{path}: {sentence}'


@pytest.mark.parametrize('key, values, said', [
    ('limits', {'max_speed': math.inf}, 'max_speed is inf; it is a number above 0'),
    ('limits', {'max_speed': math.nan}, 'max_speed is nan; it is a number above 0'),
    ('limits', {'max_yaw_rate': 0}, 'max_yaw_rate is 0; it is a number above 0'),
    ('limits', {'max_yaw_rate': -1.5}, 'max_yaw_rate is -1.5; it is a number above 0'),
    ('limits', {'max_speed': True}, 'max_speed is True; it is a number above 0'),
    ('limits', {'max_speed': '1'}, "max_speed is '1'; it is a number above 0"),
    ('limits', {'max_speed\n\x1b': 1.0}, "argument 'max_speed\\n\\x1b'"),
    ('preprocessing', {'crop_top': math.nan}, 'crop_top nan and crop_bottom 0.0 leave no row'),
    ('preprocessing', {'crop_top': -math.inf}, 'crop_top -inf and crop_bottom'),
    ('preprocessing', {'crop_top': 0.6, 'crop_bottom': 0.4}, 'leave no row'),
    ('preprocessing', {'shape': [1.0, 8, 8]}, 'has the shape [1.0, 8, 8]')])
def test_limits_and_crops_are_numbers_that_mean_something(path, key, values, said):
    metadata, weights = parts(path)
    save_file(weights, path, edited(metadata, key, lambda value: value.update(values)))
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert f'{path}: the metadata is damaged: ' in str(error.value) and said in str(error.value)


def grown(metadata, *sizes):
    """Give two nodes in a row such shapes."""
    first, second = sizes
    return {**metadata, 'graph': json.dumps({
        'nodes': {'image': {'shape': [1, 8, 8]}, 'a': {'shape': first}, 'b': {'shape': second},
                  'command': {'shape': [2]}},
        'edges': ['image->a', 'a->b', 'b->command'], 'output': 'command'}),
        'pattern': json.dumps({'name': 'grown', 'streams': []})}


@pytest.mark.parametrize('sizes, said', [
    (([2**20], [2**20]), 'has the shape [2]; the graph needs [1048576]'),
    (([2**28], [2]), 'its nodes need 1 GiB, and 1 GiB is what a policy may take'),
    (([2], [2**62]), 'its nodes need 1.72e+10 GiB')])
def test_memory_is_not_taken_for_a_graph_that_is_too_large(path, sizes, said):
    """The weights would take 4 TiB, 64 GiB, and more than there is anywhere."""
    metadata, _ = parts(path)
    weights = {f'transforms.{edge}.linear.{kind}': torch.zeros(2)
               for edge in ('image-a', 'a-b', 'b-command') for kind in ('weight', 'bias')}
    save_file(weights, path, grown(metadata, *sizes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert said in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**18  # KiB


@pytest.mark.parametrize('value', [torch.zeros(2, dtype=torch.int64),
                                   torch.zeros(2).to(torch.float8_e4m3fn)])
def test_weights_of_other_types_are_refused(path, value):
    metadata, weights = parts(path)
    save_file({**weights, 'transforms.image-command.1.linear.bias': value}, path, metadata)
    with pytest.raises(CheckpointError, match='which is not a type of weights; train again'):
        load_policy(path)


def test_nested_metadata_and_names_with_control_characters(path):
    metadata, weights = parts(path)
    save_file(weights, path, {**metadata, 'training': '[' * 100_000})
    with pytest.raises(CheckpointError, match='the metadata is damaged: '):
        load_policy(path)
    save_file(weights, path, edited(metadata, 'pattern', lambda value: value.update(
        name='fast\n\x1b[2J')))
    assert load_policy(path).pattern_name == 'fast\\n\\x1b[2J'


def test_a_pickle_is_refused_and_does_not_run(tmp_path):
    class Malicious:

        def __reduce__(self):
            return (open, (str(tmp_path / 'it ran'), 'w'))

    path = tmp_path / 'policy.safetensors'
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError, match='not a safetensors file'):
        load_policy(path)
    assert not (tmp_path / 'it ran').exists()


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match='not a safetensors file'):
        load_policy(path)


def test_a_huge_file_is_refused_before_it_is_read(path):
    with open(path, 'r+b') as file:
        file.truncate(2**30 + 1)
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert str(error.value) == f'{path}: over 1 GiB, more than a policy may take'
