"""A comparison in words: sentences, and the table for the terminal."""

import math
from typing import Any

import numpy as np
from stream_agent.measurement.comparison import (
    Comparison, Difference, late_limits, PolicyFigures, UNSETTLED)

# Fewer messages without a frame are normal: a stop at the end is not the answer to one.
NOTABLE = 10


def sentences(comparison: Comparison) -> list[str]:
    """Return the results, one sentence each, the most important ones first."""
    if not comparison.figures:
        return []
    found = []
    for other in list(comparison.figures)[1:]:
        by_name = {difference.quantity: difference for difference in comparison.differences
                   if difference.second == other}
        found.append(latency_sentence(comparison, by_name['latency']))
        found.append(error_sentence(comparison, by_name['yaw rate error in effect']))
    if not found:
        (only,) = comparison.figures.values()
        found.append(f'{only.label} answered after {ms(only.latency["p50"])} ms at the median; '
                     'there was no other policy to compare it with.')
    return found


def latency_sentence(comparison: Comparison, difference: Difference) -> str:
    """Return in a sentence which policy answered earlier."""
    first, second = names(comparison, difference)
    low, high = sorted(abs(value) for value in difference.interval[1:])
    if difference.better is None:
        return f'Too few frames to say whether {first} or {second} answered earlier.'
    if not difference.better:
        return (f'No difference in latency between {first} and {second}: '
                f'{signed(difference.interval.estimate * 1e3)} ms at the median.')
    if difference.better == difference.second:
        first, second = second, first
    return (f'{first} answered {ms(abs(difference.interval.estimate))} ms earlier than {second} '
            f'at the median (95 % interval {ms(low)} to {ms(high)} ms).')


def error_sentence(comparison: Comparison, difference: Difference) -> str:
    """Return in a sentence whose commands in effect were closer to the reference."""
    first, second = names(comparison, difference)
    one, other = (comparison.figures[name].effect[1]
                  for name in (difference.first, difference.second))
    if difference.better is None:
        if math.isnan(difference.interval.estimate):
            return f'Without a reference, the errors of {first} and {second} are unknown.'
        return f'Too few frames to say whether {first} or {second} had the smaller error.'
    if not difference.better:
        return (f'No difference in error in effect: {one:.3f} rad/s of yaw rate for {first}, '
                f'{other:.3f} for {second}.')
    if difference.better == difference.second:
        first, second, one, other = second, first, other, one
    low, high = sorted(abs(value) for value in difference.interval[1:])
    return (f'The error in effect of {first} was {share(1 - one / other, 0)} smaller: '
            f'{one:.3f} instead of {other:.3f} rad/s of yaw rate '
            f'(95 % interval of the difference {low:.3f} to {high:.3f}).')


def names(comparison: Comparison, difference: Difference) -> tuple[str, str]:
    """Return the labels of the two policies."""
    return (comparison.figures[difference.first].label,
            comparison.figures[difference.second].label)


def ms(seconds: float) -> str:
    """Return seconds as milliseconds, with about three digits."""
    value = seconds * 1e3
    return '-' if math.isnan(value) else f'{value:.2f}' if abs(value) < 10 else f'{value:.1f}'


def signed(value: float) -> str:
    """Return a number with its sign."""
    return f'{value:+.3f}'


def share(part: float, digits: int = 2) -> str:
    """Return a share of 1 in percent."""
    return f'{part * 100:.{digits}f} %'


def figure_rows(figures: PolicyFigures, period: float) -> dict[str, str]:
    """Return the cells of the table for one policy, by their titles."""
    late, too_late = late_limits(period)
    counts = figures.classes
    frames = max(figures.frames, 1)

    def levels(values: dict[str, float]) -> str:
        written = ' / '.join(ms(value) for value in values.values())
        return '-' if written.startswith('-') else written

    return {
        'frames': f'{figures.frames}',
        f'on time, up to {ms(late)} ms': f'{share(counts["on time"] / frames)}',
        f'late, over {ms(late)} ms': f'{counts["late"]} ({share(counts["late"] / frames)})',
        f'too late, over {ms(too_late)} ms':
            f'{counts["too late"]} ({share(counts["too late"] / frames)})',
        'lost': f'{counts["lost"]} ({share(counts["lost"] / frames)})',
        'latency p50/90/99/99.9/worst [ms]': levels(figures.latency),
        "to the gate's command [ms]": levels(figures.gated),
        'response interval [ms]': levels(figures.interval),
        'rate mean, worst second [Hz]': f'{figures.rate[0]:.2f}, {figures.rate[1]:.0f}',
        'lateral error RMS [m]': '-' if math.isnan(figures.lateral) else f'{figures.lateral:.4f}',
        'error yaw rate [rad/s], speed [m/s]': f'{figures.error[1]:.4f}, {figures.error[0]:.4f}',
        'error in effect [rad/s], [m/s]': f'{figures.effect[1]:.4f}, {figures.effect[0]:.4f}',
        'first response, measured': measured_response(figures),
        'first response, predicted': predicted_response(figures)}


def measured_response(figures: PolicyFigures) -> str:
    """Return in words how soon the policy responded to changes of the scene."""
    response = figures.response
    if not response.changes:
        return 'no scene change'
    if not len(response.frames):
        return f'in 0 of {response.changes} changes'
    return (f'frame {np.median(response.frames):.0f}, {ms(np.median(response.seconds))} ms '
            f'({len(response.frames)} of {response.changes} changes)')


def predicted_response(figures: PolicyFigures) -> str:
    """Return in words at which frame theory expects the response."""
    predicted = figures.response.predicted
    return 'unknown' if predicted is None else f'frame {predicted}'


def difference_line(difference: Difference) -> str:
    """Return a difference in words, with its interval and the better policy."""
    scale, unit = (1e3, 'ms') if difference.unit == 's' else (1.0, difference.unit)
    estimate, low, high = (value * scale for value in difference.interval)
    verdict = {None: 'unknown', '': 'no difference'}.get(
        difference.better, f'{difference.better} is better')
    return (f'{difference.quantity} [{unit}]: {signed(estimate)} '
            f'[{signed(low)}, {signed(high)}]  {verdict}')


def table(comparison: Comparison) -> str:
    """Return a table of all policies, then the differences with their intervals."""
    period = comparison.run.period
    columns = [figure_rows(figures, period) for figures in comparison.figures.values()]
    heads = [figures.label for figures in comparison.figures.values()]
    lines = []
    if columns:
        width = max(map(len, columns[0]))
        widths = [max([len(head), *map(len, column.values())])
                  for head, column in zip(heads, columns)]
        for title, *cells in [('', *heads),
                              *((title, *(column[title] for column in columns))
                                for title in columns[0])]:
            lines.append('  '.join([title.ljust(width), *(
                cell.rjust(size) for cell, size in zip(cells, widths))]).rstrip())
    for other in list(comparison.figures)[1:]:
        first = next(iter(comparison.figures))
        lines += ['', f'{first} minus {other}, with 95 % intervals; less is better']
        lines += [f'  {difference_line(difference)}' for difference in comparison.differences
                  if difference.second == other]
    return '\n'.join(lines)


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader needs to know to judge the figures, one sentence each."""
    description = comparison.run.description
    said = [str(line) for key in ('remarks', 'silent') for line in description.get(key, [])]
    topics = description.get('policies', {})
    said += [f"Policy '{name}' answered no frame on the topic '{topics.get(name, 'unknown')}'; "
             'check that its agent is active and its log is free of errors.'
             for name in comparison.silent]
    if comparison.start_up and comparison.figures:
        said.append(f'The first {comparison.start_up} frames are left out: until then not every '
                    'policy had answered one.')
    if len(comparison.run.changes) and comparison.figures:
        said.append(f'Errors leave out the {UNSETTLED:.0f} s after every change of the scene: '
                    'those measure the first response, not the driving.')
    driving = description.get('driving', '')
    if driving and len(comparison.figures) > 1:
        said.append(f'The camera saw the road as {driving} drove; the others answered the same '
                    'frames without driving, so their errors do not accumulate.')
    if description.get('without_frame', 0) > NOTABLE:
        said.append(f'{description["without_frame"]} messages had a stamp that is not of a frame '
                    'of the last second; check that all use the same camera and clock.')
    if description.get('dropped'):
        said.append(f'{description["dropped"]} rows were dropped because the disk was too slow.')
    return said


def plain(value: Any) -> Any:
    """Convert data to what JSON can represent; NaN and infinity become None."""
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
