"""Recordings replayed to policies, their answers, and what a reader has to know of both."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
import time
from typing import Any, NamedTuple

import numpy as np
from stream_agent.cli.arguments import plural
from stream_agent.command import Command
from stream_agent.engine.engine import Engine
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import Policy
from stream_agent.recordings.alignment import Alignment, commands_at, pick
from stream_agent.recordings.recording import NS, Recording
from stream_agent.theory.information import frames_unanswered, frames_until_response
from stream_agent.theory.rollout import inference_factor


class ReplayedFrame(NamedTuple):
    """
    One image on its way to the policies.

    :param number: In the playback, as that of its episode; memory outlives no episode.
    :param recorded_ns: Its stamp in the recording; ``stamp_ns`` is the one in the replay.
    :param pixels: uint8, (H, W, 3) in RGB order or (H, W).
    """

    number: int
    episode: int
    recorded_ns: int
    stamp_ns: int
    pixels: np.ndarray


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
        #: What the driver did, (n, 2): speed and steering; NaN where it is not known.
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
        for index, pixels in self.recording.images():
            if self._stopped():
                return
            if (number := number_of.get(index)) is not None:
                self.decoded.append(number)
                yield ReplayedFrame(number, int(self.episodes[number]),
                                    int(self._recorded[number]),
                                    int(self.stamps_ns[number]), pixels)
            if index >= self._indices[-1]:
                return


class Answer(NamedTuple):
    """What a policy made of the frame of a number, and when, by the clock of the replay."""

    number: int
    arrival_ns: int
    command: Command


class Player:
    """A policy that answers frames as the agent does, by a steady clock, and keeps its answers."""

    def __init__(self, name: str, policy: Policy, engine: Engine,
                 now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.name, self.policy, self.engine = name, policy, engine
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
            self._unanswerable = self._updates_unanswered
        updates = self.engine.updates_per_frame
        empty = min(self._unanswerable, updates)
        self._unanswerable -= empty
        start = self._now_ns()
        image, converted = self.policy.preprocessing(frame.pixels), self._now_ns()
        self.stages['convert'].add((converted - start) / NS)
        settled = converted
        for _ in range(updates):
            output, responded = self.engine.respond(image), self._now_ns()
            self.stages['respond'].add((responded - settled) / NS)
            self.engine.settle()
            settled = self._now_ns()
            self.stages['settle'].add((settled - responded) / NS)
        if empty < updates:
            self.answers.append(Answer(frame.number, from_ns + responded - start,
                                       self.policy.limits.command(output)))
        else:
            self.unanswered.append(frame.number)
        return from_ns + settled - start

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
    'yaw rate': '',
    'steering angle': "The recordings' commands are steering angles [rad] at the wheels: they "
                      'are shown wherever a yaw rate [rad/s] is named.',
    'steering': "The recordings' commands are shares -1 ... 1 of all there is: steering is "
                'shown wherever a yaw rate [rad/s] is named, throttle wherever a speed [m/s] is.'}


def remark_on_steering(players: Sequence[Player], kind: str) -> str:
    """Name the policies of which it is not known whether they steer by what was recorded."""
    unknown = [player.name for player in players if not player.policy.steering]
    # Yaw rates are the usual kind, and need no remark.
    if not unknown or kind == 'yaw rate':
        return ''
    return (f'What {", ".join(unknown)} learnt to steer by is not in the file; it is taken for '
            f'{QUANTITIES[kind]}, as recorded.')


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
        said.append(f'{player.name} cannot ask for what the driver did in {beyond:.1%} of the '
                    f'frames: its limits are {limits.max_speed:g} and {limits.max_yaw_rate:g}.'
                    + ('' if player.policy.steering else
                       ' Check that it was trained on commands of the same units.'))
    return said
