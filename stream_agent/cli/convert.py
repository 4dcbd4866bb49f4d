"""Command line: write DonkeyCar tubs or NumPy archives as rosbag2 recordings, one a sequence."""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_agent.bounded_settings import choice, free_text, quantity, several
from stream_agent.cli.arguments import add_settings, command
from stream_agent.cli.command_parser import CommandParser
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import read_archive
from stream_agent.recordings.tubs import is_tub, TubRecording
from stream_agent.recordings.writing import new_folder, RecordedDrive, write_bag


@dataclass(frozen=True)
class ConvertOptions:
    """What is converted, and what its numbers stand for."""

    run: tuple[str, ...] = several((), 'runs of an archive; all without it')
    steering_sign: str = choice(
        'right', 'side to which the steering is positive in the source; in the recording it is '
        'the left', ('left', 'right'))
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
        tub = TubRecording(source, Reading(steering_sign=arguments.steering_sign))
        files = tub.image_files()
        # A drive ends where frames are missing for longer than three camera periods.
        for number, span in enumerate(cut(tub.frame_stamps, tub.commands, Alignment(),
                                          Counter())):
            images = (files[i].read_bytes() for i in span.frames)
            yield f'{tub.name}_{number:03}', RecordedDrive(
                images, tub.frame_stamps[span.frames], span.commands)
    elif source.is_file():
        sign = 1 if arguments.steering_sign == 'left' else -1
        yield from read_archive(source, arguments.run, sign)
    else:
        raise BadRecordingError(f"'{source}': neither a tub (a folder with manifest.json or "
                                'record_*.json) nor an .npz archive')


def run(arguments: argparse.Namespace) -> None:
    """Write all sequences, and say what there is."""
    scales = arguments.max_speed, arguments.max_yaw_rate
    arguments.output.mkdir(parents=True, exist_ok=True)
    frames = bags = 0
    for name, drive in drives_of(arguments):
        write_bag(new_folder(arguments.output, name),
                  drive._replace(commands=drive.commands * scales),
                  arguments.image_topic, arguments.command_topic)
        frames, bags = frames + len(drive.stamps), bags + 1
    print(f'wrote {bags} recordings with {frames:,} frames to {arguments.output}: '
          f'{arguments.image_topic} (sensor_msgs/msg/CompressedImage), {arguments.command_topic} '
          '(geometry_msgs/msg/TwistStamped)')


main = command('convert', parse, run)
