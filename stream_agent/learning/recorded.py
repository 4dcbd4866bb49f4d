"""From recordings to episodes that a policy learns from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from stream_agent.learning.episodes import RecordedEpisode
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.alignment import Alignment, check_rates, Span
from stream_agent.recordings.cache import CachedRecording, check_not_empty, remember
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings

# Limits of a robot that was never seen to move.
LEAST_LIMIT = 0.1


def decoded_recordings(paths: Sequence[Path], reading: Reading, preprocessing: Preprocessing,
                       cache: Path, say: Callable[[str], None] = print) -> list[CachedRecording]:
    """
    Open recordings and decode what is not in the cache yet.

    :param cache: Folder; removing it costs nothing but time.
    :param say: Gets a line when decoding begins, and one for what has to be decoded anew.
    """
    recordings = open_recordings(paths, reading)
    say(f'{len(recordings)} recordings, {sum(map(len, recordings)):,} frames; decoded ones are '
        f"kept in '{cache}'")
    return [remember(recording, reading, cache, asdict(preprocessing), preprocessing.pixels,
                     say=say)
            for recording in recordings]


def cut_recordings(recordings: Sequence[CachedRecording], alignment: Alignment
                   ) -> list[tuple[CachedRecording, Span]]:
    """
    Cut recordings into episodes.

    :raises BadRecordingError: If rates differ, or nothing is left of a recording.
    """
    check_rates(recordings, alignment)
    spans = [recording.episodes(alignment) for recording in recordings]
    check_not_empty(recordings, spans)
    return [(recording, span) for recording, each in zip(recordings, spans) for span in each]


def limits_of(episodes: Sequence[tuple[CachedRecording, Span]]) -> CommandLimits:
    """Return limits that hold every command, rounded up to two digits."""
    largest = np.max([np.abs(span.commands).max(0) for _, span in episodes], axis=0)
    return CommandLimits(*(rounded_up(max(float(value), LEAST_LIMIT)) for value in largest))


def rounded_up(value: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(np.round(np.ceil(value / unit - 1e-6) * unit, 6))


def check_limits(episodes: Sequence[tuple[CachedRecording, Span]], limits: CommandLimits) -> None:
    """Refuse limits that commands exceed, as no output could be right for these."""
    needed = limits_of(episodes)
    for option, limit, most in (('--max-speed', limits.max_speed, needed.max_speed),
                                ('--max-yaw-rate', limits.max_yaw_rate, needed.max_yaw_rate)):
        if limit < most and limit > 0:
            raise BadRecordingError(f'{option} {limit:g}: the recordings have commands up to '
                                    f'{most:g}; give at least that, or leave the option out')


def episodes_for(episodes: Sequence[tuple[CachedRecording, Span]], limits: CommandLimits
                 ) -> list[RecordedEpisode]:
    """Return episodes with targets in the units of the network's output."""
    scale = np.array([limits.max_speed, limits.max_yaw_rate])
    return [RecordedEpisode(recording.name, recording.pixels, span.frames,
                            (span.commands / scale).astype(np.float32))
            for recording, span in episodes]
