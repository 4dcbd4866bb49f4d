"""Command line: replay recordings to several policies, and write the recorder's report."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
import json
from pathlib import Path
import re
import sys
import time
from typing import Any

import numpy as np
from stream_agent.bounded_settings import choice, file_path, quantity
from stream_agent.cli.arguments import (
    add_allowed, add_computer, add_settings, check_computer, check_folder, check_picture,
    computers_of, plural, refuse_given, renamed, run_tool, settings_of, STOPPED)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.cli.replay import (
    Answer, PACE_REMARKS, PACES, Playback, Player, QUANTITIES, remark_on_steering, remarks_on,
    UNIT_REMARKS, wanted_by)
from stream_agent.contract.contract import Contract
from stream_agent.contract.settings import of_each
from stream_agent.engine.engine import Engine
from stream_agent.engine.settings import EngineSettings
from stream_agent.learning.progress import StopRequests
from stream_agent.measurement.comparison import compare, Comparison
from stream_agent.measurement.machine import machine, versions
from stream_agent.measurement.recording import make_folder, RecordingError, Writer
from stream_agent.measurement.rows import BASE, Element, FrameMatcher, Values
from stream_agent.measurement.summary import plain, remarks
from stream_agent.measurement.traces import read_run
from stream_agent.network.checkpoint import load_driving_policy, Policy
from stream_agent.network.transforms import allow_transforms
from stream_agent.recordings.alignment import Alignment, check_rates
from stream_agent.recordings.inspection import odd_colours, odd_shapes, oddities
from stream_agent.recordings.recording import BadRecordingError, NS, Reading, Recording
from stream_agent.recordings.sources import open_recordings, recorded_robot
from stream_agent.share import policy_file
import torch
from tqdm import tqdm

# What makes recordings of the second kind those of the first.
REMEDIES = {('yaw rate', 'steering angle'): 'give --wheelbase METRES to turn steering angles into '
            'yaw rates'}


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


def check_steering(policies: Mapping[Path, Policy], recordings: Sequence[Recording]) -> None:
    """Refuse policies, by their files, that steer by another quantity than the drivers did."""
    kind = recordings[0].commands.steering
    for path, policy in policies.items():
        if policy.steering in ('', kind):
            continue
        others = (f' and {plural(len(recordings) - 1, "other recording")}'
                  if len(recordings) > 1 else '')
        remedy = REMEDIES.get((policy.steering, kind),
                              'give a policy that was trained on recordings like these')
        raise ValueError(
            f"policy '{path}' steers by {QUANTITIES.get(policy.steering, policy.steering)}, the "
            f"driver of '{recordings[0].path}'{others} by {QUANTITIES[kind]}; {remedy}, or leave "
            'the policy out')


WRITE_TIMEOUT = 60.0


class Record:
    """The rows of a replay on their way to the disk; ``files`` of policies are by player name."""

    def __init__(self, folder: Path, players: Sequence[Player], files: dict[str, Path],
                 pace: str, elements: Sequence[Element] = BASE) -> None:
        self._players, self._files, self._pace = players, files, pace
        self._elements = elements
        # Nothing is late here: rows are complete when their recording is.
        self._rows = FrameMatcher(files, clock=lambda: 0.0, size=len(elements))
        self._writer = Writer(folder, sys.maxsize, elements)
        self._playbacks: list[Playback] = []
        #: Frames of each player that ``remarks_on`` speaks of, by what is said.
        self._counts: dict[str, Counter[str]] = {player.name: Counter() for player in players}
        self._note = ''

    def add(self, playback: Playback) -> None:
        """
        Write down what the players made of a recording, as far as all of them have seen it.

        At true pace, a replay that was stopped has shown more to the first than to the last.
        """
        self._playbacks.append(playback)
        after = playback.decoded[-1] + 1
        commands = {player.name: commands_of(playback, [
            answer for answer in player.answers if answer.number < after])
            for player in self._players}
        for number in playback.decoded:
            stamp_ns = int(playback.stamps_ns[number])
            self._rows.add_frame(stamp_ns, stamp_ns)
            if not np.isnan(playback.reference[number]).any():
                self._rows.add_reference(stamp_ns, tuple(playback.reference[number].tolist()))
            for name, answered in commands.items():
                for arrival_ns, command in answered.get(number, ()):
                    self._rows.add_command(name, stamp_ns, arrival_ns, arrival_ns, command)
            self._writer.put_rows(self._rows.close())
        self._writer.put_rows(self._rows.finish())
        asked = playback.reference[playback.decoded]
        for player in self._players:
            self._counts[player.name].update(
                beyond=int(player.beyond(asked).sum()),
                missed=sum(n < after for n in player.missed),
                unanswered=sum(n < after for n in player.unanswered))
        self._writer.describe(self._description())

    def stopped(self, recordings: int) -> None:
        """Say that the replay of so many recordings ends here."""
        if self._playbacks:
            last = self._playbacks[-1]
            self._note = (f'Stopped on request: {len(self._playbacks)} of '
                          f'{plural(recordings, "recording")} replayed, of the last '
                          f'{len(last.decoded)} of {plural(len(last), "frame")}.')
            self._writer.describe(self._description())

    def finish(self) -> None:
        """Wait for the disk; RecordingError if not all of it could be written."""
        if not self._writer.close(WRITE_TIMEOUT):
            raise RecordingError(f'the rows could not be written: {self._writer.error}; give '
                                 'another --output')

    def _description(self) -> dict:
        """Say under which conditions the rows came about, in the recorder's words."""
        playbacks = self._playbacks
        return {
            'date': time.strftime('%Y-%m-%d %H:%M'), 'machine': machine(),
            'versions': versions('stream_agent', 'numpy', 'torch'),
            'policies': {name: str(path) for name, path in self._files.items()}, 'driving': '',
            'camera_period': playbacks[0].period_ns / NS, 'pace': self._pace,
            'recordings': [{'path': str(each.recording.path), 'frames': len(each.decoded),
                            'stamp_ns': int(each.stamps_ns[0]),
                            'said': each.recording.summary()} for each in playbacks],
            'remarks': self._remarks(),
            **({} if self._elements == BASE else
               {'outputs': {each.name: each.unit for each in self._elements}}),
            'diagnostics': {f'{player.name}: frames': player.status()
                            for player in self._players}}

    def _remarks(self) -> list[str]:
        """Say what a reader must know to judge the figures."""
        playbacks = self._playbacks
        frames = sum(len(each.decoded) for each in playbacks)
        episodes = sum(1 + int(each.episodes[each.decoded[-1]]) for each in playbacks)
        unknown = sum(int(np.isnan(each.reference[each.decoded, 0]).sum()) for each in playbacks)
        kind = playbacks[0].recording.commands.steering
        said = [self._note, PACE_REMARKS[self._pace],
                f'{plural(frames, "frame")} of {plural(len(playbacks), "recording")} in '
                f'{plural(episodes, "episode")}, which follow each other here without the pauses '
                'between them; memory was empty at the start of each.',
                UNIT_REMARKS[kind], remark_on_steering(self._players, kind)]
        if unknown:
            said.append(f'{plural(unknown, "frame")} without a command of the driver in force: '
                        'latency is all they tell.')
        for player in self._players:
            counts = self._counts[player.name]
            said += remarks_on(player, counts['missed'], counts['unanswered'],
                               counts['beyond'] / max(1, frames))
        if left_out := sum((each.recording.skipped for each in playbacks), Counter()):
            said.append('Left out of the recordings: '
                        + ', '.join(f'{count} {kind}' for kind, count in left_out.items()) + '.')
        return [line for line in said if line]


def commands_of(playback: Playback, answers: Sequence[Answer]
                ) -> dict[int, list[tuple[int, Values]]]:
    """
    Return arrivals [ns] and commands by the number of their frame.

    The last frame answered in an episode has a second one, unknown, when the episode is over:
    otherwise its command would be compared with the first frames of the next episode.
    """
    commands = {answer.number: [(answer.arrival_ns, answer.command)] for answer in answers}
    unknown = (np.nan,) * playback.reference.shape[1]
    last = {int(playback.episodes[answer.number]): answer for answer in answers}
    ends = [*playback.stamps_ns.tolist(), playback.end_ns]
    for episode, answer in last.items():
        over_ns = ends[np.searchsorted(playback.episodes, episode, side='right')]
        commands[answer.number].append((max(over_ns, answer.arrival_ns), unknown))
    return commands


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, and how."""

    pace: str = choice(
        'fast', 'fast: every frame is answered, one policy beside the other. true: frames come '
        'when they are due, and a busy policy misses some; one policy after the other',
        tuple(PACES))
    output: Path = file_path(
        Path('results'), 'gets a folder with rows and report, and latest points to it', 'FOLDER')
    limit_frames: int = quantity(
        0, '', 0, 10**9, 'only so many from the start of every recording, for a quick look; 0: '
        'all')
    json: bool = choice(False, 'print figures for programs')


@dataclass(frozen=True)
class EffectOptions:
    """What is done with the commands in effect on an emulated computer."""

    plot: Path | None = file_path(None, 'draw agreement against the cost of a pass: .svg or .png')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('compare', __doc__)
    parser.add_argument('--bag', nargs='+', action='extend', type=Path, required=True,
                        metavar='DIR', help='rosbag2 recordings, DonkeyCar tubs, or folders of '
                        'them')
    parser.add_argument('--policy', nargs='+', action='extend', type=Path, required=True,
                        metavar='FILE', help='policies that `train` wrote, or names of shipped '
                        'ones; the first is compared with the others')
    parser.add_argument('--robot', metavar='NAME|FILE', help='robot of config/robots, or a file, '
                        'whose contract says which topics feed the policies and who obeys them; '
                        'without it, one image and a base')
    add_allowed(parser)
    add_settings(parser, CompareOptions)
    add_settings(parser, EngineSettings, without=['precision'])
    add_settings(parser.add_argument_group('recordings'), Reading)
    add_settings(parser.add_argument_group('alignment of frames and commands'), Alignment,
                 without=['shortest'])
    add_computer(
        parser, 'compare what would be in force at every recorded instant, if every node took its '
        'time, with what the driver did then; several --pass-periods give a curve',
        EffectOptions, several=True)
    arguments = parser.parse_args(renamed('compare', args, {'--executor': '--backend'}))
    check_computer(parser, arguments, EffectOptions)
    check_picture(parser, '--plot', arguments.plot)
    if computers_of(arguments):
        for kind, used in ((CompareOptions, ('limit_frames', 'json')),
                           (EngineSettings, ('threads', 'precision'))):
            refuse_given(parser, arguments, kind, 'this is of a replay; leave it out, or leave '
                         'out --pass-periods and --costs', used)
        if arguments.plot and arguments.pass_periods is None:
            parser.error('--plot: agreement is drawn against the cost of a pass; add '
                         '--pass-periods')
    return arguments


def usable(recordings: Sequence[Recording], alignment: Alignment) -> list[Recording]:
    """Return the recordings that can be replayed, all at one rate, and say which cannot."""
    short = [recording for recording in recordings if len(recording) < 2]
    left = [recording for recording in recordings if len(recording) >= 2]
    if not left:
        raise BadRecordingError(
            f"'{short[0].path}': topic '{short[0].topic}' has under 2 frames, as all recordings "
            'given; give longer ones, or another topic by --image-topic')
    if short:
        print(f'{plural(len(short), "recording")} of under 2 frames left out: '
              + ', '.join(recording.name for recording in short), file=sys.stderr)
    for sentence in chain.from_iterable(oddities(each, alignment) for each in left):
        print(sentence, file=sys.stderr)
    check_rates(left, alignment)
    return left


def replay(recordings: Sequence[Recording], players: Sequence[Player], record: Record,
           arguments: argparse.Namespace, stop: StopRequests) -> None:
    """Replay one recording after the other, until someone asks to stop."""
    alignment = settings_of(arguments, Alignment)
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
        channels = max(player.channels for player in players)
        for sentence in (*odd_shapes(recording.shapes), *odd_colours([recording], channels)):
            print(f'{recording.name}: {sentence}', file=sys.stderr)
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
    paths = [policy_file(path) for path in arguments.policy]
    files = dict(zip(labels_of(paths), paths))
    policies = {name: load_driving_policy(path) for name, path in files.items()}
    contract, reading = recorded_robot(arguments.robot, settings_of(arguments, Reading))
    wanted = wanted_by({str(files[name]): policy for name, policy in policies.items()}, contract)
    recordings = usable(open_recordings(arguments.bag, reading, wanted),
                        settings_of(arguments, Alignment))
    check_steering({files[name]: policy for name, policy in policies.items()}, recordings)
    if computers_of(arguments):
        check_folder(arguments.plot)
        # Plots take a second to import.
        from stream_agent.cli import effect
        return effect.run(arguments, recordings, settings_of(arguments, Alignment), policies,
                          files)
    elements = commanded(contract)
    players = [Player(name, policy, Engine(
        policy.network, arguments.device, policy.updates_per_frame, backend=arguments.backend,
        threads=arguments.threads), names=[element.name for element in elements])
        for name, policy in policies.items()]
    for player in players:
        player.engine.warm_up()
    folder = make_folder(arguments.output.expanduser())
    record = Record(folder, players, files, arguments.pace, elements)
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


def commanded(contract: Contract | None) -> Sequence[Element]:
    """Return what the recordings' commands consist of."""
    if contract is None or not contract.output.is_vector:
        return BASE
    names = contract.output.names
    return [Element(*each) for each in zip(names, of_each(contract.output.units, names))]


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
        print('\ncompare: stopped immediately; there is no report', file=sys.stderr)
        return STOPPED
    return STOPPED if stop.requested else code
