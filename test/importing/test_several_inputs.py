"""Imported networks of several inputs: from modules, .pt2 and ONNX files, against the original."""

from pathlib import Path
import re
import sys
import warnings

import numpy as np
import pytest
from stream_agent.__main__ import main
from stream_agent.cli import import_network
from stream_agent.engine.engine import Engine
from stream_agent.importing.exported import read_module
from stream_agent.importing.program import ImportFault
from stream_agent.network.checkpoint import load_policy, TrainedNetwork
import torch
from torch import nn

pytestmark = pytest.mark.thorough
SIZES = {'image': (1, 12, 16), 'odometry': (6,)}
FORMS = ['module', 'onnx', pytest.param('pt2', marks=pytest.mark.child_process)]
RECURRENT = {**SIZES, 'hidden': (8,)}
# What the user has: sensors.py.
NETWORKS = """
import torch
from torch import nn


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.norm = nn.Conv2d(1, 4, 4, 4), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_mean, -0.3, 0.3)
        self.encode, self.fc = nn.Linear(6, 5), nn.Linear(53, 2)

    def features(self, image, odometry):
        seen = self.norm(self.conv(image)).relu().flatten(1)
        return torch.cat([seen, self.encode(odometry).tanh()], 1)

    def forward(self, image, odometry):
        return self.fc(self.features(image, odometry)).tanh()


class Recurrent(Fused):
    def __init__(self):
        super().__init__()
        self.cell, self.fc = nn.GRUCell(53, 8), nn.Linear(8, 2)

    def forward(self, image, odometry, hidden):
        hidden = self.cell(self.features(image, odometry), hidden)
        return self.fc(hidden), hidden


class Cameras(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(1, 4, 4, 4)

    def forward(self, left, right):
        return self.conv(left).mean((2, 3)) - self.conv(right).amax((2, 3))


def fused():
    return Fused().eval()


def recurrent():
    return Recurrent().eval()


def cameras():
    return Cameras().eval()
"""


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Put the user's module into the working folder, and let every operation cost the same."""
    (tmp_path / 'sensors.py').write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(import_network, 'disturbance', lambda before: '')
    monkeypatch.setattr(import_network, 'measured_seconds', lambda program: {
        operation.name: 1e-3 for operation in program.operations})
    sys.modules.pop('sensors', None)
    import sensors
    yield sensors
    sys.modules.pop('sensors', None)


def as_file(module, sizes, form):
    """Write a module as a file, and return what to import and the words for its sizes."""
    examples = tuple(torch.zeros(1, *shape) for shape in sizes.values())
    path = Path(f'network.{form}')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if form == 'pt2':
            torch.export.save(torch.export.export(module, examples), path)
        else:
            outputs = ['command', 'hidden_next'][:1 + ('hidden' in sizes)]
            torch.onnx.export(module, examples, path, dynamo=False, input_names=[*sizes],
                              output_names=outputs)
    return [str(path)]


def words_of(name, module, sizes, form):
    if form != 'module':
        return as_file(module, sizes, form)
    return [f'sensors:{name}', '--input', *(
        f"{key}={'x'.join(map(str, shape))}" for key, shape in sizes.items())]


def imported(*words):
    assert main(['import', *words, '--output', 'out', '--name', 'net']) == 0
    return load_policy('out/net.safetensors')


def frames_of(sizes, count=4):
    generator = np.random.default_rng(5)
    return [{name: generator.standard_normal(shape).astype(np.float32)
             for name, shape in sizes.items()} for _ in range(count)]


@pytest.mark.parametrize('form', FORMS)
def test_a_network_of_an_image_and_a_vector(form, networks, capsys):
    module = networks.fused()
    loaded = imported(*words_of('fused', module, SIZES, form))
    assert isinstance(loaded, TrainedNetwork) and loaded.network.inputs == ('image', 'odometry')
    engine = Engine(loaded.network)
    for frame in frames_of(SIZES):
        with torch.no_grad():
            expected = module(*(torch.from_numpy(value)[None] for value in frame.values()))
        np.testing.assert_allclose(engine.step(frame), expected[0], rtol=1e-4, atol=1e-6)
    said = capsys.readouterr().out
    assert 'image [1, 12, 16], odometry [6] -> ' in said
    assert re.search(r'^error +\S+e-0[6-9] of the largest output', said, re.MULTILINE)
    assert re.search(r'^notice +it does not drive: it takes image, odometry, and nothing says '
                     r"what these are made of; to drive, train it with a robot's contract", said,
                     re.MULTILINE)


@pytest.mark.parametrize('form', FORMS)
def test_a_state_beside_two_inputs_is_handed_on(form, networks):
    module = networks.recurrent()
    loaded = imported(*words_of('recurrent', module, RECURRENT, form))
    assert loaded.network.inputs == ('image', 'odometry')
    engine, hidden = Engine(loaded.network), torch.zeros(1, 8)
    for frame in frames_of(SIZES):
        with torch.no_grad():
            expected, hidden = module(*(torch.from_numpy(value)[None]
                                        for value in frame.values()), hidden)
        np.testing.assert_allclose(engine.step(frame), expected[0], rtol=1e-4, atol=1e-6)


def test_mean_and_deviation_are_of_the_only_image(networks, capsys):
    sizes = ['--input', 'image=1x12x16', 'odometry=6']
    loaded = imported('sensors:fused', *sizes, '--mean', '0.4', '--std', '0.25')
    engine, module = Engine(loaded.network), networks.fused()
    for frame in frames_of(SIZES):
        image, odometry = (torch.from_numpy(value)[None] for value in frame.values())
        with torch.no_grad():
            expected = module((image + 0.5 - 0.4) / 0.25, odometry)
        np.testing.assert_allclose(engine.step(frame), expected[0], rtol=1e-4, atol=1e-5)
    cameras = ['import', 'sensors:cameras', '--input', 'left=1x12x16', 'right=1x12x16']
    assert main([*cameras, '--mean', '0.4', '--output', 'out']) == 1
    assert ('--mean, --std: the network takes the images left, right; normalise them in the '
            'network, and leave these out') in capsys.readouterr().err
    assert imported(*cameras[1:]).network.inputs == ('left', 'right')


def test_options_of_driving_are_refused_with_the_reason(networks, capsys):
    assert main(['import', 'sensors:fused', '--input', 'image=1x12x16', 'odometry=6',
                 '--max-speed', '2', '--output', 'out']) == 1
    assert ('--max-speed: the network does not drive, as it takes image, odometry, and nothing '
            'says what these are made of') in capsys.readouterr().err
    assert not Path('out').exists()


class Made(nn.Module):
    """A module whose forward is a function of this file."""

    def __init__(self, function):
        super().__init__()
        self.cell, self.function = nn.GRUCell(4, 4), function

    def forward(self, speed, h):
        return self.function(self.cell, speed, h)


@pytest.mark.parametrize('function, said', [
    (lambda cell, speed, h: cell(speed, h).mean(1), 'a recurrent state is not handed on'),
    (lambda cell, speed, h: speed.mean(1, keepdim=True), "the output does not depend on 'h'; "
     'return what forward computes from it, or leave the input out')])
def test_inputs_that_cannot_be_meant_are_refused(function, said):
    with pytest.raises(ImportFault) as refused:
        read_module(Made(function).eval(), {'speed': (4,), 'h': (4,)})
    assert said in str(refused.value)


class Ambiguous(nn.Module):
    """Three inputs, of which two are alike, and one state."""

    def forward(self, image, speed, kept):
        following = torch.tanh(speed + kept)
        return image.mean((2, 3)) + following[:, :1], following


def test_a_state_that_may_be_either_of_two_inputs_is_refused_and_a_name_decides(networks, capsys):
    sizes = {'image': (1, 12, 16), 'speed': (4,), 'kept': (4,)}
    with pytest.raises(ImportFault) as refused:
        read_module(Ambiguous().eval(), sizes)
    assert re.fullmatch(r"'2' may be the next value of 'speed' or of 'kept'; name it in an ONNX "
                        r"file after the one, as 'speed_next', or give the state another shape",
                        str(refused.value))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(Ambiguous().eval(), tuple(torch.zeros(1, *shape)
                                                    for shape in sizes.values()), 'kept.onnx',
                          dynamo=False, input_names=[*sizes],
                          output_names=['command', 'kept_next'])
    loaded = imported('kept.onnx')
    assert loaded.network.inputs == ('image', 'speed')
    engine, kept = Engine(loaded.network), torch.zeros(1, 4)
    for frame in frames_of({'image': (1, 12, 16), 'speed': (4,)}):
        expected, kept = Ambiguous()(*(torch.from_numpy(value)[None]
                                       for value in frame.values()), kept)
        np.testing.assert_allclose(engine.step(frame), expected[0], rtol=1e-4, atol=1e-6)
