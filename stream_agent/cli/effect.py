"""
Agreement in effect: recorded drives under the timing of a computer that is slower than the camera.

At every recorded instant, the command that would be in force by then is held against what the
driver did at that instant. A right answer that comes late is an error, as in the streaming
accuracy of perception (Li, Wang, and Ramanan: Towards streaming perception, ECCV 2020).
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
import json
from pathlib import Path
import sys
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np
from stream_agent.cli.arguments import computers_of, plural
from stream_agent.drawing.drives_picture import Curve, draw_curves, Panel
from stream_agent.drawing.plot_style import save
from stream_agent.driving.compute_model import EmulatedTiming, SAME_INSTANT
from stream_agent.driving.disturbed_timeline import Arrival, taken_of
from stream_agent.driving.evaluation import in_one_line, rms_ratio, timed, written
from stream_agent.learning.cloning import predict, r2_score
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.measurement.comparison import in_effect
from stream_agent.measurement.machine import machine
from stream_agent.measurement.summary import plain
from stream_agent.network.checkpoint import Policy
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import BadRecordingError, NS, Recording
from stream_agent.theory.information import frames_unanswered

QUANTITIES = ('speed', 'steering')
Figures = tuple[float, ...]


class EpisodeInTime(NamedTuple):
    """
    A recorded episode, with what the driver did.

    :param times: Of the frames, (n,) [s].
    :param driver: Speed and steering at these times, (n, 2), in the recording's units.
    """

    frames: RecordedEpisode
    times: np.ndarray
    driver: np.ndarray


def episodes_in_time(recording: Recording, policies: Mapping[str, Policy], alignment: Alignment,
                     most_frames: int = 0) -> list[dict[str, EpisodeInTime]]:
    """
    Decode a recording once for all policies; an episode has one entry for each of them.

    :param most_frames: From the recording's start; 0 for all of them.
    """
    stamps = recording.frame_stamps[:most_frames or None]
    kinds = {policy.preprocessing for policy in policies.values()}
    decoded: dict[Any, list[np.ndarray]] = {kind: [] for kind in kinds}
    places: dict[int, int] = {}
    for index, image in islice(recording.images(), len(stamps)):
        if index >= len(stamps):
            break
        places[index] = len(places)
        for kind in kinds:
            decoded[kind].append(kind.pixels(image))
    pixels = {kind: np.stack(images) for kind, images in decoded.items()}
    found = []
    for span in cut(stamps, recording.commands, alignment, Counter()):
        known = np.array([index in places for index in span.frames.tolist()])
        frames = np.array([places[i] for i in span.frames[known].tolist()], int)
        if len(frames) < 2:
            continue
        driver, times = span.commands[known], (stamps[span.frames[known]] - stamps[0]) / NS
        targets = driver.astype(np.float32)
        found.append({name: EpisodeInTime(RecordedEpisode(
            recording.name, {policy.network.input: pixels[policy.preprocessing]}, frames, targets),
            times, driver)
            for name, policy in policies.items()})
    return found


def command_in_effect(policy: Policy, episode: EpisodeInTime, timing: EmulatedTiming | None
                      ) -> np.ndarray:
    """
    Return the command in force at every frame's time, (n, 2); nan before the first answer.

    Memory is empty at the episode's start, and frames of the network are those that are taken.

    :param timing: Of the policy on the computer; None for answers that take no time.
    """
    count = len(episode.times)
    chosen, answers = np.arange(count), episode.times
    if timing:
        same = SAME_INSTANT * timing.timeline.camera_period
        taken = list(taken_of(map(Arrival, range(count), episode.times.tolist()),
                              timing.timeline.work, same))
        chosen = np.array([one.image for one in taken])
        answers = np.array([one.answer for one in taken]) - same
    frames = episode.frames
    outputs = predict(policy.network, RecordedEpisode(
        frames.name, frames.sources, frames.frames[chosen], frames.targets[chosen]),
        policy.updates_per_frame)
    limits = policy.limits
    commands = outputs * [limits.max_speed, limits.max_yaw_rate]
    network = policy.network
    # What does not depend on any image is not an answer.
    late = frames_unanswered(network.graph, network.pattern) // policy.updates_per_frame
    return in_effect(answers[late:], commands[late:], episode.times)


def unlearnt(recordings: Sequence[Recording], policies: Mapping[str, Policy]
             ) -> tuple[list[Recording], list[str]]:
    """
    Choose the recordings that no policy has learnt from; all if there are none.

    :returns: The recordings, and what a reader has to know of the choice, a sentence each.
    """
    said, learnt, silent = [], set[str](), []
    names = {recording.name for recording in recordings}
    for name, policy in policies.items():
        about = policy.training
        if isinstance(about.get('recordings'), list):
            learnt |= set(map(str, about['recordings']))
        elif isinstance(about.get('held_out'), list):
            # Files from before both were written.
            learnt |= names - set(map(str, about['held_out']))
        else:
            silent.append(name)
    chosen = [recording for recording in recordings if recording.name not in learnt]
    if not chosen:
        said.append('Policies learnt from all of these recordings, so the figures are better than '
                    'on new ones; give others, or train with --held-out.')
    elif len(chosen) < len(recordings):
        said.append(f'{len(chosen)} of {plural(len(recordings), "recording")} are used, from '
                    'which no policy learnt.')
    if silent:
        said.append(f'The files do not say from which recordings {", ".join(silent)} learnt.')
    return chosen or list(recordings), said


@dataclass(frozen=True)
class Agreement:
    """
    How well a policy agrees with the driver.

    :param pass_periods: Of the computer; None for answers that take no time, or for costs of a
        file as they are.
    :param timing: None for answers that take no time.
    :param r2: Of speed and steering; nan where the driver did the same all the time.
    :param rmse: Of both, in the recording's units.
    :param ratio: Of the steering's RMSE to that of the first policy under the same timing:
        estimate and 95 % interval, over recordings.
    """

    policy: str
    pass_periods: float | None
    timing: EmulatedTiming | None
    r2: Figures
    rmse: Figures
    ratio: Figures

    def as_data(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {'policy': self.policy, 'pass_periods': self.pass_periods,
                **(self.timing.figures._asdict() if self.timing else {}),
                **{f'{quantity}_{kind}': value for kind, values in (
                    ('r2', self.r2), ('rmse', self.rmse)) for quantity, value in zip(
                        QUANTITIES, values)}, 'steering_rmse_ratio': self.ratio}


def judged(driver: np.ndarray, commands: Sequence[np.ndarray], recording: np.ndarray
           ) -> Iterator[tuple[Figures, Figures, Figures]]:
    """
    Yield R2, RMSE, and the ratio to the first for the commands of several policies.

    :param driver: (T, 2).
    :param commands: (T, 2) of each policy, known at all times.
    :param recording: Number of the recording of each time, (T,); times of one are consecutive.
    """
    # Rounded, as the mean of equal values in full precision is another one.
    rounded = driver.astype(np.float32)
    starts = np.flatnonzero(np.diff(recording, prepend=-1))
    squares = [np.add.reduceat((one - driver)[:, 1] ** 2, starts) for one in commands]
    for one, square in zip(commands, squares):
        errors = np.sqrt(np.mean((one - driver) ** 2, axis=0))
        same = not squares[0].sum() or not square.sum()
        ratio: Figures = (np.nan,) * 3 if same else tuple(rms_ratio(square, squares[0]))
        yield (tuple(map(float, r2_score(rounded, one))), tuple(map(float, errors)), ratio)


@dataclass(frozen=True)
class Effect:
    """
    Agreements with and without delay, all at the same recorded instants.

    :param instants: At which every policy has a command in force under every timing.
    :param recorded: All instants at which the driver's command is known.
    """

    agreements: list[Agreement]
    recordings: list[str]
    instants: int
    recorded: int


def agreement_in_effect(recordings: Sequence[Recording], policies: Mapping[str, Policy],
                        computers: Sequence[tuple[float | None, Sequence[EmulatedTiming]]],
                        alignment: Alignment, most_frames: int = 0) -> Effect:
    """
    Compare what is in force on emulated computers with what the driver did.

    :param computers: The cost of a pass, and the timing of every policy.
    :raises BadRecordingError: If there is no instant at which all have a command in force.
    """
    conditions: list[tuple[float | None, Sequence[EmulatedTiming | None]]] = [
        (None, [None] * len(policies)), *computers]
    parts: list[list[np.ndarray]] = [[] for _ in range(len(conditions) * len(policies))]
    driver, numbers = [], []
    for number, recording in enumerate(recordings):
        for episode in episodes_in_time(recording, policies, alignment, most_frames):
            first = next(iter(episode.values()))
            driver.append(first.driver)
            numbers.append(np.full(len(first.times), number))
            held = (command_in_effect(policies[name], episode[name], timing)
                    for _, timings in conditions for name, timing in zip(policies, timings))
            for part, one in zip(parts, held):
                part.append(one)
    if not driver:
        raise BadRecordingError('no episode has two frames with a command of the driver; give '
                                'longer recordings')
    commands = [np.concatenate(part) for part in parts]
    known = np.isfinite(np.stack(commands)).all(axis=(0, 2))
    if not known.any():
        raise BadRecordingError('no episode is so long that every policy has a command in force '
                                'on the slowest computer; give longer recordings, or a lower '
                                '--pass-periods')
    wanted, which = np.concatenate(driver)[known], np.concatenate(numbers)[known]
    found = []
    for i, (passes, timings) in enumerate(conditions):
        own = [each[known] for each in commands[i * len(policies):(i + 1) * len(policies)]]
        found += [Agreement(name, passes, timing, *figures) for name, timing, figures in zip(
            policies, timings, judged(wanted, own, which))]
    return Effect(found, [recording.name for recording in recordings], int(known.sum()),
                  len(known))


def table(effect: Effect) -> str:
    """Lay agreements out for people."""
    width = max(20, *(len(one.policy) for one in effect.agreements))
    lines = [f'{"policy":<{width}} {"a pass":>9} {"newest":>9} {"deep":>10} {"steering R2":>12} '
             f'{"RMSE":>7} {"speed R2":>9} {"RMSE":>7}   steering RMSE relative to the first']

    def number(value: float) -> str:
        return f'{value:.3f}' if np.isfinite(value) else '-'

    for one in effect.agreements:
        passes = ('no delay' if one.timing is None else 'as given' if one.pass_periods is None
                  else f'{one.pass_periods:g}')
        figures = one.timing and one.timing.figures
        ages = ([f'{1e3 * age:.1f} ms' for age in (figures.newest, figures.deep)] if figures
                else ['', ''])
        (speed_r2, steering_r2), (speed, steering) = one.r2, one.rmse
        lines.append(f'{one.policy:<{width}} {passes:>9} {ages[0]:>9} {ages[1]:>10} '
                     f'{number(steering_r2):>12} {steering:>7.4f} {number(speed_r2):>9} '
                     f'{speed:>7.4f}   '
                     f'{written(one.ratio)}')
    return '\n'.join([*lines, 'a pass: camera periods that all nodes take; newest, deep: mean age '
                      'of the information in the command in force; in brackets: 95 %, over '
                      'recordings'])


def picture(effect: Effect, title: str) -> Figure:
    """Draw R2 and RMSE of the steering against the cost of a pass; dashed without delay."""
    costs = [one.pass_periods for one in effect.agreements if one.pass_periods is not None]
    panels = []
    for name, value in (('R2 of the steering in effect', lambda one: one.r2[1]),
                        ('RMSE of the steering in effect', lambda one: one.rmse[1])):
        curves = []
        for policy in dict.fromkeys(one.policy for one in effect.agreements):
            own = [one for one in effect.agreements if one.policy == policy]
            curves += [Curve(policy, [(one.pass_periods, value(one)) for one in own
                                      if one.pass_periods is not None]),
                       Curve(policy, [(cost, value(own[0])) for cost in (min(costs), max(costs))],
                             dashed=True)]
        panels.append(Panel(name, '', curves))
    return draw_curves(panels, title, 'without delay')


def run(arguments: argparse.Namespace, recordings: Sequence[Recording], alignment: Alignment,
        policies: Mapping[str, Policy], files: Mapping[str, Path]) -> None:
    """Compare policies in effect, draw if that is asked for, and print."""
    period = 1 / (alignment.resample or recordings[0].rate)
    computers = [(computer.pass_periods, timed(list(map(str, files.values())), computer, period))
                 for computer in computers_of(arguments)]
    chosen, said = unlearnt(recordings, policies)
    effect = agreement_in_effect(chosen, policies, computers, alignment, arguments.limit_frames)
    said.append(f'{effect.instants:,} of {effect.recorded:,} recorded instants count, at which '
                'every policy has a command in force.')
    how = (f'{plural(len(chosen), "recording")} under an emulated '
           f'{in_one_line(computers_of(arguments))}')
    if arguments.plot:
        save(picture(effect, how), arguments.plot)
    for sentence in said:
        print(sentence, file=sys.stderr)
    print(json.dumps(plain({
        'recordings': effect.recordings, 'camera_period': period, 'instants': effect.instants,
        'recorded_instants': effect.recorded, 'alignment': asdict(alignment), 'remarks': said,
        'agreements': [one.as_data() for one in effect.agreements]}), indent=1)
        if arguments.json else '\n'.join([table(effect), f'{how}, {machine()}']))
