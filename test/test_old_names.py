"""Names of the release before: commands, Python names, files; each works, with one warning."""

import json
from pathlib import Path
import subprocess
import sys
import warnings

import pytest
from stream_agent import __main__ as command_line
from stream_agent.engine.engine import Engine
from stream_agent.learning.resume import LearnerState, pack, ResumeError, ResumeFile, TrainingState
from stream_agent.network.checkpoint import load_policy
from stream_agent.share import ParameterFiles
import torch

ROOT = Path(__file__).parents[1]
POLICIES = ROOT / 'config' / 'policies'


def test_record_is_record_bag_by_its_old_node_name(monkeypatch, capsys):
    started = []

    class Module:

        @staticmethod
        def main(rest):
            started.append(rest)
            return 0

    monkeypatch.setattr(command_line, 'import_module', lambda name: started.append(name) or Module)
    assert command_line.main(['record', '--ros-args', '-p', 'name:=a']) == 0
    assert started == ['stream_agent.nodes.record_bag_node', [
        '--ros-args', '-p', 'name:=a', '--ros-args', '-r', '__node:=record']]
    assert capsys.readouterr().err == (
        "stream_agent: 'record' is called 'record_bag' now; rename it, as the next release has no "
        'such command\n')
    assert command_line.main(['record_bag']) == 0
    assert started[2:] == ['stream_agent.nodes.record_bag_node', []]
    assert capsys.readouterr().err == ''


def test_the_executable_record_is_there():
    text = (ROOT / 'scripts' / 'record').read_text()
    assert "main(['record', *sys.argv[1:]])" in text
    assert (ROOT / 'scripts' / 'record').stat().st_mode & 0o777 == 0o755


@pytest.mark.child_process
def test_experiment_says_where_the_studies_are():
    answer = subprocess.run([sys.executable, '-m', 'stream_agent', 'experiment', 'noisy-mnist'],
                            cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 2 and not answer.stdout
    assert answer.stderr == (
        'stream_agent experiment: the experiments are studies now, beside the package in its '
        'repository; there, run: python -m studies noisy-mnist --data DIR\n')


@pytest.fixture(scope='module')
def policy():
    return load_policy(POLICIES / 'lane_streaming.safetensors')


def test_the_engine_takes_executor_and_has_its_name(policy):
    with pytest.warns(FutureWarning, match="'executor' is called 'backend' now") as said:
        engine = Engine(policy.network, executor='packed')
    assert len(said) == 1 and said[0].filename == __file__
    assert engine.backend_name == 'packed'
    with pytest.warns(FutureWarning, match="'executor_name' is called 'backend_name' now"):
        assert engine.executor_name == 'packed'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Engine(policy.network, backend='packed').backend_name == 'packed'


@pytest.mark.parametrize('path', sorted(POLICIES.glob('*.safetensors')), ids=str)
def test_policies_of_earlier_releases_load(path):
    assert load_policy(path).network.graph.output


def test_parameter_files_know_old_names(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('/agent: {ros__parameters: {executor: packed, threads: 1}}\n'
                    '/both: {ros__parameters: {executor: packed, backend: eager}}\n')
    files = ParameterFiles([path])
    assert files.of('/agent') == {'backend': 'packed', 'threads': 1}
    assert files.of('/both') == {'backend': 'eager'}
    assert files.old_names('/agent') == {'executor': 'backend'}
    assert files.old_names('/other') == {}


def resume_file_of_before(path, settings):
    """Write a file as the release before did, byte for byte but for the numbers in it."""
    learner = torch.frombuffer(bytearray(pack({}, {'data': {'rounds': 1}})), dtype=torch.uint8)
    path.write_bytes(pack(
        {'trainer/losses': torch.tensor([0.5], dtype=torch.float64), 'learner/0': learner},
        {'format': 'stream_agent resume 1', 'begun_with': settings, 'numbers': {'seconds': 1.5}}))


def test_a_training_of_the_release_before_can_be_resumed(tmp_path):
    path, settings = tmp_path / 'a.resume.safetensors', {'steps': 12, 'seed': 1}
    resume_file_of_before(path, settings)
    state = ResumeFile(path, settings).read()
    assert state.numbers == {'seconds': 1.5} and state.learner.data == {'rounds': 1}
    assert state.tensors['losses'].tolist() == [0.5]
    with pytest.raises(ResumeError, match='began with steps = 12, and this one has steps = 13'):
        ResumeFile(path, settings | {'steps': 13}).read()


def test_resume_files_are_written_as_before(tmp_path):
    path = tmp_path / 'a.resume.safetensors'
    ResumeFile(path, {'steps': 1}).write(TrainingState({}, LearnerState({}, None), {}))
    data = path.read_bytes()
    metadata = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')])['__metadata__']
    assert set(metadata) == {'format', 'begun_with', 'numbers'}
