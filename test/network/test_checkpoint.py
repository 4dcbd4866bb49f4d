"""Checkpoints: what goes in comes out, and damaged files are refused with a sentence."""

from dataclasses import replace
import json
import math
import os
from pathlib import Path
import pickle
import resource

from hypothesis import given, HealthCheck, settings, strategies as st
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from stream_agent.command import Command
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, load_policy, make_policy, Policy, save_policy)
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


BIAS = 'transforms.image-command.1.linear.bias'
AGAIN = 'copy it again from where it comes from, or train again'


def refusal(path):
    """Return what is said of a file, without its name."""
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    said = str(error.value)
    assert said.startswith(f'{path}: ') and '\n' not in said
    return said.removeprefix(f'{path}: ')


@pytest.mark.parametrize('value, sentence', [
    (torch.tensor([1.0, float('nan')]), 'holds NaN or infinity; train again'),
    (torch.tensor([1.0, -math.inf]).half(), 'holds NaN or infinity; train again'),
    (None, f'is missing; graph and weights differ, so {AGAIN}'),
    (torch.zeros(3), f'has the shape [3]; the graph needs [2], so {AGAIN}'),
    (torch.zeros(2, 1), f'has the shape [2, 1]; the graph needs [2], so {AGAIN}'),
    (torch.zeros(2, dtype=torch.int64),
     'holds torch.int64, which is not a type of weights; train again'),
    (torch.zeros(2).to(torch.float8_e4m3fn),
     'holds torch.float8_e4m3fn, which is not a type of weights; train again'),
    (torch.tensor([1e300, 0.0], dtype=torch.float64),
     'holds 1e+300, and weights over 65504 overflow when they are used; train again, with a lower '
     'learning rate'),
    (torch.tensor([0.0, -3e38]), 'holds 3e+38, and weights over 65504 overflow when they are '
     'used; train again, with a lower learning rate')])
def test_wrong_tensors_are_refused(path, value, sentence):
    metadata, weights = parts(path)
    weights.pop(BIAS)
    save_file(weights if value is None else {**weights, BIAS: value}, path, metadata)
    assert refusal(path) == f"the tensor '{BIAS}' {sentence}"


def test_tensors_that_no_part_of_the_graph_has_are_refused(path):
    metadata, weights = parts(path)
    save_file({**weights, 'extra': torch.zeros(1)}, path, metadata)
    assert refusal(path) == ("the tensor 'extra' is not part of the graph; graph and weights "
                             f'differ, so {AGAIN}')


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_type_of_float_are_taken(policy, path, kind):
    metadata, weights = parts(path)
    save_file({name: value.to(kind) for name, value in weights.items()}, path, metadata)
    for name, value in load_policy(path).network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].to(kind).float())


LIMIT = 'it is a number from 1e-06 to 1e+06'
CROPS = 'leave no picture; both are shares of the height, together at most 0.99'
IMAGE = ('an image is [1, height, width] or [3, height, width], of at most 8192 pixels a side')
TIMES = 'it is a whole number from 1 to 100'
EDGES = "it is a list of edges, each once, as 'source->target'"
ENDS = ('has the shape [5]; a command is [2]: speed, yaw rate. Train a graph that ends in such a '
        'node')


@pytest.mark.parametrize('key, value, said', [
    ('limits.max_speed', math.inf, f'limits: max_speed is Infinity; {LIMIT}; {AGAIN}'),
    ('limits.max_speed', math.nan, f'limits: max_speed is NaN; {LIMIT}; {AGAIN}'),
    ('limits.max_yaw_rate', 0, f'limits: max_yaw_rate is 0; {LIMIT}; {AGAIN}'),
    ('limits.max_yaw_rate', -1.5, f'limits: max_yaw_rate is -1.5; {LIMIT}; {AGAIN}'),
    ('limits.max_yaw_rate', 1e300, f'limits: max_yaw_rate is 1e+300; {LIMIT}; {AGAIN}'),
    ('limits.max_speed', 5e-324, f'limits: max_speed is 5e-324; {LIMIT}; {AGAIN}'),
    ('limits.max_speed', True, f'limits: max_speed is true; {LIMIT}; {AGAIN}'),
    ('limits.max_speed', None, f'limits: max_speed is empty; {LIMIT}; {AGAIN}'),
    ('limits.max_speed', '1', f"limits: max_speed is '1'; {LIMIT}; {AGAIN}"),
    ('limits.max_speed', [1.0], f'limits: max_speed is [1.0]; {LIMIT}; {AGAIN}'),
    ('limits.max_sped', 1.0, "limits.max_sped is not known (did you mean 'max_speed'?); train "
     'with this version, or remove the key'),
    ('limits.max_speed\n\x1b', 1.0, 'limits.max_speed\\n\\x1b is not known (did you mean '
     "'max_speed'?); train with this version, or remove the key"),
    ('preprocessing.crop_top', math.nan, f'preprocessing: crop_top NaN and crop_bottom 0.0 '
     f'{CROPS}; {AGAIN}'),
    ('preprocessing.crop_top', -math.inf, f'preprocessing: crop_top -Infinity and crop_bottom 0.0 '
     f'{CROPS}; {AGAIN}'),
    ('preprocessing.crop_top', .999, f'preprocessing: crop_top 0.999 and crop_bottom 0.0 {CROPS}; '
     f'{AGAIN}'),
    ('preprocessing.crop_bottom', 0.75, f'preprocessing: crop_top 0.25 and crop_bottom 0.75 '
     f'{CROPS}; {AGAIN}'),
    ('preprocessing.crop_bottom', '0', "preprocessing: crop_top 0.25 and crop_bottom '0' "
     f'{CROPS}; {AGAIN}'),
    ('preprocessing.shape', [1.0, 8, 8], f'preprocessing: the input node has the shape '
     f'[1.0, 8, 8]; {IMAGE}; {AGAIN}'),
    ('preprocessing.shape', [1, 0, 8], f'preprocessing: the input node has the shape '
     f'[1, 0, 8]; {IMAGE}; {AGAIN}'),
    ('preprocessing.shape', [1, 8, 10**9], f'preprocessing: the input node has the shape '
     f'[1, 8, 1000000000]; {IMAGE}; {AGAIN}'),
    ('preprocessing.shape', None, 'preprocessing: the input node has the shape empty; '
     f'{IMAGE}; {AGAIN}'),
    ('preprocessing.shape', [1, 9, 9], "preprocessing.shape is [1, 9, 9], and the node 'image' "
     f'takes [1, 8, 8]; {AGAIN}'),
    ('pattern.updates_per_frame', '4', f"pattern.updates_per_frame is '4'; {TIMES}; {AGAIN}"),
    ('pattern.updates_per_frame', 0, f'pattern.updates_per_frame is 0; {TIMES}; {AGAIN}'),
    ('pattern.updates_per_frame', True, f'pattern.updates_per_frame is true; {TIMES}; {AGAIN}'),
    ('pattern.name', 7, f'pattern.name is 7; it is a text such as streaming; {AGAIN}'),
    ('pattern.name', None, f'pattern.name is empty; it is a text such as streaming; {AGAIN}'),
    ('pattern.name', ['a'], f'pattern.name is ["a"]; it is a text such as streaming; {AGAIN}'),
    ('pattern.streams', 'a->b', f"pattern.streams is 'a->b'; {EDGES}; {AGAIN}"),
    ('pattern.streams', [7], f'pattern.streams is [7]; {EDGES}; {AGAIN}'),
    ('pattern.streams', ['image->edges'] * 2,
     f'pattern.streams is ["image->edges", "image->edges"]; {EDGES}; {AGAIN}'),
    ('pattern.streams', ['a->b'], "pattern.streams: no edge 'a->b'; edges are image->edges, "
     'edges->blurred, blurred->map_memory, map_memory->map_memory, blurred->memory, '
     'memory->memory, map_memory->memory, command->memory, blurred->tokens, tokens->tokens, '
     'tokens->memory, memory->command, image->command, edges->edges, blurred->edges; '
     f'{AGAIN}'),
    ('training.steering', 'left', "training.steering is 'left'; it is yaw rate, steering angle, "
     f'steering, or left out; {AGAIN}'),
    ('training.steering', None, 'training.steering is empty; it is yaw rate, steering angle, '
     f'steering, or left out; {AGAIN}'),
    ('graph.output', 'memory', f"graph.output: 'memory' {ENDS}"),
    ('graph.output', 'comand', "its graph cannot be built: output: no node named 'comand'; did "
     "you mean 'command'?"),
    ('graph.nodes', 7, 'its graph cannot be built: nodes: 7 is not ')])
def test_a_value_that_means_nothing_is_refused(path, key, value, said):
    metadata, weights = parts(path)
    part, name = key.split('.')
    save_file(weights, path, edited(metadata, part, lambda values: values.update({name: value})))
    assert refusal(path).startswith(said)


def edited(metadata, key, change):
    value = json.loads(metadata[key])
    change(value)
    return {**metadata, key: json.dumps(value)}


@pytest.mark.parametrize('change, sentence', [
    ({'format': 'other 7'}, "the metadata's format is 'other 7', 'stream_agent 1' is read; "
     'train a policy with this version'),
    ({'format': None}, 'the metadata does not say what the weights are for, as that of a policy '
     'does; a policy is a .safetensors file, which `ros2 run stream_agent train` writes; '
     'lane_streaming is one that is shipped'),
    ({'graph': '{'}, 'graph is not valid JSON (Expecting property name enclosed in double '
     f'quotes: line 1 column 2 (char 1)); {AGAIN}'),
    ({'training': '[' * 100_000}, 'training is not valid JSON ('),
    ({'preprocessing': '"all"'}, f"preprocessing is 'all', not an object {{...}}; {AGAIN}"),
    ({'limits': 'null'}, f'limits is empty, not an object {{...}}; {AGAIN}'),
    ({'limits': '{"max_speed": 1, "max_speed": 2, "max_yaw_rate": 1}'},
     f'limits is not valid JSON (a key is defined twice); {AGAIN}'),
    ({'limits': '{"max_speed": 1}'}, f'limits.max_yaw_rate is missing; {AGAIN}'),
    ({'limits': None}, f'metadata.limits is missing; {AGAIN}'),
    ({'limit': '{}'}, "metadata.limit is not known (did you mean 'limits'?); train with this "
     'version, or remove the key')])
def test_wrong_metadata_is_refused(path, change, sentence):
    metadata, weights = parts(path)
    save_file(weights, path, {key: value for key, value in {**metadata, **change}.items()
                              if value is not None})
    assert refusal(path).startswith(sentence)


def test_a_graph_that_cannot_be_built_is_refused(path):
    metadata, weights = parts(path)
    save_file(weights, path, edited(metadata, 'graph', lambda value: value['edges'][0].update(
        transform='convolve')))
    assert refusal(path) == (
        "its graph cannot be built: edges[0] (image->edges): no transform named 'convolve'; did "
        "you mean 'convolution'? Choices are dense, convolution, pointwise, transposed, "
        'upsampling, pooling, readout, keypoints, identity, operand')


def places(value, way=()):
    """Return the ways to all values in JSON data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()
    return [way, *(found for key, item in inside for found in places(item, (*way, key)))]


ODD = [None, True, False, '', 'odd', '\x00', '\ud800', 0, -1, 2**70, 10**400, 1e300, -0.5, 1e-300,
       math.nan, math.inf, [], [[]], {}, {'a': 1}, [0], [1, 8, 8], [2**31] * 3, ['image->edges']]


@settings(max_examples=150, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_odd_value_anywhere_is_refused_in_a_sentence_or_changes_nothing(path, data):
    """What is still taken is a policy whose every number is sound, and that steps."""
    metadata, weights = parts(path)
    key = data.draw(st.sampled_from(['graph', 'pattern', 'preprocessing', 'limits', 'training']))
    whole = json.loads(metadata[key])
    way = data.draw(st.sampled_from(places(whole)))
    odd, holder = data.draw(st.sampled_from(ODD)), whole
    for step in way[:-1]:
        holder = holder[step]
    if way and data.draw(st.booleans()):
        del holder[way[-1]]
    elif way:
        holder[way[-1]] = odd
    try:
        found = make_policy({**metadata, key: json.dumps(whole if way else odd)}, weights)
    except CheckpointError as error:
        assert 20 < len(str(error))
        return
    assert key not in ('limits',)
    output, _ = found.network.step(torch.zeros(1, 1, 8, 8), found.network.initial_state())
    assert torch.isfinite(output).all()


def grown(metadata, *sizes):
    """Give two nodes in a row such shapes."""
    first, second = sizes
    return {**metadata, 'graph': json.dumps({
        'nodes': {'image': {'shape': [1, 8, 8]}, 'a': {'shape': first}, 'b': {'shape': second},
                  'command': {'shape': [2]}},
        'edges': ['image->a', 'a->b', 'b->command'], 'output': 'command'}),
        'pattern': json.dumps({'name': 'grown', 'streams': []})}


@pytest.mark.parametrize('sizes, said', [
    (([2**20], [2]), 'has the shape [2]; the graph needs [2, 1048576]'),
    (([2**14], [2**14]), 'the network needs 1 GiB, and it may take 0.5 GiB; most of it, 1 GiB, is '
     "for the dense of 'a->b'. Reduce its shape, its channels or its kernel, or set "
     'STREAM_AGENT_MEMORY_GIB where there is more memory'),
    (([2**28], [2]), 'nodes.a: a value of the shape [268435456] takes 1 GiB, and a network '
     'may take 0.5 GiB'),
    (([2], [2**62]), 'takes 1.72e+10 GiB')])
def test_memory_is_not_taken_for_a_graph_that_is_too_large(path, monkeypatch, sizes, said):
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', '0.5')
    metadata, _ = parts(path)
    weights = {f'transforms.{edge}.linear.{kind}': torch.zeros(2)
               for edge in ('image-a', 'a-b', 'b-command') for kind in ('weight', 'bias')}
    save_file(weights, path, grown(metadata, *sizes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert said in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**18  # KiB


def test_names_with_control_characters(path):
    metadata, weights = parts(path)
    save_file(weights, path, edited(metadata, 'pattern', lambda value: value.update(
        name='fast\n\x1b[2J')))
    assert load_policy(path).pattern_name == 'fast\\n\\x1b[2J'


WRITES = ('a policy is a .safetensors file, which `ros2 run stream_agent train` writes; '
          'lane_streaming is one that is shipped')


@pytest.mark.parametrize('content, said', [
    (b'', f'an empty file; {AGAIN}'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
     'a Git LFS pointer, which stands for the file; fetch the file itself with `git lfs pull`'),
    (b'\n\n<!DOCTYPE html>\n<html lang="en">', 'a page of HTML or XML, as browsers and curl save '
     'it from a link to a page; download the file itself (on GitHub by "raw")'),
    (b'PK\x03\x04\x00\x00\x08\x08', 'a ZIP archive, as torch.save writes .pt and .pth files; '
     + WRITES),
    (b'\x80\x02\x8a\nl\xfc\x9cF', 'a pickle, as Python and old versions of torch write it; '
     + WRITES),
    (b'\x08\x08\x12\x07pytorch', 'an ONNX model or another protocol buffer; ' + WRITES),
    (b'nodes: {a: }', 'not a safetensors file; ' + WRITES),
    (b'{', 'not a safetensors file; ' + WRITES)])
def test_other_files_are_called_what_they_are(tmp_path, content, said):
    path = tmp_path / 'policy.safetensors'
    path.write_bytes(content)
    assert refusal(path) == said


def test_files_that_torch_and_onnx_write(tmp_path):
    path = tmp_path / 'model.pt'
    for new in (True, False):
        torch.save({'a': torch.zeros(2)}, path, _use_new_zipfile_serialization=new)
        assert refusal(path) == (
            ('a ZIP archive, as torch.save writes .pt and .pth files; ' if new else
             'a pickle, as Python and old versions of torch write it; ') + WRITES)
    onnx = pytest.importorskip('onnx')
    made = onnx.helper.make_model(onnx.helper.make_graph([], 'empty', [], []))
    onnx.save(made, path)
    assert refusal(path) == 'an ONNX model or another protocol buffer; ' + WRITES


def test_folders_missing_files_and_what_is_no_file(path, tmp_path):
    assert refusal(tmp_path) == 'a folder; give a file in it: policy.safetensors'
    (tmp_path / 'empty').mkdir()
    assert refusal(tmp_path / 'empty') == f'a folder; {WRITES}'
    assert refusal(tmp_path / 'nothing') == ('No such file or directory; give the file of a '
                                             'policy that can be read')
    os.mkfifo(tmp_path / 'pipe')
    assert refusal(tmp_path / 'pipe') == f'not a file; {WRITES}'


def test_a_pickle_is_refused_and_does_not_run(tmp_path):
    class Malicious:

        def __reduce__(self):
            return (open, (str(tmp_path / 'it ran'), 'w'))

    path = tmp_path / 'policy.safetensors'
    path.write_bytes(pickle.dumps(Malicious()))
    assert refusal(path).startswith('a pickle, as Python')
    assert not (tmp_path / 'it ran').exists()


@pytest.mark.parametrize('part', [0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(path, part):
    whole = path.read_bytes()
    path.write_bytes(whole[:round(len(whole) * part)])
    said = refusal(path)
    assert said.startswith('not a whole safetensors file (') and said.endswith(AGAIN)


def test_a_huge_file_is_refused_before_it_is_read(path):
    with open(path, 'r+b') as file:
        file.truncate(2**30 + 1)
    assert refusal(path) == ('over 1 GiB, more than a policy may take; train one of a smaller '
                             'graph')


def test_a_full_disk_leaves_the_old_policy_and_nothing_else(policy, path):
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError) as error:
            save_policy(path, policy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(path)
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]
