"""The network that is trained elsewhere: what it learns from, and what comes of it."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from stream_agent.cli import import_network, train
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from studies.__main__ import main
from studies.imported import command, policy
import torch

COSTS = Path(command.__file__).with_name('costs.yaml')
pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.thorough]


def test_the_module_that_is_imported_knows_nothing_of_this_package():
    tree = ast.parse(inspect.getsource(policy))
    modules = {node.module if isinstance(node, ast.ImportFrom) else name.name
               for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
               for name in node.names}
    assert modules == {'pathlib', 'torch'}


def test_views_are_what_a_policy_sees_and_their_commands_the_experts(monkeypatch):
    frames = []
    monkeypatch.setattr(DrivingEnvironment, 'look', lambda self, look=DrivingEnvironment.look: (
        frames.append(look(self)), frames[-1])[1])
    images, commands = command.views(SimulationSettings(), 50, 3, 0)
    assert images.shape == (50, 1, 48, 64) and commands.shape == (50, 2)
    for image, wanted, frame in zip(images.numpy(), commands.numpy(), frames):
        np.testing.assert_array_equal(image, Preprocessing((1, 48, 64)).pixels(frame.image))
        np.testing.assert_allclose(wanted, (frame.reference.speed, frame.reference.yaw_rate / 2),
                                   rtol=1e-6)
    assert 0.1 < commands[:, 1].std() < 1.0 and abs(commands[:, 1].mean()) < 0.2


def test_batches_are_normalised_and_mirrored_with_their_commands():
    torch.manual_seed(1)
    images = torch.arange(80, dtype=torch.uint8).view(80, 1, 1, 1).repeat(1, 1, 2, 2)
    images[..., 1] += 100
    commands = torch.stack([torch.ones(80), torch.arange(80.0)], dim=1)
    seen = set()
    for _ in range(10):
        for batch, wanted in command.batches(images, commands, mirrored=True):
            pixels = ((batch * 0.25 + 0.5) * 255).round()
            turned = bool(pixels[0, 0, 0, 0] > pixels[0, 0, 0, 1])
            seen.add(turned)
            assert (pixels.amin((1, 2, 3)) == wanted[:, 1].abs()).all()
            assert (wanted[:, 1] <= 0).all() if turned else (wanted[:, 1] >= 0).all()
            assert (wanted[:, 0] == 1).all()
    assert seen == {True, False}


def test_it_is_trained_written_and_made(tmp_path, monkeypatch, capsys):
    for module in command, policy:
        monkeypatch.setattr(module, 'WEIGHTS', tmp_path / 'new' / 'weights.pt')
    assert main(['imported', '--views', '80', '--epochs', '1']) == 0
    assert f"wrote {tmp_path / 'new' / 'weights.pt'}: 324,082 weights" in capsys.readouterr().out
    network = policy.make_policy()
    assert not network.training
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 48, 64)).shape == (2, 2)


def test_it_is_imported_planned_and_trained_further_with_its_weights(tmp_path, monkeypatch):
    """As docs/importing.md does, in miniature."""
    monkeypatch.setattr(policy, 'WEIGHTS', tmp_path / 'weights.pt')
    torch.save(policy.SteeringResNet().state_dict(), policy.WEIGHTS)
    folder = str(tmp_path)
    assert import_network.main([
        'studies.imported.policy:make_policy', '--input', '1x48x64', '--mean', '0.5', '--std',
        '0.25', '--max-yaw-rate', '2', '--name', 'resnet', '--cut',
        'stem,layer1,layer2,layer3,layer4', '--early-outputs', 'layer1,layer2,layer3', '--output',
        folder]) == 0
    assert train.main([
        '--init', f'{folder}/resnet.safetensors', '--pattern', 'planned', '--pass-periods', '3.2',
        '--costs', str(COSTS), '--freeze', 'layer4', '--rounds', '1', '--updates', '3',
        '--last-updates', '0', '--environments', '1', '--frames', '8', '--batch', '2', '--output',
        folder]) == 0
    before, planned = (load_policy(tmp_path / f'resnet{label}.safetensors').network
                       for label in ('', '_planned'))
    # As the page says: the layers behind the first take turns.
    assert {node.name: (node.period, node.offset) for node in planned.graph.nodes
            if node.period > 1} == {'layer2': (3, 1), 'layer3': (3, 2), 'layer4': (3, 0)}
    kept = {name for name, value in before.state_dict().items()
            if torch.equal(value, planned.state_dict()[name])}
    assert kept and all(name.startswith('bodies.layer4.') for name in kept)
    early = [name for name in before.state_dict() if name.startswith('transforms.')]
    assert early and not any(before.state_dict()[name].any() for name in early)
