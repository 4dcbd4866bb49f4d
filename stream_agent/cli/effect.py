"""
Agreement in effect: recorded drives under the timing of a computer that is slower than the camera.

At every recorded instant, the command that would be in force by then is held against what the
driver did at that instant. A right answer that comes late is an error, as in the streaming
accuracy of perception (Li, Wang, and Ramanan: Towards streaming perception, ECCV 2020).
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
import json
from pathlib import Path
import sys
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np
from stream_agent.cli.arguments import computers_of, plural
from stream_agent.contract.conversions import AgeInput, OutputScale
from stream_agent.drawing.drives_picture import Curve, draw_curves, Panel
from stream_agent.drawing.plot_style import save
from stream_agent.driving.compute_model import EmulatedTiming, SAME_INSTANT
from stream_agent.driving.disturbed_timeline import Arrival, taken_of
from stream_agent.driving.evaluation import in_one_line, rms_ratio, timed, written
from stream_agent.learning.cloning import predict, r2_score
from stream_agent.learning.recorded_episodes import prepared
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.measurement.comparison import in_effect
from stream_agent.measurement.machine import machine
from stream_agent.measurement.summary import plain
from stream_agent.network.checkpoint import Policy
from stream_agent.network.policy_parts import commands_inputs
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import (
    BadRecordingError, BASE_NAMES, NS, RecordedFrame, Recording)
from stream_agent.theory.information import frames_unanswered

Figures = tuple[float, ...]
# Of a driver who does the same all the time.
LEAST_VARIANCE = 1e-12


class EpisodeInTime(NamedTuple):
    """
    A recorded episode, with what the driver did.

    :param times: Of the frames, (n,) [s].
    :param driver: What the driver commanded at these times, (n, E), in the recording's units.
    :param ages: Of the frames when they came, (n,) [s].
    """

    frames: RecordedEpisode
    times: np.ndarray
    driver: np.ndarray
    ages: np.ndarray


def episodes_in_time(recording: Recording, policies: Mapping[str, Policy], alignment: Alignment,
                     most_frames: int = 0) -> list[dict[str, EpisodeInTime]]:
    """
    Decode a recording once for all policies; an episode has one entry for each of them.

    :param most_frames: From the recording's start; 0 for all of them.
    """
    stamps = recording.frame_stamps[:most_frames or None]
    # What several policies read alike is kept once.
    kept: dict[Any, list[np.ndarray]] = {}
    ages: list[float] = []
    places: dict[int, int] = {}

    def prepare(frame: RecordedFrame) -> dict[Any, np.ndarray]:
        found = dict[Any, np.ndarray]()
        for policy in policies.values():
            missing = {name: one for name, one in policy.conversions.items()
                       if key_of(policy, name) not in found}
            found |= {key_of(policy, name): values for name, values in prepared(
                frame, policy.trigger, missing).items()}
        aged = [frame.others[name] for policy in policies.values()
                for name, one in policy.others.items() if isinstance(one, AgeInput)]
        ages.append(aged[0] if aged else 0.0)
        return found

    for index, arrays in islice(recording.frames(prepare), len(stamps)):
        if index >= len(stamps):
            break
        places[index] = len(places)
        for key, values in arrays.items():
            kept.setdefault(key, []).append(values)
    sources = {key: np.stack(values) for key, values in kept.items()}
    found = []
    for span in cut(stamps, recording.commands, alignment, Counter()):
        known = np.array([index in places for index in span.frames.tolist()])
        frames = np.array([places[i] for i in span.frames[known].tolist()], int)
        if len(frames) < 2:
            continue
        driver, times = span.commands[known], (stamps[span.frames[known]] - stamps[0]) / NS
        targets = driver.astype(np.float32)
        found.append({name: EpisodeInTime(RecordedEpisode(
            recording.name, {own: sources[key_of(policy, own)] for own in policy.conversions
                             if key_of(policy, own) in sources}, frames, targets),
            times, driver, np.array(ages)[frames]) for name, policy in policies.items()})
    return found


def key_of(policy: Policy, name: str) -> tuple[str, Any]:
    """Return what an input is kept under: whatever triggers goes by one name."""
    return '' if name == policy.trigger else name, policy.conversions[name]


def command_in_effect(policy: Policy, episode: EpisodeInTime, timing: EmulatedTiming | None,
                      names: Sequence[str] = BASE_NAMES) -> np.ndarray:
    """
    Return the command in force at every frame's time, (n, E); nan before the first answer.

    Memory is empty at the episode's start, and frames of the network are those that are taken.
    What goes with a frame is what had come when the frame did.

    :param timing: Of the policy on the computer; None for answers that take no time.
    :param names: Of the recording's commands, in their order.
    """
    count = len(episode.times)
    chosen, starts, answers = np.arange(count), episode.times, episode.times
    known = None
    if timing:
        same = SAME_INSTANT * timing.timeline.camera_period
        taken = list(taken_of(map(Arrival, range(count), episode.times.tolist()),
                              timing.timeline.work, same))
        chosen = np.array([one.image for one in taken])
        starts = np.array([one.start for one in taken])
        answers = np.array([one.answer for one in taken]) - same
        known = np.minimum(np.searchsorted(answers, starts, side='right'),
                           np.arange(len(taken))).tolist()
    frames, network = episode.frames, policy.network
    picked = frames.frames[chosen]
    sources = {name: source[picked] for name, source in frames.sources.items()}
    waited = episode.ages[chosen] + starts - episode.times[chosen]
    sources |= {name: np.stack([one(age) for age in waited])
                for name, one in policy.others.items() if isinstance(one, AgeInput)}
    outputs = predict(network, RecordedEpisode(
        frames.name, sources, np.arange(len(chosen)), frames.targets[chosen]),
        policy.updates_per_frame, known=known,
        own=commands_inputs(policy.others))
    commands = np.array([policy.limits.command(output) for output in outputs])
    if isinstance(policy.limits, OutputScale):
        commands = commands[:, [policy.limits.names.index(name) for name in names]]
    # What does not depend on what is measured is not an answer.
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
    :param r2: Of speed and steering, or of each of ``names``; nan where the driver did the same
        all the time.
    :param rmse: Of each, in the recording's units.
    :param ratio: Of the steering's RMSE, or that of all elements by how much the driver's vary,
        to that of the first policy under the same timing: estimate and 95 % interval, over
        recordings.
    """

    policy: str
    pass_periods: float | None
    timing: EmulatedTiming | None
    r2: Figures
    rmse: Figures
    ratio: Figures
    names: Sequence[str] = BASE_NAMES

    def as_data(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {'policy': self.policy, 'pass_periods': self.pass_periods,
                **(self.timing.figures._asdict() if self.timing else {}),
                **{f'{quantity}_{kind}': value for kind, values in (
                    ('r2', self.r2), ('rmse', self.rmse)) for quantity, value in zip(
                        self.names, values)},
                'steering_rmse_ratio' if self.names == BASE_NAMES else 'rmse_ratio': self.ratio}


def judged(driver: np.ndarray, commands: Sequence[np.ndarray], recording: np.ndarray,
           weights: Sequence[float] = (0.0, 1.0)) -> Iterator[tuple[Figures, Figures, Figures]]:
    """
    Yield R2, RMSE, and the ratio to the first for the commands of several policies.

    :param driver: (T, E).
    :param commands: (T, E) of each policy, known at all times.
    :param recording: Number of the recording of each time, (T,); times of one are consecutive.
    :param weights: Of the squared errors of each element in the ratio, (E,).
    """
    # Rounded, as the mean of equal values in full precision is another one.
    rounded = driver.astype(np.float32)
    starts = np.flatnonzero(np.diff(recording, prepend=-1))
    squares = [np.add.reduceat((one - driver) ** 2 @ weights, starts) for one in commands]
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
            held = (command_in_effect(policies[name], episode[name], timing,
                                      recording.commands.names)
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
    found, names = [], recordings[0].commands.names
    weights = ((0.0, 1.0) if names == BASE_NAMES else
               1 / np.maximum(wanted.var(0), LEAST_VARIANCE))
    for i, (passes, timings) in enumerate(conditions):
        own = [each[known] for each in commands[i * len(policies):(i + 1) * len(policies)]]
        found += [Agreement(name, passes, timing, *figures, names)
                  for name, timing, figures in zip(
                      policies, timings, judged(wanted, own, which, weights))]
    return Effect(found, [recording.name for recording in recordings], int(known.sum()),
                  len(known))


def table(effect: Effect) -> str:
    """Lay agreements out for people."""
    width = max(20, *(len(one.policy) for one in effect.agreements))
    # Of a base, the steering first.
    names = effect.agreements[0].names
    of_base = names == BASE_NAMES
    titles = [f'{name} R2' for name in (names[::-1] if of_base else names)]
    widths = [max(9, len(titles[0]) + 1), *(max(9, len(title)) for title in titles[1:])]
    lines = [f'{"policy":<{width}} {"a pass":>9} {"newest":>9} {"deep":>10} '
             + ' '.join(f'{title:>{size}} {"RMSE":>7}' for title, size in zip(titles, widths))
             + f'   {"steering " * of_base}RMSE relative to the first']

    def number(value: float) -> str:
        return f'{value:.3f}' if np.isfinite(value) else '-'

    for one in effect.agreements:
        passes = ('no delay' if one.timing is None else 'as given' if one.pass_periods is None
                  else f'{one.pass_periods:g}')
        figures = one.timing and one.timing.figures
        ages = ([f'{1e3 * age:.1f} ms' for age in (figures.newest, figures.deep)] if figures
                else ['', ''])
        values = [*zip(one.r2, one.rmse)]
        lines.append(f'{one.policy:<{width}} {passes:>9} {ages[0]:>9} {ages[1]:>10} ' + ' '.join(
            f'{number(r2):>{size}} {rmse:>7.4f}' for (r2, rmse), size in zip(
                values[::-1] if of_base else values, widths)) + f'   {written(one.ratio)}')
    return '\n'.join([*lines, 'a pass: camera periods that all nodes take; newest, deep: mean age '
                      'of the information in the command in force; in brackets: 95 %, over '
                      'recordings'])


def picture(effect: Effect, title: str) -> Figure:
    """
    Draw R2 and RMSE of the steering against the cost of a pass; dashed without delay.

    Of other actuators, whose units may differ, the mean and the lowest R2.
    """
    shown: list[tuple[str, Callable[[Agreement], float]]] = [
        ('R2 of the steering in effect', lambda one: one.r2[1]),
        ('RMSE of the steering in effect', lambda one: one.rmse[1])]
    if effect.agreements[0].names != BASE_NAMES:
        shown = [('mean R2 in effect', lambda one: float(np.mean(one.r2))),
                 ('lowest R2 in effect', lambda one: min(one.r2))]
    costs = [one.pass_periods for one in effect.agreements if one.pass_periods is not None]
    panels = []
    for name, value in shown:
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
