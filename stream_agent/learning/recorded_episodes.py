"""Recordings as what a policy learns from: episodes of observations, and targets for outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.contract import Contract
from stream_agent.contract.conversions import CommandsInput, Conversion, OutputScale
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.policy_parts import commands_inputs, conversion_to_data
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.alignment import Alignment, check_rates, Span
from stream_agent.recordings.cache import CachedRecording, remember
from stream_agent.recordings.frame_inputs import wanted_inputs
from stream_agent.recordings.inspection import odd_colours, oddities
from stream_agent.recordings.recording import BadRecordingError, Reading, RecordedFrame
from stream_agent.recordings.sources import open_recordings

# Of a robot that never moves in its recordings.
LEAST_LIMIT = 0.1


def decoded_recordings(paths: Sequence[Path], reading: Reading, preprocessing: Conversion,
                       cache: Path, say: Callable[[str], None] = print, trigger: str = 'image',
                       others: Mapping[str, Conversion] = {}, contract: Contract | None = None
                       ) -> list[CachedRecording]:
    """
    Open recordings and decode what is not in the cache yet.

    :param preprocessing: Of the input that triggers; ``others`` of the other inputs.
    :param cache: Folder; removing it costs only time.
    :param say: Gets a line before decoding, and one for everything that is decoded again.
    :param contract: Says which topics give the inputs; None for one image.
    """
    conversions = {trigger: preprocessing, **others}
    wanted = wanted_inputs(contract, trigger, conversions)
    recordings = open_recordings(paths, reading, wanted)
    say(f'{len(recordings)} recordings, {sum(map(len, recordings)):,} frames; decoded ones are '
        f"kept in '{cache}'")
    about = {'conversions': {name: conversion_to_data(conversion)
                             for name, conversion in conversions.items()},
             'inputs': {name: asdict(settings) for name, settings in wanted.inputs.items()},
             'output': wanted.output and asdict(wanted.output)}
    found = [remember(recording, reading, cache, about,
                      partial(prepared, trigger=trigger, conversions=conversions), say)
             for recording in recordings]
    if isinstance(preprocessing, Preprocessing):
        for sentence in odd_colours(found, preprocessing.shape[0]):
            say(sentence)
    return found


def prepared(frame: RecordedFrame, trigger: str, conversions: Mapping[str, Conversion]
             ) -> dict[str, np.ndarray]:
    """
    Return what is kept of a frame, by input: uint8 of images, else float32.

    A policy's own commands are missing: they follow from how frames and commands are aligned.
    """
    values = {trigger: frame.values, **frame.others}
    return {name: conversion.pixels(values[name]) if isinstance(conversion, Preprocessing)
            else conversion(values[name]) for name, conversion in conversions.items()
            if name in values}


def cut_recordings(recordings: Sequence[CachedRecording], alignment: Alignment,
                   say: Callable[[str], None] = print) -> list[tuple[CachedRecording, Span]]:
    """
    Cut recordings into episodes, and say what is odd about them.

    :raises BadRecordingError: If rates differ, or nothing is left of a recording.
    """
    check_rates(recordings, alignment)
    found = []
    for recording in recordings:
        for sentence in oddities(recording, alignment):
            say(sentence)
        spans = recording.episodes(alignment)
        if not spans:
            raise BadRecordingError(
                f"'{recording.path}': no episode is left of topic '{recording.topic}' "
                f'({recording.summary()}); leave the recording out'
                + (', or check that both topics were recorded at the same time (--stamps)'
                   if recording.topic.startswith('/') else ''))
        found += [(recording, span) for span in spans]
    return found


def largest_of(episodes: Sequence[tuple[CachedRecording, Span]]) -> tuple[float, float]:
    """Return the largest speed and the largest steering, whatever their signs."""
    speed, steering = np.max([np.abs(span.commands).max(0) for _, span in episodes], axis=0)
    return float(speed), float(steering)


def check_scale(episodes: Sequence[tuple[CachedRecording, Span]], limits: OutputScale) -> None:
    """Refuse limits that commands of any actuators exceed: no output could reach these."""
    for recording, span in episodes:
        for i, name in enumerate(limits.names):
            least, most = span.commands[:, i].min(), span.commands[:, i].max()
            margin = 1e-6 * (limits.high[i] - limits.low[i])
            if least < limits.low[i] - margin or most > limits.high[i] + margin:
                raise BadRecordingError(
                    f"'{recording.path}': '{printable(name)}' is commanded {least:g} to {most:g} "
                    f'{limits.units[i]}, and the contract allows {limits.low[i]:g} to '
                    f'{limits.high[i]:g}; change output.lowest and output.highest there, or leave '
                    'the recording out')


def limits_of(episodes: Sequence[tuple[CachedRecording, Span]]) -> CommandScale:
    """
    Return limits that hold every command, rounded up to two digits.

    :raises BadRecordingError: If a command is larger than any robot's.
    """
    largest = largest_of(episodes)
    try:
        return CommandScale(*(rounded_up(max(value, LEAST_LIMIT)) for value in largest))
    except ValueError as error:
        (recording, _) = max(episodes, key=lambda each: np.abs(each[1].commands).max())
        raise BadRecordingError(f"'{recording.path}': commands are up to {max(largest):g} "
                                f'({error}); leave the recording out, or that part') from None


def rounded_up(value: float) -> float:
    """Round up to two digits."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(np.round(np.ceil(value / unit - 1e-6) * unit, 6))


def check_limits(episodes: Sequence[tuple[CachedRecording, Span]], limits: CommandScale) -> None:
    """Refuse limits that commands exceed: no output of the network could reach these."""
    needed = limits_of(episodes)
    for option, limit, most in (('--max-speed', limits.max_speed, needed.max_speed),
                                ('--max-yaw-rate', limits.max_yaw_rate, needed.max_yaw_rate)):
        if limit < most and limit > 0:
            raise BadRecordingError(f'{option} {limit:g}: the recordings have commands up to '
                                    f'{most:g}; give at least that, or leave the option out')


def targets_of(commands: np.ndarray, limits: CommandScale | OutputScale) -> np.ndarray:
    """Return what the output node should be where a driver commanded so, (n, outputs) float32."""
    if isinstance(limits, CommandScale):
        return (commands / [limits.max_speed, limits.max_yaw_rate]).astype(np.float32)
    low, high = np.array(limits.low), np.array(limits.high)
    return ((commands - low) * (2 / (high - low)) - 1).astype(np.float32)


def own_commands(targets: np.ndarray, conversion: CommandsInput) -> np.ndarray:
    """
    Return what a policy that had commanded as the driver did knows of it at every frame.

    :param targets: Of an episode, (n, outputs).
    :returns: (n, size): those of the frames before, the newest first; zeros before the first.
    """
    count = conversion.count
    before = np.concatenate([np.zeros((count, targets.shape[1]), np.float32), targets.clip(-1, 1)])
    return np.stack([before[count - age:][:len(targets)] for age in range(1, count + 1)],
                    1).reshape(len(targets), -1)


def episodes_for(episodes: Sequence[tuple[CachedRecording, Span]],
                 limits: CommandScale | OutputScale, conversions: Mapping[str, Conversion] = {}
                 ) -> list[RecordedEpisode]:
    """
    Return episodes with targets in the units of the network's output.

    :param conversions: Of the network's inputs, for those that are its own last commands.
    """
    own = commands_inputs(conversions)
    found = []
    for recording, span in episodes:
        targets = targets_of(span.commands, limits)
        sources = dict(recording.observations)
        for name, conversion in own.items():
            sources[name] = np.zeros((len(recording), conversion.size), np.float32)
            sources[name][span.frames] = own_commands(targets, conversion)
        found.append(RecordedEpisode(recording.name, sources, span.frames, targets))
    return found
