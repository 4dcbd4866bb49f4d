"""Command line: write a course of the embedded simulator as a world for Gazebo."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from stream_agent.gazebo.world_folder import write_world
from stream_agent.installation import share_folder
from stream_agent.options import run_tool
from stream_agent.settings import SettingsError
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.settings import Settings
import yaml


def read_settings(path: Path) -> Settings:
    """
    Read what the simulator's parameter file says of course, camera and robot.

    :raises OSError: If it cannot be read.
    :raises SettingsError: If it is no such file, or a value cannot be simulated.
    """
    try:
        sections = yaml.safe_load(path.read_text())
        given = simulation_parameters(sections)
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise SettingsError(f"'{path}' is no parameter file of ROS 2; config/simulation.yaml "
                            'shows what one looks like') from error
    names = {item.name for item in fields(Settings)}
    try:
        return Settings(**{name: value for name, value in given.items() if name in names})
    except SettingsError as error:
        raise SettingsError(f"'{path}': {error}") from None


def simulation_parameters(sections: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the simulation node; more general sections come first."""
    found: dict[str, Any] = {}
    for name in ('/**', '/**/simulation', '/simulation', 'simulation'):
        found |= sections.get(name, {}).get('ros__parameters', {})
    return found


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0 on")
    return int(text)


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='world', description=__doc__)
    parser.add_argument('--seed', type=seed, default=FIRST_HELD_OUT_SEED, metavar='N',
                        help='of the course and its look, as course_seed of the simulation; from '
                        '%(default)s on, training has seen none (%(default)s)')
    parser.add_argument('--params-file', type=Path, metavar='FILE',
                        default=share_folder() / 'config' / 'simulation.yaml',
                        help='parameters of the embedded simulator, for the same camera and robot '
                        '(the shipped ones)')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='gets the world, both robots, the bridge and the course')
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Write the folder, and say how to drive there."""
    arguments = parse(args)

    def write() -> None:
        write_world(read_settings(arguments.params_file), arguments.seed, arguments.output)
        print(f'wrote {arguments.output}; drive there:\n'
              f'  ros2 launch stream_agent gazebo.launch.py world:={arguments.output.resolve()}')
    return run_tool('world', write)
