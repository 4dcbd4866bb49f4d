"""
The main job: a trained policy drives in the simulator, and is compared with its baseline.

Where ROS 2 has its launch tools this is ``ros2 launch stream_agent simulation.launch.py``.
Elsewhere the same processes are started here, with the same names, parameters and remappings.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
import json
import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import TextIO

from stream_agent.bounded_settings import (
    choice, file_path, free_text, quantity, settings_fields, several)
from stream_agent.cli.arguments import (
    add_robot, add_settings, in_words, make_output, robot_settings, STOPPED)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.cli.own_domain import keep_to_itself, RunMark, take_domain
from stream_agent.cli.process_group import begin, ProcessGroup
from stream_agent.share import (
    find_robot, installed_share, ParameterFiles, policy_file, refuse_empty, share_folder)
from stream_agent.simulation.session import SessionSchedule
from stream_agent.simulation.settings import SimulationSettings

# Time that a process has to leave [s].
STOP_TIMEOUT = 5.0
# The recorder's report may take as long as it likes, but not without doing anything [s].
REPORT_TIMEOUT = 30.0
# Between the signal to those that drive and that to the recorder, if time is short [s].
HEAD_START = 0.3
NO_POLICY = Path('none')
# What is being done since a process said so.
STAGES = {'driving': ': driving ', 'writing the report': ": recorded to '"}
# Between two lines that say so where there is no terminal [s].
QUIET_PERIOD = 15.0
# The highest that DDS can make ports of.
LAST_DOMAIN = 232


@dataclass(frozen=True)
class RunOptions:
    """Who drives, and what becomes of it."""

    output: Path = file_path(Path('results'), 'folder for the report', 'DIR')
    checkpoint: Path = file_path(
        Path('lane_streaming'), 'policy that drives: a file, or a name in config/policies')
    baseline: tuple[Path, ...] = several(
        (Path('lane_sequential'),), "policies that it is compared with; 'none': with none of "
        'those before', 'FILE', Path)
    rate: float | None = quantity(
        None, 'Hz', 10.0, 120.0, "images of the camera a second; without it, the robot's",
        whole=False)
    params_file: tuple[Path, ...] = several(
        (), 'parameter files for all processes, which override those of the package and of the '
        'robot', 'FILE', Path)
    allow: tuple[str, ...] = several(
        (), 'transforms of your own that the policies may import and run, by their dotted names')
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


class Progress:
    """
    Says how far a run is: in one line on a terminal, otherwise in a line now and then.

    :param duration: Of the drive; 0: until stopped [s].
    """

    def __init__(self, duration: float, stream: TextIO = sys.stderr,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._duration, self._stream, self._clock = duration, stream, clock
        self._terminal = stream.isatty()
        self._period = 0.5 if self._terminal else QUIET_PERIOD
        self._doing = 'starting'
        self._since = self._said_at = clock()

    def show(self, line: str) -> None:
        """Print what a process says, in place of the line on the terminal."""
        for doing, words in STAGES.items():
            if words in line:
                self._doing, self._since = doing, self._clock()
        self.clear()
        print(line, flush=True)

    def clear(self) -> None:
        """Take the line from the terminal."""
        if self._terminal:
            self._write('\r\x1b[K')

    def tick(self) -> None:
        """Say how far the run is, if that has not been said for a while."""
        now = self._clock()
        if now - self._said_at < self._period:
            return
        self._said_at = now
        of = (f' of {self._duration:g}' if self._duration and self._doing == 'driving' else '')
        said = f'stream_agent run: {self._doing}, {now - self._since:.0f}{of} s'
        self._write(f'\r\x1b[K{said}' if self._terminal else f'{said}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def parse(args: list[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = CommandParser('stream_agent run', __doc__)
    add_settings(parser, SessionSchedule(duration=45.0), only=['duration', 'course_seed'],
                 course_seed='seed')
    add_settings(parser, RunOptions)
    add_robot(parser)
    options = parser.parse_args(args)
    while NO_POLICY in options.baseline:
        # Of those before it none is wanted any more, as with options that are given twice.
        options.baseline = options.baseline[options.baseline.index(NO_POLICY) + 1:]
    return options


def has_launch() -> bool:
    """Say whether ``ros2 launch`` is there and finds this package."""
    return bool(find_spec('launch_ros') and find_spec('ros2launch') and shutil.which('ros2')
                and installed_share())


def needs_own_processes(options: Namespace) -> bool:
    """Say whether more is asked for than simulation.launch.py has arguments for."""
    return bool(options.without_launch or options.rate or options.robot or options.params_file
                or options.allow or len(options.baseline) > 1)


def launch_command(options: Namespace) -> list[str]:
    """Return the command that starts everything where ROS 2 has its launch tools."""
    baseline = options.baseline[0] if options.baseline else NO_POLICY
    return ['ros2', 'launch', 'stream_agent', 'simulation.launch.py',
            f'duration:={options.duration}', f'course_seed:={options.course_seed}',
            f'output:={options.output}', f'checkpoint:={options.checkpoint}',
            f'baseline:={baseline}', f'device:={options.device}',
            f'allow_foreign_listeners:={in_yaml(options.allow_foreign_listeners)}']


def in_yaml(value: object) -> str:
    """Write the value of a parameter for ROS, such that text stays text: YAML reads JSON."""
    return json.dumps(str(value) if isinstance(value, Path) else value)


def node_commands(options: Namespace, config: Path) -> dict[str, list[str]]:
    """
    Return the commands of all processes; launch/simulation.launch.py in other words.

    :param config: The folder of the parameter files.
    :returns: By name; in the order in which they are started.
    """
    baselines = {f'baseline_{number}' if number > 1 else 'baseline': path
                 for number, path in enumerate(options.baseline, 1)}
    # Of a robot that is named, the limits hold in the simulator, too.
    drives = [config / 'robot.yaml', (find_robot(options.robot, config / 'robots')
                                      if options.robot else config / 'simulation.yaml')]
    period = {'camera_period': 1 / options.rate} if options.rate else {}
    # What the simulator sends and hears, whatever the robot does.
    sees, heard = {'image_transport': 'raw', **period}, {'command_type': 'twist_stamped'}
    policy = {'device': options.device, 'autostart': True, 'allow': ','.join(options.allow),
              **sees}

    def command(executable, name, parameters, files=drives, remappings=()):
        return [sys.executable, '-m', 'stream_agent', executable, '--ros-args',
                '-r', f'__node:={name}', *remappings,
                *[word for file in (*files, *options.params_file)
                  for word in ('--params-file', str(file))],
                # With the name, or sections of files that have it are stronger.
                *[word for key, value in parameters.items()
                  for word in ('-p', f'{name}:{key}:={in_yaml(value)}')]]

    policies = ['agent=policy_command', *(f'{name}={name}/policy_command' for name in baselines)]
    return {
        'recorder': command('recorder', 'recorder', {
            'output': options.output, 'policies': policies, **sees, **heard}),
        'gate': command('gate', 'gate', heard | period),
        'agent': command('agent', 'agent', {'checkpoint': options.checkpoint, **policy}),
        **{name: command('agent', name, {'checkpoint': path, **policy}, remappings=(
            '-r', f'policy_command:={name}/policy_command')) for name, path in baselines.items()},
        'simulation': command(
            'simulation', 'simulation', simulated(options), [config / 'simulation.yaml'])}


def simulated(options: Namespace) -> dict[str, object]:
    """Return the parameters of the simulator that the command line decides on."""
    given: dict[str, object] = {}
    if options.robot:
        robot = robot_settings(options.robot)
        given = {item.name: getattr(robot, item.name)
                 for item in settings_fields(SimulationSettings)}
    return given | ({'rate': options.rate} if options.rate else {}) | {
        'duration': options.duration, 'course_seed': options.course_seed,
        'allow_foreign_listeners': options.allow_foreign_listeners,
        # Agent, recorder and baselines are all that it has to wait for.
        'start_subscribers': 2 + len(options.baseline)}


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
    options = parse(args)
    progress, report = Progress(options.duration), Report()
    group = ProcessGroup(progress.show, progress.tick)
    try:
        config = share_folder() / 'config'
        check_files(options)
        # Everything that they name is there, before anything is started.
        commands = node_commands(options, config)
        mark = choose_domain(options)
    except (OSError, ValueError) as error:
        say(in_words(error))
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: group.leave())
    warning = ('another run is active on this machine; both share its processors, so latencies '
               'are not those of a run alone')
    if mark.met_others:
        say(warning)
    if has_launch() and not needs_own_processes(options):
        launch(group, launch_command(options), report)
    else:
        drive(group, commands, report)
    progress.clear()
    if mark.others():
        say(warning.replace('is active', 'was active'))
    mark.close()
    faults = [*group.failures, *filter(None, [report.fault])]
    for sentence in faults:
        say(sentence)
    return STOPPED if group.interrupted else 1 if faults else 0


def check_files(options: Namespace) -> None:
    """
    Find policies by their names, and refuse files that cannot be used, before anything starts.

    :raises ValueError: If one of them cannot be read.
    :raises OSError: If the output cannot be written.
    """
    options.checkpoint = policy_file(options.checkpoint)
    options.baseline = [policy_file(path) for path in options.baseline]
    for path in (options.checkpoint, *options.baseline):
        check_policy(path)
    options.params_file = [Path(os.path.abspath(path.expanduser()))
                           for path in options.params_file]
    for path in options.params_file:
        refuse_empty(path)
    for stray in ParameterFiles(options.params_file).strays(''):
        if stray.meant:
            raise ValueError(str(stray))
    options.output = make_output(options.output).resolve()


def check_policy(path: Path) -> None:
    """Refuse what cannot be a policy, without torch, which takes seconds to import."""
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if not file.read(1) == b'{' or length > path.stat().st_size - 8:
            from stream_agent.network.checkpoint import load_policy
            load_policy(path)  # says what it is instead
