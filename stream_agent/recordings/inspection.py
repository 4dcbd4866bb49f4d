"""What is odd about a recording, a sentence each, with its amount and what to do about it."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from stream_agent.recordings.alignment import Alignment, commands_at, cut
from stream_agent.recordings.recording import (
    camera_period, COLOUR, Commands, GREY, NS, StampedFrames)

# Seconds for which a driver may hold a joystick still.
HELD_STILL = 20.0
# Shares: of frames used below which it is said what became of the others; of commands that are
# zero, and of frames that came twice, above which it is said.
MOSTLY_USED, MOSTLY_ZERO, MANY_TWICE = 0.8, 0.5, 0.1
# Of the distances of commands, the share above the oldest command's age that tells of a driver
# that speaks only on change.
ON_CHANGE = 0.15
# The largest that vehicles of this size do: m/s and rad/s, or radians at the wheels.
FASTEST = 50.0
LARGEST = {'yaw rate': (20.0, 'rad/s', 'degrees per second'),
           'steering angle': (1.6, 'rad', 'degrees'),
           'steering': (1.0, '', 'the units of a servo')}


def oddities(recording: StampedFrames, alignment: Alignment = Alignment()) -> list[str]:
    """
    Return what is odd about a recording, a sentence each; nothing if all is fine.

    Sizes and colours are those of the frames decoded so far.
    """
    found = [*recording.remarks, *odd_frames(recording), *odd_commands(recording.commands),
             *odd_use(recording, alignment), *odd_shapes(recording.shapes)]
    return [f'{recording.name}: {sentence}' for sentence in found]


def odd_frames(recording: StampedFrames) -> Iterator[str]:
    """Tell of stamps in bursts, of frames that share a stamp, and of gaps."""
    if len(recording) < 2:
        return
    distances = np.diff(recording.frame_stamps)
    period, in_bursts = camera_period(recording.frame_stamps)
    if in_bursts:
        yield (f'stamps come in bursts or frames are missing: {NS / np.median(distances):.1f} Hz '
               f'by the median distance, {NS / period:.1f} Hz by their number, which counts')
    twice = recording.skipped['frames that came twice']
    if twice > MANY_TWICE * (twice + len(recording)):
        yield (f'{twice} of {twice + len(recording)} frames have the stamp of the frame before and '
               'are left out: the clock is too coarse, or frames were recorded twice')


def odd_commands(commands: Commands) -> Iterator[str]:
    """Tell of commands that are zero, stay the same for long, or are larger than vehicles do."""
    values, count = commands.values, len(commands.values)
    finite = np.isfinite(values).all(axis=1)
    zero = int((values == 0).all(axis=1).sum())
    if zero == count:
        yield (f'all {count} commands are zero, so there is nothing to learn; if the driver '
               'drove, give the topic of its commands by --command-topic')
    elif zero > MOSTLY_ZERO * count:
        yield (f'{zero} of {count} commands ({zero / count:.0%}) are zero: a policy learns above '
               'all to stand still')
    yield from held_commands(commands)
    if not finite.any():
        return
    speed, steering = np.abs(values[finite]).max(axis=0)
    limit, unit, other = LARGEST[commands.steering]
    if commands.steering == 'steering':
        if max(speed, steering) > limit * 1.001:
            yield (f'shares of up to {max(speed, steering):g}, where 1 is all there is: these may '
                   f'be {other}')
        return
    if speed > FASTEST:
        yield f'speeds of up to {speed:g} m/s: these may be {other.split()[0]} of another unit'
    if steering > limit:
        yield (f'a {commands.steering} of up to {steering:g} {unit}: these may be {other}, where '
               'radians are expected')


def held_commands(commands: Commands) -> Iterator[str]:
    """Tell of the longest time in which one command other than zero was repeated."""
    values, stamps = commands.values, commands.stamps
    changes = np.flatnonzero((np.diff(values, axis=0) != 0).any(axis=1)) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [len(values)]]) - 1
    seconds = np.where((values[starts] != 0).any(axis=1), (stamps[ends] - stamps[starts]) / NS, 0)
    longest = int(seconds.argmax()) if len(seconds) else 0
    if len(seconds) and seconds[longest] > HELD_STILL:
        speed, steering = values[starts[longest]]
        times = f', and {int((seconds > HELD_STILL).sum()) - 1} more times' if (
            (seconds > HELD_STILL).sum() > 1) else ''
        yield (f'{speed:g}, {steering:g} is repeated for {seconds[longest]:.0f} s '
               f'({ends[longest] - starts[longest] + 1} commands){times}: if that was a joystick '
               'that got stuck, leave that part out')


def odd_use(recording: StampedFrames, alignment: Alignment) -> Iterator[str]:
    """Tell which share of the frames has a command, and what became of the others."""
    skipped: Counter[str] = Counter()
    used = sum(len(span.frames) for span in cut(
        recording.frame_stamps, recording.commands, alignment, skipped))
    count = len(recording)
    if used >= MOSTLY_USED * count or alignment.resample:
        return
    causes = ', '.join(f'{number} {kind}' for kind, number in skipped.items() if number)
    yield (f'{used} of {count} frames ({used / max(1, count):.0%}) are used; not used: '
           f'{causes or "too few frames"}' + remedy_for_age(recording, alignment))


def remedy_for_age(recording: StampedFrames, alignment: Alignment) -> str:
    """Return what helps if a driver speaks only on change; empty if that is not so."""
    stamps, commands = recording.frame_stamps, recording.commands
    distances = np.diff(commands.stamps) / NS
    if not len(distances) or (distances > alignment.oldest_command).mean() < ON_CHANGE:
        return ''
    times = stamps + round(alignment.delay * NS)
    _, early, old = commands_at(commands, times, alignment)
    between = times <= commands.stamps[-1]
    if not (old & between).any():
        return ''
    last = np.searchsorted(commands.stamps, times, side='right') - 1
    ages = (times - commands.stamps[last])[~early & between] / NS
    enough = np.ceil(ages.max() * 10) / 10
    return (f'. Commands seem to be sent only when they change: --oldest-command {enough:g} would '
            f'give {(old & between).sum()} more of them one, and --hold-commands all after the '
            'first command')


def odd_shapes(shapes: Counter[str]) -> Iterator[str]:
    """Tell of frames of several sizes, or some in colour and some not."""
    if len(shapes) > 1:
        listed = ', '.join(f'{count} of {shape}' for shape, count in shapes.most_common())
        yield f'frames differ: {listed}; if these are several cameras, record them on topics each'


def odd_colours(recordings: Sequence[StampedFrames], channels: int) -> list[str]:
    """
    Tell of grey frames for a policy that takes colour, and of recordings that differ.

    :param channels: That the policy takes.
    """
    shapes = sum((recording.shapes for recording in recordings), Counter())
    grey = sum(count for shape, count in shapes.items() if shape.endswith(GREY))
    found = []
    if grey and channels == 3:
        found.append(f'{grey} of {shapes.total()} frames are grey, and the policy takes {COLOUR}: '
                     'it cannot learn anything of colours; take a graph with one channel, or '
                     'record in colour')
    if len({frozenset(recording.shapes) for recording in recordings}) > 1:
        found.append('the recordings differ in the size or colour of frames: ' + ', '.join(
            f'{count} frames of {shape}' for shape, count in shapes.most_common()))
    return found
