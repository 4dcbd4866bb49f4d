"""Command line: replay recordings to several policies, and write the recorder's report."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, count
import json
import math
from pathlib import Path
import re
import sys
from typing import Any

import numpy as np
from stream_agent.commands.compare_record import plural, Record
from stream_agent.commands.compare_replay import PACES, Playback, Player
from stream_agent.engine.engine import Engine
from stream_agent.engine.executors import EXECUTORS
from stream_agent.installation import share_folder
from stream_agent.learning.cloning_options import add_alignment, alignment_of
from stream_agent.measurement.comparison import compare, Comparison
from stream_agent.measurement.recording import make_folder
from stream_agent.measurement.summary import remarks
from stream_agent.measurement.traces import read_run
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.options import add_allowed, positive, run_tool
from stream_agent.recordings.alignment import Alignment, check_rates
from stream_agent.recordings.recording import BadRecordingError, Recording
from stream_agent.recordings.sources import add_reading, open_recordings, reading_of
from stream_agent.runner import policy_file
import torch
from tqdm import tqdm


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='compare', description=__doc__)
    parser.add_argument('--bag', nargs='+', action='extend', type=Path, required=True,
                        metavar='DIR', help='rosbag2 recordings, DonkeyCar tubs, or folders of '
                        'them')
    parser.add_argument('--policy', nargs='+', action='extend', type=Path, required=True,
                        metavar='FILE', help='policies that `train` wrote, or names of shipped '
                        'ones; the first is held against the others')
    parser.add_argument('--pace', choices=PACES, default='fast',
                        help='fast: every frame is answered, one policy beside the other. true: '
                        'frames come when they are due, and a busy policy misses some; one policy '
                        'after the other (fast)')
    parser.add_argument('--output', type=Path, default=Path('results'), metavar='FOLDER',
                        help='gets a folder with rows and report, and latest points to it '
                        '(results)')
    parser.add_argument('--limit-frames', type=positive, default=0, metavar='N',
                        help='only the first N of every recording, for a quick look')
    parser.add_argument('--device', default='auto', help="torch device: 'auto', 'cpu', 'cuda:0'")
    parser.add_argument('--executor', choices=('auto', *EXECUTORS), default='auto',
                        help='what steps the networks; auto: the fastest by measurement')
    parser.add_argument('--threads', type=int, default=0, metavar='N',
                        help='CPU cores for a network; 0 to measure whether all are better than '
                        'one')
    add_allowed(parser)
    add_reading(parser)
    add_alignment(parser)
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    return parser.parse_args(args)


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return names for policies: their files', with the folder's where several are called so."""
    stems = Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else f'{path.parent.name}_{path.stem}'
             for path in paths]
    # Rows are lines with commas, and a plot's legend hides what begins with an underscore.
    names = [re.sub(r'[^\w.+-]', '_', name).strip('_') or 'policy' for name in names]
    labels: list[str] = []
    for name in names:
        numbered = (f'{name}_{number}' for number in count(2))
        labels.append(next(label for label in chain([name], numbered) if label not in labels))
    return labels


def make_player(name: str, path: Path, arguments: argparse.Namespace) -> Player:
    """Load a policy, and take its slow first steps."""
    policy = load_policy(path)
    engine = Engine(policy.network, arguments.device, policy.updates_per_frame,
                    executor=arguments.executor, threads=arguments.threads)
    engine.warm_up()
    return Player(name, policy, engine)


def usable(recordings: Sequence[Recording], alignment: Alignment) -> list[Recording]:
    """
    Return the recordings that can be replayed, and say which cannot.

    :raises BadRecordingError: If none is left, or their rates differ.
    """
    short = [recording for recording in recordings if len(recording) < 2]
    left = [recording for recording in recordings if len(recording) >= 2]
    if not left:
        raise BadRecordingError(
            f"'{short[0].path}': topic '{short[0].topic}' has under 2 frames, as all recordings "
            'given; give longer ones, or another topic by --image-topic')
    if short:
        print(f'{plural(len(short), "recording")} of under 2 frames left out: '
              + ', '.join(recording.name for recording in short), file=sys.stderr)
    check_rates(left, alignment)
    return left


def replay(recordings: Sequence[Recording], players: Sequence[Player], record: Record,
           arguments: argparse.Namespace) -> None:
    """Replay one recording after the other."""
    alignment = alignment_of(arguments)
    start_ns = int(recordings[0].frame_stamps[0])
    for recording in tqdm(recordings, unit='recording', leave=False, disable=None):
        playback = Playback(recording, alignment, start_ns, arguments.limit_frames)
        PACES[arguments.pace](playback, players)
        record.add(playback)
        start_ns = playback.end_ns
        if recording.left_out:
            print(recording.summary(), file=sys.stderr)


def check_answered(comparison: Comparison) -> None:
    """Refuse what would be a report on nothing."""
    for name in comparison.silent:
        raise BadRecordingError(
            f"policy '{name}' answered no frame: no episode is so long that its output depends on "
            'an image; give longer recordings, or leave the policy out')


def run(arguments: argparse.Namespace) -> None:
    """Replay, compare, and say where the report is."""
    torch.set_num_threads(max(1, arguments.threads))
    allow_transforms(arguments.allow)
    paths = [policy_file(path, share_folder()) for path in arguments.policy]
    recordings = usable(open_recordings(arguments.bag, reading_of(arguments)),
                        alignment_of(arguments))
    files = dict(zip(labels_of(paths), paths))
    players = [make_player(name, path, arguments) for name, path in files.items()]
    folder = make_folder(arguments.output.expanduser())
    record = Record(folder, players, files, arguments.pace)
    replay(recordings, players, record, arguments)
    record.finish()
    # Plots take a second to import.
    from stream_agent.measurement.report import text, write_report
    comparison = compare(read_run(folder))
    check_answered(comparison)
    path = write_report(comparison, folder)
    print(json.dumps(as_data(comparison, path), indent=1) if arguments.json else
          f'{text(comparison)}\n\nreport: {path}')


def as_data(comparison: Comparison, path: Path) -> dict[str, Any]:
    """Return what ``--json`` prints; SI units, None for what is not known."""
    return {'report': str(path), 'frames': len(comparison.run.stamps),
            'start_up': comparison.start_up,
            'policies': {name: plain(asdict(figures))
                         for name, figures in comparison.figures.items()},
            'differences': [plain(asdict(difference)) | {'better': difference.better}
                            for difference in comparison.differences],
            'remarks': remarks(comparison)}


def plain(value: Any) -> Any:
    """Return what JSON can hold."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(args: list[str]) -> int:
    """Compare policies on recordings."""
    arguments = parse(args)
    return run_tool('compare', lambda: run(arguments))
