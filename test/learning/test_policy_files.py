"""The files of trainings: none is lost, none is half written, and all are checked first."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from safetensors import safe_open
from stream_agent.cli.train import main
from stream_agent.learning import policy_jobs
from stream_agent.learning.progress import Progress
from stream_agent.learning.resume import is_same_policy, set_aside
from stream_agent.recordings import cache
from support.jobs import ROOT
from support.recordings_files import drive, twist_stamped
from support.trainer_job import SMALL_TEXT

SHORT = ['--pattern', 'streaming', '--rounds', '1', '--updates', '2', '--last-updates', '0',
         '--environments', '1', '--frames', '30']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / 'small.yaml').write_text(SMALL_TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*options):
    return main(['--graph', 'small.yaml', '--output', 'out', *SHORT, *options])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def seed_of(path):
    with safe_open(path, framework='pt') as file:
        return json.loads(file.metadata()['training'])['seed']


def test_a_finished_policy_is_kept_unless_it_is_the_same(folder, capsys):
    for seed in '1', '1', '2', '3':
        assert train('--seed', seed) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [*['wrote out/small_streaming.safetensors'] * 3,
                    '  an earlier one is kept as out/small_streaming.1.safetensors',
                    'wrote out/small_streaming.safetensors',
                    '  an earlier one is kept as out/small_streaming.2.safetensors']
    names = [f'small_streaming{number}.safetensors' for number in ('', '.1', '.2')]
    assert [seed_of(folder / 'out' / name) for name in names] == [3, 1, 2]
    assert files(folder / 'out') == sorted(names)
    assert train('--seed', '4', '--replace') == 0
    assert [seed_of(folder / 'out' / name) for name in names] == [4, 1, 2]
    assert files(folder / 'out') == sorted(names)


def test_whatever_has_a_policys_name_is_kept(folder, capsys):
    (folder / 'out').mkdir()
    (folder / 'out' / 'small_streaming.safetensors').write_bytes(b'not ours')
    assert train() == 0
    assert (folder / 'out' / 'small_streaming.1.safetensors').read_bytes() == b'not ours'


def test_files_that_are_no_policies_differ(tmp_path):
    (tmp_path / 'one').write_bytes(b'no policy')
    (tmp_path / 'other').write_bytes(b'no policy')
    assert not is_same_policy(tmp_path / 'one', tmp_path / 'other')


def test_the_next_free_number(tmp_path):
    for name in ('a.unfinished', 'a.1.unfinished', 'a.2.unfinished'):
        (tmp_path / name).mkdir()
    assert set_aside(tmp_path / 'a.unfinished') == tmp_path / 'a.3.unfinished'


def train_with_little_room(folder, *options):
    """Train in a process whose files may not grow beyond 9,000 bytes."""
    code = ('import resource, sys\nfrom stream_agent.cli.train import main\n'
            f'resource.setrlimit(resource.RLIMIT_FSIZE, (9000, {resource.RLIM_INFINITY}))\n'
            'sys.exit(main(sys.argv[1:]))\n')
    found = subprocess.run(
        [sys.executable, '-c', code, '--graph', 'small.yaml', '--output', 'out', *options],
        cwd=folder, capture_output=True, text=True, timeout=100,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    assert found.returncode == 1
    return found.stderr.splitlines()[-1]


@pytest.mark.child_process
def test_a_full_disk_is_named_and_leaves_nothing_half_written(folder):
    assert train_with_little_room(folder, *SHORT) == (
        "train: 'out/small_streaming.unfinished/streaming.round1.safetensors': File too large; "
        'make room, or give another --output; nothing was saved before')
    assert files(folder) == ['small.yaml']


@pytest.mark.child_process
def test_what_was_saved_before_the_disk_was_full_resumes(folder, capsys, monkeypatch):
    monkeypatch.setattr(Progress, 'show', lambda *_: signal.raise_signal(signal.SIGINT))
    assert train('--updates', '9') == 130
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    before = files(folder)
    assert train_with_little_room(folder, *SHORT, '--updates', '9') == (
        "train: 'out/small_streaming.unfinished/streaming.resume.safetensors': File too large; "
        'make room, or give another --output; the same command resumes from '
        "'out/small_streaming.unfinished'")
    assert files(folder) == before
    capsys.readouterr()
    assert train('--updates', '9') == 0
    assert capsys.readouterr().out.splitlines() == [
        "streaming: resumes at step 2 of 9, from 'out/small_streaming.unfinished/"
        "streaming.resume.safetensors'", 'wrote out/small_streaming.safetensors']
    assert files(folder) == ['out/small_streaming.safetensors', 'small.yaml']


@pytest.mark.child_process
def test_a_full_disk_under_the_decoded_frames(folder):
    drive(folder / 'bag', 60)
    said = train_with_little_room(folder, '--pattern', 'streaming', '--bag', 'bag', '--cache',
                                  'cache')
    assert said.startswith("train: 'cache/bag-")
    assert said.endswith("': the decoded frames cannot be written (File too large); make room, or "
                         'give another folder by --cache')
    assert not files(folder / 'cache') and not (folder / 'out').exists()


def test_frames_that_cannot_fit_are_not_decoded(folder, capsys, monkeypatch):
    drive(folder / 'bag', 1000)
    options = ['--pattern', 'streaming', '--bag', 'bag', '--cache', 'cache', '--epochs', '0.1']
    for free, said in (
            # Of 3,614 weights two numbers each.
            (10_000, "--output 'out': at least 0.029 MB will be written, and 0.01 MB are free; "
             'make room, or give another folder'),
            # 450 bytes a frame.
            (400_000, "'cache': the decoded frames take 0.45 MB, and 0.4 MB are free; make room, "
             'or give another folder by --cache')):
        monkeypatch.setattr(cache.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
        assert main(['--graph', 'small.yaml', '--output', 'out', *options]) == 1
        assert capsys.readouterr().err == f'train: {said}\n'
        assert not files(folder / 'cache')


def test_the_end_of_a_stopped_training_of_another_is_kept(folder, monkeypatch, capsys):
    monkeypatch.setattr(Progress, 'show', lambda *_: signal.raise_signal(signal.SIGINT))
    assert train('--updates', '9') == 130
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / 'out' / 'small_streaming.unfinished')
    assert train('--seed', '5') == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        '  an earlier one is kept as out/small_streaming.stopped.1.safetensors')
    assert [seed_of(folder / 'out' / f'small_streaming{part}.safetensors')
            for part in ('', '.stopped.1')] == [5, 1]


def test_another_graph_of_the_same_name_does_not_resume(folder, monkeypatch, capsys):
    record = ['--bag', 'bag', '--cache', 'cache', '--pattern', 'streaming', '--output', 'out']
    drive(folder / 'bag', 60)
    monkeypatch.setattr(Progress, 'show', lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(['--graph', 'small.yaml', *record]) == 130
    (folder / 'other').mkdir()
    (folder / 'other' / 'small.yaml').write_text(SMALL_TEXT.replace('relu', 'tanh'))
    capsys.readouterr()
    before = files(folder)
    assert main(['--graph', 'other/small.yaml', *record]) == 1
    assert capsys.readouterr().err == (
        'train: out/small_streaming.unfinished/streaming.resume.safetensors: the training in it '
        'began with another graph; give the same options as then to resume it; to start anew, add '
        '--fresh\n')
    assert files(folder) == before
    # Other commands at the same times are another recording, too.
    shutil.rmtree(folder / 'bag')
    drive(folder / 'bag', 60, command=lambda t, *values: twist_stamped(t, -values[0], values[1]))
    assert main(['--graph', 'small.yaml', *record]) == 1
    assert 'began with another set of commands' in capsys.readouterr().err


@pytest.mark.parametrize('options, said', [
    (['--graph', 'lan'], "there is no file 'lan', and no shipped graph of that name; did you mean "
     "'lane'?"),
    (['--pattern', 'streaming', 'a->b'], "no edge 'a->b'; edges are image->seen, seen->command, "
     'image->command'),
    (['--costs', 'none.yaml'], "costs 'none.yaml': no such file; shipped costs are "),
    (['--robot', 'none'], "robot: there is no 'none'; shipped robots are "),
    (['--init', 'none'], "policy 'none': no such file; shipped policies are "),
    (['--output', 'small.yaml/out'], "--output 'small.yaml/out': nothing can be written to "),
    (['--bag', 'small.yaml'], "'small.yaml': neither a rosbag2 recording"),
    (['--bag', 'bag', '--cache', 'small.yaml'],
     "--cache 'small.yaml': nothing can be written to "),
    (['--bag', 'bag', '--crop-top', '0.6', '--crop-bottom', '0.6'], 'preprocessing: crop_top 0.6'),
    (['--device', 'cuda:99'], "device 'cuda:99': torch finds no GPU here")])
def test_all_is_checked_before_work_starts(folder, capsys, monkeypatch, options, said):
    drive(folder / 'bag', 5)
    for costly in ('run_side_by_side', 'train'):
        monkeypatch.setattr(policy_jobs, costly, None)
    before = files(folder)
    assert main(['--graph', 'small.yaml', '--output', 'out', *options]) == 1
    found = capsys.readouterr()
    assert found.err.startswith(f'train: {said}') and not found.out
    assert files(folder) == before and not (folder / 'out').exists()
