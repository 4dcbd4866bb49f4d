"""
The main job: a trained policy drives in the simulator, and is compared with its baseline.

Where ROS 2 has its launch tools this is ``ros2 launch stream_agent simulation.launch.py``.
Elsewhere the same processes are started here, with the same names, parameters and remappings.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from importlib.util import find_spec
import os
from pathlib import Path
import shutil
import signal
import sys

from stream_agent.bounded_settings import choice, file_path, free_text
from stream_agent.cli.arguments import add_settings
from stream_agent.cli.process_group import ProcessGroup
from stream_agent.share import InstallationError, installed_share, policy_file, share_folder
from stream_agent.simulation.session import SessionSchedule

# The recorder needs time for its report.
STOP_TIMEOUT = 5.0
REPORT_TIMEOUT = 20.0
NO_POLICY = Path('none')


@dataclass(frozen=True)
class RunOptions:
    """Who drives, and what becomes of it."""

    output: Path = file_path(Path('results'), 'folder for the report', 'DIR')
    checkpoint: Path = file_path(
        Path('lane_streaming'), 'policy that drives: a file, or a name in config/policies')
    baseline: Path = file_path(
        Path('lane_sequential'), "policy that it is compared with, or 'none'")
    device: str = free_text('auto', "torch device: 'auto', 'cpu', 'cuda:0'", 'DEVICE')
    without_launch: bool = choice(
        False, 'start the processes from here even where ROS 2 could')


def parser() -> ArgumentParser:
    """Describe the command line."""
    result = ArgumentParser('stream_agent run')
    add_settings(result, SessionSchedule(duration=45.0), only=['duration', 'course_seed'],
                 course_seed='seed')
    add_settings(result, RunOptions)
    return result


def has_launch() -> bool:
    """Say whether ``ros2 launch`` is there and finds this package."""
    return bool(find_spec('launch_ros') and find_spec('ros2launch') and shutil.which('ros2')
                and installed_share())


def launch_command(options: Namespace) -> list[str]:
    """Return the command that starts everything where ROS 2 has its launch tools."""
    return ['ros2', 'launch', 'stream_agent', 'simulation.launch.py',
            f'duration:={options.duration}', f'course_seed:={options.course_seed}',
            f'output:={options.output}', f'checkpoint:={options.checkpoint}',
            f'baseline:={options.baseline}', f'device:={options.device}']


def node_commands(options: Namespace, config: Path) -> dict[str, list[str]]:
    """
    Return the commands of all processes; launch/simulation.launch.py in other words.

    :param config: The folder of the parameter files.
    :returns: By name; in the order in which they are started.
    """
    policy = {'device': options.device, 'autostart': True}
    shadow = ['-r', 'policy_command:=baseline/policy_command']
    robot, simulation = ['robot.yaml', 'simulation.yaml'], ['simulation.yaml']

    def command(executable, name, files, parameters, remappings=()):
        return [sys.executable, '-m', 'stream_agent', executable, '--ros-args',
                '-r', f'__node:={name}', *remappings,
                *[word for file in files for word in ('--params-file', str(config / file))],
                *[word for key, value in parameters.items()
                  for word in ('-p', f'{key}:={str(value).lower() if value is True else value}')]]

    commands = {
        'recorder': command('recorder', 'recorder', robot, {'output': options.output}),
        'gate': command('gate', 'gate', robot, {}),
        'agent': command('agent', 'agent', robot, {'checkpoint': options.checkpoint, **policy}),
        'baseline': command('agent', 'baseline', robot,
                            {'checkpoint': options.baseline, **policy}, shadow),
        'simulation': command('simulation', 'simulation', simulation,
                              {'duration': options.duration, 'course_seed': options.course_seed}),
    }
    if options.baseline == NO_POLICY:
        del commands['baseline']
        # Agent and recorder are all that it has to wait for.
        commands['simulation'] += ['-p', 'start_subscribers:=2']
    return commands


def drive(group: ProcessGroup, commands: dict[str, list[str]]) -> None:
    """Start all processes, wait for the end of the simulation, and stop the others."""
    for name, command in commands.items():
        # The recorder's tables are to be read as they are.
        group.start(name, command, '' if name == 'recorder' else f'[{name}] ')
    group.wait(until='simulation')
    # The recorder last, so that it sees everything.
    group.stop([name for name in commands if name != 'recorder'], STOP_TIMEOUT)
    group.stop(['recorder'], REPORT_TIMEOUT)


def launch(group: ProcessGroup, command: list[str]) -> None:
    """Let ROS 2 do all of that; on SIGTERM it would orphan its processes."""
    group.start('ros2 launch', command)
    group.wait(until='ros2 launch')
    group.stop(['ros2 launch'], STOP_TIMEOUT + REPORT_TIMEOUT)


def main(args: list[str] | None = None) -> int:
    """
    Run the main job until its time is over, or until SIGINT or SIGTERM.

    :returns: The exit code: 1 if a process crashed.
    """
    options = parser().parse_args(args)
    # Nobody else's robot shall listen, unless that was asked for.
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    try:
        share = share_folder()
        options.checkpoint = policy_file(options.checkpoint)
        if options.baseline != NO_POLICY:
            options.baseline = policy_file(options.baseline)
    except InstallationError as error:
        print(f'stream_agent run: {error}', file=sys.stderr)
        return 1
    options.output = options.output.resolve()
    group = ProcessGroup()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: group.leave())
    if has_launch() and not options.without_launch:
        launch(group, launch_command(options))
    else:
        drive(group, node_commands(options, share / 'config'))
    for sentence in group.failures:
        print(f'stream_agent run: {sentence}', file=sys.stderr)
    return 1 if group.failures else 0
