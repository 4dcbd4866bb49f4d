"""Command line: write DonkeyCar tubs or NumPy archives as rosbag2 recordings, one a sequence."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stream_agent.cli.arguments import run_tool
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import read_archive
from stream_agent.recordings.tubs import is_tub, TubRecording
from stream_agent.recordings.writing import RecordedDrive, write_bag


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='convert', description=__doc__)
    parser.add_argument('source', type=Path, help='folder of a tub, or an .npz archive')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER',
                        help='gets a folder for every sequence')
    parser.add_argument('--run', nargs='+', default=[], metavar='NAME',
                        help='runs of an archive; all without it')
    parser.add_argument('--steering-sign', choices=('left', 'right'), default='right',
                        help='side to which the steering is positive in the source (right); in '
                        'the recording it is the left')
    parser.add_argument('--max-speed', type=float, default=1.0, metavar='V',
                        help='speed that a throttle of 1 stands for, in m/s (1)')
    parser.add_argument('--max-yaw-rate', type=float, default=1.0, metavar='W',
                        help='yaw rate that a steering of 1 stands for, in rad/s (1)')
    parser.add_argument('--image-topic', default='/camera/image_raw/compressed', metavar='TOPIC')
    parser.add_argument('--command-topic', default='/cmd_vel', metavar='TOPIC')
    return parser.parse_args(args)


def drives_of(arguments: argparse.Namespace) -> Iterator[tuple[str, RecordedDrive]]:
    """Yield the sequences of the source, with a name each."""
    source = arguments.source
    if is_tub(source):
        yield from drives_of_tub(TubRecording(
            source, Reading(steering_sign=arguments.steering_sign)))
    elif source.is_file():
        sign = 1 if arguments.steering_sign == 'left' else -1
        yield from read_archive(source, arguments.run, sign)
    else:
        raise BadRecordingError(f"'{source}': neither a tub (a folder with manifest.json or "
                                'record_*.json) nor an .npz archive')


def drives_of_tub(tub: TubRecording) -> Iterator[tuple[str, RecordedDrive]]:
    """Yield a drive wherever no frames are missing for longer than three camera periods."""
    spans = cut(tub.frame_stamps, tub.commands, Alignment(), Counter())
    files = tub.image_files()
    for number, span in enumerate(spans):
        images = (files[i].read_bytes() for i in span.frames)
        yield f'{tub.name}_{number:03}', RecordedDrive(images, tub.frame_stamps[span.frames],
                                                       span.commands)


def run(arguments: argparse.Namespace) -> None:
    """Write all sequences, and say what there is."""
    scales = arguments.max_speed, arguments.max_yaw_rate
    arguments.output.mkdir(parents=True, exist_ok=True)
    frames = bags = 0
    for name, drive in drives_of(arguments):
        write_bag(arguments.output / name, drive._replace(commands=drive.commands * scales),
                  arguments.image_topic, arguments.command_topic)
        frames, bags = frames + len(drive.stamps), bags + 1
    print(f'wrote {bags} recordings with {frames:,} frames to {arguments.output}: '
          f'{arguments.image_topic} (sensor_msgs/msg/CompressedImage), {arguments.command_topic} '
          '(geometry_msgs/msg/TwistStamped)')


def main(args: list[str]) -> int:
    """Convert one source."""
    arguments = parse(args)
    return run_tool('convert', lambda: run(arguments))
