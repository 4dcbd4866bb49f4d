"""``stream_agent import``: real modules and files, what is written, and what is refused."""

from importlib import invalidate_caches
from pathlib import Path
import re
import signal
import sys
from types import ModuleType

import numpy as np
import pytest
from stream_agent.__main__ import main
from stream_agent.cli import import_network
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.importing import exported, sources
from stream_agent.network.bodies import BODY_OPERATIONS
from stream_agent.network.checkpoint import load_policy
import torch
import yaml

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'importing.md').read_text()
# What the user has: nets.py.
NETS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return (x + self.conv2(self.norm(self.conv1(x)).relu())).relu()


class Net(nn.Module):
    def __init__(self, channels=3, outputs=2):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(channels, 8, 3, 2, 1)
        self.layer1, self.layer2 = Block(8), Block(8)
        for block in (self.layer1, self.layer2):
            nn.init.uniform_(block.norm.running_mean, -0.3, 0.3)
            nn.init.uniform_(block.norm.running_var, 0.5, 2.0)
        self.fc = nn.Linear(8, outputs)

    def forward(self, image):
        x = self.layer2(self.layer1(self.stem(image).relu()))
        return self.fc(x.mean((2, 3))).tanh()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.cell = nn.Conv2d(1, 4, 4, 4), nn.GRUCell(16, 8)
        self.fc = nn.Linear(8, 2)

    def forward(self, image, hidden):
        hidden = self.cell(self.conv(image).relu().flatten(1), hidden)
        return self.fc(hidden), hidden


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).real


class Decides(nn.Module):
    def forward(self, x):
        return x.mean((1, 2, 3)) if x.sum() > 0 else x.amax((1, 2, 3))


def policy():
    return Net().eval()


def classifier():
    return Net(outputs=10).eval()


def recurrent():
    return Recurrent().eval()


def fourier():
    return nn.Sequential(nn.Conv2d(3, 4, 3), Fourier()).eval()


def decides():
    return Decides().eval()


def training():
    return Net()


def partly_training():
    net = Net().eval()
    net.layer2.norm.train()
    return net


def with_arguments(path):
    return Net().eval()


def fails():
    raise OSError('there are no weights at /nowhere')


def half():
    return Net().half().eval()


def huge():
    net = Net().eval()
    net.fc.weight.data[:] = 1e6
    return net


def a_tensor():
    return torch.zeros(3)


NUMBER = 3
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Work in a folder with the user's module, and return it; the command imports it by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [folder for folder in sys.path if folder])
    Path('nets.py').write_text(NETS)
    invalidate_caches()
    module = ModuleType('the_nets')
    exec(compile(NETS, 'nets.py', 'exec'), vars(module))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield module
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name in ('nets', 'my_policy', 'broken'):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Let every operation cost the same, except where costs are what is tested."""
    monkeypatch.setattr(import_network, 'disturbance', lambda before: '')
    if 'costs' not in request.node.name:
        monkeypatch.setattr(import_network, 'measured_seconds', lambda program: {
            operation.name: 1e-3 for operation in program.operations})


def imported(*words):
    assert main(['import', *map(str, words), '--output', 'out']) == 0
    (path,) = [path for path in Path('out').glob('*.safetensors') if path.stem.isidentifier()]
    return load_policy(path)


def images(shape, count=4):
    return np.random.default_rng(5).standard_normal((count, *shape), dtype=np.float32)


@torch.no_grad()
def assert_same(policy, module, shape, see=lambda image: image):
    engine = Engine(policy.network, 'cpu', backend='eager')
    for image in images(shape):
        expected = module(torch.from_numpy(see(image))[None])[0].numpy()
        np.testing.assert_allclose(engine.respond(image), expected, rtol=1e-4, atol=1e-6)
        engine.settle()


def test_a_module_becomes_a_graph_and_a_policy(nets, capsys):
    policy = imported('nets:policy', '--input', '3x16x20')
    assert_same(policy, nets.policy(), (3, 16, 20))
    assert sorted(path.name for path in Path('out').iterdir()) == [
        'policy.safetensors', 'policy.yaml']
    graph = load_graph('out/policy.yaml')
    assert graph == policy.network.graph
    assert graph.inputs == ('input',) or list(graph.inputs) == ['input']
    said = capsys.readouterr().out
    nodes, edges = len(graph.nodes), len(graph.edges)
    assert f'{nodes} nodes, {edges} edges; input [3, 16, 20] -> ' in said
    assert re.search(r'^error +\S+e-0[6-9] of the largest output', said, re.MULTILINE)
    assert 'python -m stream_agent plan out/policy.yaml --rate 30\n' in said
    assert 'python -m stream_agent train --init out/policy.safetensors' in said


def test_what_is_said_next_runs(nets, capsys):
    imported('nets:policy', '--input', 'image=3x16x20', '--name', 'car')
    said = capsys.readouterr().out
    commands = re.findall(r'^  python -m stream_agent ((?:rollouts|draw) .*)$', said, re.MULTILINE)
    assert len(commands) == 2
    for words in commands:
        assert main(words.split()) == 0
    assert list(Path('pictures').iterdir())


def test_limits_and_crop_are_those_of_the_command_line(nets):
    policy = imported('nets:policy', '--input', '3x16x20', '--max-speed', 2.5, '--max-yaw-rate',
                      4, '--steering', 'yaw rate', '--crop-top', 0.25, '--pattern', 'streaming')
    assert (policy.limits.max_speed, policy.limits.max_yaw_rate) == (2.5, 4)
    assert (policy.steering, policy.preprocessing.crop_top) == ('yaw rate', 0.25)
    assert policy.pattern_name == 'streaming' and set(policy.network.pattern.values()) == {1}


def test_mean_and_deviation_become_part_of_the_network(nets):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    policy = imported('nets:policy', '--input', '3x16x20', '--mean', *mean, '--std', *std)

    def see(image):
        return ((image + 0.5 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
                ).astype(np.float32)

    assert_same(policy, nets.policy(), (3, 16, 20), see)


def test_a_network_that_drives_nothing_is_imported_too(nets, capsys):
    policy = imported('nets:classifier', '--input', '3x16x20')
    assert_same(policy, nets.classifier(), (3, 16, 20))
    assert 'train --init' not in capsys.readouterr().out


def test_a_network_in_float16_is_compared_by_its_own_rounding(nets, capsys):
    policy = imported('nets:half', '--input', '3x16x20')
    assert_same(policy, nets.half().float(), (3, 16, 20))
    assert '\nnotice            float16 weights' in capsys.readouterr().out


def test_a_state_is_handed_on(nets):
    policy = imported('nets:recurrent', '--input', 'image=1x8x8', 'hidden=8')
    module, hidden = nets.recurrent(), torch.zeros(1, 8)
    engine = Engine(policy.network, 'cpu', backend='eager')
    with torch.no_grad():
        for image in images((1, 8, 8)):
            expected, hidden = module(torch.from_numpy(image)[None], hidden)
            np.testing.assert_allclose(engine.respond(image), expected[0], rtol=1e-4, atol=1e-6)
            engine.settle()


@pytest.mark.child_process
def test_a_pt2_file_is_read_in_a_process_of_its_own(nets, capsys, monkeypatch):
    example = torch.full((1, 3, 16, 20), 0.71828)
    torch.export.save(torch.export.export(nets.policy(), (example,)), 'net.pt2')
    here = []
    monkeypatch.setattr(exported, 'reading_of_pt2', here.append)
    policy = imported('net.pt2')
    assert not here
    assert_same(policy, nets.policy(), (3, 16, 20))
    assert 'import only files that you made' in capsys.readouterr().err
    # Neither the example frame nor the paths and lines that the file holds.
    written = b''.join(path.read_bytes() for path in Path('out').iterdir())
    for secret in (str(Path.cwd()).encode(), b'nets.py', b'forward',
                   np.float32([0.71828] * 4).tobytes()):
        assert secret not in written
    assert Path('net.pt2').read_bytes().count(b'nets.py')


def test_an_onnx_file_is_imported_without_a_size(nets):
    torch.onnx.export(nets.policy(), (torch.zeros(1, 3, 16, 20),), 'net.onnx', dynamo=False)
    assert_same(imported('net.onnx'), nets.policy(), (3, 16, 20))


def test_costs_make_the_same_cut_again(nets, capsys):
    words = 'nets:policy', '--input', '3x16x20'
    imported(*words, '--save-costs', 'costs.yaml')
    first = Path('out/policy.yaml').read_bytes()
    names = yaml.safe_load(Path('costs.yaml').read_text())['nodes']
    assert len(names) > 8
    imported(*words, '--costs', 'costs.yaml')
    assert Path('out/policy.yaml').read_bytes() == first
    costs = {'nodes': {name: 0.0 for name in names} | {next(iter(names)): 1.0}}
    Path('costs.yaml').write_text(yaml.safe_dump(costs))
    capsys.readouterr()
    imported(*words, '--costs', 'costs.yaml')
    assert '\nlargest node      100% of the seconds of all\n' in capsys.readouterr().out


def test_modules_become_nodes(nets):
    policy = imported('nets:policy', '--input', '3x16x20', '--cut', 'layer1,layer2')
    assert {'layer1', 'layer2'} <= policy.network.graph.by_name.keys()
    every = imported('nets:policy', '--input', '3x16x20', '--cut', 'all', '--replace')
    assert len(every.network.graph.nodes) > len(policy.network.graph.nodes)


def test_early_outputs_are_zero_at_first(nets):
    policy = imported('nets:policy', '--input', '3x16x20', '--cut', 'layer1,layer2',
                      '--early-outputs', 'layer1')
    graph = policy.network.graph
    assert any(edge.source == 'layer1' for edge in graph.incoming[graph.output])
    assert_same(policy, nets.policy(), (3, 16, 20))


def test_earlier_files_are_kept_unless_they_are_the_same(nets, capsys):
    words = 'import', 'nets:policy', '--input', '3x16x20', '--output', 'out'
    for more in ([], ['--costs', 'costs.yaml'], ['--costs', 'costs.yaml', '--cut', 'all'],
                 ['--costs', 'costs.yaml', '--replace']):
        assert main([*words, *(more or ['--save-costs', 'costs.yaml'])]) == 0
    assert sorted(path.name for path in Path('out').iterdir()) == [
        'policy.1.safetensors', 'policy.1.yaml', 'policy.safetensors', 'policy.yaml']
    assert '  an earlier one is kept as out/policy.1.yaml\n' in capsys.readouterr().out


SIZE = '--input', '3x16x20'
REFUSED = [
    (['nets:training', *SIZE], 'the network (Net) is in training mode; call .eval() on'),
    (['nets:partly_training', *SIZE], "its module 'layer2.norm' (BatchNorm2d) is in training"),
    (['nets:policy'], 'the size of its input is not known; give it without the batch, such as '
     '--input 3x224x224'),
    (['nets:polcy', *SIZE], "the module 'nets' has no 'polcy'; did you mean 'policy'?"),
    (['nots:policy', *SIZE], "there is no module 'nots' in this folder or among"),
    (['nets.py:policy', *SIZE], "'nets.py:policy': not the names of a module and of a callable"),
    (['./nets:policy', *SIZE], 'write them with dots and without'),
    (['nets:with_arguments', *SIZE], "missing a required argument: 'path'; it is called without"),
    (['nets:fails', *SIZE], 'calling it raises OSError (nets.py:'),
    (['nets:a_tensor', *SIZE], 'it gives Tensor, not a torch.nn.Module; return the network'),
    (['nets:NUMBER', *SIZE], 'int cannot be called; name a function that makes the network'),
    (['broken:policy', *SIZE], 'importing it raises ZeroDivisionError (broken.py:2)'),
    (['nets:huge', *SIZE], 'holds 1e+06, and weights over 65504 overflow when they are used'),
    (['nets:fourier', *SIZE], "module '1' (Fourier) is not in the vocabulary"),
    (['nets:decides', *SIZE], "'nets:decides': Decides: forward decides by the values of tensors"),
    (['nets:policy', '--input', '4x16x20'], "'nets:policy': Net: forward failed for input 4x16"),
    (['nets:policy', '--input', '3x16x20', 'hidden=8'], 'hidden'),
    (['nets:recurrent', '--input', '1x8x8'], 'hidden'),
    (['nets:policy', *SIZE, '--cut', 'layer1,layer3'], 'layer3'),
    (['nets:policy', *SIZE, '--early-outputs', 'layer3'], 'layer3'),
    (['nets:policy', *SIZE, '--mean', '1', '2'], '--mean: 2 numbers for 3 channels; give one for'),
    (['nets:policy', *SIZE, '--std', '0'], '--std: 0 is not above 0; give what one divides by'),
    (['nets:policy', *SIZE, '--costs', 'costs.yaml'], "--costs: costs.yaml: the node '"),
    (['nets:policy', *SIZE, '--name', 'a/b'], "--name: 'a/b' is not the name of a file"),
    (['nets:classifier', *SIZE, '--max-speed', '2'], '--max-speed: the network does not drive, as '
     "its output 'fc' is [10], and a command is [2]"),
    (['weights.pth'], "'weights.pth': weights without a network; write a function that makes the"),
    (['nets.py'], "name the function in it, as 'my_policy:make_policy' without '.py'"),
    (['missing'], "'missing': there is no such file; a network is given as 'my_package"),
    (['missing.onnx'], "'missing.onnx': No such file or directory; check the path"),
    (['empty.onnx'], 'empty.onnx'),
    (['a_folder'], "'a_folder': not a network; a network is given as"),
]


@pytest.mark.parametrize('words, said', REFUSED, ids=[' '.join(words) for words, _ in REFUSED])
def test_what_cannot_be_imported_is_one_sentence(nets, capsys, words, said):
    Path('broken.py').write_text('#\n1 / 0\n')
    Path('costs.yaml').write_text('nodes: {stem: 1.0}\n')
    Path('weights.pth').write_bytes(b'PK\x03\x04')
    Path('empty.onnx').write_bytes(b'')
    Path('a_folder').mkdir()
    before = {path for path in Path().rglob('*') if '__pycache__' not in path.parts}
    assert main(['import', *words, '--output', 'out']) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith('import: '), lines
    assert said in lines[0] and '; ' in lines[0]
    assert {path for path in Path().rglob('*') if '__pycache__' not in path.parts} == before


@pytest.mark.child_process
@pytest.mark.parametrize('content', [b'', b'PK\x03\x04' + bytes(60), None],
                         ids=['empty', 'archive', 'folder'])
def test_a_pt2_file_that_is_none_is_one_sentence(nets, capsys, content):
    path = Path('net.pt2')
    path.mkdir() if content is None else path.write_bytes(content)
    assert main(['import', str(path), '--output', 'out']) == 1
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith('import: ') and 'net.pt2' in line and '; ' in line
    assert not Path('out').exists()


@pytest.mark.child_process
def test_a_reader_that_is_killed_is_one_sentence(nets, capsys):
    # What torch may unpickle can do anything to the process, but no other one.
    Path('net.pt2').write_bytes(b'x')
    Path('sitecustomize.py').write_text('')
    Path('torch.py').write_text('import os\nos.kill(os.getpid(), 9)\n')
    assert main(['import', 'net.pt2', '--output', 'out']) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "'net.pt2': the process that reads it ended with code -9" in line


@pytest.mark.parametrize('words, said', [
    (['--input', '3x'], "'3x' is not a size; write channels, rows and columns as 3x224x224"),
    (['--input', '0x3'], "'0x3' has 0 values; write a size of 1 to 268,435,456"),
    (['--input', '3x4', '3x4'], '--input: two sizes have one name; give each its own'),
    (['--mean', 'nan'], "'nan' is not a number"),
    (['--pattern', 'streming'], "invalid choice: 'streming'; did you mean 'streaming'?"),
    (['--costs', 'a', '--save-costs', 'b'], 'not allowed with')])
def test_a_wrong_command_line_ends_with_2(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(['import', 'nets:policy', *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_an_import_that_differs_writes_nothing(nets, capsys, monkeypatch):
    reading_of = exported.reading_of

    def other(module, inputs):
        program, original = reading_of(module, inputs)
        return program, lambda frame: original(frame) * (1 + 3e-4)

    monkeypatch.setattr(exported, 'reading_of', other)
    assert main(['import', 'nets:policy', *SIZE, '--output', 'out']) == 1
    assert 'the import gives other outputs than the original, by 3.' in capsys.readouterr().err
    assert not Path('out').exists()


def test_a_disk_that_is_full_leaves_nothing(nets, capsys, monkeypatch):
    def full(path, policy):
        raise OSError(28, 'No space left on device', str(path))

    monkeypatch.setattr(import_network, 'save_policy', full)
    assert main(['import', 'nets:policy', *SIZE, '--output', 'out']) == 1
    assert 'No space left on device; make room' in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) in (
        ['nets.py'], ['__pycache__', 'nets.py'])


def test_a_source_is_what_it_was_when_it_is_read_again(nets, tmp_path):
    source = sources.open_source('nets:recurrent', {'image': (1, 8, 8), 'hidden': (8,)})
    sources.save_source(tmp_path / 'source', source)
    again = sources.load_source(tmp_path / 'source')
    assert torch.equal(again.outputs, source.outputs)
    assert again.program.states == source.program.states
    for one, other in zip(again.program.operations, source.program.operations, strict=True):
        assert (one.name, one.kind, one.of, one.module, one.shape) == (
            other.name, other.kind, other.of, other.module, other.shape)
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_the_page_has_the_whole_vocabulary():
    table = PAGE.partition('## Vocabulary')[2].partition('## ')[0]
    rows = re.findall(r'^\| (`.*?`) \|', table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r'`(\w+)`', row)} == {*BODY_OPERATIONS}


def test_the_example_of_the_page_is_imported(nets):
    (code,) = [block for block in re.findall(r'^```python\n(.*?)^```$', PAGE, re.M | re.S)
               if block.startswith('# my_policy.py')]
    Path('my_policy.py').write_text(code)
    (line,) = re.findall(r'^python -m stream_agent (import my_policy.*)$', PAGE, re.MULTILINE)
    assert main(line.split()) == 0
    (answer,) = [block for block in re.findall(r'^```python\n(.*?)^```$', PAGE, re.M | re.S)
                 if block.startswith('# answer.py')]
    exec(answer, {})
