"""
The backend of CUDA graphs equals the network's step; on the CPU, and on a GPU where there is one.

On the CPU the operations of a half run in any order that the plan's streams and events leave open.
"""

from functools import partial
import gc
from pathlib import Path
import subprocess
import sys
import threading

import numpy as np
import pytest
from stream_agent.engine.cuda.branches import BranchPlan, Launch
from stream_agent.engine.cuda.device import device_of, Half, HostDevice
from stream_agent.engine.cuda.graphs import CudaGraphBackend, variants
from stream_agent.engine.cuda.program import Variant
from stream_agent.engine.torch_globals import computing
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from support.graphs import EVERY_LAYER, FIGURE_2, SR
import torch

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.thorough]

ROOT = Path(__file__).parents[3]
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
DEVICES = ['cpu', pytest.param('cuda', marks=NEEDS_GPU)]


def chain_graph(layers=4, height=6, width=8):
    """Return a small relative of benchmark/graphs/deep.yaml."""
    return graph_from_data({
        'nodes': {'image': {'shape': [3, height, width]},
                  f'layer{{0..{layers}}}': {'shape': [4, height, width], 'activation': 'relu'},
                  'features{0..2}': {'shape': [5], 'activation': 'elu'},
                  'command': {'shape': [2], 'activation': 'tanh'}},
        'edges': [{'source': 'image', 'target': 'layer0', 'transform': 'convolution'},
                  {'chain': [f'layer{{0..{layers}}}'], 'transform': 'convolution'},
                  {'source': f'layer{layers}', 'target': 'features0'},
                  {'chain': ['features{0..2}']},
                  {'source': ['image', 'layer0', 'layer2'], 'target': 'command',
                   'transform': 'readout', 'kernel': 2},
                  {'source': 'features2', 'target': 'command'}],
        'output': 'command'})


def dense_block(nodes=4):
    """Return a graph in which sums of several convolutions read neighbours."""
    return graph_from_data({
        'nodes': {'image': {'shape': [3, 6, 6]},
                  f'h{{1..{nodes}}}': {'shape': [4, 6, 6], 'activation': 'relu'},
                  'map': {'shape': [2, 3, 3], 'activation': 'leaky_relu'},
                  'out': {'shape': [2], 'activation': 'sigmoid'}},
        'edges': [{'source': 'image', 'target': 'h1', 'transform': 'convolution', 'kernel': 5},
                  {'dense': [f'h{{1..{nodes}}}'], 'transform': 'convolution'},
                  {'source': [f'h{{1..{nodes}}}'], 'target': 'map', 'transform': 'convolution',
                   'stride': 2},
                  {'source': 'h1', 'target': 'h1', 'transform': 'convolution', 'streams': True},
                  {'source': 'map', 'target': 'out'}],
        'output': 'out'})


def network_of(graph, pattern, device='cpu'):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern).to(device).eval()


def frames_of(network, batch_size=1, count=7, seed=0):
    generator = np.random.default_rng(seed)
    shape = (count, batch_size, *network.shapes[network.input])
    return generator.standard_normal(shape).astype(np.float32)


def expected(network, frames):
    """Return the outputs of the network's step, on the CPU."""
    copy = network_of(network.graph, network.pattern)
    copy.load_state_dict(network.state_dict())
    state, outputs = copy.initial_state(frames.shape[1]), []
    with torch.inference_mode():
        for frame in frames:
            output, state = copy.step(torch.from_numpy(frame), state)
            outputs.append(output.numpy())
    return outputs


def run(backend, frames, respond='respond'):
    outputs = []
    for frame in frames:
        outputs.append(getattr(backend, respond)(frame))
        backend.settle()
    return outputs


def check(graph, pattern, device='cpu', batch_size=1, seed=0, atol=1e-5, **options):
    """Check the outputs of one backend."""
    network = network_of(graph, pattern, device)
    frames = frames_of(network, batch_size)
    adapter = HostDevice(seed) if device == 'cpu' else None
    backend = CudaGraphBackend(network, batch_size, device=adapter, **options)
    np.testing.assert_allclose(run(backend, frames), expected(network, frames), atol=atol)
    return backend


@pytest.mark.parametrize('graph, every', [(FIGURE_2, 1), (SR, 1), (EVERY_LAYER, 73)])
@pytest.mark.parametrize('batched', [True, False])
def test_two_halves_equal_the_step_under_every_pattern(graph, every, batched):
    for i, pattern in enumerate(list(valid_patterns(graph))[::every]):
        check(graph, pattern, batch_size=1 + i % 3, seed=i, batched=batched)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('pattern_of', [
    streaming_pattern, newest_image_pattern, sequential_pattern])
@pytest.mark.parametrize('graph', [EVERY_LAYER, chain_graph(), dense_block()])
@pytest.mark.parametrize('options', [
    {'batched': 'auto'}, {'batched': True, 'batch_size': 3}, {'batched': True, 'forked': False}])
def test_variants_batches_and_branches_equal_the_step(device, pattern_of, graph, options):
    check(graph, pattern_of(graph), device, **options)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('graph', [EVERY_LAYER, chain_graph(), dense_block()])
@pytest.mark.parametrize('variant', variants('auto', torch.cuda.is_available()), ids=str)
def test_every_variant_equals_the_step(device, graph, variant):
    backend = check(graph, newest_image_pattern(graph), device, 2, among=[variant])
    assert backend.program.variant == variant and not backend.measured


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('rates', [
    {'layer1': (2, 1), 'layer3': (3, 2)}, {'layer2': (2, 0), 'features1': (2, 0)},
    {'command': (3, 1)}, {'layer1': (2, 0), 'layer2': (2, 0), 'layer3': (2, 0)}])
@pytest.mark.parametrize('pattern_of', [newest_image_pattern, sequential_pattern])
def test_nodes_that_hold_their_values_equal_the_step(device, rates, pattern_of):
    graph = with_schedule(chain_graph(), rates)
    check(graph, pattern_of(graph), device, batched=True)


def test_the_fastest_variant_is_chosen():
    network = network_of(chain_graph(), newest_image_pattern(chain_graph()))
    backend = CudaGraphBackend(network, batched='auto')
    assert set(backend.measured) == set(variants('auto', False)) and len(backend.measured) == 3
    assert backend.program.variant == min(backend.measured, key=backend.measured.get)
    assert [str(variant) for variant in variants(True, True)] == ['batched, fused', 'batched']
    assert [str(variant) for variant in variants(False, False)] == ['plain', 'channels last']


def test_equal_nodes_and_equal_terms_become_one_operation():
    def operations(graph, batched):
        network = network_of(graph, newest_image_pattern(graph))
        return sorted(CudaGraphBackend(network, batched=batched).program.alone())

    names = ['command', 'command.sum', 'features0', 'features1', 'features2', 'layer0', 'layer1',
             'layer2', 'layer3', 'layer4']
    assert operations(chain_graph(), False) == names
    assert operations(chain_graph(), True) == [
        'command', 'command.sum', 'features0', 'features1 features2', 'layer0',
        'layer1 layer2 layer3 layer4']


@pytest.mark.parametrize('name', ['config/graphs/dsr6.yaml', 'benchmark/graphs/policy.yaml'])
def test_the_reference_graphs_equal_the_step(name):
    graph = load_graph(ROOT / name)
    check(graph, newest_image_pattern(graph), batched=True)


def test_results_do_not_depend_on_the_order_that_a_plan_leaves_open():
    graph = chain_graph()
    network = network_of(graph, newest_image_pattern(graph))
    frames = frames_of(network)
    first, *others = (run(CudaGraphBackend(network, among=[Variant()], device=HostDevice(seed)),
                          frames) for seed in range(5))
    for other in others:
        assert np.array_equal(first, other)


def test_the_host_finds_a_wait_that_a_plan_forgets():
    def orders(waits):
        plan = BranchPlan((Launch(0, 0, False, (), True), Launch(1, 1, True, waits, True)), 2,
                          (1,))
        found = set()
        for seed in range(20):
            order = []
            HostDevice(seed).record(Half(plan, tuple(
                lambda i=i: order.append(i) for i in range(2))))()
            found.add(tuple(order))
        return found

    assert orders(waits=(0,)) == {(0, 1)}
    assert orders(waits=()) == {(0, 1), (1, 0)}


@pytest.mark.parametrize('device', DEVICES)
def test_a_recording_owns_all_that_its_operations_use(device):
    there = torch.zeros(1 << 20, device=device)
    adapter = device_of(there)

    def recorded():
        factor = torch.full_like(there, 3.0)
        half = Half(BranchPlan((Launch(0, 0, False, (), False),), 1, ()),
                    (lambda: there.add_(factor),))
        return adapter.record(half)

    recording = recorded()
    gc.collect()
    there.zero_()
    # Takes the memory of the factor, if nobody owns it any more.
    others = [torch.full_like(there, 5.0) for _ in range(4)]
    adapter.answer(recording)
    assert (there == 3.0).all() and len(others) == 4


@pytest.mark.parametrize('device', DEVICES)
def test_reset_forgets_every_frame(device):
    # On a GPU, a transposed convolution may add up in any order.
    equal = partial(np.testing.assert_allclose, rtol=0, atol=0 if device == 'cpu' else 1e-6)
    network = network_of(EVERY_LAYER, newest_image_pattern(EVERY_LAYER), device)
    frames = frames_of(network)
    backend = CudaGraphBackend(network, among=[Variant()])
    first = run(backend, frames[:3])
    backend.reset()
    equal(first, run(backend, frames[:3]))
    backend.respond(frames[0])
    backend.reset()
    equal(first, run(backend, frames[:3]))


@pytest.mark.parametrize('device', DEVICES)
def test_two_backends_on_one_network_do_not_disturb_each_other(device):
    network = network_of(dense_block(), newest_image_pattern(dense_block()), device)
    frames, others = frames_of(network), frames_of(network, seed=9)
    alone = run(CudaGraphBackend(network, among=[Variant()]), frames)
    one = CudaGraphBackend(network, among=[Variant()])
    other = CudaGraphBackend(network, among=[Variant()])
    together = []
    for frame, distraction in zip(frames, others):
        together.append(one.respond(frame))
        other.respond(distraction)
        one.settle()
        other.settle()
    np.testing.assert_allclose(alone, together, atol=0 if device == 'cpu' else 1e-5)


@pytest.mark.parametrize('device', DEVICES)
def test_an_output_stays_as_it_is_when_the_next_frame_comes(device):
    network = network_of(SR, newest_image_pattern(SR), device)
    frames = frames_of(network)
    backend = CudaGraphBackend(network, among=[Variant()])
    first = backend.respond(frames[0])
    kept = first.copy()
    backend.settle()
    backend.respond(frames[1])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize('device', DEVICES)
def test_bfloat16_and_tf32_are_near_the_step(device):
    graph = dense_block()
    check(graph, newest_image_pattern(graph), device, precision='tf32', atol=1e-2)
    check(graph, newest_image_pattern(graph), device, precision='bfloat16', atol=3e-2)
    with pytest.raises(AssertionError):
        check(graph, newest_image_pattern(graph), device, precision='bfloat16', atol=1e-6)


CAMERAS = [((3, 12, 16), (48, 64, 3)), ((1, 24, 32), (480, 640, 3)), ((3, 24, 32), (24, 32, 3)),
           ((3, 80, 112), (200, 300, 3)), ((3, 20, 20), (60, 60, 3)), ((3, 20, 25), (15, 18)),
           ((1, 48, 64), (101, 133)), ((3, 20, 25), (50, 18, 3))]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('shape, camera', CAMERAS)
def test_pixels_are_preprocessed_to_within_one_grey_level(device, shape, camera):
    graph = graph_from_data({
        'nodes': {'image': {'shape': list(shape)}, 'command': {'shape': list(shape)}},
        'edges': [{'source': 'image', 'target': 'command', 'transform': 'identity'}],
        'output': 'command'})
    preprocessing = Preprocessing(shape, 0.2, 0.1)
    network = network_of(graph, sequential_pattern(graph), device)
    backend = CudaGraphBackend(network, 2, among=[Variant()], preprocessing=preprocessing,
                               camera=camera)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 2, *camera), np.uint8)
    for found, pair in zip(run(backend, images, 'respond_pixels'), images):
        levels = 255 * (found - np.stack([preprocessing(image) for image in pair]))
        assert np.abs(levels).max() < 1.01
        assert np.abs(levels).mean() < 0.2


def test_frames_and_pixels_can_take_turns():
    graph = chain_graph(height=12, width=16)
    network = network_of(graph, newest_image_pattern(graph))
    preprocessing = Preprocessing((3, 12, 16))
    backend = CudaGraphBackend(network, preprocessing=preprocessing, camera=(24, 32, 3))
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 24, 32, 3), np.uint8)
    frames = np.stack([preprocessing(image)[None] for image, in images])
    outputs = []
    for i, (image, frame) in enumerate(zip(images, frames)):
        outputs.append(backend.respond(frame) if i % 2 else backend.respond_pixels(image))
        backend.settle()
    np.testing.assert_allclose(outputs, expected(network, frames), atol=1e-5)


@pytest.mark.parametrize('tf32', [True, False])
def test_settings_of_torch_are_restored(tf32):
    def settings():
        return (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32,
                torch.backends.cuda.matmul.allow_tf32)

    before = settings()
    with pytest.raises(KeyError), computing(tf32):
        assert settings() == (True, tf32, tf32)
        raise KeyError
    assert settings() == before


def test_what_cannot_be_done_is_said():
    network = network_of(SR, newest_image_pattern(SR))
    frame = frames_of(network)[0]
    for options, sentence in [
            ({'precision': 'float16'},
             "precision: there is no 'float16'; choices are float32, tf32, bfloat16"),
            ({'batched': 'maybe'}, "batched: 'maybe' is none of 'auto', True, False")]:
        with pytest.raises(ValueError) as error:
            CudaGraphBackend(network, **options)
        assert str(error.value) == sentence
    backend = CudaGraphBackend(network, batch_size=2)
    with pytest.raises(ValueError) as error:
        backend.respond(frame)
    assert str(error.value) == (
        'respond: the frame has the shape [1, 3], but the backend was made for [2, 3]')
    with pytest.raises(RuntimeError) as error:
        backend.respond_pixels(frame)
    assert str(error.value) == (
        'respond_pixels: the backend was made without a camera; give it preprocessing and the '
        'shape of the images')


@pytest.mark.parametrize('call', ['reset', 'respond', 'settle'])
def test_another_thread_is_refused(call):
    network = network_of(SR, newest_image_pattern(SR))
    backend = CudaGraphBackend(network)
    errors = []

    def work():
        try:
            getattr(backend, call)(*[frames_of(network)[0]] * (call == 'respond'))
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == [f'{call}: called on another thread than the one that made the backend; '
                      'make and step it on one thread']


def test_the_device_of_the_weights_does_the_work():
    assert isinstance(device_of(torch.zeros(1)), HostDevice)


@pytest.mark.child_process
@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU to measure')
def test_the_benchmark_says_that_there_is_no_gpu():
    process = subprocess.run([sys.executable, ROOT / 'benchmark/gpu.py'], capture_output=True,
                             text=True)
    assert process.returncode == 2 and process.stdout == ''
    assert process.stderr == (
        'benchmark/gpu.py measures a CUDA GPU, and torch finds none on this machine; run it '
        'where nvidia-smi lists one, with a CUDA build of torch\n')


@NEEDS_GPU
def test_what_others_do_with_the_memory_does_not_disturb_a_recording():
    graph = dense_block()
    network = network_of(graph, newest_image_pattern(graph), 'cuda')
    frames = frames_of(network)
    backend = CudaGraphBackend(network)
    network.cpu()
    torch.cuda.empty_cache()
    rubbish = [torch.full((1 << 20,), torch.nan, device='cuda') for _ in range(64)]
    np.testing.assert_allclose(run(backend, frames), expected(network, frames), atol=1e-5)
    assert len(rubbish) == 64


@NEEDS_GPU
def test_a_step_allocates_nothing_on_the_gpu():
    graph = chain_graph()
    network = network_of(graph, newest_image_pattern(graph), 'cuda')
    frames = frames_of(network)
    backend = CudaGraphBackend(network)
    run(backend, frames)
    before = torch.cuda.memory_stats()['allocation.all.allocated']
    for _ in range(50):
        run(backend, frames)
    assert torch.cuda.memory_stats()['allocation.all.allocated'] == before
