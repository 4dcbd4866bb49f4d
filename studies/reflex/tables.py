"""What the study of reflex and recognition found, as tables, and held against the marks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
import math
from typing import Any

import numpy as np
from stream_agent.driving.compute_model import figures_of, TimingFigures
from stream_agent.driving.evaluation import difference
from stream_agent.measurement.bootstrap import Interval
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.chain import OURS
from studies.layout import layout, MarkResult
from studies.reflex.schemes import KINDS, PEERS, ReflexScheme

# Where ours is held against the peers, and by how many points of the task score it is to lead.
HELD_AGAINST = 6.4
LEADS = {'sequential': 12.0, 'smaller': 12.0, 'narrower': 6.0, 'pipelined': 6.0, 'staggered': 6.0}
# Over the best of the peers that are told more, or whose trunk is corrected.
LEAD_OVER_BEST = 3.0
# Leads whose interval needs to be clear of 0; the others are hoped for.
SURE = ('sequential', 'smaller')
MOST_OBEYED = 80.0


@dataclass(frozen=True)
class ReflexResult:
    """
    One scheme on one device at one cost, over all of its trainings.

    :param device: That it was asked for on; some schemes are the same on both.
    :param rows: As ``study_row`` returns them, a training each, on the same courses.
    """

    device: str
    scheme: ReflexScheme
    rows: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """Return what the scheme is called."""
        return self.scheme.name

    @property
    def cost(self) -> float:
        """Return the camera periods that a pass takes."""
        return self.scheme.pass_periods

    @cached_property
    def figures(self) -> TimingFigures:
        """Return the scheme's timing [s]."""
        return figures_of(self.scheme.candidate, self.scheme.timeline)

    def by_course(self, quantity: str) -> np.ndarray:
        """Return a quantity, (trainings, courses), nan where a drive had none of it."""
        return np.array([row['courses'][quantity] for row in self.rows], float)

    def mean(self, quantity: str) -> float:
        """Return the mean of a quantity over trainings and courses."""
        values = self.by_course(quantity)
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else math.nan

    def rms(self, quantity: str) -> float:
        """Return the root of the mean of squares over trainings and courses."""
        return math.sqrt(self.mean(quantity))

    @property
    def score(self) -> Interval:
        """Return the task score with its interval."""
        scores = self.by_course('task_score')
        return difference(scores, np.zeros_like(scores))

    def lead(self, other: 'ReflexResult') -> Interval:
        """Return by how many points the task score is above another's, on the same courses."""
        if self.scheme.key == other.scheme.key:
            return Interval(0.0, 0.0, 0.0)
        return difference(self.by_course('task_score'), other.by_course('task_score'))

    def as_data(self) -> dict[str, Any]:
        """Return as JSON; what the planner's law is fitted on has these names."""
        figures = self.figures
        return {'scheme': self.name, 'kind': self.scheme.kind, 'device': self.device,
                'r': self.cost, 'newest_s': figures.newest, 'deep_s': figures.deep,
                'latency_s': figures.latency, 'rate_hz': figures.rate,
                'operations': self.rows[0]['operations'], 'trainings': len(self.rows),
                'seeds': [row['seed'] for row in self.rows],
                **{name: self.mean(name) for name in (
                    'task_score', 'departures_per_minute', 'signs_obeyed',
                    'seconds_until_obeyed')},
                'lateral_rms': self.rms('mean_squares'), 'speed_rms': self.rms('speed_squares'),
                'recognised': [row['recognised'] for row in self.rows],
                'tries': [row['tries'] for row in self.rows]}


Known = Mapping[tuple[str, float, str], ReflexResult]


def by_name(cells: Sequence[ReflexResult]) -> Known:
    """Return cells by device, cost and scheme."""
    return {(cell.device, cell.cost, cell.name): cell for cell in cells}


def verdicts(cells: Sequence[ReflexResult]) -> list[MarkResult]:
    """Hold what was found against the marks; what was not run has no verdict."""
    known, given = by_name(cells), []
    for device in (SERIAL, PARALLEL):
        ours = known.get((device, HELD_AGAINST, OURS))
        if ours is None:
            continue
        given += [verdict_of(ours, known[device, HELD_AGAINST, name], lead, name in SURE)
                  for name, lead in LEADS.items() if (device, HELD_AGAINST, name) in known]
        told = [cell for cell in cells if (cell.device, cell.cost) == (device, HELD_AGAINST)
                and cell.scheme.kind in PEERS and (
                    cell.scheme.inputs or cell.scheme.kind in ('frozen trunk', 'random delays'))]
        if told:
            best = max(told, key=lambda cell: cell.mean('task_score'))
            given.append(verdict_of(ours, best, LEAD_OVER_BEST, False,
                                    'the best that knows more, '))
        obeyed = ours.mean('signs_obeyed')
        given.append(MarkResult(device, HELD_AGAINST, f'signs obeyed by {OURS} [%]',
                                Interval(obeyed, math.nan, math.nan), MOST_OBEYED,
                                obeyed >= MOST_OBEYED))
    return given


def verdict_of(ours: ReflexResult, peer: ReflexResult, mark: float, sure: bool,
               which: str = '') -> MarkResult:
    """Hold our lead over one peer against its mark."""
    lead = ours.lead(peer)
    why = ', '.join(f'{name} {of(ours)} against {of(peer)}' for name, of in (
        ('signs obeyed', lambda cell: f'{cell.mean("signs_obeyed"):.0f} %'),
        ('lateral RMS', lambda cell: f'{1e3 * cell.rms("mean_squares"):.0f} mm')))
    return MarkResult(ours.device, ours.cost, f'points of {OURS} above {which}{peer.name}', lead,
                      mark, lead.estimate >= mark and (not sure or lead.low > 0), why)


def names_in(cells: Sequence[ReflexResult]) -> list[str]:
    """Return the schemes that there are, in their order."""
    schemes = {cell.name: cell.scheme for cell in cells}
    return sorted(schemes, key=lambda name: (
        len(schemes[name].inputs), schemes[name].inputs, KINDS.index(schemes[name].kind)))


def points(value: Interval) -> str:
    """Write a lead in points with its interval."""
    if math.isnan(value.estimate):
        return '-'
    bounds = '' if math.isnan(value.low) else f' ({value.low:+.1f} to {value.high:+.1f})'
    return f'{value.estimate:+.1f}{bounds}'


def number(value: float, digits: int = 0) -> str:
    """Write a number, a dash if it is unknown."""
    return '-' if math.isnan(value) else f'{value:.{digits}f}'


# The columns of a table; each is told the cell and those beside it.
COLUMNS = {
    'task score %': lambda cell, _: number(cell.mean('task_score'), 1),
    'minus sequential (95 %)': lambda cell, beside: minus(cell, beside, 'sequential'),
    'minus smaller (95 %)': lambda cell, beside: minus(cell, beside, 'smaller'),
    'lateral RMS mm': lambda cell, _: number(1e3 * cell.rms('mean_squares')),
    'speed RMS m/s': lambda cell, _: number(cell.rms('speed_squares'), 2),
    'departures/min': lambda cell, _: number(cell.mean('departures_per_minute'), 1),
    'signs obeyed %': lambda cell, _: number(cell.mean('signs_obeyed')),
    's until obeyed': lambda cell, _: number(cell.mean('seconds_until_obeyed'), 2),
    'latency / newest / deep, ms': lambda cell, _: ' / '.join(
        number(1e3 * value) for value in cell.figures[:3]),
    'Hz': lambda cell, _: number(cell.figures.rate, 1),
    'million operations': lambda cell, _: number(cell.rows[0]['operations'] / 1e6, 2)}


def minus(cell: ReflexResult, beside: Mapping[str, ReflexResult], name: str) -> str:
    """Write the lead over a scheme on the same device at the same cost."""
    return '-' if name not in beside or name == cell.name else points(cell.lead(beside[name]))


def tables(cells: Sequence[ReflexResult], markdown: bool) -> str:
    """Lay everything out, a table for each device and cost."""
    lines = []
    for device, cost in dict.fromkeys((cell.device, cell.cost) for cell in cells):
        beside = {cell.name: cell for cell in cells if (cell.device, cell.cost) == (device, cost)}
        title = f'{device.capitalize()} device, {cost:g} camera periods a pass'
        rows = [['scheme (trainings)', *COLUMNS]]
        rows += [[f'{name} ({len(beside[name].rows)})', *(
            text(beside[name], beside) for text in COLUMNS.values())]
            for name in names_in([*beside.values()])]
        lines += ['', *([f'**{title}**', ''] if markdown else [title]), *layout(rows, markdown)]
    return '\n'.join(lines)
