"""What is odd about a recording, a sentence each, with its amount and what to do about it."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from stream_agent.recordings.alignment import Alignment, commands_at, cut
from stream_agent.recordings.recording import (
    BASE_NAMES, BREAK_NS, camera_period, COLOUR, Commands, GREY, NS, StampedFrames)

# Seconds for which a driver may hold a joystick still.
HELD_STILL = 20.0
# Shares: of frames used below which it is said what became of the others; of commands that are
# zero, and of frames that came twice, above which it is said.
MOSTLY_USED, MOSTLY_ZERO, MANY_TWICE = 0.8, 0.5, 0.1
# Of the distances of commands, the share above the oldest command's age that tells of a driver
# that speaks only on change.
ON_CHANGE = 0.15
CHECK_UNITS = 'check the units of the driver'
# Hz.
FASTEST_CAMERA = 200.0
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
    found = [*recording.notes, *odd_frames(recording, alignment),
             *odd_commands(recording), *odd_use(recording, alignment),
             *odd_shapes(recording.shapes)]
    return [f'{recording.name}: {sentence}' for sentence in found]


def odd_frames(recording: StampedFrames, alignment: Alignment) -> Iterator[str]:
    """Tell of stamps in bursts, of frames that share a stamp, and of gaps."""
    if len(recording) < 2:
        return
    distances = np.diff(recording.frame_stamps)
    period, in_bursts = camera_period(recording.frame_stamps)
    if in_bursts:
        yield (f'stamps come in bursts or frames are missing: {NS / np.median(distances):.1f} Hz '
               f'by the median distance, {NS / period:.1f} Hz by their number, which counts; let '
               'the driver of the camera set the stamps')
    elif NS / period > FASTEST_CAMERA:
        yield (f'{NS / period:.0f} Hz is faster than cameras are: these may be the times of a '
               'conversion; convert the source again with its own times, as the policy will meet '
               'frames at another rate')
    # Where a clock was set back, the notes say so.
    distances = distances[distances < BREAK_NS // 2]
    gaps = distances > alignment.gap(recording.frame_stamps)
    if gaps.any():
        yield (f'{gaps.sum()} times frames are missing, for up to {distances.max() / NS:.1f} s: '
               'an episode ends at each; give --longest-gap SECONDS to bridge them')
    twice = recording.skipped['frames that came twice']
    if twice > MANY_TWICE * (twice + len(recording)):
        yield (f'{twice} of {twice + len(recording)} frames have the stamp of the frame before '
               'and are left out; let the driver of the camera set finer stamps')


def odd_commands(recording: StampedFrames) -> Iterator[str]:
    """Tell of commands that are zero, stay the same for long, or are larger than vehicles do."""
    commands = recording.commands
    values, count = commands.values, len(commands.values)
    finite = np.isfinite(values).all(axis=1)
    zero = int((values == 0).all(axis=1).sum())
    if zero == count:
        # A tub has no topics.
        remedy = ('if the driver drove, give the topic of its commands by --command-topic'
                  if recording.topic.startswith('/') else 'leave it out')
        yield f'all {count} commands are zero, so there is nothing to learn; {remedy}'
    elif zero > MOSTLY_ZERO * count:
        yield (f'{zero} of {count} commands ({zero / count:.0%}) are zero: a policy learns above '
               'all to stand still; leave out where the robot waits')
    # Other actuators hold still as they like, and what they can do, their contract says.
    if commands.names != BASE_NAMES:
        return
    yield from held_commands(commands)
    if not finite.any():
        return
    speed, steering = np.abs(values[finite]).max(axis=0)
    limit, unit, other = LARGEST[commands.steering]
    if commands.steering == 'steering':
        if max(speed, steering) > limit * 1.001:
            yield (f'shares of up to {max(speed, steering):g}, where 1 is all there is: these may '
                   f'be {other}; {CHECK_UNITS}')
        return
    if speed > FASTEST:
        yield f'speeds of up to {speed:g} m/s: these may be of another unit; {CHECK_UNITS}'
    if steering > limit:
        yield (f'a {commands.steering} of up to {steering:g} {unit}: these may be {other}, where '
               f'radians are expected; {CHECK_UNITS}')


def held_commands(commands: Commands) -> Iterator[str]:
    """Tell of the longest time in which one command other than zero was repeated."""
    values, stamps = commands.values, commands.stamps
    changes = np.flatnonzero((values[1:] != values[:-1]).any(axis=1)) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [len(values)]]) - 1
    seconds = np.where((values[starts] != 0).any(axis=1), (stamps[ends] - stamps[starts]) / NS, 0)
    longest = int(seconds.argmax()) if len(seconds) else 0
    if len(seconds) and seconds[longest] > HELD_STILL:
        speed, steering = values[starts[longest]]
        times = f', and {int((seconds > HELD_STILL).sum()) - 1} more times' if (
            (seconds > HELD_STILL).sum() > 1) else ''
        yield (f'{speed:g}, {steering:g} is repeated for {seconds[longest]:.0f} s '
               f'({ends[longest] - starts[longest] + 1} commands){times}; leave that part out '
               'if a joystick got stuck there')


def odd_use(recording: StampedFrames, alignment: Alignment) -> Iterator[str]:
    """Tell which share of the frames has a command, and what became of the others."""
    skipped: Counter[str] = Counter()
    used = sum(len(span.frames) for span in cut(
        recording.frame_stamps, recording.commands, alignment, skipped))
    count = len(recording)
    if used >= MOSTLY_USED * count or alignment.resample:
        return
    causes = ', '.join(f'{number} {kind}' for kind, number in skipped.items() if number)
    yield (f'{used} of {count} frames ({used / max(1, count):.0%}) are used, without '
           f'{causes or "those of short episodes"}; {remedy_for(skipped, recording, alignment)}')


def remedy_for(skipped: Counter[str], recording: StampedFrames, alignment: Alignment) -> str:
    """Return what helps against what leaves out most frames."""
    (cause, count), = skipped.most_common(1) or [('', 0)]
    if not count or cause.startswith('episodes'):
        return 'leave the recording out, or record longer drives'
    if 'NaN' in cause:
        return 'let the driver of the commands send numbers, or leave the recording out'
    return remedy_for_age(recording, alignment)


def remedy_for_age(recording: StampedFrames, alignment: Alignment) -> str:
    """Return what helps if most frames have no command in force."""
    commands = recording.commands
    times = recording.frame_stamps + round(alignment.delay * NS)
    distances = np.diff(commands.stamps) / NS
    *_, old = commands_at(commands, times, alignment)
    between = old & (times <= commands.stamps[-1])
    if not between.any() or (distances > alignment.oldest_command).mean() < ON_CHANGE:
        return 'check that frames and commands were recorded at the same time'
    last = np.searchsorted(commands.stamps, times[between], side='right') - 1
    enough = np.ceil((times[between] - commands.stamps[last]).max() / NS * 10) / 10
    return ('the driver seems to send commands only when they change, so give --oldest-command '
            f'{enough:g} ({between.sum()} frames more), or --hold-commands ({old.sum()} more)')


def odd_shapes(shapes: Counter[str]) -> Iterator[str]:
    """Tell of frames of several sizes, or some in colour and some not."""
    if len(shapes) > 1:
        listed = ', '.join(f'{count} of {shape}' for shape, count in shapes.most_common())
        yield f'frames differ: {listed}; record each camera by itself'


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
            f'{count} of {shape}' for shape, count in shapes.most_common())
            + '; all are brought to the same size, so check that they show the same')
    return found
