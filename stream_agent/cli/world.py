"""Command line: write a course of the embedded simulator as a world for Gazebo."""

import argparse
from pathlib import Path

from stream_agent.cli.arguments import add_robot, not_negative, robot_settings, run_tool
from stream_agent.gazebo.world_folder import write_world
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='world', description=__doc__)
    parser.add_argument('--seed', type=not_negative, default=FIRST_HELD_OUT_SEED, metavar='N',
                        help='of the course and its look, as course_seed of the simulation; from '
                        '%(default)s on, training has seen none (%(default)s)')
    add_robot(parser)
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='gets the world, both robots, the bridge and the course')
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Write the folder, and say how to drive there."""
    arguments = parse(args)

    def write() -> None:
        write_world(robot_settings(arguments.robot), arguments.seed, arguments.output)
        print(f'wrote {arguments.output}; drive there:\n'
              f'  ros2 launch stream_agent gazebo.launch.py world:={arguments.output.resolve()}')
    return run_tool('world', write)
