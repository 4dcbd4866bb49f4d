"""The command line of the doctor."""

import argparse
import math
from pathlib import Path

from rclpy.exceptions import InvalidNamespaceException, InvalidTopicNameException
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace
from rclpy.validate_topic_name import validate_topic_name
from stream_agent.share import find_robot, InstallationError, ParameterFileError, share_folder

PURPOSE = 'Say before the first drive what is wrong with a robot, and how to mend it.'


def topic(text: str) -> str:
    """Read the name of a topic."""
    try:
        validate_topic_name(text)
    except InvalidTopicNameException as fault:
        raise argparse.ArgumentTypeError(' '.join(str(fault).split())) from None
    return text


def namespace(text: str) -> str:
    """Read a namespace, with or without its slash; '' for none."""
    name = text.strip('/')
    try:
        validate_namespace(f'/{name}')
    except InvalidNamespaceException as fault:
        raise argparse.ArgumentTypeError(' '.join(str(fault).split())) from None
    return f'/{name}' if name else ''


def seconds(text: str) -> float:
    """Read a time to watch or to wait."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 0.5 to 3600")
    return value


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line; what ROS reads of it is left out."""
    parser = argparse.ArgumentParser(prog='doctor', description=PURPOSE)
    parser.add_argument('--robot', default='none', metavar='NAME|FILE',
                        help='as robot:= of agent.launch.py: one of config/robots, or a file')
    parser.add_argument('--params-file', type=Path, metavar='FILE',
                        help='parameters that override those of the robot')
    parser.add_argument('--image-topic', type=topic, help="frames (the robot's, or image)")
    parser.add_argument('--cmd-vel-topic', type=topic,
                        help="commands to the base (the robot's, or cmd_vel)")
    parser.add_argument('--odom-topic', type=topic, default='odom',
                        help='odometry, for --wheels-up (%(default)s)')
    parser.add_argument('--namespace', type=namespace, default='', help='of the robot')
    parser.add_argument('--checkpoint', default='lane_streaming', metavar='NAME|FILE',
                        help='policy: a file, or a name in config/policies (%(default)s)')
    parser.add_argument('--device', help="torch device: 'auto', 'cpu', 'cuda:0', ... (the "
                        "agent's, or auto)")
    parser.add_argument('--output', type=Path, default=Path('results'), metavar='DIR',
                        help='folder of the recordings (%(default)s)')
    parser.add_argument('--seconds', type=seconds, default=5.0,
                        help='how long to watch the camera (%(default)s)')
    parser.add_argument('--wait', type=seconds, default=10.0, metavar='SECONDS',
                        help='for frames, a base or odometry that are not there yet '
                        '(%(default)s)')
    parser.add_argument('--wheels-up', action='store_true', help='the wheels are off the ground '
                        'and may turn: find out whether the base stops by itself')
    parser.add_argument('--json', action='store_true', help='print it for a program')
    try:
        options = parser.parse_args(remove_ros_args(['doctor', *args])[1:])
        options.robot_file = (share_folder() / 'config' / 'robot.yaml' if options.robot == 'none'
                              else find_robot(options.robot, share_folder() / 'config' / 'robots'))
    except (InstallationError, ParameterFileError, RuntimeError) as fault:
        # ROS's own arguments make a RuntimeError.
        parser.error(str(fault))
    return options
