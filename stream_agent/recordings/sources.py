"""From paths on the command line to recordings."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stream_agent.recordings.bags import BagRecording, is_bag
from stream_agent.recordings.recording import BadRecordingError, Reading, Recording
from stream_agent.recordings.tubs import is_tub, TubRecording


def open_recordings(paths: Sequence[Path], reading: Reading) -> list[Recording]:
    """
    Open recordings; pixels are decoded only as they are asked for.

    :param paths: Bags, tubs, or folders of them.
    :raises BadRecordingError: If one is none, or cannot be used.
    """
    recordings = [open_recording(path, reading) for path in find_recordings(paths)]
    kinds = {recording.commands.steering: recording for recording in recordings}
    if len(kinds) > 1:
        parts = '; '.join(f"'{recording.path}': {kind}" for kind, recording in kinds.items())
        raise BadRecordingError(f'the recordings steer by different quantities ({parts}); give '
                                '--wheelbase to turn steering angles into yaw rates, or train '
                                'on those of one kind')
    return recordings


def open_recording(path: Path, reading: Reading) -> Recording:
    """Open one bag or tub."""
    return (TubRecording if is_tub(path) else BagRecording)(path, reading)


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the bags and tubs at the given paths, and in the folders among them."""
    found = []
    for path in paths:
        if not path.exists():
            raise BadRecordingError(f"'{path}': there is no such file or folder")
        if is_recording(path):
            found.append(path)
            continue
        inside = [each for each in sorted(path.glob('*')) if is_recording(each)]
        if not inside:
            raise BadRecordingError(
                f"'{path}': neither a rosbag2 recording (a folder with metadata.yaml, an .mcap "
                'or .db3 file), nor a DonkeyCar tub (manifest.json or record_*.json), nor a '
                'folder of them')
        found += inside
    return found


def is_recording(path: Path) -> bool:
    """Tell whether something is a bag or a tub."""
    return path.exists() and (is_bag(path) if path.is_file() else is_tub(path) or is_bag(path))


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Take the options of ``Reading``."""
    group = parser.add_argument_group('recordings')
    group.add_argument('--image-topic', default='', metavar='TOPIC',
                       help='frames; without it, the only topic of images there is')
    group.add_argument('--command-topic', default='', metavar='TOPIC',
                       help='commands: Twist, TwistStamped, AckermannDrive, AckermannDriveStamped '
                       'or Joy; without it, the only such topic there is')
    group.add_argument('--stamps', choices=('auto', 'header', 'receive'), default='auto',
                       help="times of the messages: their headers', those of the recorder, or "
                       "headers' where they are set")
    group.add_argument('--steering-axis', type=int, metavar='N', help='axis of a Joy that steers')
    group.add_argument('--throttle-axis', type=int, metavar='N',
                       help='axis of a Joy for the speed')
    group.add_argument('--steering-sign', choices=('usual', 'left', 'right'), default='usual',
                       help='side to which steering of a Joy (usually left) or a tub (usually '
                       'right) is positive')
    group.add_argument('--wheelbase', type=float, default=0.0, metavar='METRES',
                       help='turns the steering angles of Ackermann commands into yaw rates')


def reading_of(arguments: argparse.Namespace) -> Reading:
    """Return what the options ask for."""
    return Reading(arguments.image_topic, arguments.command_topic, arguments.stamps,
                   arguments.steering_axis, arguments.throttle_axis, arguments.steering_sign,
                   arguments.wheelbase)
