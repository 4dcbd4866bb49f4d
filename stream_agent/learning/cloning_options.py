"""The command line of learning from recordings."""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path

from stream_agent.cli.arguments import positive
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.cloning import (
    check_limits, CloningLearner, CloningSchedule, cut_recordings, decoded_recordings,
    episodes_for, limits_of)
from stream_agent.learning.folds import assign_folds
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.recordings.alignment import Alignment, Span
from stream_agent.recordings.cache import CachedRecording
from stream_agent.recordings.sources import add_reading, reading_of


def usual_cache() -> Path:
    """Return where decoded frames are kept if nobody says otherwise."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'stream_agent'


def add_cloning(parser: argparse.ArgumentParser) -> None:
    """Take recordings, how they are read and cut, and how long to learn from them."""
    schedule, augmentation = CloningSchedule(), Augmentation()
    parser.add_argument('--bag', nargs='+', type=Path, default=[], metavar='DIR',
                        help='learn from recordings instead of the simulator: rosbag2 recordings, '
                        'DonkeyCar tubs, or folders of them')
    add_reading(parser)
    add_alignment(parser)
    group = parser.add_argument_group('learning from recordings')
    group.add_argument('--cache', type=Path, default=usual_cache(), metavar='DIR',
                       help='folder of decoded frames')
    group.add_argument('--crop-top', type=float, default=0.0, metavar='SHARE',
                       help="of the image's rows, cut off above")
    group.add_argument('--crop-bottom', type=float, default=0.0, metavar='SHARE',
                       help='the same below')
    group.add_argument('--max-speed', type=float, default=0.0, metavar='V',
                       help='speed of the output 1; 0: the largest recorded')
    group.add_argument('--max-yaw-rate', type=float, default=0.0, metavar='W',
                       help='yaw rate, or whatever steers, of the output 1; 0: likewise')
    group.add_argument('--held-out', type=float, default=0.2, metavar='SHARE',
                       help='of the frames, held out by whole recordings (or episodes, if there '
                       'are too few) to tell how good the policy is')
    group.add_argument('--epochs', type=float, default=schedule.epochs,
                       help='times that all frames are seen')
    group.add_argument('--streams', type=positive, default=schedule.streams, metavar='B',
                       help='episodes walked through side by side')
    group.add_argument('--window', type=positive, default=schedule.window, metavar='T',
                       help='frames through which gradients flow; the state is carried over')
    group.add_argument('--learning-rate', type=float, default=schedule.learning_rate)
    group.add_argument('--loss-weights', type=float, nargs=2, default=schedule.weights,
                       metavar=('SPEED', 'STEERING'), help='of the squared errors')
    group.add_argument('--shift', type=float, default=augmentation.shift, metavar='SHARE',
                       help='augmentation: largest shift sideways, of the width')
    group.add_argument('--steering-per-shift', type=float, metavar='S',
                       default=augmentation.steering_per_shift,
                       help='added to the steering for a shift of the whole width to the left')
    group.add_argument('--no-mirror', action='store_true',
                       help='augmentation: never exchange left and right')
    group.add_argument('--no-augmentation', action='store_true')


def add_alignment(parser: argparse.ArgumentParser) -> None:
    """Take how frames are put together with commands."""
    usual = Alignment()
    group = parser.add_argument_group('alignment of frames and commands')
    group.add_argument('--delay', type=float, default=usual.delay, metavar='SECONDS',
                       help="actuation delay: a frame's command is that of so much later")
    group.add_argument('--interpolation', choices=('hold', 'linear'), default=usual.interpolation,
                       help='the command in force, or a line between two')
    group.add_argument('--longest-gap', type=float, default=usual.longest_gap, metavar='SECONDS',
                       help='between frames of an episode; 0: three camera periods')
    group.add_argument('--oldest-command', type=float, default=usual.oldest_command,
                       metavar='SECONDS', help='age up to which a command is in force')
    group.add_argument('--rate', type=float, default=usual.rate, metavar='HZ',
                       help='of all cameras; 0: that of the first recording')
    group.add_argument('--resample', type=float, default=usual.resample, metavar='HZ',
                       help='pick frames by time, to this rate; 0: refuse other rates')


def alignment_of(arguments: argparse.Namespace) -> Alignment:
    """Return what the options ask for."""
    return Alignment(arguments.delay, arguments.interpolation, arguments.longest_gap,
                     arguments.oldest_command, arguments.rate, arguments.resample)


def make_learner(arguments: argparse.Namespace, network: RolloutNetwork, label: str
                 ) -> CloningLearner:
    """
    Return what the command line asks for, and say what the recordings hold.

    :raises BadRecordingError: If a recording cannot be used.
    """
    preprocessing = Preprocessing(network.shapes[network.input], arguments.crop_top,
                                  arguments.crop_bottom)
    recordings = decoded_recordings(arguments.bag, reading_of(arguments), preprocessing,
                                    arguments.cache)
    found = cut_recordings(recordings, alignment_of(arguments))
    tell(recordings, found)
    least = limits_of(found)
    limits = CommandScale(arguments.max_speed or least.max_speed,
                          arguments.max_yaw_rate or least.max_yaw_rate)
    check_limits(found, limits)
    episodes, held_out = split(episodes_for(found, limits), arguments.held_out)
    schedule = CloningSchedule(
        arguments.epochs, arguments.streams, arguments.window, arguments.learning_rate,
        tuple(arguments.loss_weights), arguments.updates_per_frame)
    augmentation = None if arguments.no_augmentation else Augmentation(
        shift=arguments.shift, steering_per_shift=arguments.steering_per_shift,
        mirror=not arguments.no_mirror)
    return CloningLearner(network, preprocessing, limits, episodes, schedule, augmentation,
                          arguments.seed, label, held_out, recordings[0].steering)


def tell(recordings: Sequence[CachedRecording], found: Sequence[tuple[CachedRecording, Span]]
         ) -> None:
    """Say what the recordings hold; those of which something is left out have a line each."""
    for recording in recordings:
        if recording.left_out:
            print(recording.summary())
    frames = sum(len(span.frames) for _, span in found)
    print(f'{frames:,} frames with a command in {len(found)} episodes of {len(recordings)} '
          'recordings')


def split(episodes: Sequence[RecordedEpisode], share: float
          ) -> tuple[list[RecordedEpisode], list[RecordedEpisode]]:
    """
    Divide into what is learnt from and what is held out, by recordings or else by episodes.

    :raises ValueError: If there are too few even of the latter.
    """
    if not share:
        return list(episodes), []
    if not 0 < share <= 0.5:
        raise ValueError(f'--held-out {share:g}: it is 0 (nothing) to 0.5 (half)')
    names = [episode.name for episode in episodes]
    count = max(2, round(1 / share))
    if len(set(names)) < count:
        names = [f'{name} {number:06}' for number, name in enumerate(names)]
    if len(set(names)) < 2:
        raise ValueError('there is but one episode, so nothing can be held out; give more '
                         'recordings, or --held-out 0')
    folds = assign_folds(names, [len(episode) for episode in episodes],
                         min(count, len(set(names))))
    return ([episode for episode, fold in zip(episodes, folds) if fold],
            [episode for episode, fold in zip(episodes, folds) if not fold])
