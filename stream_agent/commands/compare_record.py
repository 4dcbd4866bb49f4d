"""What came of a replay, as the recorder would have recorded it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
import sys
import time

import numpy as np
from stream_agent.command import Command
from stream_agent.commands.compare_playback import Playback
from stream_agent.commands.compare_remarks import (
    PACE_REMARKS, plural, remark_on_steering, remarks_on, UNIT_REMARKS)
from stream_agent.commands.compare_replay import Answer, Player
from stream_agent.measurement.machine import machine, versions
from stream_agent.measurement.recording import RecordingError, Writer
from stream_agent.measurement.rows import RowMaker, UNKNOWN
from stream_agent.recordings.recording import NS

WRITE_TIMEOUT = 60.0


class Record:
    """
    The rows of a replay on their way to the disk.

    :param folder: An existing one.
    :param files: Of the policies, by the players' names.
    """

    def __init__(self, folder: Path, players: Sequence[Player], files: dict[str, Path],
                 pace: str) -> None:
        self._players, self._files, self._pace = players, files, pace
        # Nothing is late here: rows are complete when their recording is.
        self._rows = RowMaker(files, clock=lambda: 0.0)
        self._writer = Writer(folder, sys.maxsize)
        self._playbacks: list[Playback] = []
        self._beyond: Counter[str] = Counter()
        self._missed: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
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
                self._rows.add_reference(stamp_ns, Command(*playback.reference[number].tolist()))
            for name in self._files:
                for arrival_ns, command in commands[name].get(number, ()):
                    self._rows.add_command(name, stamp_ns, arrival_ns, arrival_ns, command)
            self._writer.put_rows(self._rows.close())
        self._writer.put_rows(self._rows.finish())
        for player in self._players:
            self._beyond[player.name] += beyond_limits(playback, player)
            self._missed[player.name] += sum(n < after for n in player.missed)
            self._unanswered[player.name] += sum(n < after for n in player.unanswered)
        self._writer.describe(self._description())

    def stopped(self, recordings: int) -> None:
        """
        Say that the replay ends here.

        :param recordings: That there were to replay.
        """
        if self._playbacks:
            last = self._playbacks[-1]
            self._note = (f'Stopped on request: {len(self._playbacks)} of '
                          f'{plural(recordings, "recording")} replayed, of the last '
                          f'{len(last.decoded)} of {plural(len(last), "frame")}.')
            self._writer.describe(self._description())

    def finish(self) -> None:
        """
        Wait for the disk.

        :raises RecordingError: If not all of it could be written.
        """
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
            name = player.name
            said += remarks_on(player, self._missed[name], self._unanswered[name],
                               self._beyond[name] / max(1, frames))
        left_out: Counter[str] = Counter()
        for each in playbacks:
            left_out += each.recording.skipped
        if left_out:
            said.append('Left out of the recordings: '
                        + ', '.join(f'{count} {kind}' for kind, count in left_out.items()) + '.')
        return [line for line in said if line]


def commands_of(playback: Playback, answers: Sequence[Answer]
                ) -> dict[int, list[tuple[int, Command]]]:
    """
    Return arrivals [ns] and commands by the number of their frame.

    The last frame answered in an episode has a second one, unknown, when the episode is over:
    else its command would be held against the first frames of the next episode.
    """
    commands = {answer.number: [(answer.arrival_ns, answer.command)] for answer in answers}
    last = {int(playback.episodes[answer.number]): answer for answer in answers}
    ends = [*playback.stamps_ns.tolist(), playback.end_ns]
    for episode, answer in last.items():
        over_ns = ends[np.searchsorted(playback.episodes, episode, side='right')]
        commands[answer.number].append((max(over_ns, answer.arrival_ns), UNKNOWN))
    return commands


def beyond_limits(playback: Playback, player: Player) -> int:
    """Count the frames at which the driver asked for more than a policy can ask for."""
    limits = player.policy.limits
    most = np.array([limits.max_speed, limits.max_yaw_rate]) * (1 + 1e-6)
    return int((np.abs(playback.reference[playback.decoded]) > most).any(axis=1).sum())
