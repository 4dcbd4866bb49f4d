"""Transforms from outside: only who starts the program can let them in."""

import sys

import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network import transforms
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, load_policy, Policy, save_policy)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import infer_shapes
from stream_agent.network.transforms import allow_transforms
from stream_agent.theory.graph import GraphError
from stream_agent.theory.patterns import sequential_pattern
import torch

SOURCE = """
import torch
from torch import nn

number = 7


class Halves(nn.Module):
    # Differences of neighbouring columns; gives what it gives, whatever the target.
    def __init__(self, source, target, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), scale))

    def forward(self, value):
        return self.scale * (value[..., ::2] - value[..., 1::2])


def real(source, target):
    # Cannot run without real numbers.
    class Real(nn.Module):
        def forward(self, value):
            return value if float(value.sum()) < 1e9 else -value
    return Real()


def needs_target(source, target):
    return nn.Sequential(nn.Flatten(), nn.Linear(48, target[0] + 0))


def no_module(source, target):
    return torch.relu


def no_batch(source, target):
    return nn.Flatten(0)


def of_the_batch(source, target):
    return nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a module 'outside' on the Python path, and forget it afterwards."""
    (tmp_path / 'outside.py').write_text(SOURCE)
    (tmp_path / 'broken.py').write_text('1 / 0')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(transforms, '_allowed', {})
    yield 'outside'
    sys.modules.pop('outside', None)


def graph_with(transform, shape=None, **options):
    return graph_from_data({
        'nodes': {'image': {'shape': [1, 6, 8]}, 'edges': {'shape': shape} if shape else {},
                  'out': {'shape': [2]}},
        'edges': [{'source': 'image', 'target': 'edges', 'transform': transform, **options},
                  {'source': 'edges', 'target': 'out', 'transform': 'dense'}],
        'output': 'out'})


def network_with(*arguments, **options):
    graph = graph_with(*arguments, **options)
    return RolloutNetwork(graph, sequential_pattern(graph))


def test_an_allowed_transform_is_inferred_made_and_applied(package):
    allow_transforms(['outside.Halves'])
    network = network_with('outside.Halves', scale=3.0)
    assert network.shapes['edges'] == (1, 6, 4)
    image = torch.randn(2, 1, 6, 8)
    _, state = network.step(image, network.initial_state(2))
    torch.testing.assert_close(state.values['edges'], 3 * (image[..., ::2] - image[..., 1::2]))


def test_a_transform_that_needs_real_numbers_is_inferred_too(package):
    allow_transforms(['outside.real'])
    assert infer_shapes(graph_with('outside.real')).node('edges').shape == (1, 6, 8)


def test_what_is_not_allowed_is_not_imported(package):
    with pytest.raises(GraphError) as error:
        network_with('outside.Halves')
    assert str(error.value) == (
        "edges[0] (image->edges): the graph asks for code from outside, 'outside.Halves', which "
        'is not allowed; if you trust it, add --allow outside.Halves')
    assert 'outside' not in sys.modules


def test_allowing_one_name_allows_no_other(package):
    allow_transforms(['outside.Halves'])
    with pytest.raises(GraphError, match="'outside.real', which is not allowed"):
        network_with('outside.real')


def test_a_checkpoint_imports_nothing(package, tmp_path):
    path = tmp_path / 'policy.safetensors'
    allow_transforms(['outside.Halves'])
    save_policy(path, Policy(network_with('outside.Halves'), Preprocessing((1, 6, 8)),
                             CommandScale(1.0, 1.0), 'sequential', {}))
    assert load_policy(path).network.shapes['edges'] == (1, 6, 4)
    transforms._allowed.clear()
    del sys.modules['outside']
    with pytest.raises(CheckpointError) as error:
        load_policy(path)
    assert str(error.value) == (
        f'{path}: its graph cannot be built: edges[0] (image->edges): the graph asks for code '
        "from outside, 'outside.Halves', which is not allowed; if you trust it, add --allow "
        'outside.Halves')
    assert 'outside' not in sys.modules


@pytest.mark.parametrize('name, sentence', [
    ('wavelet', "allow: 'wavelet' is not a dotted Python name; write one such as "
                'my_package.layers.wavelet'),
    ('out side.Halves', "allow: 'out side.Halves' is not a dotted Python name; write one such as "
                        'my_package.layers.wavelet'),
    ('nowhere.Halves', "allow: importing 'nowhere' failed (ModuleNotFoundError: No module named "
                       "'nowhere'); it has to be on the Python path"),
    ('broken.Halves', "allow: importing 'broken' failed (ZeroDivisionError: division by zero); "
                      'it has to be on the Python path'),
    ('outside.Halfs', "allow: 'outside' has no callable 'Halfs'; did you mean 'Halves'?"),
    ('outside.number', "allow: 'outside' has no callable 'number'; callables in it are Halves, "
                       'real, needs_target, no_module, no_batch, of_the_batch')])
def test_names_that_cannot_be_allowed(package, name, sentence):
    with pytest.raises(GraphError) as error:
        allow_transforms([name])
    assert str(error.value) == sentence


@pytest.mark.parametrize('name, shape, options, sentence', [
    ('outside.Halves', None, {'scael': 2.0},
     "edges[0] (image->edges): outside.Halves has no option 'scael'; did you mean 'scale'? (its "
     'options: scale)'),
    ('outside.Halves', [1, 6, 8], {},
     'edges[0] (image->edges): outside.Halves of [1, 6, 8] gives [1, 6, 4], but the target takes '
     '[1, 6, 8]'),
    ('outside.needs_target', None, {},
     'nodes.edges: its shape cannot be inferred: edges[0] (image->edges): outside.needs_target '
     "fails without its target's shape (TypeError: unsupported operand type(s) for +: 'NoneType' "
     "and 'int'); write 'shape: [features]' or 'shape: [channels, height, width]'"),
    ('outside.no_module', [4], {},
     'edges[0] (image->edges): outside.no_module of [1, 6, 8]: it gives a '
     'builtin_function_or_method, which is not a torch.nn.Module'),
    ('outside.no_batch', [48], {},
     'edges[0] (image->edges): outside.no_batch of [1, 6, 8]: its module does not give a tensor '
     'with the batch as its first axis')])
def test_transforms_from_outside_that_do_not_fit(package, name, shape, options, sentence):
    allow_transforms([name])
    with pytest.raises(GraphError) as error:
        network_with(name, shape, **options)
    assert str(error.value) == sentence


def test_statistics_of_a_batch_are_refused(package):
    allow_transforms(['outside.of_the_batch'])
    graph = graph_with('outside.of_the_batch')
    with pytest.raises(GraphError) as error:
        RolloutNetwork(graph, sequential_pattern(graph))
    assert str(error.value) == (
        'edges[0] (image->edges): outside.of_the_batch has a BatchNorm2d, which depends on the '
        'other samples of a batch, so that training and steps of one frame would differ; '
        'take a GroupNorm')
