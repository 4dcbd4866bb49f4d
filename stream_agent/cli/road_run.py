"""Policies drive a course past signs on an emulated computer, each alone, at the same time."""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import time
from typing import Any, NamedTuple, TextIO

from stream_agent.bounded_settings import file_path, quantity, settings_fields, several
from stream_agent.cli.arguments import robot_settings
from stream_agent.cli.own_domain import Domain
from stream_agent.cli.process_group import node_command, ProcessGroup
from stream_agent.cli.robot_contract import read_metadata, simulated
from stream_agent.cli.run_progress import Progress, Report
from stream_agent.driving.compute_model import ComputeModel, HANDOVER, scaled_costs
from stream_agent.gate.settings import GateSettings
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.measurement.machine import machine, versions
from stream_agent.measurement.recording import again, make_folder, RecordingError, RUN_FILE
from stream_agent.share import costs_file, find_robot, ParameterFiles, write_file
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_edges)
from stream_agent.theory.planning.costs import CostError

ROBOT = 'reflex'
POLICIES = tuple(Path(f'reflex_{name}') for name in ('planned', 'sequential', 'smaller'))
COSTS = Path('reflex_costs')
# Of what is no rollout of the same network, but another way to be in time.
PEERS = {'smaller': 'smaller'}
DRIVE_FILE, LOG_FILE = 'drive.json', 'log.txt'
# What an agent says once it answers images, and how long that may take [s].
READY, READY_TIMEOUT = ' policy on ', 120.0
# Before Fast DDS opens the shared memory of a process that has just begun to listen, it may hold
# all publishers of a process for a third of a second (docs/real_time.md).
TRANSPORTS = {'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}
# What a simulation says when its drive is over.
OVER = ' frames published, '
# What is shown of what they say: all but that the computer is slow, which is the purpose.
LOUD = re.compile(r'\[(WARN|ERROR|FATAL)\](?!.* EMULATED COMPUTER: )')


@dataclass(frozen=True)
class RoadOptions:
    """Who drives alone, how slow their computer is, and how hard they are pushed."""

    policies: tuple[Path, ...] = several(
        POLICIES, 'policies that drive, each a file, or a name in config/policies', 'FILE', Path)
    pass_periods: float = quantity(
        6.4, 'camera periods', 1e-3, 1e3, 'what a pass through all nodes of the largest network '
        'takes on the emulated computer', whole=False)
    costs: Path | None = file_path(
        None, 'seconds of the nodes, as `plan --save-costs` writes them, or a name in '
        'config/graphs, scaled to that; without it, reflex_costs if it has all nodes, and the '
        'same for all nodes otherwise')
    pushes: float = quantity(
        1.5, 'rad/s', 0.0, 3.0, 'largest yaw rate by which the vehicle is pushed now and then, '
        'every policy alike')


class RoadPolicy(NamedTuple):
    """
    A policy that drives.

    :param pattern: The kind of its rollout.
    :param periods: What a pass through its own nodes takes [camera periods].
    """

    name: str
    path: Path
    pattern: str
    periods: float

    @property
    def peer(self) -> str | None:
        """What it is if it is no rollout of the same network."""
        return PEERS.get(self.name)

    @property
    def conditions(self) -> dict[str, Any]:
        """What is written about it."""
        return {'name': self.name, 'policy': str(self.path), 'pattern': self.pattern,
                'peer': self.peer, 'pass_periods': round(self.periods, 3)}


def read_policies(paths: Sequence[Path], costs: Path | None, pass_periods: float
                  ) -> list[RoadPolicy]:
    """
    Return what drives, and what it takes on a computer on which the whole takes ``pass_periods``.

    :raises ValueError: If the costs do not fit, or two policies have the same name.
    :raises OSError: If a file cannot be read.
    """
    found = [read_header(path) for path in paths]
    taken = scaled_costs([graph for graph, _ in found],
                         ComputeModel(costs=costs, pass_periods=pass_periods), 1.0)
    return [RoadPolicy(name, path, pattern, each.overhead + each.total())
            for name, path, (_, pattern), each in zip(short_names(paths), paths, found, taken)]


def usual_costs(paths: Sequence[Path]) -> Path | None:
    """Return the costs of the usual policies if they fit those given."""
    try:
        read_policies(paths, COSTS, 1.0)
    except CostError:
        return None
    return COSTS


def read_header(path: Path) -> tuple[GraphSpec, str]:
    """
    Return graph and kind of the rollout, without torch, which takes seconds to import.

    :raises ValueError: If it is not a policy.
    """
    try:
        header = read_metadata(path)
        graph, pattern = (json.loads(header[key]) for key in ('graph', 'pattern'))
        spec = graph_from_data(graph)
        return spec, rollout_kind(spec, pattern['streams'], pattern['name'])
    except (ValueError, LookupError, TypeError):
        from stream_agent.network.checkpoint import load_driving_policy
        load_driving_policy(path)  # says what it is instead
        raise


def rollout_kind(graph: GraphSpec, streams: Sequence[str], name: str) -> str:
    """Return what a rollout is, whatever its trainer called it; the name if it is a hybrid."""
    if graph.hyperperiod > 1:
        return 'multi-rate'
    kinds = {'sequential': sequential_pattern, 'streaming': newest_image_pattern}
    return next((kind for kind, pattern in kinds.items()
                 if {*streaming_edges(pattern(graph))} == {*streams}), name)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of files without what they all begin with; ValueError if two are alike."""
    stems = [path.stem for path in paths]
    common = os.path.commonprefix(stems).rpartition('_')
    start = len(common[0] + common[1]) if len(stems) > 1 else 0
    names = [stem[start:] for stem in stems]
    if len(set(names)) < len(names):
        raise ValueError(f"two policies are called '{max(names, key=names.count)}'; give files "
                         'with different names')
    return names


class RoadRun:
    """
    The same course with the same signs and pushes for several policies at the same time.

    :raises ValueError: If policies, costs or the robot cannot be used.
    :raises OSError: If a file cannot be read.
    """

    def __init__(self, options: Namespace, config: Path) -> None:
        self._options = options
        self._robot = robot_settings(ROBOT)
        self._files = [config / 'robot.yaml', find_robot(ROBOT, config / 'robots')]
        self._simulation = config / 'simulation.yaml'
        self._costs = options.costs or usual_costs(options.policies)
        self._policies = read_policies(options.policies, self._costs, options.pass_periods)
        self.names = [policy.name for policy in self._policies]
        contract = ParameterFiles([*self._files, *options.params_file]).contract_of()
        self.commands_topic, self._simulated = contract.output.topic, simulated(contract)

    def run(self, group: ProcessGroup, progress: Progress, domains: Sequence[Domain]
            ) -> list[str]:
        """Drive, and return what is missing in the end."""
        folder = make_folder(self._options.output)
        write_file(folder / RUN_FILE, json.dumps(self.conditions(), indent=1))
        reports = [Report() for _ in self.names]
        with (folder / LOG_FILE).open('w') as log:
            self._drive(group, Listener(progress, log), folder, domains, reports)
        progress.clear()
        if group.interrupted or group.failures:
            driven = all((folder / name / DRIVE_FILE).exists() for name in self.names)
            return [f'no report was made; {again(folder)} makes it of what was driven'] * driven
        # Plots take a second to import, and are not needed while somebody drives.
        from stream_agent.measurement.road_report import report
        try:
            print(f'report: {report(folder)}', flush=True)
        except RecordingError as error:
            return [str(error)]
        return [one.fault for one in reports if one.fault]

    def _drive(self, group: ProcessGroup, listener: 'Listener', folder: Path,
               domains: Sequence[Domain], reports: Sequence[Report]) -> None:
        """Let all begin when all agents are ready, so that nobody disturbs a drive."""
        ready: set[str] = set()
        over: set[str] = set()
        jobs = {policy.name: self.commands(policy, folder, domain)
                for policy, domain in zip(self._policies, domains)}

        def start(node: str, hears: Callable[[int, str], Callable[[str], object]]) -> None:
            for i, (name, commands) in enumerate(jobs.items()):
                group.start(f'{name} {node}', commands[node], None,
                            listener.of(f'{name} {node}', hears(i, name)),
                            environment={**TRANSPORTS, **domains[i].environment})

        start('gate', lambda i, name: bool)
        start('simulation', lambda i, name: lambda line: over.update([name] * (OVER in line)))
        start('agent', lambda i, name: lambda line: ready.update([name] * (READY in line)))
        deadline = time.monotonic() + READY_TIMEOUT
        group.wait((), lambda: len(ready) == len(jobs) or time.monotonic() > deadline)
        if not group.failures:
            # The simulations wait for them.
            start('recorder', lambda i, name: reports[i].hear)
        simulations = [f'{name} simulation' for name in jobs]
        leaving: list[str] = []
        while any(map(group.has, simulations)) and not group.failures and not group.interrupted:
            group.wait([*simulations, *leaving], lambda: bool(over))
            while over:
                name = over.pop()
                # Or they would wonder where the images are.
                leaving += [f'{name} agent', f'{name} gate']
                group.ask(leaving[-2:])
        drivers = [f'{name} {node}' for node in ('simulation', 'agent', 'gate') for name in jobs]
        group.end(drivers, [f'{name} recorder' for name in jobs],
                  lambda: all(report.written for report in reports))

    def conditions(self) -> dict[str, Any]:
        """Return under which conditions all of them drive."""
        options = self._options
        return {'date': time.strftime('%Y-%m-%d %H:%M'), 'machine': machine(),
                'versions': versions('stream_agent', 'numpy', 'torch', 'rclpy'),
                'seed': options.course_seed, 'duration': options.duration,
                'pushes': options.pushes, 'robot': ROBOT, 'camera_rate': self._robot.rate,
                'execution': 'serial', 'pass_periods': options.pass_periods,
                'costs': str(self._costs) if self._costs else None,
                'drives': [policy.conditions for policy in self._policies]}

    def commands(self, policy: RoadPolicy, folder: Path, domain: Domain) -> dict[str, list[str]]:
        """Return the commands of one drive's processes, by the node, and write their files."""
        own = folder / policy.name
        own.mkdir()
        options, period = self._options, {'camera_period': self._robot.period}
        robot = self._simulated
        sees, heard = {**robot.seen, **period}, robot.heard
        # By a file an agent knows its share of the whole; without one it knows itself alone.
        computer = ({'pass_periods': options.pass_periods, 'costs': costs_file(self._costs)}
                    if self._costs else {'pass_periods': policy.periods})
        # As it is with a camera that sees as rarely as this computer answers; for all alike.
        patience = GateSettings(camera_period=min(
            max(options.pass_periods, 1.0) * self._robot.period, 1.0)).max_age

        def command(node: str, parameters: Mapping[str, object], files: Sequence[Path],
                    remappings: Sequence[str] = ()) -> list[str]:
            return node_command(node, node, parameters, (*files, *options.params_file),
                                remappings)

        return {
            'recorder': command('recorder', {
                'output': own, 'new_folder': False, 'policies': ['agent=policy_command'],
                **sees, **heard}, self._files),
            # Commands of a slow computer are old, and rare.
            'gate': command('gate', {'command_timeout': patience, 'max_age': patience,
                                     **heard, **period}, self._files),
            'agent': command('agent', {
                'checkpoint': policy.path, 'device': options.device, 'autostart': True,
                'allow': ','.join(options.allow), **computer,
                # So that nobody takes a core from the others.
                'threads': 1, **sees}, self._files),
            'simulation': command('simulation', {
                **{item.name: getattr(self._robot, item.name)
                   for item in settings_fields(SimulationSettings)},
                'duration': options.duration, 'course_seed': options.course_seed,
                'pushes': options.pushes, 'handover': HANDOVER, 'probe_changes': 0,
                'start_subscribers': 2, 'start_timeout': 2 * READY_TIMEOUT,
                'drive_file': own / DRIVE_FILE,
                'allow_foreign_listeners': domain.is_ours or options.allow_foreign_listeners},
                [self._simulation], robot.remappings)}


class Listener:
    """Writes into a file what all processes say, and passes on what somebody needs to know."""

    def __init__(self, progress: Progress, log: TextIO) -> None:
        self._progress, self._log = progress, log

    def of(self, name: str, hear: Callable[[str], object]) -> Callable[[str], None]:
        """Return what hears a process, and lets ``hear`` take notice, too."""
        def note(line: str) -> None:
            print(f'[{name}] {line}', file=self._log, flush=True)
            hear(line)
            if LOUD.search(line):
                self._progress.show(f'[{name}] {line}')
            else:
                self._progress.note(line)

        return note
