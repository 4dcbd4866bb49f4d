"""A comparison in words: sentences and tables."""

import math
from typing import Any

import numpy as np
from stream_agent.measurement.comparison import (
    Comparison, Difference, ERROR_RESOLUTION, late_limits, LATENCY_RESOLUTION, MeasuredResponse,
    PolicyFigures, told, UNSETTLED)
from stream_agent.measurement.rows import BASE, Element, WHEN_TAKEN

# Fewer messages without a frame are normal: a stop at the end is not the answer to one.
NOTABLE = 10
RULE = (f'No difference: the interval is not wholly beyond {LATENCY_RESOLUTION * 1e3:g} ms, or '
        f'{ERROR_RESOLUTION * 100:g} % of the mean error, by which two copies of a policy differ.')


def sentences(comparison: Comparison) -> list[str]:
    """Return the results, one sentence each, the most important ones first."""
    columns = told(comparison.run)
    if comparison.run.elements == BASE:
        columns = columns[:1]
    said = {f'{element.title} error in effect': (column, element) for column, element in columns}
    found = []
    for difference in comparison.differences:
        better, worse = (comparison.figures[name]
                         for name in (difference.first, difference.second))
        if difference.better == difference.second:
            better, worse = worse, better
        if difference.quantity == 'latency':
            found.append(latency_sentence(difference, better, worse))
        elif difference.quantity in said:
            found.append(error_sentence(difference, better, worse, *said[difference.quantity]))
    # What is unknown of one element is so of all.
    found = [*dict.fromkeys(found)]
    if len(comparison.figures) == 1:
        (only,) = comparison.figures.values()
        found.append(
            f'{only.label} answered after {ms(only.latency["p50"])} ms at the median.')
    return found


def latency_sentence(difference: Difference, better: PolicyFigures, worse: PolicyFigures) -> str:
    """Return in a sentence which of two policies answered earlier."""
    if difference.better is None:
        return f'Too few frames to say whether {better.label} or {worse.label} answered earlier.'
    if not difference.better:
        return (f'No difference in latency: {ms(better.latency["p50"])} ms at the median for '
                f'{better.label}, {ms(worse.latency["p50"])} for {worse.label}.')
    low, high = sorted(map(abs, difference.interval[1:]))
    return (f'{better.label} answered {ms(abs(difference.interval.estimate))} ms earlier than '
            f'{worse.label} at the median (95 % interval {ms(low)} to {ms(high)} ms).')


def error_sentence(difference: Difference, better: PolicyFigures, worse: PolicyFigures,
                   column: int, element: Element) -> str:
    """Return in a sentence whose commands in effect were closer to an element's reference."""
    one, other = better.effect[column], worse.effect[column]
    unit = f'{element.unit} of {element.title}'
    if math.isnan(difference.interval.estimate):
        return (f'Without a reference, the errors of {better.label} and {worse.label} are '
                'unknown.')
    if difference.better is None:
        return (f'Too few frames to say whether {better.label} or {worse.label} had the smaller '
                'error.')
    if not difference.better:
        return (f'No difference in error in effect: {one:.3f} {unit} for '
                f'{better.label}, {other:.3f} for {worse.label}.')
    low, high = sorted(map(abs, difference.interval[1:]))
    return (f'The error in effect of {better.label} was {share(1 - one / other, 0)} smaller: '
            f'{one:.3f} instead of {other:.3f} {unit} '
            f'(95 % interval of the difference {low:.3f} to {high:.3f}).')


def ms(seconds: float) -> str:
    """Return seconds as milliseconds, with about three digits."""
    value = seconds * 1e3
    return '-' if math.isnan(value) else f'{value:.2f}' if abs(value) < 10 else f'{value:.1f}'


def share(part: float, digits: int = 2) -> str:
    """Return a share of 1 in percent."""
    return f'{part * 100:.{digits}f} %'


def figure_rows(figures: PolicyFigures, comparison: Comparison) -> dict[str, str]:
    """Return the cells of the table for one policy, by their titles."""
    period = comparison.run.period
    late, too_late = (ms(limit) for limit in late_limits(period))
    shares = {name: share(count / max(figures.frames, 1))
              for name, count in figures.classes.items()}
    counted = {name: f'{count} ({shares[name]})' for name, count in figures.classes.items()}
    response = figures.response

    def levels(values: dict[str, float]) -> str:
        written = ' / '.join(map(ms, values.values()))
        return '-' if written.startswith('-') else written

    return {
        'frames': f'{figures.frames}',
        f'on time, up to {late} ms': shares['on time'],
        f'late, over {late} ms': counted['late'],
        f'too late, over {too_late} ms': counted['too late'],
        'lost': counted['lost'],
        **missing_row(figures, comparison),
        'latency p50/90/99/99.9/worst [ms]': levels(figures.latency),
        "to the gate's command [ms]": levels(figures.gated),
        'response interval [ms]': levels(figures.interval),
        'rate mean, worst second [Hz]': f'{figures.rate[0]:.2f}, {figures.rate[1]:.0f}',
        **error_rows(figures, comparison),
        'first response, measured': measured_response(response),
        'first response, predicted':
            'unknown' if response.predicted is None else frames(response.predicted)}


def missing_row(figures: PolicyFigures, comparison: Comparison) -> dict[str, str]:
    """Return how many frames had no command for want of an input, if any policy has such."""
    if not any(each.missing for each in comparison.figures.values()):
        return {}
    inputs = ', '.join(f'{name} {count}' for name, count in figures.missing.items())
    return {'of all, an input was missing or too old':
            f'{sum(figures.missing.values())}' + f' ({inputs})' * bool(inputs)}


def error_rows(figures: PolicyFigures, comparison: Comparison) -> dict[str, str]:
    """Return how far from the reference a policy's commands were, and a base from its lane."""
    columns = told(comparison.run)
    if comparison.run.elements != BASE:
        kinds = ('error', figures.error), ('error in effect', figures.effect)
        return {f'{title} {element.title} [{element.unit}]': f'{errors[column]:.4f}'
                for title, errors in kinds for column, element in columns}
    titles = [f'{element.title} [{element.unit}]' for _, element in columns]
    units = [f'[{element.unit}]' for _, element in columns]
    return {
        'lateral error RMS [m]': '-' if math.isnan(figures.lateral) else f'{figures.lateral:.4f}',
        **{f"{title} {', '.join(names)}": ', '.join(f'{errors[column]:.4f}'
                                                    for column, _ in columns)
           for title, names, errors in (('error', titles, figures.error),
                                        ('error in effect', units, figures.effect))}}


def measured_response(response: MeasuredResponse) -> str:
    """Return in words how soon a policy responded to changes of the scene."""
    if not response.changes:
        return 'no scene change'
    if not len(response.frames):
        return f'in 0 of {response.changes} changes'
    return f'{soonest(response)} ({len(response.frames)} of {response.changes} changes)'


def soonest(response: MeasuredResponse) -> str:
    """Return the medians of frames, 0 for the changed one itself, and of milliseconds."""
    return f'{frames(np.median(response.frames))}, {ms(np.median(response.seconds))} ms'


def frames(count: float) -> str:
    """Return a number of frames in words."""
    return f'{count:g} frame' if count == 1 else f'{count:g} frames'


def difference_cells(difference: Difference) -> tuple[str, str, str]:
    """Return a difference in words: the quantity, the numbers, and which policy is better."""
    scale, unit = (1e3, 'ms') if difference.unit == 's' else (1.0, difference.unit)
    estimate, low, high = (f'{value * scale:+.3f}' for value in difference.interval)
    verdict = {None: 'unknown', '': 'no difference'}.get(
        difference.better, f'{difference.better} is better')
    return f'{difference.quantity} [{unit}]', f'{estimate} [{low}, {high}]', verdict


def figure_cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return a table of all figures: labels in the first row, titles in the first column."""
    columns = [figure_rows(figures, comparison) for figures in comparison.figures.values()]
    return [('', *(figures.label for figures in comparison.figures.values())),
            *zip(columns[0], *(column.values() for column in columns))] if columns else []


def table(comparison: Comparison) -> str:
    """Return a table of all policies, then the differences with their intervals."""
    cells = figure_cells(comparison)
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ['  '.join([title.ljust(widths[0]), *map(str.rjust, others, widths[1:])]).rstrip()
             for title, *others in cells]
    for difference in comparison.differences:
        if difference.quantity == 'latency':
            lines += ['', f'{difference.first} minus {difference.second}, with 95 % intervals; '
                      'less is better']
        lines.append('  {}: {}  {}'.format(*difference_cells(difference)))
    return '\n'.join([*lines, *([RULE] if comparison.differences else [])])


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader needs to know to judge the figures, one sentence each."""
    description = comparison.run.description
    said = [str(line) for key in ('remarks', 'silent') for line in description.get(key, [])]
    topics = description.get('policies', {})
    said += [f"Policy '{name}' answered no frame on the topic '{topics.get(name, 'unknown')}'; "
             'check that its agent is active and its log is free of errors.'
             for name in comparison.silent if name not in description.get('absent', [])]
    if comparison.start_up and comparison.figures:
        said.append(f'The first {comparison.start_up} frames are left out: until then not every '
                    'policy had answered one.')
    if len(comparison.run.changes) and comparison.figures:
        said.append(f'Errors leave out the {UNSETTLED:.0f} s after every change of the scene: '
                    'those measure the first response, not the driving.')
    driving = description.get('driving', '')
    if driving and len(comparison.figures) > 1:
        said.append((f'The camera saw the road as {driving} drove'
                     if comparison.run.elements == BASE else f'{driving} moved the robot')
                    + '; the others answered the same frames without driving, so their errors do '
                    'not accumulate.')
    if description.get('without_frame', 0) > NOTABLE:
        said.append(f'{description["without_frame"]} messages had a stamp that is not of a frame '
                    'of the last second; check that all use the same camera and clock.')
    if description.get('dropped'):
        said.append(f'{description["dropped"]} rows are missing, as the disk was too slow or '
                    'full.')
    run = comparison.run
    if run.strays:
        said.append(f'{frames(run.strays)} left out: stamped over 2 s from when the others come; '
                    "check the camera's clock.")
    if run.cut_after is not None:
        said.append(f'rows.csv breaks off after {run.cut_after} rows: the recorder was killed, or '
                    'the file was cut; what followed is missing.')
    if run.set_backs:
        said.append(f'The clock was set back, or frames came again, {run.set_backs} times; what '
                    'came then follows what came before.')
    if description.get('arrivals') == WHEN_TAKEN:
        said.append(f'Arrivals were measured {WHEN_TAKEN}, as the middleware does not note them: '
                    'latencies include what a message waited for that.')
    return said


def circumstances(comparison: Comparison) -> list[str]:
    """Return machine, versions, and how times were measured."""
    description = comparison.run.description
    arrivals = description.get('arrivals')
    return [description.get('machine', 'machine unknown'),
            *(f'{name} {version}' for name, version in description.get('versions', {}).items()),
            *([f'arrivals measured {arrivals}'] if arrivals else []),
            'intervals: moving-block bootstrap over blocks of at least 2 s']


def plain(value: Any) -> Any:
    """Convert data to what JSON can represent; NaN and infinity become None."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
