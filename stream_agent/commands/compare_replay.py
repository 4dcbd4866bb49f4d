"""Recordings replayed to policies: as fast as they answer, or at the pace of the camera."""

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
import time
from typing import NamedTuple

from stream_agent.command import Command
from stream_agent.commands.compare_playback import Frame, Playback
from stream_agent.engine.engine import Engine
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import Policy
from stream_agent.recordings.recording import NS
from stream_agent.theory.information import frames_unanswered, frames_until_response
from stream_agent.theory.rollout import inference_factor

STAGES = ('convert', 'respond', 'settle')


class Answer(NamedTuple):
    """
    What a policy made of a frame.

    :param number: Of the frame, in its playback.
    :param arrival_ns: When the command was there, by the clock of the replay.
    """

    number: int
    arrival_ns: int
    command: Command


class Player:
    """
    A policy that answers frames as the agent does, and keeps its answers.

    :param name: In the report.
    :param now_ns: Steady clock.
    """

    def __init__(self, name: str, policy: Policy, engine: Engine,
                 now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.name, self.policy, self.engine = name, policy, engine
        self.answers: list[Answer] = []
        #: Numbers of the frames that came and went while it was busy.
        self.missed: list[int] = []
        #: Of those after a reset to which its output does not depend on any image.
        self.unanswered: list[int] = []
        self.stages = {stage: Durations() for stage in STAGES}
        network = policy.network
        self._updates_unanswered = frames_unanswered(network.graph, network.pattern)
        self._now_ns = now_ns

    def begin(self, playback: Playback) -> None:
        """Forget the recording before, and its answers."""
        self._longest_gap_ns = playback.longest_gap_ns
        self._last: Frame | None = None
        self.answers, self.missed, self.unanswered = [], [], []

    def answer(self, frame: Frame, from_ns: int) -> int:
        """
        Answer a frame, unless memory is too empty yet; then settle.

        :param from_ns: When the frame is taken, by the clock of the replay.
        :returns: When it is settled.
        """
        self._reset_after_a_gap(frame)
        updates = self.engine.updates_per_frame
        empty = min(self._unanswerable, updates)
        self._unanswerable -= empty
        start = self._now_ns()
        image = self.policy.preprocessing(frame.pixels)
        converted = self._now_ns()
        responses = self.engine.responses(image)
        output = next(responses)
        responded = self._now_ns()
        next(responses, None)
        settled = self._now_ns()
        for stage, duration in zip(STAGES, (converted - start, responded - converted,
                                            settled - responded)):
            self.stages[stage].add(duration / NS)
        if empty < updates:
            self.answers.append(Answer(frame.number, from_ns + responded - start,
                                       self.policy.limits.command(output)))
        else:
            self.unanswered.append(frame.number)
        return from_ns + settled - start

    def _reset_after_a_gap(self, frame: Frame) -> None:
        last, self._last = self._last, frame._replace(pixels=None)
        if (last is None or last.episode != frame.episode
                or frame.recorded_ns - last.recorded_ns > self._longest_gap_ns):
            self.engine.reset()
            self._unanswerable = self._updates_unanswered

    def status(self) -> dict[str, str]:
        """Say of itself what an agent says in its diagnostics."""
        network, engine = self.policy.network, self.engine
        first = frames_until_response(network.graph, network.pattern)
        return {'pattern': self.policy.pattern_name, 'device': str(engine.device),
                'executor': f'{engine.executor_name}, {engine.threads} threads',
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

    A policy that is busy takes the newest when it is done. The clock of the replay stands still
    while a frame is decoded and does not count by how much a sleep was too long, so that disk,
    decoder and timer delay nobody.
    """
    for player in players:
        player.begin(playback)
        free_ns = int(playback.stamps_ns[0])
        for frame, newer in pairwise(chain(playback.frames(), [None])):
            if newer is not None and newer.stamp_ns <= free_ns:
                player.missed.append(frame.number)
                continue
            sleep(max(0, frame.stamp_ns - free_ns) / NS)
            free_ns = player.answer(frame, max(free_ns, frame.stamp_ns))


PACES = {'fast': replay_fast, 'true': replay_true}
