"""Command line: write a course of the embedded simulator as a world for Gazebo."""

import argparse
from pathlib import Path

from stream_agent.cli.arguments import add_robot, add_settings, command, robot_settings
from stream_agent.cli.command_parser import CommandParser
from stream_agent.gazebo.world_folder import write_world
from stream_agent.simulation.session import SessionSchedule


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('world', __doc__)
    add_settings(parser, SessionSchedule, only=['course_seed'], course_seed='seed')
    add_robot(parser)
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='gets the world, both robots, the bridge and the course')
    return parser.parse_args(args)


def run(arguments: argparse.Namespace) -> None:
    """Write the folder, and say how to drive there."""
    write_world(robot_settings(arguments.robot), arguments.course_seed, arguments.output)
    print(f'wrote {arguments.output}; drive there:\n'
          f'  ros2 launch stream_agent gazebo.launch.py world:={arguments.output.resolve()}')


main = command('world', parse, run)
