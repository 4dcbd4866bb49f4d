"""Command line: replay recordings to several policies, and write the recorder's report."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import Any

from stream_agent.commands.compare_playback import Playback
from stream_agent.commands.compare_policies import check_steering, labels_of, make_player
from stream_agent.commands.compare_record import Record
from stream_agent.commands.compare_remarks import plural
from stream_agent.commands.compare_replay import PACES, Player
from stream_agent.engine.executors import EXECUTORS
from stream_agent.installation import share_folder
from stream_agent.learning.cloning_options import add_alignment, alignment_of
from stream_agent.learning.stopping import StopRequests
from stream_agent.measurement.comparison import compare, Comparison
from stream_agent.measurement.plain import plain
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

STOPPED = 130


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
           arguments: argparse.Namespace, stop: StopRequests) -> None:
    """Replay one recording after the other, until someone asks to stop."""
    alignment = alignment_of(arguments)
    start_ns = int(recordings[0].frame_stamps[0])
    for recording in tqdm(recordings, unit='recording', leave=False, disable=None):
        playback = Playback(recording, alignment, start_ns, arguments.limit_frames,
                            lambda: stop.requested)
        PACES[arguments.pace](playback, players)
        if playback.decoded:
            record.add(playback)
        start_ns = playback.end_ns
        if recording.left_out:
            print(recording.summary(), file=sys.stderr)
        if stop.requested:
            record.stopped(len(recordings))
            break


def check_answered(comparison: Comparison, stopped: bool) -> None:
    """Refuse what would be a report on nothing."""
    if stopped and (comparison.silent or not comparison.figures):
        raise BadRecordingError('stopped before every policy had answered a frame, so there is no '
                                'report')
    for name in comparison.silent:
        raise BadRecordingError(
            f"policy '{name}' answered no frame: no episode is so long that its output depends on "
            'an image; give longer recordings, or leave the policy out')


def run(arguments: argparse.Namespace, stop: StopRequests) -> None:
    """Replay, compare, and say where the report is."""
    torch.set_num_threads(max(1, arguments.threads))
    allow_transforms(arguments.allow)
    paths = [policy_file(path, share_folder()) for path in arguments.policy]
    recordings = usable(open_recordings(arguments.bag, reading_of(arguments)),
                        alignment_of(arguments))
    files = dict(zip(labels_of(paths), paths))
    policies = {name: load_policy(path) for name, path in files.items()}
    check_steering({files[name]: policy for name, policy in policies.items()}, recordings)
    players = [make_player(name, policy, arguments) for name, policy in policies.items()]
    folder = make_folder(arguments.output.expanduser())
    record = Record(folder, players, files, arguments.pace)
    with stop:
        replay(recordings, players, record, arguments, stop)
    record.finish()
    # Plots take a second to import.
    from stream_agent.measurement.report import text, write_report
    comparison = compare(read_run(folder))
    check_answered(comparison, stop.requested)
    path = write_report(comparison, folder)
    print(json.dumps(as_data(comparison, path, stop.requested), indent=1) if arguments.json else
          f'{text(comparison)}\n\nreport: {path}')


def as_data(comparison: Comparison, path: Path, stopped: bool) -> dict[str, Any]:
    """Return what ``--json`` prints; SI units, None for what is not known."""
    return {'report': str(path), 'stopped': stopped, 'frames': len(comparison.run.stamps),
            'start_up': comparison.start_up,
            'policies': {name: plain(asdict(figures))
                         for name, figures in comparison.figures.items()},
            'differences': [plain(asdict(difference)) | {'better': difference.better}
                            for difference in comparison.differences],
            'remarks': remarks(comparison)}


def main(args: list[str]) -> int:
    """Compare policies on recordings; a report on a part of them counts as interrupted."""
    arguments = parse(args)
    stop = StopRequests()
    try:
        code = run_tool('compare', lambda: run(arguments, stop))
    except KeyboardInterrupt:
        print('\ncompare: stopped at once; there is no report', file=sys.stderr)
        return STOPPED
    return STOPPED if stop.requested else code
