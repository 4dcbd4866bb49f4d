"""Networks of other ends than image and command: stepped, and refused where one drives."""

import importlib

import numpy as np
import pytest
from stream_agent.contract.contract import Contract
from stream_agent.doctor.policy_probe import examine_policy
from stream_agent.engine.engine import Engine
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.gate.settings import GateSettings
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, load_driving_policy, load_policy, Policy, save_policy,
    TrainedNetwork)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import sequential_pattern
import torch


def network_of(taken, given):
    torch.manual_seed(4)
    graph = graph_from_data({'nodes': {'x': {'shape': taken}, 'fc': {'shape': given}},
                             'edges': ['x->fc'], 'output': 'fc'})
    return RolloutNetwork(graph, sequential_pattern(graph)).eval()


@pytest.fixture
def saved(tmp_path):
    def save(taken, given):
        path = tmp_path / 'network.safetensors'
        save_policy(path, TrainedNetwork(network_of(taken, given), 'sequential', {'seed': 4}, 2))
        return path
    return save


@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('taken, given', [
    ([5], [3]), ([4, 6, 5], [2]), ([6, 4], [3, 2]), ([3, 6, 5], [2, 3, 3]), ([1, 1, 1], [1000])])
def test_any_shapes_are_loaded_and_stepped(saved, taken, given, backend):
    loaded = load_policy(saved(taken, given))
    assert (loaded.pattern_name, loaded.training, loaded.updates_per_frame) == (
        'sequential', {'seed': 4}, 2)
    frame = np.random.default_rng(2).standard_normal(taken, dtype=np.float32)
    engine = Engine(loaded.network, 'cpu', backend=backend)
    layer = network_of(taken, given).transforms['x-fc']
    for _ in range(2):
        expected = layer(torch.from_numpy(frame)[None])[0].detach().numpy()
        np.testing.assert_allclose(engine.respond(frame), expected, atol=1e-5)
        engine.settle()


ENDS = [
    ([3, 8, 8], [1000], "its output 'fc' is [1000], and a command is [2]: speed, yaw rate; to "
     'drive, take a network that ends in such a node, or step this one by an Engine'),
    ([4, 8, 8], [2], "its input 'x' is [4, 8, 8], and an image is [1, height, width] or "
     '[3, height, width], of at most 8192 pixels a side; to drive, take a network of such an '),
    ([64], [2], "its input 'x' is [64], and an image is"),
    ([1, 8, 8], [2], 'it says nothing of preprocessing and limits; import it again, or save it ')]


@pytest.mark.parametrize('taken, given, said', ENDS)
def test_what_does_not_drive_is_refused_as_a_driver(saved, taken, given, said):
    path = saved(taken, given)
    with pytest.raises(CheckpointError) as error:
        load_driving_policy(path)
    assert str(error.value).startswith(f'{path}: {said}')


def test_the_remedy_is_one(saved):
    path = saved([1, 8, 8], [2])
    loaded = load_policy(path)
    save_policy(path, Policy(loaded.network, Preprocessing((1, 8, 8)), CommandScale(1.0, 1.0),
                             loaded.pattern_name, loaded.training))
    assert load_driving_policy(path).limits == CommandScale(1.0, 1.0)


@pytest.mark.parametrize('command, words', [
    ('evaluate', ['{}', '--courses', '1']),
    ('compare', ['--bag', '{}', '--policy', '{}', '--output', '{}.out']),
    ('export', ['{}', '--output', '{}.out']),
    ('run', ['--policies', '{}', '--output', '{}.out']),
    ('train', ['--init', '{}', '--output', '{}.out'])])
def test_every_command_that_drives_says_so(saved, command, words, capsys):
    path = saved([3, 8, 8], [1000])
    main = importlib.import_module(f'stream_agent.cli.{command}').main
    try:
        code = main([word.format(path) for word in words])
    except SystemExit as stopped:
        code = stopped.code
    assert code
    said = capsys.readouterr().err
    assert ENDS[0][2] in said, said
    assert not path.with_name(f'{path.name}.out').exists()


def test_the_doctor_says_so(saved):
    found, preprocessing = examine_policy(
        str(saved([3, 8, 8], [1000])), AgentSettings(), EngineSettings(), GateSettings(),
        Contract.of_values({}))
    assert preprocessing is None
    assert ENDS[0][2].partition(';')[0] in found[0].said
    assert found[0].remedy.startswith('to drive, take a network that ends in such a node, or')
