"""
Odd and damaged files: each is used as a whole, counted, or refused in a sentence with a remedy.

``python -m pytest -q -s test/test_odd_files.py`` prints the table of docs/recordings.md.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
import io
import json
from pathlib import Path
import re
import signal
from typing import Any

import numpy as np
import pytest
from stream_agent.__main__ import main
from stream_agent.cli import convert, plan, rollouts
from stream_agent.doctor.findings import Severity
from stream_agent.doctor.parameters import (
    AGENT, check_process, GATE, judge_files, places_of, values_of)
from stream_agent.learning.recorded_episodes import (
    cut_recordings, decoded_recordings, limits_of)
from stream_agent.measurement.comparison import compare
from stream_agent.measurement.report import remarks
from stream_agent.measurement.traces import read_run
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.share import ParameterFiles
from support.odd_files import GRAPH, odd_files
from support.odd_formats import FRAMES, OddFile

SEED = 15
PREPARED = Preprocessing((3, 24, 32))


def drive_of(paths: list[Path], place: Path) -> list[tuple[Any, Any]]:
    """Return frames and their commands as a training has them, by what the files' values mean."""
    recordings = decoded_recordings(paths, Reading(), PREPARED, place / 'cache')
    episodes, found = cut_recordings(recordings, Alignment()), []
    limits_of(episodes)
    for recording, span in episodes:
        for frame, (_, turn) in zip(span.frames, span.commands, strict=True):
            brightness, index = recording.pixels[frame].astype(float), turn / 0.01 - 1
            # Every pixel of a frame has its brightness; JPEG may be off by one or two.
            sound = np.ptp(brightness) <= 4 and abs(index - round(index)) < 1e-3
            found.append((round(brightness.mean() / 10), round(index) if sound else 'damaged'))
        print(recording.left_out)
    return found


def tool(run: Callable[[list[str]], int], *args: object) -> str:
    """Return what a command printed; ValueError with its complaint if it failed."""
    out, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(complaint):
        try:
            code = run([str(arg) for arg in args])
        except SystemExit as leaving:
            code = leaving.code
    if code:
        raise ValueError(complaint.getvalue().strip())
    print(complaint.getvalue())
    return out.getvalue()


def read_archive(path: Path, place: Path) -> list[tuple[Any, Any]]:
    """Convert an archive, and read what was written."""
    print(tool(convert.main, path, '--output', place / 'drives'))
    return drive_of([place / 'drives'], place)


def read_policy(path: Path, place: Path) -> list[tuple[Any, Any]]:
    policy = load_policy(path)
    return [*vars(policy.limits).items(), ('crop_top', policy.preprocessing.crop_top),
            ('crop_bottom', policy.preprocessing.crop_bottom)]


def read_graph(path: Path, place: Path) -> list[tuple[Any, Any]]:
    return [(name, 1) for name in
            json.loads(tool(rollouts.main, path, '--json'))['inference_tableau']]


def read_costs(path: Path, place: Path) -> list[tuple[Any, Any]]:
    (place / 'graph.yaml').write_text(json.dumps(GRAPH))
    costs = json.loads(tool(plan.main, place / 'graph.yaml', '--costs', path, '--json'))['costs']
    return list(costs['nodes'].items())


def read_parameters(path: Path, place: Path) -> list[tuple[Any, Any]]:
    """Return the gate's limits; what the doctor calls an error keeps a process from starting."""
    files = ParameterFiles([path])
    values = values_of(files, '/gate', GATE)
    found = [*judge_files(files, '', {'gate': GATE, 'agent': AGENT}),
             *check_process('gate', values, GATE, places_of(files, '', ['gate']))]
    for finding in found:
        if finding.level is Severity.ERROR:
            raise ValueError(f'{finding.said}; {finding.remedy}')
        print(finding)
    return [(name, value) for name, value in values.items()
            if name in ('max_speed', 'max_yaw_rate')]


def read_report(path: Path, place: Path) -> list[tuple[Any, Any]]:
    run = read_run(path)
    print(*remarks(compare(run)), sep='\n')
    return [(i, i) for i in range(sum(int(np.isfinite(trace.arrivals).sum()) + len(trace.later)
                                      for trace in run.traces.values()))]


def read_drive(path: Path, place: Path) -> list[tuple[Any, Any]]:
    return drive_of([path], place)


READERS = {'recording': read_drive, 'tub': read_drive, 'old tub': read_drive,
           'archive': read_archive, 'policy': read_policy, 'graph': read_graph,
           'costs': read_costs, 'parameters': read_parameters, 'report': read_report}


def outcome(file: OddFile, place: Path) -> tuple[str, str, str]:
    """
    Return what became of a file, what was said, and what is wrong with that; empty if nothing.

    Only what the command line turns into a sentence counts as a refusal.
    """
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            found = READERS[file.format](file.path, place)
    except (OSError, ValueError) as error:
        return 'refused', str(error), fault_of_refusal(file, str(error))
    except Exception as error:
        return 'refused', repr(error), f'a traceback: {error!r}'
    lines = [line for line in said.getvalue().splitlines() if 'decoded ones are kept' not in line]
    return judged(file, found, '\n'.join(filter(None, lines)))


def fault_of_refusal(file: OddFile, sentence: str) -> str:
    """Say what a refusal lacks."""
    inside = [file.path, *(file.path.iterdir() if file.path.is_dir() else [])]
    return '; '.join(wrong for is_wrong, wrong in (
        ('refused' not in file.verdicts, f'refused, not {" or ".join(file.verdicts)}'),
        ('Traceback' in sentence or '\n' in sentence.strip(), 'not a sentence'),
        (not any(path.name in sentence for path in inside), 'does not name the file'),
        ('; ' not in sentence, 'has no remedy')) if is_wrong)


def judged(file: OddFile, found: list[tuple[Any, Any]], said: str) -> tuple[str, str, str]:
    """Hold what was read against what is right."""
    got, verdict = dict(found), 'read' if len(found) == len(file.value) else 'counted'
    wrong = {key: value for key, value in got.items()
             if key not in file.value or file.value[key] != value}
    right = sum(value is not None for value in file.value.values())
    return verdict, said, '; '.join(fault for is_wrong, fault in (
        (file.verdicts == ('refused',), 'not refused'),
        (wrong, f'wrong: {wrong}'), (len(got) < len(found), 'something twice'),
        (not got and not said, 'nothing is left, without a word'),
        (verdict not in file.verdicts and (verdict != 'read' or right < len(file.value)),
         f'{verdict}, not {" or ".join(file.verdicts)}'),
        (len(got) < file.least, f'{len(got)}, where {file.least} are whole'),
        (verdict == 'counted' and not re.search(r'\d|\bno\b', said), f'{len(got)} without a word'),
    ) if is_wrong)


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory) -> list[tuple[OddFile, tuple[str, str, str]]]:
    folder = tmp_path_factory.mktemp('odd')
    found = []
    for number, file in enumerate(odd_files(folder / 'files', SEED)):
        place = folder / 'read' / str(number)
        place.mkdir(parents=True)
        found.append((file, outcome(file, place)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize('form', READERS)
def test_every_file_is_read_counted_or_refused(outcomes, form):
    faults = [f'{file.fault} ({verdict}): {fault}\n    {said}'
              for file, (verdict, said, fault) in outcomes if file.format == form and fault]
    assert not faults, '\n'.join(faults)
    assert any(file.format == form for file, _ in outcomes)


def test_the_table(outcomes, capsys):
    """Prints the table of docs/recordings.md, which is of the same files."""
    verdicts: dict[str, Counter] = {}
    for file, (verdict, *_) in outcomes:
        verdicts.setdefault(file.format, Counter())[verdict] += 1
    lines = ['| what | files | read as a whole | counted | refused |', '|---|---|---|---|---|']
    lines += [f'| {form} | {found.total()} | {found["read"]} | {found["counted"]} | '
              f'{found["refused"]} |' for form, found in verdicts.items()]
    total = sum(verdicts.values(), Counter())
    lines += [f'| all | {total.total()} | {total["read"]} | {total["counted"]} | '
              f'{total["refused"]} |']
    with capsys.disabled():
        print('', *lines, sep='\n')
    assert total.total() >= 100 and min(total.values()) >= 10


@pytest.fixture
def signals():
    """Put back the handlers that the command line sets."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('command, form, fault', [
    ('train', 'recording', 'NaN commands'), ('train', 'recording', 'bit flipped'),
    ('train', 'recording', 'MCAP: LFS pointer'), ('train', 'tub', 'a last line cut'),
    ('train', 'tub', 'catalog: empty'), ('convert', 'archive', 'npz: cut'),
    ('convert', 'tub', 'damaged pictures'), ('convert', 'old tub', 'a record of null'),
    ('rollouts', 'graph', 'graph: HTML page'), ('draw', 'graph', 'graph: a folder in its place'),
    ('plan', 'costs', 'costs: tail of zeros'), ('export', 'policy', 'safetensors: empty'),
    ('evaluate', 'policy', 'limits of NaN'), ('gate', 'parameters', 'parameters: cut')])
def test_the_command_line_says_the_same(outcomes, signals, tmp_path, capfd, command, form, fault):
    (file, (verdict, *_)), *_ = [(file, found) for file, found in outcomes
                                 if (file.format, file.fault) == (form, fault)]
    (tmp_path / 'graph.yaml').write_text(json.dumps(GRAPH))
    options = {
        'train': ['--bag', file.path, '--graph', tmp_path / 'graph.yaml', '--pattern',
                  'sequential', '--epochs', 1, '--window', 4, '--held-out', 0, '--cache',
                  tmp_path / 'cache', '--output', tmp_path / 'policies'],
        'convert': [file.path, '--output', tmp_path / 'drives'], 'rollouts': [file.path],
        'draw': [file.path, '--output', tmp_path / 'pictures'],
        'plan': [tmp_path / 'graph.yaml', '--costs', file.path],
        'export': [file.path, '--output', tmp_path / 'policy.onnx'], 'evaluate': [file.path],
        'gate': ['--ros-args', '--params-file', file.path]}[command]
    code = main([command, *map(str, options)])
    out, complaint = capfd.readouterr()
    assert 'Traceback' not in out + complaint
    if verdict == 'refused':
        assert code in (1, 2) and file.path.name in complaint and '; ' in complaint
        assert not [path for path in tmp_path.rglob('*') if path.suffix in (
            '.safetensors', '.onnx', '.mcap', '.part')]
    else:
        assert code == 0, complaint
        used = sum(index is not None for index in file.value.values())
        if fault == 'bit flipped':
            used = used * 20 // 24
        assert f'{used} frames with a command' in out or f'with {used} of {FRAMES} frames' in out
