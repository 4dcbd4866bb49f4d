"""The report: a table for the terminal, and one HTML file that needs nothing else."""

import argparse
from html import escape
from itertools import chain, repeat
from pathlib import Path
from string import Template
import sys

import numpy as np
from stream_agent.measurement import plots, road_report
from stream_agent.measurement.comparison import compare, Comparison, diagnostics_of, shown
from stream_agent.measurement.recording import (
    again, read_description, RecordingError, replace_file)
from stream_agent.measurement.summary import (
    circumstances, difference_cells, figure_cells, ms, remarks, RULE, sentences, soonest, table)
from stream_agent.measurement.traces import read_run

REPORT_FILE = 'report.html'
TEMPLATE = Path(__file__).with_suffix('.html')
# Title, what to look for, the plot, its size.
PLOTS = (
    ('How late the commands came', 'Further left is earlier; a steep line is a regular one.',
     plots.latency_distribution, plots.NARROW),
    ('What lateness and wrongness add up to', 'Large: the policy, with the 95 % interval of its '
     'error and the middle 90 % of its latencies. Small: moments of the run, except the '
     'few far above. Lower left is better.', plots.error_against_latency, plots.NARROW),
    ('What was being commanded', 'The second in which the reference moved most. A command counts '
     'from its arrival until the next one.', plots.close_up, (10.2, 3.0)),
    ('The whole run', 'Median of neighbouring frames; the band reaches from the least to the '
     'greatest latency. Dotted: scene changes.', plots.time_lines, plots.WIDE),
    ('First response to a change of the scene', 'Measured where the command first departs from '
     'its scatter before.', plots.first_responses, plots.NARROW),
    ('Where the time goes', "The agents' own median durations; transport is what the recorder "
     'measured beyond them.', plots.stage_split, plots.NARROW))


def write_report(comparison: Comparison, folder: Path) -> Path:
    """
    Write the report as an HTML file.

    :raises RecordingError: If it cannot be written.
    """
    path = folder / REPORT_FILE
    try:
        replace_file(path, html(comparison))
    except OSError as error:
        raise RecordingError(f"'{path}': {error.strerror}; make room, or copy the folder "
                             f'elsewhere, then {again(folder)}') from error
    return path


def html(comparison: Comparison) -> str:
    """Return the page: results in words, plots, all figures, and conditions."""
    found = sentences(comparison) or ['No frame was answered, so there is nothing to compare.']
    body = [f'<p class="found">{escape(sentence)}</p>' for sentence in found]
    if comparison.figures:
        body += [tiles(comparison), plot_grid(comparison), '<h2>All figures</h2>',
                 figure_table(comparison)]
    if comparison.differences:
        body += ['<h2>Differences on the same frames</h2>', difference_table(comparison),
                 f'<p class="remarks">{escape(RULE)}</p>']
    body += [f'<p class="remarks">{escape(remark)}</p>' for remark in remarks(comparison)]
    run, description = comparison.run, comparison.run.description
    frames = len(run.stamps) - comparison.start_up
    return Template(TEMPLATE.read_text()).substitute(
        title=escape(f'Policies compared, {description.get("date", "date unknown")}'),
        conditions=f' · {frames} frames at {1 / run.period:.0f} Hz' if run.period else '',
        body='\n'.join(body),
        circumstances=escape(' · '.join(circumstances(comparison))))


def tiles(comparison: Comparison) -> str:
    """Return the three most important figures of every policy."""
    cells = []
    column, element = shown(comparison.run)
    for name, figures in comparison.figures.items():
        colour = plots.style_of(comparison, name)['color']
        effect, response = figures.effect[column], figures.response
        items = ''.join(f'<div><dt>{title}</dt><dd>{value}</dd></div>' for title, value in (
            ('median latency', f'{ms(figures.latency["p50"])} ms'),
            (escape(f'error in effect, {element.title}'),
             'unknown' if np.isnan(effect) else escape(f'{effect:.3f} {element.unit}')),
            ('scene change to first response',
             'no change' if not response.changes else 'not seen' if not len(response.frames)
             else soonest(response))))
        cells.append(f'<section class="tile" style="border-top-color: {colour}">'
                     f'<h2>{escape(figures.label)}</h2><dl>{items}</dl></section>')
    return f'<div class="tiles">{"".join(cells)}</div>'


def plot_grid(comparison: Comparison) -> str:
    """Return the plots with titles and captions, without those that would be empty."""
    run, cells = comparison.run, []
    empty = {plots.stage_split: not any(diagnostics_of(run, name) for name in comparison.figures),
             plots.first_responses: not len(run.changes)}
    for title, caption, plot, size in PLOTS:
        if not empty.get(plot):
            wide = '' if size == plots.NARROW else ' class="wide"'
            cells.append(f'<figure{wide}><h2>{title}</h2><p class="caption">{escape(caption)}</p>'
                         f'{plots.draw(plot, comparison, size)}</figure>')
    return f'<div class="plots">{"".join(cells)}</div>'


def figure_table(comparison: Comparison) -> str:
    """Return the terminal's table as an HTML table."""
    rows = [''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)
            for tag, cells in zip(chain(['th'], repeat('td')), figure_cells(comparison))]
    return f'<table><tr>{"</tr><tr>".join(rows)}</tr></table>'


def difference_table(comparison: Comparison) -> str:
    """Return the differences with their intervals and verdicts."""
    rows = []
    for difference in comparison.differences:
        quantity, numbers, verdict = map(escape, difference_cells(difference))
        pair = escape(f'{difference.first} minus {difference.second}')
        rows.append(f'<tr><td>{quantity}</td><td>{pair}</td><td>{numbers}</td>'
                    f'<td class="verdict">{verdict}</td></tr>')
    return ('<table><tr><th>quantity, less is better</th><th></th>'
            '<th>estimate [95 % interval]</th><th>verdict</th></tr>' + ''.join(rows) + '</table>')


def text(comparison: Comparison) -> str:
    """Return the comparison as text for the terminal."""
    parts = [table(comparison), '\n'.join(sentences(comparison)), '\n'.join(remarks(comparison))]
    return '\n\n'.join(part for part in parts if part)


def report(folder: Path) -> Path:
    """
    Compare a recording, or drives past signs, print what came out, and write the report.

    :returns: The report's path.
    :raises RecordingError: If the folder is not a recording, or the report cannot be written.
    """
    if 'drives' in read_description(folder):
        return road_report.report(folder)
    comparison = compare(read_run(folder))
    print(f'\n{text(comparison)}\n', flush=True)
    return write_report(comparison, folder)


def main(args: list[str] | None = None) -> int:
    """Make the report of an existing recording."""
    parser = argparse.ArgumentParser(prog='python -m stream_agent.measurement.report',
                                     description='Makes the report of a recording again.')
    parser.add_argument('folder', type=Path, help='Folder of a recording, as results/latest')
    folder = parser.parse_args(args).folder
    try:
        print(f'report: {report(folder)}')
    except RecordingError as error:
        print(f'report: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
