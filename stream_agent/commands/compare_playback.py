"""What is replayed of a recording: its frames in episodes, and what the driver did."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from stream_agent.recordings.alignment import Alignment, commands_at, pick
from stream_agent.recordings.recording import NS, Recording


class Frame(NamedTuple):
    """
    One image on its way to the policies.

    :param number: In the playback.
    :param episode: Number of its episode in the playback; memory outlives none.
    :param recorded_ns: Its stamp in the recording.
    :param stamp_ns: Its stamp in the replay.
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
        longest = alignment.longest_gap * NS or 3 * float(np.median(np.diff(stamps)))
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
        self.reference = reference_of(recording, self._recorded, alignment)
        #: Numbers of the frames that could be decoded, the last time that all were asked for.
        self.decoded: list[int] = []
        self._stopped = stopped

    def __len__(self) -> int:
        return len(self._indices)

    def frames(self) -> Iterator[Frame]:
        """Decode the frames, one at a time."""
        number_of = {int(index): number for number, index in enumerate(self._indices)}
        self.decoded.clear()
        for index, pixels in self.recording.images():
            if self._stopped():
                return
            number = number_of.get(index)
            if number is not None:
                self.decoded.append(number)
                yield Frame(number, int(self.episodes[number]), int(self._recorded[number]),
                            int(self.stamps_ns[number]), pixels)
            if index >= self._indices[-1]:
                return


def reference_of(recording: Recording, stamps: np.ndarray, alignment: Alignment) -> np.ndarray:
    """Return the driver's commands for frames, (n, 2); NaN where there was none in force."""
    values, _, old = commands_at(recording.commands, stamps + round(alignment.delay * NS),
                                 alignment)
    values[old | ~np.isfinite(values).all(axis=1)] = np.nan
    return values
