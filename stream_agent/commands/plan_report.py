"""A plan for people, as a table, and for programs."""

from typing import Any

from stream_agent.node_durations import Check
from stream_agent.theory.planning.candidates import Candidate
from stream_agent.theory.planning.planner import Plan, preference, reason

MOST_STATEMENTS = 8
HEADER = (f"  {'rollout':<12}  {'response':>8}  {'frame':>8}  {'load':>6}  {'first':>8}  "
          f"{'newest':>8}  {'oldest':>8}  keeps up  what it is")
UNITS = (f"  {'':<12}  {'[ms]':>8}  {'[ms]':>8}  {'[%]':>6}  {'[ms]':>8}  {'[ms]':>8}  "
         f"{'[ms]':>8}")
LEGEND = """response: from a frame to its answer; frame: what it keeps the device busy;
first: from a change to the first answer that knows it; newest, oldest: mean age of the newest
information in effect, and of that through most layers ("deep"), half the time a command is held
in it; in "streaming", edges that leave an input are R = 0, as the agent runs it"""


def description(candidate: Candidate) -> str:
    """Say in a few words what sets a candidate apart."""
    if candidate.left_out:
        return f"sequential without {', '.join(candidate.left_out)}"
    if candidate.schedule:
        periods = sorted({period for period, _ in candidate.schedule.values()})
        return (f"waves of {' and '.join(map(str, periods))} frames through "
                f'{len(candidate.schedule)} of the nodes')
    images = (f', {candidate.updates_per_frame} update steps an image'
              if candidate.updates_per_frame > 1 else '')
    count, total = len(candidate.streams), len(candidate.rollout.pattern)
    verb = 'streams' if count == 1 else 'stream'
    return f'{count} of {total} edges {verb}{images}'


def row(candidate: Candidate, mark: str) -> str:
    """Write a candidate as a line of the table."""
    columns = [candidate.response_latency, candidate.frame_cost]
    last = [candidate.first_response, candidate.newest_age, candidate.oldest_age]
    load = 100 * candidate.frame_cost / candidate.camera_period
    return ' '.join([
        f'{mark} {candidate.kind:<12}', *(f' {value * 1e3:>8.2f}' for value in columns),
        f' {load:>6.1f}', *(f' {value * 1e3:>8.2f}' for value in last),
        f" {'yes' if candidate.keeps_up else 'no':<8} ", description(candidate)])


def table(plan: Plan, rows: int) -> str:
    """Write a plan for people."""
    costs = plan.device.costs
    best = sorted(plan.best, key=preference)
    lines = [f'costs: {costs.source or "from a file"}; all nodes {costs.total() * 1e3:.3g} ms, '
             f'overhead {costs.overhead * 1e3:.3g} ms a frame',
             f'camera: {plan.device.camera_period * 1e3:.3g} ms a frame; '
             f'{plan.device.execution} execution',
             searched(plan), *statements(plan),
             *(['periods of the graph file: in "scheduled sequential" alone']
               if 'scheduled sequential' in plan.named else []), '',
             HEADER, UNITS]
    lines += [row(candidate, '*' if candidate is plan.recommended else ' ')
              for candidate in best[:rows]]
    if len(best) > rows:
        lines.append(f'  and {len(best) - rows} more that nothing beats (--rows)')
    if plan.beaten:
        lines += ['  beaten, to compare with:',
                  *(row(candidate, ' ') for candidate in plan.beaten)]
    return '\n'.join([*lines, LEGEND, '', f'* recommended: {plan.recommended.kind}, '
                      f'{description(plan.recommended)}', reason(plan)])


def searched(plan: Plan) -> str:
    """Say how the patterns were searched."""
    if plan.bound.exact:
        return f'all {plan.bound.weighed:,} valid patterns were weighed'
    return (f'{plan.bound.weighed:,} patterns were weighed, not all; '
            'what no pattern can have, and what was found:')


def statements(plan: Plan) -> list[str]:
    """Write what no pattern can have, as far as anybody reads."""
    lines = [f'  {statement}' for statement in plan.bound.statements[:MOST_STATEMENTS]]
    more = len(plan.bound.statements) - len(lines)
    return [*lines, f'  and {more} more (--json)'] if more else lines


def as_data(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate for ``--json``; seconds."""
    names = ('response_latency', 'frame_cost', 'interval', 'first_response', 'newest_age',
             'oldest_age', 'keeps_up', 'updates_per_frame', 'streams')
    return {'kind': candidate.kind, **{name: getattr(candidate, name) for name in names},
            'left_out': list(candidate.left_out),
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
        'recommended': as_data(plan.recommended), 'reason': reason(plan),
        'candidates': [as_data(candidate) for candidate in sorted(plan.best, key=preference)],
        'compared': {name: as_data(candidate) for name, candidate in plan.named.items()}}


def short_name(candidate: Candidate) -> str:
    """Return what a candidate is called in a picture."""
    if candidate.schedule:
        return f'waves of {candidate.rollout.graph.hyperperiod}'
    if candidate.updates_per_frame > 1:
        return f'{candidate.updates_per_frame} updates'
    if candidate.kind == 'hybrid':
        return f'hybrid, {len(candidate.streams)} stream'
    return candidate.kind


def check_table(checks: list[Check]) -> str:
    """Write forecasts and measurements side by side."""
    lines = ['forecasts against the engine, medians in ms:']
    return '\n'.join(lines + [
        f'  {check.name:<26} {check.part:<8} forecast {check.forecast * 1e3:8.3f}  '
        f'measured {check.measured * 1e3:8.3f}  {check.error:+.1%}' for check in checks])
