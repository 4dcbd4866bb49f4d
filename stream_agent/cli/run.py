"""
The main job: policies drive the same course past the same signs, each alone, and are scored.

With ``--shadow`` one policy drives, and baselines see the same frames in its shadow. Where ROS 2
has its launch tools that is ``ros2 launch stream_agent simulation.launch.py``; elsewhere the same
processes are started here, with the same names, parameters and remappings.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
import os
from pathlib import Path
import shutil
import signal

from stream_agent.bounded_settings import (
    choice, file_path, free_text, quantity, settings_fields, several)
from stream_agent.cli.arguments import (
    add_robot, add_settings, add_shared, given, in_words, make_output, option_of, refuse_given,
    robot_settings, STOPPED)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.cli.own_domain import (
    choose_domains, Domain, how_to_look_in, LAST_DOMAIN)
from stream_agent.cli.process_group import in_yaml, node_command, ProcessGroup, STOP_TIMEOUT
from stream_agent.cli.road_run import RoadOptions, RoadRun
from stream_agent.cli.robot_contract import simulated, trigger_of_policy
from stream_agent.cli.run_progress import Progress, Report, say
from stream_agent.contract.contract import Contract
from stream_agent.share import (
    find_robot, installed_share, ParameterFiles, policy_file, refuse_empty, share_folder)
from stream_agent.simulation.session import SessionSchedule
from stream_agent.simulation.settings import SimulationSettings

NO_POLICY = Path('none')


@dataclass(frozen=True)
class RunOptions:
    """Where all happens, and what becomes of it."""

    shadow: bool = choice(
        False, 'let one policy drive, and baselines answer the same frames in its shadow; without '
        'it, policies drive alone, on a computer that is emulated')
    output: Path = file_path(Path('results'), 'folder for the report', 'DIR')
    params_file: tuple[Path, ...] = several(
        (), 'parameter files for all processes, which override those of the package and of the '
        'robot', 'FILE', Path)
    allow: tuple[str, ...] = several(
        (), 'transforms of your own that the policies may import and run, by their dotted names')
    device: str = free_text('auto', "torch device: 'auto', 'cpu', 'cuda:0'", 'DEVICE')
    domain: int | None = quantity(
        None, '', 0, LAST_DOMAIN, 'ROS domain to run in, of several drives the first, and the '
        'others follow; without it, and without ROS_DOMAIN_ID, those that nobody on this machine '
        'is in', whole=True)
    allow_foreign_listeners: bool = choice(
        False, 'drive although other nodes of the domain listen to cmd_vel, such as the base of '
        'a real robot')


@dataclass(frozen=True)
class ShadowOptions:
    """Who drives, and who is in the shadow; to give one of these implies ``--shadow``."""

    checkpoint: Path | None = file_path(
        None, 'policy that drives: a file, or a name in config/policies (default lane_streaming)')
    baseline: tuple[Path, ...] = several(
        (), "policies that it is compared with (default lane_sequential); 'none': with none of "
        'those before', 'FILE', Path)
    rate: float | None = quantity(
        None, 'Hz', 10.0, 120.0, "images of the camera a second; without it, the robot's",
        whole=False)
    without_launch: bool = choice(
        False, 'start the processes from here even where ROS 2 could')


# Of the drive [s].
DURATIONS = {'each alone': SessionSchedule(duration=75.0),
             'with --shadow': SessionSchedule(duration=45.0)}


def parse(args: list[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = CommandParser('stream_agent run', __doc__)
    add_shared(parser, ['duration'], DURATIONS)
    add_settings(parser, SessionSchedule, only=['course_seed'], course_seed='seed')
    add_settings(parser, RunOptions)
    add_settings(parser.add_argument_group(
        'each alone', 'who drives, and on which computer'), RoadOptions)
    shadow = parser.add_argument_group('in the shadow', 'to give one of these implies --shadow')
    add_settings(shadow, ShadowOptions)
    add_robot(shadow)
    options = parser.parse_args(args)
    implied = [option_of(item) for item in settings_fields(ShadowOptions)
               if given(options, item) != item.default] + ['--robot'] * bool(options.robot)
    if options.shadow or implied:
        why = '--shadow' if options.shadow else f'{implied[0]}, which implies --shadow'
        refuse_given(parser, options, RoadOptions,
                     f'holds for policies that each drive alone; leave out this option, or {why}')
    options.implied_by = '' if options.shadow or not implied else implied[0]
    options.shadow = bool(options.shadow or implied)
    complete(options)
    return options


def complete(options: Namespace) -> None:
    """Set what the command line leaves open, where that depends on how policies are compared."""
    if options.duration is None:
        options.duration = DURATIONS['with --shadow' if options.shadow else 'each alone'].duration
    options.checkpoint = options.checkpoint or Path('lane_streaming')
    options.baseline = options.baseline or [Path('lane_sequential')]
    while NO_POLICY in options.baseline:
        # Of those before it none is wanted any more, as with options that are given twice.
        options.baseline = options.baseline[options.baseline.index(NO_POLICY) + 1:]


def has_launch() -> bool:
    """Say whether ``ros2 launch`` is there and finds this package."""
    return bool(find_spec('launch_ros') and find_spec('ros2launch') and shutil.which('ros2')
                and installed_share())


def needs_own_processes(options: Namespace) -> bool:
    """Say whether more is asked for than simulation.launch.py has arguments for."""
    return bool(options.without_launch or options.rate or options.robot or options.params_file
                or options.allow or len(options.baseline) > 1)


def launch_command(options: Namespace, is_ours: bool = False) -> list[str]:
    """
    Return the command that starts everything where ROS 2 has its launch tools.

    :param is_ours: Whether who comes into the domain knows that it is the simulator's.
    """
    baseline = options.baseline[0] if options.baseline else NO_POLICY
    return ['ros2', 'launch', 'stream_agent', 'simulation.launch.py',
            f'duration:={options.duration}', f'course_seed:={options.course_seed}',
            f'output:={options.output}', f'checkpoint:={options.checkpoint}',
            f'baseline:={baseline}', f'device:={options.device}',
            f'allow_foreign_listeners:={in_yaml(is_ours or options.allow_foreign_listeners)}']


def files_of(options: Namespace, config: Path) -> list[Path]:
    """Return the parameter files of what drives, without those of the user."""
    # Of a robot that is named, the limits hold in the simulator, too.
    return [config / 'robot.yaml', (find_robot(options.robot, config / 'robots')
                                    if options.robot else config / 'simulation.yaml')]


def robot_of(options: Namespace, config: Path) -> Contract:
    """Return what feeds a network and who obeys it, as the files say."""
    return ParameterFiles([*files_of(options, config), *options.params_file]).contract_of()


def node_commands(options: Namespace, config: Path) -> dict[str, list[str]]:
    """
    Return the commands of all processes; launch/simulation.launch.py in other words.

    :param config: The folder of the parameter files.
    :returns: By name; in the order in which they are started.
    """
    baselines = {f'baseline_{number}' if number > 1 else 'baseline': path
                 for number, path in enumerate(options.baseline, 1)}
    drives = files_of(options, config)
    period = {'camera_period': 1 / options.rate} if options.rate else {}
    contract = robot_of(options, config)
    # What the simulator sends and hears, whatever the robot does.
    robot = simulated(contract)
    sees, heard = {**robot.seen, **period}, robot.heard
    policy = {'device': options.device, 'autostart': True, 'allow': ','.join(options.allow),
              **sees}

    def command(executable, name, parameters, files=drives, remappings=()):
        return node_command(executable, name, parameters, (*files, *options.params_file),
                            remappings)

    policies = ['agent=policy_command', *(f'{name}={name}/policy_command' for name in baselines)]
    return {
        'recorder': command('recorder', 'recorder', {
            'output': options.output, 'policies': policies,
            'trigger': trigger_of_policy(options.checkpoint, contract), **sees, **heard}),
        'gate': command('gate', 'gate', heard | period),
        'agent': command('agent', 'agent', {'checkpoint': options.checkpoint, **policy}),
        **{name: command('agent', name, {'checkpoint': path, **policy}, remappings=(
            '-r', f'policy_command:={name}/policy_command')) for name, path in baselines.items()},
        'simulation': command(
            'simulation', 'simulation', simulator_parameters(options),
            [config / 'simulation.yaml'], robot.remappings)}


def simulator_parameters(options: Namespace) -> dict[str, object]:
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


class ShadowRun:
    """One policy drives, and those that it is compared with are in its shadow."""

    names = ('agent',)

    def __init__(self, options: Namespace, config: Path) -> None:
        self._options = options
        # Everything that they name is there, before anything is started.
        self._commands = node_commands(options, config)
        self.commands_topic = robot_of(options, config).output.topic

    def run(self, group: ProcessGroup, progress: Progress, domains: Sequence[Domain]
            ) -> list[str]:
        """Drive, and return what is missing in the end."""
        (domain,), report, options = domains, Report(), self._options
        if has_launch() and not needs_own_processes(options):
            launch(group, launch_command(options, domain.is_ours), report, domain.environment)
        else:
            drive(group, self._commands, report, domain.environment)
        return [report.fault] if report.fault else []


def drive(group: ProcessGroup, commands: dict[str, list[str]], report: Report,
          environment: Mapping[str, str] | None = None) -> None:
    """Start all processes, wait for the end of the simulation, and stop the others."""
    for name, command in commands.items():
        # The recorder's tables are to be read as they are.
        group.start(name, command, '' if name == 'recorder' else f'[{name}] ',
                    report.hear if name == 'recorder' else bool, environment=environment)
    group.wait(until='simulation')
    group.end([name for name in commands if name != 'recorder'], ['recorder'],
              lambda: report.written)


def launch(group: ProcessGroup, command: list[str], report: Report,
           environment: Mapping[str, str]) -> None:
    """Let ROS 2 do all of that; on SIGTERM it would orphan its processes."""
    group.start('ros2 launch', command, hear=report.hear, number=signal.SIGINT,
                environment=environment)
    group.wait(until='ros2 launch')
    group.stop(['ros2 launch'], STOP_TIMEOUT, patient=True, done=lambda: report.written)


def main(args: list[str] | None = None) -> int:
    """
    Run the main job until its time is over, or until SIGINT or SIGTERM.

    :returns: The exit code: 1 if a process crashed or there is no report, 130 after a signal.
    """
    options = parse(args)
    progress = Progress(options.duration)
    group = ProcessGroup(progress.show, progress.tick)
    try:
        check_files(options)
        job = (ShadowRun if options.shadow else RoadRun)(options, share_folder() / 'config')
        domains = choose_domains(len(job.names), options.domain, options.allow_foreign_listeners,
                                 job.commands_topic)
    except (OSError, ValueError) as error:
        say(in_words(error))
        return 1
    if options.implied_by:
        say(f'{options.implied_by} implies --shadow: one policy drives, and those that it is '
            'compared with see the same frames')
    if domains[0].is_ours:
        say(how_to_look_in(domains, job.names))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: group.leave())
    warning = ('another run is active on this machine; both share its processors, so latencies '
               'are not those of a run alone')
    if any(domain.mark.met_others for domain in domains):
        say(warning)
    missing = job.run(group, progress, domains)
    progress.clear()
    if any([domain.mark.others() for domain in domains]):
        say(warning.replace('is active', 'was active'))
    for domain in domains:
        domain.mark.close()
    faults = [*group.failures, *missing]
    for sentence in faults:
        say(sentence)
    return STOPPED if group.interrupted else 1 if faults else 0


def check_files(options: Namespace) -> None:
    """
    Find policies by their names, and refuse files that cannot be used, before anything starts.

    :raises ValueError: If one of them cannot be read.
    :raises OSError: If the output cannot be written.
    """
    options.params_file = [Path(os.path.abspath(path.expanduser()))
                           for path in options.params_file]
    for path in options.params_file:
        refuse_empty(path)
    for stray in ParameterFiles(options.params_file).strays(''):
        if stray.meant:
            raise ValueError(str(stray))
    if options.shadow:
        options.checkpoint = policy_file(options.checkpoint)
        options.baseline = [policy_file(path) for path in options.baseline]
    else:
        options.policies = [policy_file(path) for path in options.policies]
    for path in (options.checkpoint, *options.baseline) if options.shadow else options.policies:
        check_policy(path)
    options.output = make_output(options.output).resolve()


def check_policy(path: Path) -> None:
    """Refuse what cannot be a policy, without torch, which takes seconds to import."""
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        begins = file.read(1) == b'{' and length <= path.stat().st_size - 8
        if not begins or b'"limits"' not in file.read(length):
            from stream_agent.network.checkpoint import load_driving_policy
            load_driving_policy(path)  # says what it is instead
