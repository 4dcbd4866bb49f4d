"""Recordings replayed to policies, their answers, and what a reader has to know of both."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
import time
from typing import Any, NamedTuple

import numpy as np
from stream_agent.cli.arguments import plural
from stream_agent.contract.agreement import disagreements
from stream_agent.contract.contract import Contract
from stream_agent.contract.conversions import AgeInput, CommandsInput, OutputScale
from stream_agent.engine.engine import Engine
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import CommandScale, Policy
from stream_agent.network.policy_parts import most_commands
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.alignment import Alignment, commands_at, pick
from stream_agent.recordings.frame_inputs import wanted_inputs, WantedInputs
from stream_agent.recordings.recording import BadRecordingError, NS, Recording
from stream_agent.theory.information import frames_unanswered, frames_until_response
from stream_agent.theory.rollout import inference_factor


class ReplayedFrame(NamedTuple):
    """
    One frame on its way to the policies.

    :param number: In the playback, as that of its episode; memory outlives no episode.
    :param recorded_ns: Its stamp in the recording; ``stamp_ns`` is the one in the replay.
    :param values: Of the input that triggers, such as an image's pixels; ``others`` of the
        other inputs, by name.
    """

    number: int
    episode: int
    recorded_ns: int
    stamp_ns: int
    values: Any
    others: Mapping[str, Any] = {}


class Playback:
    """
    What is replayed of one recording, and when: its episodes, without the pauses between them.

    :param recording: Of two frames at least.
    :param start_ns: Stamp of the first frame in the replay.
    :param most_frames: From the recording's start; 0 for all of them.
    :param stopped: Says before every frame whether to end there.
    """

    def __init__(self, recording: Recording, alignment: Alignment, start_ns: int,
                 most_frames: int = 0, stopped: Callable[[], bool] = lambda: False) -> None:
        stamps = recording.frame_stamps
        longest = alignment.gap(stamps)
        stamps = stamps[:most_frames or None]
        ends = np.flatnonzero(np.diff(stamps) > longest) + 1
        parts = [part[pick(stamps[part], alignment.resample)] if alignment.resample else part
                 for part in np.split(np.arange(len(stamps)), ends)]
        self.recording = recording
        self.period_ns = round(NS / (alignment.resample or recording.rate))
        #: Between frames that a policy takes; memory does not outlive a longer one [ns].
        self.longest_gap_ns = max(longest, 3 * self.period_ns if alignment.resample else 0)
        self._indices = np.concatenate(parts)
        self._recorded = stamps[self._indices]
        #: Number of each frame's episode, (n,).
        self.episodes = np.repeat(np.arange(len(parts)), list(map(len, parts)))
        steps = np.where(np.diff(self.episodes), self.period_ns, np.diff(self._recorded))
        #: Of the replay, (n,) int64 [ns].
        self.stamps_ns = start_ns + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
        #: When the last episode is over [ns].
        self.end_ns = int(self.stamps_ns[-1]) + self.period_ns
        #: What the driver did, (n, 2): speed and steering, or (n, E) of a contract's elements; NaN
        #: where it is not known.
        self.reference, _, old = commands_at(
            recording.commands, self._recorded + round(alignment.delay * NS), alignment)
        self.reference[old | ~np.isfinite(self.reference).all(axis=1)] = np.nan
        #: Numbers of the frames that could be decoded, the last time that all were asked for.
        self.decoded: list[int] = []
        self._stopped = stopped

    def __len__(self) -> int:
        return len(self._indices)

    def frames(self) -> Iterator[ReplayedFrame]:
        """Decode the frames, one at a time."""
        number_of = {int(index): number for number, index in enumerate(self._indices)}
        self.decoded.clear()
        for index, frame in self.recording.frames():
            if self._stopped():
                return
            if (number := number_of.get(index)) is not None:
                self.decoded.append(number)
                yield ReplayedFrame(number, int(self.episodes[number]),
                                    int(self._recorded[number]),
                                    int(self.stamps_ns[number]), *frame)
            if index >= self._indices[-1]:
                return


class Answer(NamedTuple):
    """What a policy made of the frame of a number, and when, by the clock of the replay."""

    number: int
    arrival_ns: int
    command: tuple[float, ...]


class Player:
    """
    A policy that answers frames as the agent does, by a steady clock, and keeps its answers.

    It knows its own last commands, not the driver's.

    :param names: Of what obeys, in the order of the recordings' commands; empty for a base.
    """

    def __init__(self, name: str, policy: Policy, engine: Engine,
                 now_ns: Callable[[], int] = time.perf_counter_ns,
                 names: Sequence[str] = ()) -> None:
        self.name, self.policy, self.engine = name, policy, engine
        limits = policy.limits
        self._order = ([limits.names.index(name) for name in names]
                       if isinstance(limits, OutputScale) else None)
        #: Outputs of its last answers since the memory was empty, the newest first.
        self._own: deque[np.ndarray] = deque(maxlen=most_commands(policy.others))
        self.answers: list[Answer] = []
        #: Numbers of the frames that came and went while it was busy.
        self.missed: list[int] = []
        #: Of those after a reset to which its output does not depend on any image.
        self.unanswered: list[int] = []
        self.stages = {stage: Durations() for stage in ('convert', 'respond', 'settle')}
        network = policy.network
        self._updates_unanswered = frames_unanswered(network.graph, network.pattern)
        self._now_ns = now_ns

    def begin(self, playback: Playback) -> None:
        """Forget the recording before, and its answers."""
        self._longest_gap_ns = playback.longest_gap_ns
        self._last: tuple[int, int] | None = None
        self.answers, self.missed, self.unanswered = [], [], []

    def answer(self, frame: ReplayedFrame, from_ns: int) -> int:
        """
        Answer a frame, with an empty memory after a gap, unless it is too empty yet; then settle.

        :param from_ns: When the frame is taken, by the clock of the replay.
        :returns: When it is settled.
        """
        last, self._last = self._last, (frame.episode, frame.recorded_ns)
        if (last is None or last[0] != frame.episode
                or frame.recorded_ns - last[1] > self._longest_gap_ns):
            self.engine.reset()
            self._own.clear()
            self._unanswerable = self._updates_unanswered
        updates = self.engine.updates_per_frame
        empty = min(self._unanswerable, updates)
        self._unanswerable -= empty
        start = self._now_ns()
        inputs, converted = self._inputs(frame, from_ns), self._now_ns()
        self.stages['convert'].add((converted - start) / NS)
        settled = converted
        for _ in range(updates):
            output, responded = self.engine.respond(inputs), self._now_ns()
            self.stages['respond'].add((responded - settled) / NS)
            self.engine.settle()
            settled = self._now_ns()
            self.stages['settle'].add((settled - responded) / NS)
        if empty < updates:
            self._own.appendleft(np.array(output))
            self.answers.append(Answer(frame.number, from_ns + responded - start,
                                       self._command(output)))
        else:
            self.unanswered.append(frame.number)
        return from_ns + settled - start

    def _inputs(self, frame: ReplayedFrame, from_ns: int) -> Any:
        """Return what the network reads at a frame: an array, or several by the inputs' names."""
        policy = self.policy
        values = policy.preprocessing(frame.values)
        if not policy.others:
            return values
        inputs = {policy.trigger: values}
        for name, conversion in policy.others.items():
            if isinstance(conversion, CommandsInput):
                inputs[name] = conversion(tuple(self._own))
            else:
                # It waited in the replay as well as in the recording.
                waited = (from_ns - frame.stamp_ns) / NS if isinstance(conversion, AgeInput) else 0
                inputs[name] = conversion(frame.others[name] + waited if waited
                                          else frame.others[name])
        return inputs

    @property
    def channels(self) -> int:
        """Colours of the images that it takes; 0 if none trigger it."""
        conversion = self.policy.preprocessing
        return conversion.shape[0] if isinstance(conversion, Preprocessing) else 0

    def beyond(self, commands: np.ndarray) -> np.ndarray:
        """Tell which commands, in the recordings' order, it cannot ask for, (n,)."""
        limits = self.policy.limits
        if isinstance(limits, CommandScale):
            most = np.array([limits.max_speed, limits.max_yaw_rate]) * (1 + 1e-6)
            return (np.abs(commands) > most).any(axis=1)
        low, high = np.array([limits.low, limits.high])[:, self._order]
        margin = 1e-6 * (high - low)
        return ((commands < low - margin) | (commands > high + margin)).any(axis=1)

    def _command(self, output: np.ndarray) -> tuple[float, ...]:
        """Return the policy command, in the order of the recordings' commands."""
        command = self.policy.limits.command(output)
        return command if self._order is None else tuple(command[i] for i in self._order)

    def status(self) -> dict[str, str]:
        """Say of itself what an agent says in its diagnostics."""
        network, engine = self.policy.network, self.engine
        first = frames_until_response(network.graph, network.pattern)
        return {'pattern': self.policy.pattern_name, 'device': str(engine.device),
                'backend': f'{engine.backend_name}, {engine.threads} threads',
                'first response frame': str(first // engine.updates_per_frame),
                'inference factor': str(inference_factor(network.graph, network.pattern)),
                **{f'{stage} {key}': f'{seconds:.6f}' for stage, durations in self.stages.items()
                   for key, seconds in durations.percentiles().items()}}


def replay_fast(playback: Playback, players: Sequence[Player]) -> None:
    """Hand every frame to one policy after the other; each has as long as it wants."""
    for player in players:
        player.begin(playback)
    for frame in playback.frames():
        for player in players:
            player.answer(frame, frame.stamp_ns)


def replay_true(playback: Playback, players: Sequence[Player],
                sleep: Callable[[float], None] = time.sleep) -> None:
    """
    Let frames come when they are due, to one policy after the other, each alone on the machine.

    A policy that is busy takes the newest when it is done. The clock of the replay stops while a
    frame is decoded and does not count by how much a sleep was too long, so that disk, decoder
    and timer delay nobody.
    """
    for player in players:
        player.begin(playback)
        free_ns = int(playback.stamps_ns[0])
        for frame, newer in pairwise(chain[Any](playback.frames(), [None])):
            if newer is not None and newer.stamp_ns <= free_ns:
                player.missed.append(frame.number)
                continue
            sleep(max(0, frame.stamp_ns - free_ns) / NS)
            free_ns = player.answer(frame, max(free_ns, frame.stamp_ns))


PACES = {'fast': replay_fast, 'true': replay_true}

PACE_REMARKS = {
    'fast': 'Replayed as fast as possible: no frame was missed, and latency is the duration '
            'of conversion and answer alone.',
    'true': 'Replayed at true pace, one policy after the other: a policy that was busy took the '
            'newest frame when it was done. Decoding and transport are not in the latency.'}
QUANTITIES = {'yaw rate': 'yaw rates [rad/s]', 'steering angle': 'steering angles [rad]',
              'steering': 'shares -1 ... 1 of all there is'}
UNIT_REMARKS = {
    '': '', 'yaw rate': '',
    'steering angle': "The recordings' commands are steering angles [rad] at the wheels: they "
                      'are shown wherever a yaw rate [rad/s] is named.',
    'steering': "The recordings' commands are shares -1 ... 1 of all there is: steering is "
                'shown wherever a yaw rate [rad/s] is named, throttle wherever a speed [m/s] is.'}


def remark_on_steering(players: Sequence[Player], kind: str) -> str:
    """Name the policies of which it is not known whether they steer by what was recorded."""
    unknown = [player.name for player in players if not player.policy.steering]
    # Yaw rates are the usual kind, and need no remark; of other actuators, the names say it.
    if not unknown or kind in ('yaw rate', ''):
        return ''
    return (f'What {", ".join(unknown)} learnt to steer by is not in the file; it is taken for '
            f'{QUANTITIES[kind]}, as recorded.')


def wanted_by(policies: Mapping[str, Policy], contract: Contract | None) -> WantedInputs:
    """
    Return what of recordings policies read, so that all of them answer the same frames.

    :param policies: By their files, for errors.
    :param contract: The robot's; None for one image and a base.
    :raises ValueError: If one does not fit the contract, or the policies each other.
    """
    found: dict[str, WantedInputs] = {}
    for path, policy in policies.items():
        for fault in contract and disagreements(
                contract, policy.trigger, policy.conversions, policy.limits) or ():
            raise ValueError(f"policy '{path}': {fault}")
        if isinstance(policy.limits, OutputScale) and not (contract and contract.given):
            raise ValueError(f"policy '{path}' commands {', '.join(policy.limits.names)}, and no "
                             'contract says which topic of a recording has such commands; give '
                             "the robot's file that has it under output by --robot FILE")
        try:
            found[path] = wanted_inputs(contract, policy.trigger, policy.conversions)
        except BadRecordingError as error:
            raise ValueError(f"policy '{path}': {error}") from None
    (first_path, first), *others = found.items()
    for path, one in others:
        triggers = [each.inputs.get(each.trigger) for each in (first, one)]
        if triggers[0] != triggers[1] or first.kinds[first.trigger] != one.kinds[one.trigger]:
            raise ValueError(
                f"policy '{path}' is triggered by '{one.trigger}', and '{first_path}' by "
                f"'{first.trigger}': they answer other frames; compare policies of one trigger")
        first = replace(first, kinds={**one.kinds, **first.kinds},
                        inputs={**one.others, **first.inputs})
    return first


def remarks_on(player: Player, missed: int, unanswered: int, beyond: float) -> list[str]:
    """Say what a policy missed, and in which share of frames (``beyond``) it could not follow."""
    said, limits = [], player.policy.limits
    if missed:
        said.append(f'{player.name} let {plural(missed, "frame")} pass while it was busy, '
                    'which count as lost.')
    if unanswered:
        said.append(f'{player.name} has no answer to {plural(unanswered, "frame")} at the '
                    'start of episodes, as its output did not depend on any image yet; but for '
                    "the first episode's they count as lost.")
    if beyond:
        own = (f'{limits.max_speed:g} and {limits.max_yaw_rate:g}.'
               if isinstance(limits, CommandScale) else
               '; '.join(f'{name} {low:g} to {high:g} {unit}' for name, unit, low, high in zip(
                   limits.names, limits.units, limits.low, limits.high)) + '.')
        said.append(f'{player.name} cannot ask for what the driver did in {beyond:.1%} of the '
                    f'frames: its limits are {own}'
                    + ('' if player.policy.steering or isinstance(limits, OutputScale) else
                       ' Check that it was trained on commands of the same units.'))
    return said
