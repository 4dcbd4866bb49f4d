"""Policies of any inputs and outputs: what goes in comes out, and what cannot be is refused."""

import json
import math

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, DepthInput, OutputScale, ScanInput, VectorInput)
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, load_driving_policy, load_policy, make_policy, Policy,
    save_policy, TrainedNetwork)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import share_folder
from stream_agent.theory.patterns import sequential_pattern
from support.graphs import TWO_INPUTS
from support.network_inputs import expected_outputs, random_inputs
from test_checkpoint import refusal
import torch

SIX = tuple('abcdef')
ODOMETRY = VectorInput(SIX, ('m/s',) * 6, (-2.0,) * 6, (2.0,) * 6)
JOINTS = OutputScale(SIX, ('rad/s',) * 6, (-1.0,) * 6, (1.0, 1.0, 1.0, 2.0, 2.0, 0.5))
AGAIN = 'copy it again from where it comes from, or train again'
# Every kind of input, with a second image; the scan triggers.
EVERY_KIND = graph_from_data({
    'nodes': {'scan': {'shape': [20]}, 'joints': {'shape': [2, 3]}, 'depth': {'shape': [1, 6, 8]},
              'rear': {'shape': [3, 4, 4]}, 'last': {'shape': [12]}, 'age': {'shape': [1]},
              'out': {'shape': [6], 'activation': 'tanh'}},
    'edges': [{'source': ['scan', 'joints', 'depth', 'rear', 'last', 'age'], 'target': 'out'}],
    'output': 'out'})
OTHERS = {'joints': ODOMETRY, 'depth': DepthInput((1, 6, 8), 0.3, 6.0, 6.0),
          'rear': Preprocessing((3, 4, 4), 0.25), 'last': CommandsInput(2, 6),
          'age': AgeInput(0.5)}


def network_of(graph):
    torch.manual_seed(3)
    return RolloutNetwork(graph, sequential_pattern(graph)).eval()


def policy_of_every_kind():
    return Policy(network_of(EVERY_KIND), ScanInput(20, -2.0, 2.0, 6.0, 6.0), JOINTS,
                  'sequential', {'seed': 3}, others=OTHERS)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'policy.safetensors'
    save_policy(path, policy_of_every_kind())
    return path


def parts(path):
    with safe_open(str(path), framework='pt') as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


def test_a_policy_of_every_kind_of_input_comes_back_whole(path):
    saved, loaded = policy_of_every_kind(), load_driving_policy(path)
    assert loaded.trigger == 'scan'
    assert loaded.conversions == {'scan': ScanInput(20, -2.0, 2.0, 6.0, 6.0), **OTHERS}
    assert list(loaded.conversions) == list(EVERY_KIND.inputs)
    assert (loaded.preprocessing, loaded.others, loaded.limits, loaded.pattern_name) == (
        saved.preprocessing, saved.others, JOINTS, 'sequential')
    frames = random_inputs(saved.network, 3)
    np.testing.assert_array_equal(expected_outputs(loaded.network, frames),
                                  expected_outputs(saved.network, frames))
    assert loaded.limits.command(np.zeros(6)) == (0.0, 0.0, 0.0, 0.5, 0.5, -0.25)


@pytest.mark.parametrize('trigger', ['image', 'odometry'])
def test_any_measured_input_may_trigger_and_a_base_may_obey(trigger, tmp_path):
    conversions = {'image': Preprocessing((1, 8, 8), 0.25), 'odometry': ODOMETRY}
    first = conversions.pop(trigger)
    path = tmp_path / 'policy.safetensors'
    save_policy(path, Policy(network_of(TWO_INPUTS), first, CommandScale(1.0, 2.0), 'sequential',
                             {}, others=conversions))
    loaded = load_driving_policy(path)
    assert (loaded.trigger, loaded.preprocessing, loaded.others) == (trigger, first, conversions)
    assert loaded.base_limits == CommandScale(1.0, 2.0)
    with pytest.raises(CheckpointError) as error:
        assert loaded.only_image
    assert str(error.value) == ('the policy reads image, odometry, and one image alone is needed '
                                'here; take a policy of one image')


def test_who_needs_a_base_is_told_what_is_commanded(path):
    with pytest.raises(CheckpointError) as error:
        assert load_policy(path).base_limits
    assert str(error.value) == ('the policy commands a, b, c, d, e, f, and a base, which takes '
                                'speed and yaw rate, is needed here; take a policy of one')


def test_a_scan_that_is_the_only_input_is_no_image(tmp_path):
    graph = graph_from_data({'nodes': {'scan': {'shape': [20]}, 'out': {'shape': [2]}},
                             'edges': ['scan->out'], 'output': 'out'})
    path = tmp_path / 'policy.safetensors'
    save_policy(path, Policy(network_of(graph), ScanInput(20, -2.0, 2.0, 6.0, 6.0),
                             CommandScale(1.0, 2.0), 'sequential', {}))
    with pytest.raises(CheckpointError, match='the policy reads scan, and one image alone'):
        assert load_policy(path).only_image


@pytest.mark.parametrize('name', ['lane_streaming', 'lane_sequential'])
def test_files_of_one_image_are_written_as_ever(name, tmp_path):
    shipped = share_folder() / 'config' / 'policies' / f'{name}.safetensors'
    save_policy(tmp_path / 'again.safetensors', load_policy(shipped))
    before, after = parts(shipped), parts(tmp_path / 'again.safetensors')
    # They are from before there was a choice of update steps.
    pattern = {**json.loads(before[0]['pattern']), 'updates_per_frame': 1}
    assert after[0] == {**before[0], 'pattern': json.dumps(pattern)}
    assert all(torch.equal(value, before[1][key]) for key, value in after[1].items())
    assert load_policy(shipped).only_image.shape == (1, 60, 120)


def test_a_network_of_several_inputs_that_does_not_drive(tmp_path):
    path = tmp_path / 'network.safetensors'
    save_policy(path, TrainedNetwork(network_of(TWO_INPUTS), 'sequential', {}))
    assert load_policy(path).network.inputs == ('image', 'odometry')
    with pytest.raises(CheckpointError) as error:
        load_driving_policy(path)
    assert str(error.value) == (
        f'{path}: it takes image, odometry, and nothing says what these are made of; to drive, '
        "train it with a robot's contract, as docs/contract.md shows, or step this one by an "
        'Engine, as docs/engine.md shows')


@pytest.mark.parametrize('others, said', [
    ({}, 'inputs: image, odometry are without a conversion of their own; all inputs but the one '
     'that triggers a step need one'),
    ({'image': ODOMETRY, 'odometry': ODOMETRY}, 'inputs: all of image, odometry are there; the '
     'one that triggers a step belongs in preprocessing'),
    ({'odometri': ODOMETRY}, 'inputs.odometri: the graph has no such input; did you mean '
     "'odometry'?")])
def test_exactly_one_input_triggers(others, said):
    with pytest.raises(ValueError) as error:
        Policy(network_of(TWO_INPUTS), Preprocessing((1, 8, 8)), CommandScale(1.0, 1.0), 'x', {},
               others=others)
    assert str(error.value) == said


def changed(key, value):
    """Return a change of a part of the metadata, at names with dots; None removes it."""
    part, *way, last = key.split('.')

    def change(metadata):
        whole = json.loads(metadata[part])
        place = whole
        for name in way:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return {**metadata, part: json.dumps(whole)}
    return change


def said_of(path, change):
    metadata, weights = parts(path)
    save_file(weights, path, change(metadata))
    return refusal(path)


@pytest.mark.parametrize('key, value, said', [
    ('inputs.joints.kind', 'vectr', "inputs.joints.kind is 'vectr', which is not known (did you "
     "mean 'vector'?); train with this version, or update stream_agent"),
    ('inputs.joints.kind', 7, 'inputs.joints.kind is 7, which is not known (kinds are image, '
     'vector, scan, depth, commands, age); train with this version, or update stream_agent'),
    ('inputs.joints', None, 'inputs: scan, joints are without a conversion of their own; all '
     f'inputs but the one that triggers a step need one; {AGAIN}'),
    ('inputs.joint', {'kind': 'age', 'most': 1.0}, 'inputs.joint: the graph has no such input; '
     f"did you mean 'joints'?; {AGAIN}"),
    ('inputs.joints', 7, f'inputs.joints is 7, not an object {{...}}; {AGAIN}'),
    ('inputs.joints.low', None, f'inputs.joints.low is missing; {AGAIN}'),
    ('inputs.joints.lows', [1.0], "inputs.joints.lows is not known (did you mean 'low'?); train "
     'with this version, or remove the key'),
    ('inputs.joints.low', [2.0] * 6, 'inputs.joints: a goes from 2.0 (low) to 2.0 (high); '),
    ('inputs.joints.low', [math.nan] * 6, 'inputs.joints.low is [NaN, NaN, '),
    ('inputs.joints.low', [1.0] * 5, 'inputs.joints: there are 6 fields and 5 low; give one for '
     f'each; {AGAIN}'),
    ('inputs.joints.low', '123456', "inputs.joints.low is '123456'; it is a list, each a number; "
     f'{AGAIN}'),
    ('inputs.joints.units', ['m\x1b'] * 6, 'inputs.joints.units is ["m'),
    ('inputs.joints.fields', ['a'] * 6, "inputs.joints: fields are ('a', 'a', 'a', 'a', 'a', "
     "'a'); give at least one, each once"),
    ('inputs.age.most', True, f'inputs.age.most is true; it is a number; {AGAIN}'),
    ('inputs.age.most', 0.0, 'inputs.age: most is 0 s; let it be above 0'),
    ('inputs.last.count', 3, "inputs.last gives 18 numbers, and the node 'last' takes [12]; "
     + AGAIN),
    ('inputs.last.count', 2.0, f'inputs.last.count is 2.0; it is a whole number; {AGAIN}'),
    ('inputs.last.outputs', 3, "inputs.last gives 6 numbers, and the node 'last' takes [12]"),
    ('inputs.last', {'kind': 'commands', 'count': 4, 'outputs': 3}, 'inputs.last.outputs is 3, '
     f"and the output 'out' is [6]; {AGAIN}"),
    ('inputs.depth.shape', [1, 8, 6], "inputs.depth.shape is [1, 8, 6], and the node 'depth' "
     f'takes [1, 6, 8]; {AGAIN}'),
    ('inputs.rear.shape', [3, 4, 5], "inputs.rear.shape is [3, 4, 5], and the node 'rear' takes "
     f'[3, 4, 4]; {AGAIN}'),
    ('inputs.rear.crop_top', 1.5, 'inputs.rear: preprocessing: crop_top 1.5 and crop_bottom 0.0 '),
    ('preprocessing.rays', 21, "preprocessing gives 21 numbers, and the node 'scan' takes [20]; "
     + AGAIN),
    ('preprocessing.rays', 10**12, 'preprocessing: rays is 1000000000000; '),
    ('preprocessing.range_max', -1.0, 'preprocessing: range_max is -1 and invalid 6; '),
    ('preprocessing.kind', 'image', f'preprocessing.shape is missing; {AGAIN}'),
    ('preprocessing.kind', None, f'preprocessing.shape is missing; {AGAIN}'),
    ('limits.names', None, f'limits.max_speed is missing; {AGAIN}'),
    ('limits.names', list('abcde'), 'limits: there are 5 names and 6 units; '),
    ('limits.names', ['a\n', *'bcdef'], 'limits.names is ["a\\n", "b", '),
    ('limits.high', [1e300] * 6, 'limits: a goes from -1.0 (low) to 1e+300 (high); '),
    ('limits.units', [1] * 6, 'limits.units is [1, 1, 1, 1, 1, 1]; it is a list, each a text that '
     f'can be printed, of at most 200 characters; {AGAIN}')])
def test_what_cannot_be_is_refused(key, value, said, path):
    assert said_of(path, changed(key, value)).startswith(said)


def test_as_many_outputs_as_names(path):
    def change(metadata):
        limits = {key: value[:5] for key, value in json.loads(metadata['limits']).items()}
        return {**metadata, 'limits': json.dumps(limits)}
    assert said_of(path, change) == (
        f"limits.names are 5, and the output 'out' is [6]; {AGAIN}")


@pytest.mark.parametrize('conversion', [
    {'kind': 'age', 'most': 0.5}, {'kind': 'commands', 'count': 2, 'outputs': 6}])
def test_what_the_agent_itself_knows_triggers_nothing(conversion, path):
    assert said_of(path, lambda metadata: {
        **metadata, 'preprocessing': json.dumps(conversion)}) == (
        f"preprocessing.kind is '{conversion['kind']}', which no message brings, so that nothing "
        'would trigger a step; train a graph whose first input is measured')


@pytest.mark.parametrize('left_out, said', [
    (('preprocessing',), f'metadata.preprocessing is missing; {AGAIN}'),
    (('preprocessing', 'limits'), f'metadata.preprocessing is missing; {AGAIN}')])
def test_inputs_without_the_rest(left_out, said, path):
    assert said_of(path, lambda metadata: {
        key: value for key, value in metadata.items() if key not in left_out}) == said


ODD = [None, True, -1, 0, 7, 10**400, 1e308, math.nan, '', 'a', '\x1b[2J', [], [0], ['a'] * 6,
       [math.inf] * 6, [[1.0]] * 6, {}, {'kind': 'age'}, {'kind': 'scan', 'rays': []}]


def places_of(value, way=()):
    """Yield the ways to everything inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*way, key)
        if isinstance(value[key], (dict, list)):
            yield from places_of(value[key], (*way, key))


def test_any_odd_value_anywhere_is_refused_in_a_sentence_or_read(path):
    metadata, weights = parts(path)
    refused = read = 0
    for part in ('preprocessing', 'inputs', 'limits'):
        for way in places_of(json.loads(metadata[part])):
            for odd in ODD:
                whole = place = json.loads(metadata[part])
                for key in way[:-1]:
                    place = place[key]
                place[way[-1]] = odd
                try:
                    make_policy({**metadata, part: json.dumps(whole)}, weights)
                    read += 1
                except CheckpointError as error:
                    refused += 1
                    assert ';' in str(error)
    assert refused > 10 * read > 0
