"""Exports: what ONNX Runtime computes from them is what the policy does, for strangers too."""

from dataclasses import asdict, replace
import json
from pathlib import Path
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
from stream_agent.cli.arguments import open_graph, read_schedule
from stream_agent.cli.export import check, description, ExportError, main
from stream_agent.contract.conversions import DepthInput, OutputScale, ScanInput, VectorInput
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network import transforms
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.policy_parts import conversion_from_data
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import allow_transforms
from stream_agent.share import share_folder
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from support.graphs import EVERY_LAYER, THREE_INPUTS, TWO_INPUTS
from support.network_inputs import expected_outputs, random_inputs
import torch

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.thorough]

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

PAGE = Path(__file__).parents[2] / 'docs' / 'export.md'
EXAMPLE, OPENCV = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(), re.DOTALL | re.MULTILINE)
SHIPPED = ['lane_streaming', 'lane_sequential']
SCHEDULE = 'edges=2+1,memory=2,command=4'
FRAMES = 9
SIX = tuple('abcdef')
JOINTS = OutputScale(SIX, ('rad/s',) * 6, (-1.0,) * 6, (1.0,) * 6)
# Of the inputs of the graphs that have several.
CONVERSIONS = {
    'image': Preprocessing((1, 8, 8), 0.25), 'scan': ScanInput(20, -2.0, 2.0, 6.0, 6.0),
    'depth': DepthInput((1, 6, 6), 0.3, 6.0, 6.0),
    **{name: VectorInput(SIX, ('m/s',) * 6, (-2.0,) * 6, (2.0,) * 6)
       for name in ('odometry', 'joints')}}
TOLERANCE = 5e-6
SIZES = [(60, 120), (45, 70), (120, 160), (243, 321), (480, 640), (1080, 1920)]
# The page is for machines that have none of these.
STRANGER = """
import runpy, sys
for name in ('torch', 'stream_agent', 'onnx', 'cv2', 'rclpy'):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
OUTSIDE = """
import torch
from torch import nn
from torch.nn import functional


def made(function):
    class Made(nn.Module):
        def forward(self, value):
            return function(value)
    return lambda source, target: Made()


rms = made(lambda value: functional.rms_norm(value, [value.shape[-1]]))
highest = made(lambda value: torch.cummax(value, -1)[0])
left = made(lambda value: torch.from_numpy(value.cpu().numpy()) if value.is_cpu else value)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Put a module 'outside' on the Python path, and forget it afterwards."""
    (tmp_path / 'outside.py').write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(transforms, '_allowed', {})
    yield
    sys.modules.pop('outside', None)


def policy_of(graph, pattern, updates_per_frame=1):
    torch.manual_seed(1)
    network = RolloutNetwork(graph, pattern)
    return Policy(network, Preprocessing(network.shapes[network.input], 0.25),
                  CommandScale(0.5, 3.0), 'hybrid', {}, updates_per_frame)


def saved(folder, policy):
    path = folder / 'policy.safetensors'
    save_policy(path, policy)
    return path


def multi_rate():
    """Return a policy with three rates, whose first three answers depend on no image."""
    graph = with_schedule(EVERY_LAYER, read_schedule(SCHEDULE))
    return policy_of(graph, streaming_pattern(graph), updates_per_frame=2)


def exported(path, folder, *arguments):
    """Export, and return the page's own reader of it."""
    assert main([str(path), '--output', str(folder), *arguments]) == 0
    page = {'__name__': 'drive'}
    exec(EXAMPLE, page)
    return page['ExportedPolicy'](folder)


def stepped(reader, images):
    outputs = []
    for image in images:
        outputs.append(reader.respond(image))
        reader.settle()
    return np.array(outputs)


def images_of(network, batch_size=1, length=FRAMES):
    shape = (length, batch_size, *network.shapes[network.input])
    return scale(np.random.default_rng(3).integers(0, 256, shape, np.uint8))


def expected(network, images):
    network.eval()
    with torch.inference_mode():
        outputs, state = [], network.initial_state(images.shape[1])
        for image in torch.from_numpy(images):
            output, state = network.step(image, state)
            outputs.append(output.numpy())
    return np.array(outputs)


def said(capsys, *arguments):
    """Return what a command that fails says."""
    assert main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def shipped(name):
    return share_folder() / 'config' / 'policies' / f'{name}.safetensors'


@pytest.mark.parametrize('name', SHIPPED)
def test_onnx_runtime_steps_shipped_policies_as_the_network_does(name, tmp_path, capsys):
    network = load_policy(shipped(name)).network
    images = images_of(network)
    reader = exported(name, tmp_path)
    outputs = stepped(reader, images)
    np.testing.assert_allclose(outputs, expected(network, images), atol=TOLERANCE)
    assert np.ptp(outputs, axis=0).max() > 1e-3
    reader.reset()
    assert np.array_equal(stepped(reader, images), outputs)
    difference = re.search(r'^checked in ONNX Runtime: outputs differ by at most (\S+) from '
                           'those of the policy$', capsys.readouterr().out, re.MULTILINE)[1]
    assert float(difference) < TOLERANCE


@pytest.mark.parametrize('schedule', ['', SCHEDULE])
@pytest.mark.parametrize('number', range(40, 288, 100))
def test_onnx_runtime_steps_every_layer_as_the_network_does(number, schedule, tmp_path):
    graph = with_schedule(EVERY_LAYER, read_schedule(schedule))
    policy = policy_of(graph, list(valid_patterns(graph))[number])
    images = images_of(policy.network, batch_size=2)
    reader = exported(saved(tmp_path, policy), tmp_path / 'made', '--batch-size', '2')
    np.testing.assert_allclose(stepped(reader, images), expected(policy.network, images),
                               atol=TOLERANCE)
    assert len(reader.manifest['schedule']) == graph.hyperperiod == (4 if schedule else 1)


@pytest.mark.parametrize('pattern', [newest_image_pattern, sequential_pattern])
def test_sums_that_are_made_ahead_have_the_shapes_that_cells_take(pattern, tmp_path):
    graph = open_graph('gated_policy')
    policy = policy_of(graph, pattern(graph))
    images = images_of(policy.network)
    reader = exported(saved(tmp_path, policy), tmp_path / 'made')
    np.testing.assert_allclose(stepped(reader, images), expected(policy.network, images),
                               atol=TOLERANCE)


@pytest.mark.child_process
def test_the_page_s_program_drives_as_the_engine_does(tmp_path):
    path = saved(tmp_path, multi_rate())
    (tmp_path / 'drive.py').write_text(EXAMPLE)
    for given, unanswered in (('lane_streaming', 0), (path, 1)):
        policy = load_policy(shipped(given) if given == 'lane_streaming' else given)
        pixels = np.random.default_rng(5).integers(
            0, 256, (FRAMES, *policy.preprocessing.shape), np.uint8)
        np.save(tmp_path / 'images.npy', pixels)
        exported(given, tmp_path / 'made', '--force')
        printed = subprocess.run(
            [sys.executable, '-I', '-c', STRANGER, 'drive.py', 'made', 'images.npy'],
            cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        engine, updates = Engine(policy.network), policy.updates_per_frame
        commands = [policy.limits.command([engine.step(image) for _ in range(updates)][-1])
                    for image in scale(pixels)]
        answers = re.findall(r'^(\S+) m/s (\S+) rad/s$', printed, re.MULTILINE)
        assert len(answers) == FRAMES - unanswered
        np.testing.assert_allclose(np.array(answers, float), commands[unanswered:], atol=TOLERANCE)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('crop', [0.0, 0.25])
def test_the_page_s_way_from_pixels_to_the_input_is_ours(channels, crop):
    preprocessing = Preprocessing((channels, 60, 120), crop, crop / 2)
    graph = graph_from_data({
        'nodes': {'image': {'shape': [channels, 60, 120]}, 'out': {'shape': [2]}},
        'edges': [{'source': 'image', 'target': 'out', 'transform': 'readout', 'kernel': 30}]})
    policy = replace(policy_of(graph, sequential_pattern(graph)), preprocessing=preprocessing)
    manifest = description('mine', policy, batch_size=1)
    page: dict = {}
    exec(OPENCV, page)
    generator = np.random.default_rng(7)
    for shape in [(*size, *colours) for size in SIZES for colours in ((), (3,))]:
        image = generator.integers(0, 256, shape, np.uint8)
        np.testing.assert_allclose(page['network_input'](image, manifest)[0],
                                   preprocessing(image), atol=TOLERANCE)


@pytest.mark.parametrize('pattern', [newest_image_pattern, sequential_pattern])
@pytest.mark.parametrize('graph, trigger', [
    (TWO_INPUTS, 'image'), (TWO_INPUTS, 'odometry'), (THREE_INPUTS, 'scan')])
def test_policies_of_several_inputs_are_exported(graph, trigger, pattern, tmp_path):
    torch.manual_seed(1)
    network = RolloutNetwork(graph, pattern(graph))
    conversions = {name: CONVERSIONS[name] for name in network.inputs}
    first = conversions.pop(trigger)
    limits = CommandScale(0.5, 3.0) if graph is TWO_INPUTS else JOINTS
    policy = Policy(network, first, limits, 'hybrid', {}, others=conversions)
    frames = random_inputs(network, FRAMES, batch_size=2)
    reader = exported(saved(tmp_path, policy), tmp_path / 'made', '--batch-size', '2')
    outputs = []
    for frame in frames:
        values = dict(frame)
        outputs.append(reader.respond(values.pop(trigger), values))
        reader.settle()
    np.testing.assert_allclose(outputs, expected_outputs(network.eval(), frames), atol=TOLERANCE)
    manifest = reader.manifest
    assert manifest['format'] == 'stream_agent export 2'
    said = [manifest['input'], *manifest['others']]
    assert [each['name'] for each in said] == [trigger, *conversions]
    assert all(each['shape'] == [2, *network.shapes[each['name']]] for each in said)
    assert [conversion_from_data(each['name'], each['conversion']) for each in said
            if 'conversion' in each] == [each for each in (first, *conversions.values())
                                         if not isinstance(each, Preprocessing)]
    assert all(each['preprocessing']['colours'] == 'grey' for each in said
               if each['name'] == 'image')
    assert manifest['output'] == {
        'name': graph.output, 'shape': [2, *network.shapes[graph.output]],
        **json.loads(json.dumps(asdict(limits)))}


def test_the_manifest_says_all_that_a_stranger_needs(tmp_path):
    manifest = exported(saved(tmp_path, multi_rate()), tmp_path / 'made').manifest
    steps, schedule = manifest.pop('steps'), manifest.pop('schedule')
    assert manifest.pop('versions') == {'stream_agent': '0.1.0', 'torch': torch.__version__}
    assert manifest.pop('policy')['name'] == 'policy'
    assert manifest == {
        'format': 'stream_agent export 1', 'precision': 'float32', 'opset': 18,
        'input': {'name': 'image', 'shape': [1, 1, 8, 8], 'preprocessing': {
            'crop_top': 0.25, 'crop_bottom': 0.0, 'colours': 'grey',
            'most_values_by_area': 20_000, 'scale': pytest.approx(1 / 255), 'offset': -0.5}},
        'output': {'name': 'command', 'shape': [1, 2], 'max_speed': 0.5, 'max_yaw_rate': 3.0},
        'updates_per_frame': 2, 'updates_unanswered': 3}
    assert sorted(set(schedule)) == list(range(len(steps)))
    # The nodes that the next step holds are there as they are.
    held = [{name for name, source in steps[i]['carry'].items() if name == source}
            for i in schedule]
    for i, names in enumerate(held):
        # Step i is frame i + 1; the next one is i + 2.
        assert names <= {name for name, (period, offset) in read_schedule(SCHEDULE).items()
                         if (i + 2 - offset) % period}
    assert any(held)


@pytest.mark.parametrize('schedule', ['', SCHEDULE])
def test_only_what_is_read_is_handed_on_and_every_model_is_used(schedule, tmp_path):
    graph = with_schedule(EVERY_LAYER, read_schedule(schedule))
    path = saved(tmp_path, policy_of(graph, newest_image_pattern(graph)))
    reader = exported(path, tmp_path / 'made')
    steps = reader.manifest['steps']
    read = {port.name for session in reader.sessions.values() for port in session.get_inputs()}
    passed = {source for step in steps for source in step['carry'].values()}
    handed_on = {name for step in steps for name in step['carry']}
    assert handed_on <= read | passed | {'command'}
    assert {*reader.initial} == {*steps[reader.manifest['schedule'][-1]]['carry']}
    files = {path.name for path in (tmp_path / 'made').glob('*.onnx')}
    assert {step[half] for step in steps for half in ('respond', 'settle')} - {None} == files
    if not schedule:
        assert files == {'respond.onnx', 'settle.onnx'}
        answered = {port.name for port in reader.sessions['respond.onnx'].get_outputs()}
        assert handed_on == read - answered - {'image'}
    for file in files:
        onnx.checker.check_model(onnx.load(tmp_path / 'made' / file), full_check=True)


def test_a_node_may_have_any_name(tmp_path):
    graph = graph_from_data({
        'nodes': {'image': {'shape': [1, 4, 4]}, 'file': {'shape': [3], 'period': 3},
                  'out': {'shape': [2]}},
        'edges': ['image->file->out', 'image->out']})
    policy = policy_of(graph, sequential_pattern(graph))
    reader = exported(saved(tmp_path, policy), tmp_path / 'made')
    assert 'file' in reader.initial
    images = images_of(policy.network)
    np.testing.assert_allclose(stepped(reader, images), expected(policy.network, images),
                               atol=TOLERANCE)


def test_an_earlier_export_is_replaced_only_on_request(tmp_path, capsys):
    path, folder = saved(tmp_path, multi_rate()), tmp_path / 'made'
    exported(path, folder)
    before = {item.name: item.read_bytes() for item in folder.iterdir()}
    (folder / 'notes.txt').write_text('mine')
    names = ', '.join(sorted(before))
    assert said(capsys, 'lane_streaming', '--output', folder) == (
        f"export: --output: '{folder}' holds {names} already; replace them with --force, or name "
        'another folder\n')
    assert {name: (folder / name).read_bytes() for name in before} == before
    exported('lane_streaming', folder, '--force')
    assert sorted(item.name for item in folder.iterdir()) == [
        'initial.npz', 'manifest.json', 'notes.txt', 'respond.onnx', 'settle.onnx']


def test_a_full_disk_leaves_the_earlier_export(tmp_path, capsys):
    folder = tmp_path / 'made'
    exported('lane_streaming', folder)
    before = {item.name: item.read_bytes() for item in folder.iterdir()}
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        assert said(capsys, 'lane_sequential', '--output', folder, '--force') == (
            f"export: '{folder}' cannot be written (File too large); make room, or name another "
            'folder. What was there is unchanged\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == before


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / 'file').write_text('')
    folder = tmp_path / 'made'
    assert said(capsys, 'lane_streaming', '--output', tmp_path / 'file') == (
        f"export: --output: '{tmp_path}/file' is a file; name a folder\n")
    assert said(capsys, 'lane_streaming', '--output', tmp_path / 'file' / 'made') == (
        f"export: '{tmp_path}/file/made': Not a directory; a part of the path is a file; give a "
        'folder there\n')
    assert said(capsys, 'lane', '--output', folder) == (
        "export: policy 'lane': no such file; shipped policies are aware_sequential, "
        'lane_sequential, lane_streaming, odometry_streaming, reflex_planned, '
        'reflex_sequential, reflex_smaller, scan_image_streaming, scan_streaming\n')
    assert said(capsys, tmp_path / 'file', '--output', folder).startswith(
        f'export: {tmp_path}/file: an empty file; copy it again')
    monkeypatch.setattr('stream_agent.engine.backends.find_spec', lambda name: name != 'onnx')
    assert said(capsys, 'lane_streaming', '--output', folder) == (
        'export: this machine lacks onnx; pip install onnx\n')
    assert not folder.exists()


def test_without_onnx_runtime_it_says_that_nothing_was_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('stream_agent.engine.backends.find_spec',
                        lambda name: name != 'onnxruntime')
    exported('lane_streaming', tmp_path)
    assert ('not checked: this machine lacks onnxruntime; pip install onnxruntime\n'
            in capsys.readouterr().out)


def test_a_model_that_the_runtime_refuses_is_no_export(tmp_path):
    exported('lane_streaming', tmp_path)
    (tmp_path / 'settle.onnx').write_bytes(b'no model')
    with pytest.raises(ExportError) as error:
        check(tmp_path, load_policy(shipped('lane_streaming')).network, batch_size=1)
    assert str(error.value).startswith(
        f"'{tmp_path}' does not run in ONNX Runtime (InvalidProtobuf: ")
    assert str(error.value).endswith('); do not drive with it')


def own(tmp_path, name):
    """Save a policy with a transform from outside."""
    allow_transforms([f'outside.{name}'])
    graph = graph_from_data({
        'nodes': {'image': {'shape': [1, 8, 8]}, 'own': {}, 'out': {'shape': [2]}},
        'edges': [{'source': 'image', 'target': 'own', 'transform': f'outside.{name}'},
                  'own->out']})
    path = saved(tmp_path, policy_of(graph, sequential_pattern(graph)))
    transforms._allowed.clear()
    return path


@pytest.mark.slow
def test_a_transform_that_only_the_newer_exporter_knows(outside, tmp_path):
    pytest.importorskip('onnxscript')
    path = own(tmp_path, 'rms')
    reader = exported(path, tmp_path / 'made', '--allow', 'outside.rms')
    network = load_policy(path).network
    images = images_of(network)
    np.testing.assert_allclose(stepped(reader, images), expected(network, images), atol=TOLERANCE)


def test_transforms_that_cannot_be_exported(outside, tmp_path, capsys):
    folder = tmp_path / 'made'
    path = own(tmp_path, 'left')
    assert said(capsys, path, '--output', folder) == (
        f'export: {path}: its graph cannot be built: edges[0] (image->own): the graph asks for '
        "code from outside, 'outside.left', which is not allowed; if you trust it, add --allow "
        'outside.left\n')
    assert re.fullmatch(
        rf"export: '{folder}' holds another function than the policy: in ONNX Runtime its "
        r'outputs differ by up to \d\.\de[-+]\d\d, more than 0\.0001; do not drive with it\. '
        'Transforms of your own may only compute with tensors, without branches that depend on '
        'their values\n', said(capsys, path, '--output', folder, '--allow', 'outside.left'))
    assert said(capsys, own(tmp_path, 'highest'), '--output', folder, '--force', '--allow',
                'outside.highest') == (
        "export: respond cannot be written as ONNX: Exporting the operator 'aten::cummax' to ONNX "
        'opset version 18 is not supported; write the transform of your own with other '
        'operators\n')
    # What was there is left alone.
    assert json.loads((folder / 'manifest.json').read_text())['policy']['name'] == 'policy'


def test_a_missing_exporter_is_named(outside, tmp_path, capsys, monkeypatch):
    path = own(tmp_path, 'rms')
    export = torch.onnx.export

    def without_onnxscript(*arguments, dynamo, **options):
        if dynamo:
            raise ModuleNotFoundError("No module named 'onnxscript'")
        return export(*arguments, dynamo=False, **options)
    monkeypatch.setattr(torch.onnx, 'export', without_onnxscript)
    assert said(capsys, path, '--output', tmp_path / 'made', '--allow', 'outside.rms') == (
        "export: respond cannot be written as ONNX: Exporting the operator 'aten::rms_norm' to "
        'ONNX opset version 18 is not supported; onnxscript might help: pip install '
        'onnxscript\n')
