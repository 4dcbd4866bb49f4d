"""Tables of what was measured next to what was forecast, and where the curves cross."""

from collections.abc import Callable, Iterable, Sequence
import math
from typing import NamedTuple

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.planning.candidates import Candidate, PARALLEL, SERIAL
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import make_plan
from studies.layout import layout
from studies.regimes.rollouts import CAMERA_PERIOD, KINDS, rollouts, scaled

BASELINE = 'sequential'
# Ratios at which the planner is asked for its curves, 0.02 ... 5.
FINE = tuple(0.02 * 250 ** (i / 190) for i in range(191))
PARALLEL_RATIOS = (0.02, 0.2, 0.8, 1.2, 2, 3, 5)
QUANTITIES = {
    'latency': 'Response latency, from the stamp of a frame to its command',
    'newest': 'Age of the newest information in force',
    'deep': 'Age of the deep information in force',
    'dropped': 'Share of frames dropped'}


class RolloutFigures(NamedTuple):
    """
    What was measured of one rollout at one ratio; durations in camera periods.

    :param latency: From the stamp of a frame to its command, the median.
    :param newest: Age of the newest information in force, the mean over time.
    :param deep: Age of the deep information in force, the mean over time.
    :param dropped: Share of frames.
    :param errors: In effect, one a scene; 1 is that of always saying "middle".
    """

    latency: float
    newest: float
    deep: float
    dropped: float
    errors: tuple[float, ...]


class RolloutResult(NamedTuple):
    """
    One rollout at one ratio.

    :param candidate: What the planner expects.
    :param equal: Whether its outputs were those of the sequential rollout, only older.
    :param turns: What was measured.
    """

    ratio: float
    kind: str
    candidate: Candidate
    equal: bool
    turns: Sequence[RolloutFigures]

    @property
    def measured(self) -> RolloutFigures:
        """Return the medians over all turns."""
        *plain, errors = zip(*self.turns)
        return RolloutFigures(*(float(np.median(values)) for values in plain),
                              tuple(np.median(errors, axis=0).tolist()))


class Point(NamedTuple):
    """A quantity of one rollout at one ratio, and the baseline's."""

    ratio: float
    value: float
    baseline: float


def forecasts(candidate: Candidate) -> RolloutFigures:
    """Return what the planner expects of a rollout; it knows no errors."""
    seconds = (candidate.age_at_answer(0), candidate.newest_age, candidate.oldest_age)
    return RolloutFigures(*(value / candidate.camera_period for value in seconds),
                          1 - candidate.camera_period / candidate.interval, ())


def forecast_points(graph: GraphSpec, costs: NodeCosts, execution: str, name: str
                    ) -> dict[str, list[Point]]:
    """Return what the planner expects of one quantity at many ratios, by kind."""
    found: dict[str, list[Point]] = {kind: [] for kind in KINDS}
    for ratio in FINE:
        expected = {kind: getattr(forecasts(candidate), name) for kind, candidate
                    in rollouts(graph, costs, ratio, execution).items()}
        for kind, value in expected.items():
            found[kind].append(Point(ratio, value, expected[BASELINE]))
    return found


def measured_points(cells: Sequence[RolloutResult], value: Callable[[RolloutFigures], float]
                    ) -> dict[str, list[Point]]:
    """Return what was measured of one quantity, by kind."""
    baseline = {cell.ratio: value(cell.measured) for cell in cells if cell.kind == BASELINE}
    return {kind: [Point(cell.ratio, value(cell.measured), baseline[cell.ratio])
                   for cell in cells if cell.kind == kind] for kind in KINDS}


def figures_of(cell: RolloutResult) -> dict:
    """Return a cell as a program reads it."""
    return {'ratio': cell.ratio, 'kind': cell.kind,
            'updates_per_frame': cell.candidate.updates_per_frame,
            'waves': cell.candidate.rollout.graph.hyperperiod,
            'left_out': list(cell.candidate.left_out), **cell.measured._asdict(),
            'forecast': forecasts(cell.candidate)._asdict()}


def tables(cells: Sequence[RolloutResult], graph: GraphSpec, costs: NodeCosts,
           scenes: Sequence[str], markdown: bool) -> list[str]:
    """
    Return all tables, as lines.

    :param scenes: What they are called, in the order of the errors.
    """
    found = {'What the planner recommends, and which rollout had the least error in effect':
             best_rows(cells, graph, costs, scenes)}
    for name, title in QUANTITIES.items():
        found[f'{title}: measured (forecast)' + ', in camera periods' * (name != 'dropped')] = (
            by_kind(cells, lambda cell: f'{getattr(cell.measured, name):.2f} '
                    f'({getattr(forecasts(cell.candidate), name):.2f})'))
    for i, scene in enumerate(scenes):
        found[f'Error in effect, {scene}: relative to the sequential rollout, whose own is in '
              'brackets, relative to always saying "middle"'] = by_kind(
            cells, error_text(measured_points(cells, lambda figures: figures.errors[i])))
    found['From which ratio on better than the sequential rollout'] = crossings(
        cells, graph, costs, scenes)
    found['Forecast only, every node on a processor of its own: newest / deep, in camera '
          'periods'] = parallel_rows(graph, costs)
    return [line for title, rows in found.items()
            for line in (f'**{title}**' if markdown else title, '', *layout(rows, markdown), '')]


def best_rows(cells: Sequence[RolloutResult], graph: GraphSpec, costs: NodeCosts,
              scenes: Sequence[str]) -> list[list[str]]:
    """Return what is best at every ratio: for the planner before, and in every scene after."""
    rows = [['ratio', 'planner', *scenes]]
    for ratio in dict.fromkeys(cell.ratio for cell in cells):
        plan = make_plan(graph, scaled(costs, ratio * CAMERA_PERIOD), CAMERA_PERIOD)
        there = [cell for cell in cells if cell.ratio == ratio]
        rows.append([f'{ratio:g}', plan.recommended.kind, *(
            min(there, key=lambda cell: cell.measured.errors[i]).kind
            for i in range(len(scenes)))])
    return rows


def by_kind(cells: Iterable[RolloutResult], text: Callable[[RolloutResult], str]
            ) -> list[list[str]]:
    """Return a row a ratio and a column a kind."""
    found = {(cell.ratio, cell.kind): text(cell) for cell in cells}
    ratios = list(dict.fromkeys(ratio for ratio, _ in found))
    return [['ratio', *KINDS], *([f'{ratio:g}', *(found.get((ratio, kind), '-')
                                                  for kind in KINDS)] for ratio in ratios)]


def error_text(points: dict[str, list[Point]]) -> Callable[[RolloutResult], str]:
    """Return what writes the error in effect of a cell."""
    found = {(kind, point.ratio): point for kind in KINDS for point in points[kind]}

    def text(cell: RolloutResult) -> str:
        _, value, baseline = found[cell.kind, cell.ratio]
        return f'1 ({value:.3f})' if cell.kind == BASELINE else f'{value / baseline:.2f}'
    return text


def crossing(points: Sequence[Point]) -> float | None:
    """
    Return from which ratio on a quantity is less than the baseline's, interpolated.

    :param points: With ascending ratios, at least one.
    :returns: The first ratio if it is less everywhere, None if it is not at the last.
    """
    over = [math.log(point.value / point.baseline) for point in points]
    last = max((i for i, value in enumerate(over) if value >= 0), default=-1)
    if last == len(points) - 1:
        return None
    if last < 0:
        return points[0].ratio
    share = over[last] / (over[last] - over[last + 1])
    return points[last].ratio ** (1 - share) * points[last + 1].ratio ** share


def crossing_text(points: Sequence[Point], lowest: float) -> str:
    """
    Write from where on a rollout is better, if anywhere.

    :param lowest: The ratio from which on that is known; some rollouts begin later.
    """
    found = crossing(points) if points else None
    if found is None:
        return 'nowhere' if points else '-'
    return 'everywhere' if found <= lowest else f'{found:.2g}'


def crossings(cells: Sequence[RolloutResult], graph: GraphSpec, costs: NodeCosts,
              scenes: Sequence[str]) -> list[list[str]]:
    """Return from where on each rollout is better than the sequential one, a row a quantity."""
    rows = [['', *KINDS[1:]]]
    for name in ('latency', 'newest', 'deep'):
        title = QUANTITIES[name].split(',')[0]
        measured = measured_points(cells, lambda figures: getattr(figures, name))
        rows.append([f'{title}, measured', *texts(measured)])
        rows.append([f'{title}, forecast', *texts(forecast_points(graph, costs, SERIAL, name))])
    for i, scene in enumerate(scenes):
        rows.append([f'Error in effect, {scene}, measured', *texts(
            measured_points(cells, lambda figures: figures.errors[i]))])
    for name in ('newest', 'deep'):
        rows.append([f'{QUANTITIES[name]}, every node on a processor of its own, forecast',
                     *texts(forecast_points(graph, costs, PARALLEL, name))])
    return rows


def texts(points: dict[str, list[Point]]) -> list[str]:
    """Write the crossings of all kinds but the baseline."""
    lowest = points[BASELINE][0].ratio
    return [crossing_text(points[kind], lowest) for kind in KINDS[1:]]


def parallel_rows(graph: GraphSpec, costs: NodeCosts) -> list[list[str]]:
    """Return what the planner expects where all nodes are computed at once."""
    rows = [['ratio', *KINDS]]
    for ratio in PARALLEL_RATIOS:
        found = {kind: forecasts(candidate) for kind, candidate
                 in rollouts(graph, costs, ratio, PARALLEL).items()}
        rows.append([f'{ratio:g}', *(
            f'{found[kind].newest:.2f} / {found[kind].deep:.2f}' if kind in found else '-'
            for kind in KINDS)])
    return rows
