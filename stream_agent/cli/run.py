"""
The main job: a trained policy drives in the simulator, and is compared with its baseline.

Where ROS 2 has its launch tools this is ``ros2 launch stream_agent simulation.launch.py``.
Elsewhere the same processes are started here, with the same names, parameters and remappings.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import sys

from stream_agent.bounded_settings import choice, file_path, free_text, quantity
from stream_agent.cli.arguments import add_settings, STOPPED
from stream_agent.cli.own_domain import keep_to_itself, RunMark, take_domain
from stream_agent.cli.process_group import begin, ProcessGroup
from stream_agent.share import InstallationError, installed_share, policy_file, share_folder
from stream_agent.simulation.session import SessionSchedule

# Time that a process has to leave [s].
STOP_TIMEOUT = 5.0
# The recorder's report may take as long as it likes, but not without doing anything [s].
REPORT_TIMEOUT = 30.0
# Between the signal to those that drive and that to the recorder, if time is short [s].
HEAD_START = 0.3
NO_POLICY = Path('none')
# The highest that DDS can make ports of.
LAST_DOMAIN = 232


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
    domain: int | None = quantity(
        None, '', 0, LAST_DOMAIN, 'ROS domain to run in; without it, and without ROS_DOMAIN_ID, '
        'one that nobody on this machine is in', whole=True)
    allow_foreign_listeners: bool = choice(
        False, 'drive although other nodes of the domain listen to cmd_vel, such as the base of '
        'a real robot')


class Report:
    """Whether there is a report, from what the recorder says."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.written = False

    def hear(self, line: str) -> None:
        """Take notice of a line."""
        if found := re.search(r"recording .* to '(.+)'$", line):
            self.folder = Path(found[1])
        self.written |= re.search(r'(^|\s)report: /', line) is not None

    @property
    def fault(self) -> str:
        """Return a sentence that says how to make a report that is missing; empty if none is."""
        if self.written or self.folder is None:
            return ''
        return ('the report was not written; make it from what was recorded: '
                f'python -m stream_agent.measurement.report {shlex.quote(str(self.folder))}')


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
            f'baseline:={options.baseline}', f'device:={options.device}',
            f'allow_foreign_listeners:={in_yaml(options.allow_foreign_listeners)}']


def in_yaml(value: object) -> str:
    """Write the value of a parameter for ROS."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
                  for word in ('-p', f'{key}:={in_yaml(value)}')]]

    commands = {
        'recorder': command('recorder', 'recorder', robot, {'output': options.output}),
        'gate': command('gate', 'gate', robot, {}),
        'agent': command('agent', 'agent', robot, {'checkpoint': options.checkpoint, **policy}),
        'baseline': command('agent', 'baseline', robot,
                            {'checkpoint': options.baseline, **policy}, shadow),
        'simulation': command('simulation', 'simulation', simulation,
                              {'duration': options.duration, 'course_seed': options.course_seed,
                               'allow_foreign_listeners': options.allow_foreign_listeners}),
    }
    if options.baseline == NO_POLICY:
        del commands['baseline']
        # Agent and recorder are all that it has to wait for.
        commands['simulation'] += ['-p', 'start_subscribers:=2']
    return commands


def drive(group: ProcessGroup, commands: dict[str, list[str]], report: Report) -> None:
    """Start all processes, wait for the end of the simulation, and stop the others."""
    for name, command in commands.items():
        # The recorder's tables are to be read as they are.
        group.start(name, command, '' if name == 'recorder' else f'[{name}] ',
                    report.hear if name == 'recorder' else bool)
    group.wait(until='simulation')
    # The recorder last, so that it sees everything.
    others = [name for name in commands if name != 'recorder']
    if group.interrupted:
        group.ask(others, HEAD_START)
        group.ask(['recorder'])
    group.stop(others, STOP_TIMEOUT)
    group.stop(['recorder'], REPORT_TIMEOUT, patient=True, done=lambda: report.written)


def launch(group: ProcessGroup, command: list[str], report: Report) -> None:
    """Let ROS 2 do all of that; on SIGTERM it would orphan its processes."""
    group.start('ros2 launch', command, hear=report.hear, number=signal.SIGINT)
    group.wait(until='ros2 launch')
    group.stop(['ros2 launch'], STOP_TIMEOUT, patient=True, done=lambda: report.written)


def choose_domain(options: Namespace) -> RunMark:
    """
    Choose the ROS domain for this process and its children, and say how to look into it.

    :raises ForeignListenerError: If the user chose it, and a node in it listens to ``cmd_vel``.
    :raises OSError: If no domain is free.
    """
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if options.domain is not None:
        os.environ['ROS_DOMAIN_ID'] = str(options.domain)
    if not os.environ.get('ROS_DOMAIN_ID'):
        domain, mark = take_domain()
        keep_to_itself(os.environ, domain)
        # Who comes into this domain has been told that it is the simulator's.
        options.allow_foreign_listeners = True
        say(f'in ROS domain {domain}, on this machine only; to look in: ROS_DOMAIN_ID={domain} '
            'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST rqt')
        return mark
    if not options.allow_foreign_listeners:
        refuse_foreign_listeners(os.environ['ROS_DOMAIN_ID'])
    return RunMark(f'process/{os.getpid()}')


class ForeignListenerError(ValueError):
    """A node that might move a real robot; the message says which, and what to do."""


def refuse_foreign_listeners(domain: str) -> None:
    """Raise ForeignListenerError if a node listens to cmd_vel before any of ours is started."""
    # In a process of its own, as this one knows no ROS.
    probe = subprocess.run(
        [sys.executable, '-m', 'stream_agent.nodes.listeners'], capture_output=True, text=True,
        preexec_fn=partial(begin, os.getpid(), signal.SIGTERM))
    if probe.returncode:
        raise OSError(f'nobody could look who listens to cmd_vel: {probe.stderr.strip()}')
    if found := probe.stdout.strip():
        raise ForeignListenerError(
            f'in ROS domain {domain}: {found}; nothing was started. Leave out --domain and '
            'ROS_DOMAIN_ID for a domain of its own, or say --allow-foreign-listeners if it cannot '
            'move anything')


def say(sentence: str) -> None:
    """Print a sentence to those who wait."""
    print(f'stream_agent run: {sentence}', file=sys.stderr, flush=True)


def main(args: list[str] | None = None) -> int:
    """
    Run the main job until its time is over, or until SIGINT or SIGTERM.

    :returns: The exit code: 1 if a process crashed or there is no report, 130 after a signal.
    """
    options = parser().parse_args(args)
    group, report = ProcessGroup(), Report()
    try:
        share = share_folder()
        options.checkpoint = policy_file(options.checkpoint)
        if options.baseline != NO_POLICY:
            options.baseline = policy_file(options.baseline)
        options.output = options.output.resolve()
        mark = choose_domain(options)
    except (InstallationError, ForeignListenerError, OSError) as error:
        say(str(error))
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: group.leave())
    warning = ('another run is active on this machine; both share its processors, so latencies '
               'are not those of a run alone')
    if mark.met_others:
        say(warning)
    if has_launch() and not options.without_launch:
        launch(group, launch_command(options), report)
    else:
        drive(group, node_commands(options, share / 'config'), report)
    if mark.others():
        say(warning.replace('is active', 'was active'))
    mark.close()
    faults = [*group.failures, *filter(None, [report.fault])]
    for sentence in faults:
        say(sentence)
    return STOPPED if group.interrupted else 1 if faults else 0
