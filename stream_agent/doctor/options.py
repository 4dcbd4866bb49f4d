"""The command line of the doctor."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.exceptions import NameValidationException
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_topic_name import validate_topic_name
from stream_agent.bounded_settings import choice, file_path, free_text, quantity, several
from stream_agent.cli.arguments import add_settings, refuse_given
from stream_agent.cli.command_parser import CommandParser
from stream_agent.nodes.process import ros_fault
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.share import (
    check_parameter_files, find_robot, InstallationError, ParameterFileError, share_folder)

PURPOSE = 'Say before the first drive what is wrong with a robot, and how to fix it.'


#: What is said of recordings, as to `train`; the option for images is that for the robot's.
ALSO = {'recordings': Reading, 'alignment of frames and commands': Alignment}
OWN = ['image_topic']


def valid(validate: Callable[[str], object], text: str) -> str:
    """Return a name that ROS allows; otherwise say what is wrong with it."""
    try:
        validate(text)
    except NameValidationException as fault:
        raise argparse.ArgumentTypeError(' '.join(str(fault).split())) from None
    return text


def namespace(text: str) -> str:
    """Convert an argument, with or without its slash, to a namespace; '' for none."""
    return valid(validate_namespace, f"/{text.strip('/')}").rstrip('/')


@dataclass(frozen=True)
class DoctorOptions:
    """What the doctor examines, for how long, and how it reports."""

    robot: str = free_text('none', 'as robot:= of agent.launch.py: one of config/robots, or a '
                           'file', 'NAME|FILE')
    params_file: Path | None = file_path(None, 'parameters that override those of the robot')
    checkpoint: str = free_text(
        'lane_streaming', 'policy: a file, or a name in config/policies', 'NAME|FILE')
    device: str | None = free_text(
        None, "torch device: 'auto', 'cpu', 'cuda:0', ...; without it the agent's, or auto",
        'DEVICE')
    output: Path = file_path(Path('results'), 'folder of the recordings', 'DIR')
    seconds: float = quantity(5.0, 's', 0.5, 3600.0, 'how long to watch the camera')
    wait: float = quantity(10.0, 's', 0.5, 3600.0, 'for frames, a base or odometry that are not '
                           'there yet')
    bag: tuple[Path, ...] = several((), 'examine recordings (rosbag2, DonkeyCar tubs, or folders '
                                    'of them) instead of a robot', 'DIR', Path)
    wheels_up: bool = choice(False, 'the wheels are off the ground and may turn: find out whether '
                             'the base stops by itself')
    json: bool = choice(False, 'print it for a program')


def parse(args: list[str]) -> argparse.Namespace:
    """Parse the command line without the arguments that are for ROS."""
    parser = CommandParser('doctor', PURPOSE)
    add_settings(parser, DoctorOptions)
    topic = partial(valid, validate_topic_name)
    parser.add_argument('--image-topic', type=topic, help="frames (the robot's, or image)")
    parser.add_argument('--cmd-vel-topic', type=topic,
                        help="commands to the base (the robot's, or cmd_vel)")
    parser.add_argument('--odom-topic', type=topic, default='odom',
                        help='odometry, for --wheels-up (%(default)s)')
    parser.add_argument('--namespace', type=namespace, default='', help='of the robot')
    for title, kind in ALSO.items():
        add_settings(parser.add_argument_group(f'{title}, with --bag'), kind, without=OWN)
    try:
        check_parameter_files(args)
        options = parser.parse_args(remove_ros_args(['doctor', *args])[1:])
        options.robot_file = (share_folder() / 'config' / 'robot.yaml' if options.robot == 'none'
                              else find_robot(options.robot, share_folder() / 'config' / 'robots'))
    except (InstallationError, ParameterFileError) as fault:
        parser.error(str(fault))
    except RuntimeError as fault:
        parser.error(ros_fault(fault))
    if options.bag:
        refuse_given(parser, options, DoctorOptions, 'this has an effect only without --bag',
                     ('bag', 'json'))
    else:
        for kind in ALSO.values():
            refuse_given(parser, options, kind, 'this has an effect only with --bag', OWN)
    return options
