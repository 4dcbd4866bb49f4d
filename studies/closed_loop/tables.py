"""What the closed-loop study found, as tables, and held against the marks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stream_agent.driving.compute_model import figures_of, TimingFigures
from stream_agent.driving.evaluation import difference, rms_ratio, written
from stream_agent.measurement.bootstrap import Interval
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.chain import OURS, Scheme
from studies.closed_loop.schemes import KINDS
from studies.layout import layout, MarkResult

# Lateral RMS of ours relative to the sequential rollout's, by the cost of a pass.
MARKS = {PARALLEL: {0.16: 1.05, 0.8: 1.03, 1.6: 1.0, 3.2: 0.90, 6.4: 0.60},
         SERIAL: {0.16: 1.03, 0.8: 1.03, 1.6: 1.02, 3.2: 0.92, 6.4: 0.70}}
BEST_PEER_MARK = 0.85
# Up to here departures are to be no more than the sequential rollout's; at the last, fewer.
NO_MORE_DEPARTURES, FEWER_DEPARTURES = 1.6, 6.4
PEERS = ('sequential', 'pipelined', 'smaller')


@dataclass(frozen=True)
class SchemeResult:
    """
    One scheme on one device at one cost, over all of its trainings.

    :param squares: Mean squared lateral errors [m^2], (trainings, courses).
    :param departures: A minute, (trainings, courses).
    :param ratio: Lateral RMS relative to the sequential rollout at that cost.
    :param more: Departures a minute more than the sequential rollout.
    :param figures: In camera periods, but the rate in answers a second.
    """

    cost: float
    device: str
    scheme: str
    squares: np.ndarray
    departures: np.ndarray
    ratio: Interval
    more: Interval
    figures: TimingFigures

    @property
    def rms(self) -> float:
        """Lateral RMS over trainings and courses [m]."""
        return float(np.sqrt(self.squares.mean()))

    def as_data(self) -> dict[str, Any]:
        """Return as JSON."""
        return {'cost': self.cost, 'device': self.device, 'scheme': self.scheme, 'rms': self.rms,
                'trainings': len(self.squares), 'ratio': list(self.ratio),
                'rms_of_trainings': np.sqrt(self.squares.mean(axis=1)).tolist(),
                'departures': float(self.departures.mean()), 'more_departures': list(self.more),
                **self.figures._asdict()}


def cells_of(rows: Mapping[tuple[float, str, str], tuple[Scheme, list[dict]]], period: float
             ) -> list[SchemeResult]:
    """
    Gather rows by cost, device and scheme, and compare them with the sequential rollout.

    :param period: Of the camera [s].
    """
    values = {key: (scheme, np.array([row['mean_squares'] for row in found]),
                    np.array([per_minute(row) for row in found]))
              for key, (scheme, found) in rows.items() if found}
    cells = []
    for (cost, device, name), (scheme, squares, departures) in values.items():
        figures = figures_of(scheme.candidate, scheme.timeline)
        base = values.get((cost, device, 'sequential'))
        if base is None:
            ratio = more = Interval(np.nan, np.nan, np.nan)
        elif base[0].key == scheme.key:
            ratio, more = Interval(1.0, 1.0, 1.0), Interval(0.0, 0.0, 0.0)
        else:
            ratio, more = rms_ratio(squares, base[1]), difference(departures, base[2])
        in_periods = figures._replace(
            **{part: getattr(figures, part) / period for part in ('latency', 'newest', 'deep')})
        cells.append(SchemeResult(cost, device, name, squares, departures, ratio, more,
                                  in_periods))
    return cells


def per_minute(row: Mapping[str, Any]) -> list[float]:
    """Return departures a minute on every course."""
    return [60 * count / seconds for count, seconds in zip(row['departures'], row['seconds'])]


def by_name(cells: Sequence[SchemeResult]) -> dict[tuple[str, float, str], SchemeResult]:
    """Return cells by device, cost and scheme."""
    return {(cell.device, cell.cost, cell.scheme): cell for cell in cells}


def verdicts(cells: Sequence[SchemeResult]) -> list[MarkResult]:
    """Hold what was found against the marks; what was not run has no verdict."""
    known = by_name(cells)
    given = []
    for device, marks in MARKS.items():
        for cost, mark in marks.items():
            ours = known.get((device, cost, OURS))
            if ours is None or np.isnan(ours.ratio.estimate):
                continue
            given.append(MarkResult(device, cost, f'lateral RMS of {OURS} relative to '
                                    'sequential', ours.ratio, mark, ours.ratio.estimate <= mark))
            if cost <= NO_MORE_DEPARTURES or cost == FEWER_DEPARTURES:
                # No scheme can be shown to have exactly as many: more is what is sure to be more.
                fewer = cost == FEWER_DEPARTURES
                given.append(MarkResult(
                    device, cost, f'departures a minute of {OURS} more than sequential',
                    ours.more, 0.0, ours.more.high < 0 if fewer else not ours.more.low > 0))
        given += best_peer(known, device)
    return given


def best_peer(known: Mapping[tuple[str, float, str], SchemeResult], device: str
              ) -> list[MarkResult]:
    """Compare ours with the best peer where a pass is most expensive, both as they drive best."""
    cost = max(MARKS[device])

    def best(kinds: Sequence[str]) -> SchemeResult | None:
        there = [known[device, cost, kind + own] for kind in kinds for own in ('', '+commands')
                 if (device, cost, kind + own) in known]
        return min(there, key=lambda cell: cell.rms, default=None)

    ours, peer = best([OURS]), best(PEERS)
    if ours is None or peer is None:
        return []
    ratio = rms_ratio(ours.squares, peer.squares)
    return [MarkResult(device, cost, f'lateral RMS of {ours.scheme} relative to the best peer, '
                       f'{peer.scheme},', ratio, BEST_PEER_MARK, ratio.estimate <= BEST_PEER_MARK)]


def names_in(cells: Sequence[SchemeResult]) -> list[str]:
    """Return the schemes that there are, in their order."""
    there = {cell.scheme for cell in cells}
    return [name for own in ('', '+commands') for name in (kind + own for kind in KINDS)
            if name in there]


def over_smaller(cell: SchemeResult, known: Mapping[tuple[str, float, str], SchemeResult]) -> str:
    """Write the lateral RMS relative to that of the smaller network."""
    smaller = known.get((cell.device, cell.cost, 'smaller'))
    if smaller is None or cell.scheme == 'smaller':
        return '1' if smaller else '-'
    return written(rms_ratio(cell.squares, smaller.squares))


# What is written of a cell, of which it also takes those beside it.
QUANTITIES = {
    'Lateral RMS relative to the sequential rollout (95 %), whose own is in brackets':
        lambda cell, _: (f'1 ({cell.rms * 1e3:.0f} mm)' if cell.scheme == 'sequential' else
                         written(cell.ratio)),
    'Lateral RMS relative to the smaller network (95 %)': over_smaller,
    'Lane departures a minute': lambda cell, _: f'{cell.departures.mean():.2f}',
    'Lane departures a minute more than sequential (95 %)':
        lambda cell, _: written(cell.more),
    'Latency / age of the newest / of the deep information, in camera periods; answers a second':
        lambda cell, _: (f'{cell.figures.latency:.2f} / {cell.figures.newest:.2f} / '
                         f'{cell.figures.deep:.2f}; {cell.figures.rate:.0f}')}


def tables(cells: Sequence[SchemeResult], markdown: bool) -> str:
    """Lay all quantities out, a table for each on each device."""
    known = by_name(cells)
    lines = []
    for device in dict.fromkeys(cell.device for cell in cells):
        here = [cell for cell in cells if cell.device == device]
        costs = sorted({cell.cost for cell in here})
        for quantity, text in QUANTITIES.items():
            title = f'{device.capitalize()} device: {quantity}'
            rows = [['periods a pass', *(f'{cost:g}' for cost in costs)]]
            rows += [[name, *(text(known[device, cost, name], known)
                              if (device, cost, name) in known else '-' for cost in costs)]
                     for name in names_in(here)]
            lines += ['', *([f'**{title}**', ''] if markdown else [title]),
                      *layout(rows, markdown)]
    return '\n'.join(lines)
