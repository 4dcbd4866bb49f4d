"""Command line: write DonkeyCar tubs or NumPy archives as rosbag2 recordings, one a sequence."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import signal
import sys

from stream_agent.bounded_settings import choice, free_text, quantity, several
from stream_agent.cli.arguments import add_settings, command, settings_of
from stream_agent.cli.command_parser import CommandParser
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.inspection import oddities
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings, read_archive
from stream_agent.recordings.tubs import is_tub, TubRecording
from stream_agent.recordings.writing import check_new, new_folder, RecordedDrive, write_bag


# So many of the things that are wrong with a source are said.
MOST_FAULTS = 6


@dataclass(frozen=True)
class ConvertOptions:
    """What is converted, and what its numbers stand for."""

    run: tuple[str, ...] = several((), 'runs of an archive; all without it')
    steering_sign: str = choice(
        'right', 'side to which the steering is positive in the source; in the recording it is '
        'the left', ('left', 'right'))
    tub_rate: float = quantity(
        0.0, 'Hz', 0.0, 1e3, "rate of a tub's records, in place of times that are missing or not "
        'those of the drive; 0: times')
    max_speed: float = quantity(1.0, 'm/s', 0.0, 1e6, 'speed that a throttle of 1 stands for')
    max_yaw_rate: float = quantity(
        1.0, 'rad/s', 0.0, 1e6, 'yaw rate that a steering of 1 stands for')
    image_topic: str = free_text('/camera/image_raw/compressed', 'of the recording', 'TOPIC')
    command_topic: str = free_text('/cmd_vel', 'of the recording', 'TOPIC')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('convert', __doc__)
    parser.add_argument('source', type=Path, help='folder of a tub, or an .npz archive')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER',
                        help='gets a folder for every sequence')
    add_settings(parser, ConvertOptions)
    return parser.parse_args(args)


def drives_of(arguments: argparse.Namespace) -> Iterator[tuple[str, RecordedDrive]]:
    """Yield the sequences of the source, with a name each."""
    source = arguments.source
    if is_tub(source):
        yield from drives_of_tub(TubRecording(source, settings_of(arguments, Reading)))
    elif source.is_file():
        sign = 1 if arguments.steering_sign == 'left' else -1
        yield from read_archive(source, arguments.run, sign)
    else:
        raise BadRecordingError(f"'{source}': neither a tub (a folder with manifest.json or "
                                'record_*.json) nor an .npz archive; give one of these')


def drives_of_tub(tub: TubRecording) -> Iterator[tuple[str, RecordedDrive]]:
    """Yield the drives of a tub: one ends where frames are missing, or the clock was set back."""
    # What one drive lacks is said with the first one.
    skipped = tub.skipped.copy()
    spans = cut(tub.frame_stamps, tub.commands, Alignment(), skipped)
    if not spans:
        raise BadRecordingError(f"'{tub.path}': there are no two frames in a row "
                                f'({"; ".join((tub.summary(), *tub.notes))}); leave the tub out')
    for number, span in enumerate(spans):
        yield f'{tub.name}_{number:03}', RecordedDrive(
            [partial(tub.image_bytes, i) for i in span.frames],
            tub.recorded_stamps[span.frames], span.commands,
            skipped if number == 0 else Counter(), tub.notes if number == 0 else [])


def run(arguments: argparse.Namespace) -> None:
    """Write all sequences, and say what there is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    scales = arguments.max_speed, arguments.max_yaw_rate
    arguments.output.mkdir(parents=True, exist_ok=True)
    drives = {new_folder(arguments.output, name): drive for name, drive in drives_of(arguments)}
    for path in drives:
        check_new(path)
    counts: dict[Path, int] = {}
    try:
        for path, drive in drives.items():
            if count := write_bag(path, drive._replace(commands=drive.commands * scales),
                                  arguments.image_topic, arguments.command_topic):
                counts[path] = count
    except BaseException:
        if counts:
            print(f'convert: complete are {", ".join(path.name for path in counts)}, in '
                  f'{arguments.output}; the others were not written', file=sys.stderr)
        raise
    tell(arguments, drives.values(), counts)
    reading = Reading(arguments.image_topic, arguments.command_topic)
    for recording in open_recordings(list(counts), reading):
        for said in oddities(recording):
            print(said)


def tell(arguments: argparse.Namespace, drives: Iterable[RecordedDrive], counts: dict[Path, int]
         ) -> None:
    """
    Say what was written, and what was left out.

    :param counts: Frames of each recording that was written.
    :raises BadRecordingError: If there is none.
    """
    skipped = sum((drive.skipped for drive in drives), Counter[str]())
    said = '; '.join(filter(None, [
        ', '.join(f'{count:,} {kind}' for kind, count in skipped.items()),
        *[fault for drive in drives for fault in drive.faults][:MOST_FAULTS]]))
    frames = sum(counts.values())
    if not frames:
        raise BadRecordingError(f"'{arguments.source}': nothing can be written ({said}); leave "
                                'it out')
    of = f'{frames:,} of {frames + skipped.total():,}' if said else f'{frames:,}'
    print(f'wrote {len(counts)} recordings with {of} frames to {arguments.output}: '
          f'{arguments.image_topic} (sensor_msgs/msg/CompressedImage), {arguments.command_topic} '
          '(geometry_msgs/msg/TwistStamped)' + f'; left out: {said}' * bool(said))


main = command('convert', parse, run, 'stopped; nothing is half written')
