"""Command line: find the rollout of a graph to run on a device, for a camera."""

import argparse
from dataclasses import dataclass
import json
import os
from pathlib import Path
import shlex
import sys
from typing import Any

from stream_agent.bounded_settings import choice, file_path, free_text, quantity
from stream_agent.cli.arguments import (
    add_allowed, add_graph, add_settings, check_folder, check_picture, command, find_graph,
    open_graph)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.drawing.plot_style import save
from stream_agent.drawing.tradeoff import draw_tradeoff, TradeoffPoint
from stream_agent.engine.layer_profiler import check_forecasts, measure_costs
from stream_agent.graph_files.graph_file import load_costs, save_costs
from stream_agent.measurement.machine import core_times, disturbance
from stream_agent.network.transforms import allow_transforms
from stream_agent.share import write_file
from stream_agent.theory.graph import graph_to_data, GraphSpec
from stream_agent.theory.patterns import sequential_pattern
from stream_agent.theory.planning.candidates import (
    Candidate, EXECUTIONS, FROZEN_TRUNK, PIPELINED, SERIAL, STAGGERED)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.law import Scene, Task, TASKS
from stream_agent.theory.planning.planner import make_plan, Plan, reason
import torch
import yaml

MOST_STATEMENTS = 8
HEADER = (f"  {'rollout':<12}  {'response':>8}  {'frame':>8}  {'load':>6}  {'first':>8}  "
          f"{'newest':>8}  {'oldest':>8}  keeps up  ")
UNITS = (f"  {'':<12}  {'[ms]':>8}  {'[ms]':>8}  {'[%]':>6}  {'[ms]':>8}  {'[ms]':>8}  "
         f"{'[ms]':>8}")
SCORE = ('score  ', '              [%]')
LEGEND = """response: from a frame to its answer; frame: what it keeps the device busy;
first: from a change to the first answer that knows it; newest, oldest: mean age of the newest
information in effect, and of that through most layers ("deep"), half the time a command is held
in it; in "streaming", edges that leave an input are R = 0, as the agent runs it"""


def description(candidate: Candidate) -> str:
    """Say in a few words what sets a candidate apart."""
    if candidate.kind == PIPELINED:
        return 'sequential, a frame follows when the most expensive node is free'
    if candidate.kind == STAGGERED:
        step = candidate.rollout.device.costs.overhead + candidate.rollout.step_cost
        return f'{round(step / candidate.frame_cost)} copies of sequential take turns'
    if candidate.left_out:
        return f"sequential without {', '.join(candidate.left_out)}"
    if candidate.schedule:
        periods = sorted({period for period, _ in candidate.schedule.values()})
        return (f"waves of {' and '.join(map(str, periods))} frames through "
                f'{len(candidate.schedule)} of the nodes')
    images = (f', {candidate.updates_per_frame} update steps an image'
              if candidate.updates_per_frame > 1 else '')
    count = len(candidate.streams)
    verb = 'streams' if count == 1 else 'stream'
    return f'{count} of {len(candidate.rollout.pattern)} edges {verb}{images}'


def row(candidate: Candidate, plan: Plan) -> str:
    """Write a candidate as a line of the table."""
    response, frame, first, newest, oldest = (f'{value * 1e3:>8.2f}' for value in (
        candidate.response_latency, candidate.frame_cost, candidate.first_response,
        candidate.newest_age, candidate.oldest_age))
    load = 100 * candidate.frame_cost / candidate.camera_period
    mark = '*' if candidate is plan.recommended else ' '
    score = plan.forecast(candidate)
    return '  '.join([
        f'{mark} {candidate.kind:<12}', response, frame, f'{load:>6.1f}', first, newest, oldest,
        f"{'yes' if candidate.keeps_up else 'no':<8}",
        *([] if plan.task is None else [f'{score:>5.1f}' if score is not None else 5 * ' ']),
        description(candidate)])


def table(plan: Plan, rows: int) -> str:
    """Write a plan for people."""
    costs = plan.device.costs
    best = plan.ordered
    score, unit = SCORE if plan.task else ('', '')
    stated = plan.bound.statements[:MOST_STATEMENTS]
    unsaid = len(plan.bound.statements) - len(stated)
    lines = [f'costs: {costs.source or "from a file"}; all nodes {costs.total() * 1e3:.3g} ms, '
             f'overhead {costs.overhead * 1e3:.3g} ms a frame',
             f'camera: {plan.device.camera_period * 1e3:.3g} ms a frame; '
             f'{plan.device.execution} execution',
             f'all {plan.bound.weighed:,} valid patterns were weighed' if plan.bound.exact else
             f'{plan.bound.weighed:,} patterns were weighed, not all; what no pattern can have, '
             'and what was found:', *(f'  {statement}' for statement in stated),
             *([f'  and {unsaid} more (--json)'] if unsaid else []),
             *(['periods of the graph file: in "scheduled sequential" alone']
               if 'scheduled sequential' in plan.named else []), '',
             f'{HEADER}{score}what it is', UNITS + unit]
    lines += [row(candidate, plan) for candidate in best[:rows]]
    if len(best) > rows:
        lines.append(f'  and {len(best) - rows} more that nothing beats (--rows)')
    if plan.beaten:
        lines += ['  beaten, to compare with:',
                  *(row(candidate, plan) for candidate in plan.beaten)]
    return '\n'.join([*lines, LEGEND, '', f'* recommended: {plan.recommended.kind}, '
                      f'{description(plan.recommended)}', reason(plan)])


def as_data(candidate: Candidate, plan: Plan) -> dict[str, Any]:
    """Return a candidate for ``--json``; seconds, and per cent."""
    names = ('response_latency', 'frame_cost', 'interval', 'first_response', 'newest_age',
             'oldest_age', 'keeps_up', 'updates_per_frame', 'streams')
    return {'kind': candidate.kind, **{name: getattr(candidate, name) for name in names},
            'left_out': list(candidate.left_out), 'forecast_score': plan.forecast(candidate),
            'schedule': {name: {'period': period, 'offset': offset}
                         for name, (period, offset) in candidate.schedule.items()}}


def plan_as_data(plan: Plan) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    costs = plan.device.costs
    return {
        'camera_period': plan.device.camera_period, 'execution': plan.device.execution,
        'costs': {'nodes': dict(costs.nodes), 'overhead': costs.overhead, 'source': costs.source},
        'exact': plan.bound.exact, 'patterns_weighed': plan.bound.weighed,
        'bounds': list(plan.bound.statements),
        'recommended': as_data(plan.recommended, plan), 'reason': reason(plan),
        'candidates': [as_data(candidate, plan) for candidate in plan.ordered],
        'compared': {name: as_data(candidate, plan) for name, candidate in plan.named.items()},
        'scene': plan.task.scene._asdict() if plan.task else None}


def short_name(candidate: Candidate) -> str:
    """Return what a candidate is called in a picture."""
    if candidate.schedule:
        return f'waves of {candidate.rollout.graph.hyperperiod}'
    if candidate.updates_per_frame > 1:
        return f'{candidate.updates_per_frame} updates'
    if candidate.kind == 'hybrid':
        return f'hybrid, {len(candidate.streams)} stream'
    return candidate.kind


def costs_of(arguments: argparse.Namespace, graph: GraphSpec) -> NodeCosts:
    """Read the costs of the nodes, or measure them; keep them if that is asked for."""
    if arguments.costs:
        return load_costs(arguments.costs, graph)
    torch.set_num_threads(arguments.threads)
    costs = measure_costs(graph, arguments.device)
    if arguments.save_costs:
        save_costs(arguments.save_costs, costs)
    return costs


def scaled_costs(costs: NodeCosts, arguments: argparse.Namespace) -> NodeCosts:
    """Return costs of which a pass takes as many camera periods as were asked for."""
    if arguments.pass_periods is None:
        return costs
    total = costs.overhead + costs.total()
    if not total:
        raise ValueError('--pass-periods: all costs are 0 and cannot be scaled; leave it out, or '
                         'give the durations of the nodes')
    return costs.scaled(arguments.pass_periods / (arguments.rate * total))


def training(candidate: Candidate, graph: GraphSpec, arguments: argparse.Namespace) -> str:
    """Return the command that trains a candidate, or its pattern if it does not drive a robot."""
    if graph.node(graph.output).shape not in (None, (2,)):
        return f"its pattern: --streams '{','.join(candidate.streams)}'"
    if candidate.rollout.graph != graph and not arguments.write:
        return 'to train it, write its graph with --write FILE'
    sequential = candidate.rollout.pattern == sequential_pattern(candidate.rollout.graph)
    if candidate.kind == FROZEN_TRUNK:
        return ('to train it, train all nodes sequentially, freeze them, and train a copy of its '
                'cone under this pattern')
    words = ['python', '-m', 'stream_agent', 'train', '--graph',
             str(arguments.write or arguments.graph), '--pattern',
             'sequential' if sequential else ','.join(candidate.streams)]
    if candidate.updates_per_frame > 1:
        words += ['--updates-per-frame', str(candidate.updates_per_frame)]
    if arguments.allow:
        words += ['--allow', *arguments.allow]
    return f'to train it: {shlex.join(words)}'


WRITTEN_BY = 'by stream_agent plan.'


def check_graph_file(path: Path | None) -> None:
    """Refuse to write over a graph file that somebody else has written."""
    check_folder(path)
    if path is not None and path.exists():
        with open(path, 'rb') as file:
            if WRITTEN_BY.encode() not in file.readline(1000):
                raise ValueError(f"--write: '{path}' is there already, and was not written by "
                                 'plan; give another name, or remove it')


def write_graph(path: Path, candidate: Candidate) -> None:
    """Write the graph of a candidate, with its schedule and without what it leaves out."""
    text = yaml.safe_dump(graph_to_data(candidate.rollout.graph), sort_keys=False,
                          default_flow_style=None, width=99)
    write_file(path, f'# {candidate.kind}: {description(candidate)}; {WRITTEN_BY}\n{text}')


def draw(path: Path, plan: Plan, title: str) -> None:
    """Draw what was weighed: all that nothing beats, and what it is compared with."""
    points = [TradeoffPoint(
        short_name(candidate), candidate.kind, candidate.newest_age, candidate.oldest_age,
        candidate.response_latency, candidate.frame_cost, candidate.keeps_up,
        recommended=candidate is plan.recommended, best=candidate not in plan.beaten)
        for candidate in (*plan.beaten, *plan.best)]
    save(draw_tradeoff(points, plan.device.camera_period, title), path)


LAWS = ('lane', *TASKS)


def task_of(arguments: argparse.Namespace) -> Task | None:
    """Return the task with the scene that is given; None for the rules."""
    given = {name: getattr(arguments, name) for name in Scene._fields
             if getattr(arguments, name) is not None}
    if arguments.task in TASKS:
        task = TASKS[arguments.task]
        return task._replace(scene=task.scene._replace(**given))
    for name in given:
        raise ValueError(f"--{name.replace('_', '-')}: the rules for a lane do not ask for it; "
                         'give --task signs, or leave it out')
    return None


@dataclass(frozen=True)
class PlanOptions:
    """For what a rollout is found, and what is done with it."""

    rate: float = quantity(30.0, 'Hz', 1e-3, 1e4, 'frames of the camera a second')
    device: str = free_text('cpu', "torch device to measure on: 'cpu', 'cuda:0', 'auto'", 'DEVICE')
    threads: int = quantity(1, '', 1, 1024, 'threads of torch on the CPU')
    execution: str = choice(
        SERIAL, "'serial': one node after the other, as the engine does on a CPU; 'parallel': "
        'nodes that are ready at the same time run together', EXECUTIONS)
    updates_per_frame: int | None = quantity(
        None, '', 1, 100, 'the most update steps for which an image may be held; without it, as '
        'many as fit', whole=True)
    task: str = choice('lane', "what the network is to do: 'lane', by rules for the ages of "
                       "information; 'signs', by the score that a law forecasts", LAWS)
    steering_time: float | None = quantity(
        None, 's', 0.01, 100.0, 'look-ahead by speed, the time to the point that the vehicle '
        "steers to; without it, that of the task's robot")
    command_time: float | None = quantity(
        None, 's', 0.01, 1e6, 'between two changes of what has to be recognised; without it, that '
        "of the task's robot")
    costs: Path | None = file_path(
        None, 'take the seconds of the nodes from a file, measure nothing')
    save_costs: Path | None = file_path(None, 'keep what was measured')
    pass_periods: float | None = quantity(
        None, 'camera periods', 1e-6, 1e6, 'what a pass through all nodes costs; the costs are '
        'scaled to it', whole=False)
    rows: int = quantity(12, '', 1, 10**6, 'lines of the table')
    write: Path | None = file_path(
        None, 'write the recommended graph, with its schedule, as a graph file to train')
    draw: Path | None = file_path(None, 'draw the trade-off, .svg or .png')
    check: bool = choice(False, 'compare the forecasts with the engine (serial execution)')
    json: bool = choice(False, 'print figures for programs')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('plan', __doc__)
    add_graph(parser)
    add_allowed(parser)
    costs = 'costs', 'save_costs'
    add_settings(parser, PlanOptions, without=costs)
    add_settings(parser.add_mutually_exclusive_group(), PlanOptions, only=costs)
    arguments = parser.parse_args(args)
    check_picture(parser, '--draw', arguments.draw)
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Plan, and print what was found."""
    if arguments.check and arguments.execution != SERIAL:
        raise ValueError('--check: the engine computes one node after the other; leave '
                         f'--execution {arguments.execution} out')
    allow_transforms(arguments.allow)
    check_graph_file(arguments.write)
    for path in (arguments.draw, arguments.save_costs):
        check_folder(path)
    if arguments.threads > (os.cpu_count() or 1):
        raise ValueError(f'--threads: this machine has {os.cpu_count()} cores, not '
                         f'{arguments.threads}')
    task = task_of(arguments)
    graph = open_graph(arguments.graph)
    before = core_times()
    costs = scaled_costs(costs_of(arguments, graph), arguments)
    plan = make_plan(graph, costs, 1 / arguments.rate, arguments.execution,
                     arguments.updates_per_frame, task)
    checks = check_forecasts({
        f'recommended ({plan.recommended.kind})': plan.recommended.rollout,
        **{name: candidate.rollout for name, candidate in plan.named.items()}
    }, arguments.device) if arguments.check else []
    busy = disturbance(before) if checks or not arguments.costs else ''
    if arguments.write:
        write_graph(arguments.write, plan.recommended)
    if arguments.draw:
        draw(arguments.draw, plan, f'{find_graph(arguments.graph).stem}: {plan.device.execution} '
             f'execution, camera at {arguments.rate:g} Hz')
    if arguments.json:
        print(json.dumps(plan_as_data(plan) | {'checks': [
            vars(check) | {'error': check.error} for check in checks],
            'measured_while_busy': busy}, indent=2))
        return
    print(table(plan, arguments.rows))
    print(training(plan.recommended, graph, arguments))
    if checks:
        print('forecasts against the engine, medians in ms:', *(
            f'  {check.name:<26} {check.part:<8} forecast {check.forecast * 1e3:8.3f}  '
            f'measured {check.measured * 1e3:8.3f}  {check.error:+.1%}' for check in checks),
            sep='\n')
    if busy:
        print(f'plan: {busy}', file=sys.stderr)


main = command('plan', parse, run)
