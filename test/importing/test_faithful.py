"""An import computes what the original computes, whatever the network and whoever reads it."""

import copy
from functools import cache
import inspect
import math
import warnings

from importing.zoo import answers, Example, EXAMPLES, images_for, relative_error, trained
import pytest
from stream_agent.engine.engine import Engine
from stream_agent.importing.cutting import cut
from stream_agent.importing.exported import read_module
from stream_agent.importing.graph_making import make_network
from stream_agent.importing.onnx_file import read_onnx
from stream_agent.importing.program import ImportedProgram
from stream_agent.importing.simplify import simplified
from stream_agent.theory.information import information_ages
import torch
from torch import nn, Tensor

pytestmark = pytest.mark.thorough

# Relative to the largest output.
MOST = 1e-4
# What differs from another in few operations; the latter is tried in `make check`, too.
ALIKE = {'se_resnet', 'mobilenet_v3', 'efficientnet', 'vit_written_out', 'hrnet_bilinear'}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in EXAMPLES]
# States that a module keeps in buffers are inputs of no ONNX file.
IN_ONNX = [name for name in EXAMPLES if name not in ALIKE and name != 'gru_buffer']


def sizes_of(module: nn.Module, example: Example) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's inputs, without batch, by forward's parameters."""
    image = next(iter(inspect.signature(module.forward).parameters))
    # The batch of a state is in front of its features: (1, 12) or (layers, 1, 12).
    return {image: example.image} | {
        name: (*shape[:-2], shape[-1]) for name, shape in example.states.items()}


@cache
def from_torch(name: str) -> ImportedProgram:
    module = trained(name)
    return simplified(read_module(module, sizes_of(module, EXAMPLES[name])))


@pytest.fixture
def from_onnx(tmp_path):
    def read(name: str, dynamo: bool = False) -> ImportedProgram:
        example, path = EXAMPLES[name], tmp_path / 'network.onnx'
        inputs = (torch.zeros(1, *example.image), *map(torch.zeros, example.states.values()))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # both exporters have much to say
            torch.onnx.export(
                trained(name), inputs, path, dynamo=dynamo, verbose=False,
                opset_version=18 if dynamo else 17, input_names=['image', *example.states],
                output_names=['output', *[f'{state}_after' for state in example.states]])
        return simplified(read_onnx(path))
    return read


def costs(program: ImportedProgram) -> dict[str, float]:
    """Return about the multiplications of every operation, so that cuts are the same always."""
    result = {}
    for operation in program.operations:
        weight = operation.weights.get('layer.weight', operation.weights.get('weight'))
        each = math.prod(weight.shape[1:]) if weight is not None else 1
        result[operation.name] = 1e-9 * each * math.prod(operation.shape)
    return result


def rollout(program: ImportedProgram, pattern: str = 'sequential'):
    return make_network(program, cut(program, costs(program), 'auto'), pattern).eval()


@torch.no_grad()
def stepped(network, images: Tensor) -> Tensor:
    """Return a rollout's outputs for images one after another, (frames, *output)."""
    outputs, _ = network.stepped(images[None], network.initial_state())
    return outputs[0]


def differ(program: ImportedProgram, name: str, kind: str) -> float:
    example = EXAMPLES[name]
    images = images_for(example, kind, 4 if example.states or name == 'gru_buffer' else 2)
    return relative_error(stepped(rollout(program), images),
                          answers(trained(name), example, images))


@pytest.mark.parametrize('name', NAMES)
def test_a_module_is_what_it_was(name):
    program = from_torch(name)
    for kind in ('random', 'real'):
        assert differ(program, name, kind) < MOST, kind
    # Nothing keeps the original's gradients, so that a program can be copied and sent.
    assert not any(weight.requires_grad for operation in program.operations
                   for weight in operation.weights.values())


@pytest.mark.parametrize('name', IN_ONNX)
def test_an_onnx_file_is_what_the_module_was(name, from_onnx):
    program = from_onnx(name)
    for kind in ('random', 'real'):
        assert differ(program, name, kind) < MOST, kind


@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet', 'vit', 'gru'])
def test_so_is_a_file_of_the_default_exporter(name, from_onnx):
    pytest.importorskip('onnxscript')
    assert differ(from_onnx(name, dynamo=True), name, 'real') < MOST


FORGETFUL = [name for name, example in EXAMPLES.items()
             if not example.states and name != 'gru_buffer' and name not in ALIKE]


@pytest.mark.parametrize('name', FORGETFUL)
def test_a_still_image_is_known_from_the_step_of_the_longest_way(name):
    network = rollout(from_torch(name), 'streaming')
    age = information_ages(network.graph, network.pattern).oldest
    example = EXAMPLES[name]
    images = images_for(example, 'still', age + 3)
    expected = answers(trained(name), example, images[:1])
    # At index ``age``, the image is ``age`` frames old.
    outputs = stepped(network, images)
    assert 1 < age <= 17
    assert relative_error(outputs[age:], expected.expand(3, -1)) < MOST
    assert relative_error(outputs[age - 1:age], expected) > MOST


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('name', ['shufflenet_v2', 'vit', 'lstm'])
def test_back_ends_step_an_import(name, backend):
    network = rollout(from_torch(name), 'streaming')
    engine = Engine(network, backend=backend)
    images = images_for(EXAMPLES[name], 'random', 20)
    found = torch.stack([torch.from_numpy(engine.step(image)) for image in images.numpy()])
    assert relative_error(found, stepped(network, images)) < MOST


@pytest.mark.parametrize('name', ['resnet', 'vit', 'efficientnet_lopsided', 'gru', 'lstm'])
def test_an_import_can_be_trained(name):
    network = rollout(from_torch(name), 'streaming').train()
    images = images_for(EXAMPLES[name], 'random', 24)
    outputs, _ = network(images[None], network.initial_state())
    outputs[:, -1].square().sum().backward()
    gradients = [weight.grad for weight in network.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)
    assert all(grad.abs().max() > 0 for grad in gradients)


def test_a_wrong_weight_is_noticed():
    program, name = copy.deepcopy(from_torch('resnet')), 'resnet'
    operation = next(each for each in program.operations if each.kind == 'convolution')
    next(iter(operation.weights.values()))[0] *= 1.01
    assert differ(program, name, 'real') > MOST
