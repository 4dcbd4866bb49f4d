"""The report of drives past signs: a table, a page with paths and speeds, and ``run.json``."""

from collections.abc import Sequence
from html import escape
from itertools import chain, repeat
import json
import math
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from stream_agent.drawing.plot_style import BLUE, FAINT, INK, VERMILION
from stream_agent.measurement import plots
from stream_agent.measurement.recording import again, RecordingError, replace_file, RUN_FILE
from stream_agent.measurement.traces import read_run

DRIVE_FILE = 'drive.json'
TEMPLATE, REPORT_FILE = Path(__file__).with_name('report.html'), 'report.html'
# A vehicle that moves further in a frame was put back [m].
PUT_BACK = 0.25
# Share of frames that a simulator may skip without its drive being another one.
MOST_SKIPPED = 0.01
# Side of a plate as it is drawn from above [m]; it would be too small to be read otherwise.
PLATE = 0.7
PATHS = ('From above, all laps, with the plates of the first one. Blue: in the middle of the lane '
         'at the commanded speed; red: not; grey: not judged, as the command has just changed. '
         'Crosses: the lane was left.')
SPEEDS = ('Along the course, so that the same signs are above each other. Wide grey line: the '
          'commanded speed and what counts as right; black: the driven one. Blue and red: judged '
          "right and wrong. Below, the distance from the lane's middle.")
WIDTH, SPEED_HEIGHT = 10.2, 2.3


class RoadDrive(NamedTuple):
    """
    One policy's drive.

    :param about: What ``run.json`` says about the policy.
    :param record: What the simulator wrote, as ``Session.record``.
    :param latency: Median time from an image to its command [s]; nan if it was not recorded.
    """

    about: dict[str, Any]
    record: dict[str, Any]
    latency: float

    @property
    def name(self) -> str:
        """Of the policy."""
        return self.about['name']

    @property
    def frames(self) -> dict[str, np.ndarray]:
        """Every frame of the drive, in columns."""
        return {name: np.array(column, float) for name, column in self.record['frames'].items()}

    @property
    def figures(self) -> dict[str, Any]:
        """Return the entry in ``run.json``; shares in percent, lengths in metres."""
        record = self.record
        minutes, count = record['duration'] / 60, record['published'] + record['skipped']
        found = record['seconds_until_obeyed']
        return {
            'task_score': percent(record['score']),
            'signs_obeyed': percent(record['signs_obeyed']),
            'signs': [sum(record['obeyed']), len(record['obeyed'])],
            'seconds_until_obeyed': float(np.median(found)) if found else None,
            'lateral_rms': record['lateral_rms'], 'speed_rms': record['speed_rms'],
            'departures': record['departures'],
            'departures_per_minute': record['departures'] / minutes,
            'commands_per_frame': record['commands'] / count,
            'latency': None if math.isnan(self.latency) else self.latency,
            'stops': record['stops'], 'skipped_frames': record['skipped']}


def percent(share: float | None) -> float | None:
    """Return a share of 1 in percent."""
    return None if share is None else round(100 * share, 2)


def read_drives(folder: Path) -> tuple[dict[str, Any], list[RoadDrive]]:
    """
    Read the conditions of drives, and what became of them.

    :raises RecordingError: If one of them is missing.
    """
    try:
        conditions = json.loads((folder / RUN_FILE).read_text())
        drives = []
        for about in conditions['drives']:
            own = folder / about['name']
            record = json.loads((own / DRIVE_FILE).read_text())
            drives.append(complete(RoadDrive(about, record, latency_in(own))))
    except OSError as error:
        raise RecordingError(f"'{error.filename}': {error.strerror}; a drive was not finished, so "
                             'let them drive again: python -m stream_agent run') from None
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(f"'{folder}': not what `python -m stream_agent run` writes "
                             f'({error}); let them drive again') from None
    return conditions, drives


def complete(drive: RoadDrive) -> RoadDrive:
    """Return a drive of which all is there; KeyError if something is missing."""
    missing = {'course', 'plates', 'signs', 'glyphs', 'frames'} - drive.record.keys()
    if missing or not drive.figures:
        raise KeyError(', '.join(sorted(missing)))
    return drive


def latency_in(folder: Path) -> float:
    """Return the median time from an image to its command [s]; nan without a recording."""
    try:
        run = read_run(folder)
    except RecordingError:
        return math.nan
    times = np.concatenate([trace.arrivals - run.stamps for trace in run.traces.values()])
    return float(np.nanmedian(times)) if np.isfinite(times).any() else math.nan


def computer_of(conditions: dict[str, Any]) -> str:
    """Say which computer was emulated."""
    periods, rate = conditions['pass_periods'], conditions['camera_rate']
    return (f'Emulated computer: one core on which a pass through the network takes '
            f'{periods:g} camera periods, {1e3 * periods / rate:.0f} ms at {rate:g} Hz')


def rows_of(drive: RoadDrive) -> dict[str, str]:
    """Return the cells of the table for one drive, by their titles."""
    figures = drive.figures

    def shown(value: float | None, text: str) -> str:
        return '-' if value is None else text.format(value)

    obeyed, signs = figures['signs']
    return {
        'in the lane at the commanded speed': shown(figures['task_score'], '{:.1f} %'),
        'signs obeyed': shown(figures['signs_obeyed'], f'{obeyed} of {signs} ({{:.0f}} %)'),
        'until a sign was obeyed, median [s]': shown(figures['seconds_until_obeyed'], '{:.2f}'),
        'lateral error RMS [mm]': shown(figures['lateral_rms'] and 1e3 * figures['lateral_rms'],
                                        '{:.0f}'),
        'speed error RMS [m/s]': shown(figures['speed_rms'], '{:.2f}'),
        'lane left, times a minute': f'{figures["departures_per_minute"]:.1f}',
        'image to command, median [ms]': shown(figures['latency'] and 1e3 * figures['latency'],
                                               '{:.0f}'),
        'commands per camera frame': f'{figures["commands_per_frame"]:.2f}',
        'stopped by the gate, times': f'{figures["stops"]}',
        'frames that the simulator skipped': f'{figures["skipped_frames"]}'}


def cells_of(drives: Sequence[RoadDrive]) -> list[tuple[str, ...]]:
    """Return the table: names in the first row, titles in the first column."""
    columns = [rows_of(drive) for drive in drives]
    return [('', *(label(drive) for drive in drives)),
            *zip(columns[0], *(column.values() for column in columns))]


def label(drive: RoadDrive) -> str:
    """Return the name of a policy with its rollout, if that says more."""
    pattern = drive.about['pattern']
    return drive.name if pattern == drive.name else f'{drive.name} ({pattern})'


def text(conditions: dict[str, Any], drives: Sequence[RoadDrive]) -> str:
    """Return the comparison as text for the terminal."""
    cells = cells_of(drives)
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ['  '.join([title.ljust(widths[0]), *map(str.rjust, others, widths[1:])]).rstrip()
             for title, *others in cells]
    return '\n'.join([computer_of(conditions), '', *lines, '', *sentences(drives),
                      *remarks(drives)])


def sentences(drives: Sequence[RoadDrive]) -> list[str]:
    """Return the results, one sentence each."""
    first, *others = drives
    score, *scores = [drive.figures['task_score'] for drive in drives]
    if None in (score, *scores):
        return ['No sign was judged; let them drive longer, by --duration.']
    than = ', '.join(f'{drive.name} {other:.1f} %' for drive, other in zip(others, scores))
    return [f'{first.name} was in the lane at the commanded speed {score:.1f} % of the time'
            + (f', {than}.' if than else '.'),
            *[f'{drive.name} obeyed {drive.figures["signs"][0]} of {drive.figures["signs"][1]} '
              f'signs, {1e3 * drive.record["lateral_rms"]:.0f} mm from the lane\'s middle (RMS).'
              for drive in drives if drive.record['lateral_rms'] is not None]]


def remarks(drives: Sequence[RoadDrive]) -> list[str]:
    """Return what makes a drive another one than was meant, a sentence each."""
    found = []
    for drive in drives:
        figures, record = drive.figures, drive.record
        share = record['skipped'] / (record['published'] + record['skipped'])
        if share > MOST_SKIPPED:
            found.append(f'{drive.name}: this machine was too busy to show {share:.0%} of the '
                         'images; do not trust its figures, and repeat it when the machine is '
                         'idle.')
        if figures['stops']:
            found.append(f'{drive.name}: the gate stopped the vehicle {figures["stops"]} times; '
                         'log.txt says why.')
    return found


def report(folder: Path) -> Path:
    """
    Compare drives, print what came out, complete ``run.json``, and write the page.

    :returns: The page's path.
    :raises RecordingError: If a drive is missing, or the page cannot be written.
    """
    conditions, drives = read_drives(folder)
    print(f'\n{text(conditions, drives)}\n', flush=True)
    described = {**conditions, 'drives': [drive.about | drive.figures for drive in drives]}
    try:
        replace_file(folder / RUN_FILE, json.dumps(described, indent=1))
        replace_file(folder / REPORT_FILE, html(conditions, drives))
    except OSError as error:
        raise RecordingError(f"'{folder}': {error.strerror}; make room, or copy the folder "
                             f'elsewhere, then {again(folder)}') from error
    return folder / REPORT_FILE


def html(conditions: dict[str, Any], drives: Sequence[RoadDrive]) -> str:
    """Return the page: results in words, paths, speeds, all figures, and conditions."""
    body = [f'<p class="found">{escape(sentence)}</p>' for sentence in sentences(drives)]
    shape = np.ptp(drives[0].record['course'], axis=0) + 4 * PLATE
    sizes = ((WIDTH, 0.5 + WIDTH / len(drives) * float(shape[1] / shape[0])),
             (WIDTH, 0.6 + SPEED_HEIGHT * len(drives)))
    cells = [f'<figure class="wide"><h2>{title}</h2><p class="caption">{escape(caption)}</p>'
             f'{plots.draw(plot, drives, size)}</figure>' for title, caption, plot, size in (
                 ('Where they drove', PATHS, paths, sizes[0]),
                 ('What they obeyed', SPEEDS, speeds, sizes[1]))]
    rows = [''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in line)
            for tag, line in zip(chain(['th'], repeat('td')), cells_of(drives))]
    links = ', '.join(f'<a href="{escape(drive.name)}/report.html">{escape(drive.name)}</a>'
                      for drive in drives)
    body += [f'<div class="plots">{"".join(cells)}</div>', '<h2>All figures</h2>',
             f'<table><tr>{"</tr><tr>".join(rows)}</tr></table>',
             *(f'<p class="remarks">{escape(remark)}</p>' for remark in remarks(drives)),
             f'<p class="remarks">When every command came, and how far it was off: {links}.</p>']
    return Template(TEMPLATE.read_text()).substitute(
        title=escape(computer_of(conditions)), conditions=escape(f' · {conditions["date"]}'),
        body='\n'.join(body), circumstances=escape(' · '.join(circumstances(conditions))))


def circumstances(conditions: dict[str, Any]) -> list[str]:
    """Return course, machine and versions."""
    return [f'course {conditions["seed"]}, {conditions["duration"]:g} s each',
            f'pushes up to {conditions["pushes"]:g} rad/s', conditions['machine'],
            *(f'{name} {version}' for name, version in conditions['versions'].items())]


def segments(frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return which frames belong to what is drawn alike: judged right, judged wrong, neither."""
    judged, right = frames['judged'] > 0, frames['right'] > 0
    return {FAINT: ~judged, BLUE: right, VERMILION: judged & ~right}


def with_gaps(frames: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Return columns with a gap in front of every frame to which the vehicle was put back."""
    moved = np.hypot(np.diff(frames['x']), np.diff(frames['y']))
    return [np.insert(frames[name], 1 + np.flatnonzero(moved > PUT_BACK), math.nan)
            for name in names]


def paths(figure: Figure, drives: Sequence[RoadDrive]) -> None:
    """Draw every drive from above, on its course with the plates of the first lap."""
    for axes, drive in zip(np.atleast_1d(figure.subplots(1, len(drives), sharex=True,
                                                         sharey=True)), drives):
        record, frames = drive.record, drive.frames
        left, right = borders(np.array(record['course']), record['lane_width'])
        axes.fill(*np.concatenate([left, right[::-1]]).T, color='#ececec', linewidth=0)
        for colour, among in segments(frames).items():
            x, y = (np.where(among, frames[name], math.nan) for name in ('x', 'y'))
            axes.plot(x, y, color=colour, linewidth=1.1 if colour == FAINT else 1.4, alpha=0.8)
        gone = left_the_lane(drive)
        axes.plot(frames['x'][gone], frames['y'][gone], 'x', color=INK, markersize=7,
                  markeredgewidth=1.8, zorder=5)
        for plate in record['plates']:
            draw_glyph(axes, record['glyphs'][plate['glyph']], (plate['x'], plate['y']),
                       (PLATE, PLATE))
        axes.set_aspect('equal')
        reach = np.concatenate([left, right, [(plate['x'], plate['y'])
                                              for plate in record['plates']] or left])
        low, high = reach.min(axis=0) - PLATE, reach.max(axis=0) + PLATE
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.axis('off')
        score = drive.figures['task_score']
        axes.set_title(f'{label(drive)}: ' + ('not judged' if score is None else f'{score:.1f} %'),
                       fontsize=11, fontweight='bold', loc='left')


def borders(middle: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lines at both sides of a closed lane, whose first points come again."""
    middle = np.concatenate([middle, middle[:1]])
    ahead = np.roll(middle[:-1], -1, axis=0) - np.roll(middle[:-1], 1, axis=0)
    ahead = np.concatenate([ahead, ahead[:1]])
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)
    side *= 0.5 * width / np.linalg.norm(side, axis=1, keepdims=True)
    return middle + side, middle - side


def left_the_lane(drive: RoadDrive) -> np.ndarray:
    """Return the frames at which a policy had left the lane."""
    frames = drive.frames
    beyond = np.abs(frames['lateral']) > 0.5 * drive.record['lane_width']
    return np.flatnonzero(beyond & (frames['expert'] == 0))


def draw_glyph(axes: Axes, mask: Sequence[Sequence[int]], middle: tuple[float, float],
               size: tuple[float, float]) -> None:
    """Draw a plate with a glyph, whose size is in the axes' units."""
    ink = np.pad(np.array(mask, float), 2, constant_values=255.0)[::-1] / 255.0
    (x, y), (width, height) = middle, size
    axes.imshow(1.0 - ink, cmap='gray', vmin=-0.1, vmax=1.0, origin='lower', aspect='auto',
                extent=(x - 0.5 * width, x + 0.5 * width, y - 0.5 * height, y + 0.5 * height),
                interpolation='bilinear', zorder=4)


def speeds(figure: Figure, drives: Sequence[RoadDrive]) -> None:
    """Draw commanded and driven speed, what was judged, and the lateral error."""
    panels = figure.subplots(2 * len(drives), sharex=True, squeeze=False,
                             height_ratios=[3, 1.1] * len(drives))[:, 0]
    farthest = max(float(drive.frames['along'][-1]) for drive in drives)
    for above, below, drive in zip(panels[::2], panels[1::2], drives):
        record, frames = drive.record, drive.frames
        along, commanded = frames['along'], frames['commanded']
        above.fill_between(along, commanded - record['speed_band'],
                           commanded + record['speed_band'], step='post', color='#d4d4d4',
                           linewidth=0)
        for colour, among in list(segments(frames).items())[1:]:
            for axes in (above, below):
                axes.fill_between(along, 0, 1, where=among, color=colour, alpha=0.13, linewidth=0,
                                  transform=axes.get_xaxis_transform())
        for driven, colour in ((frames['expert'] == 0, INK), (frames['expert'] > 0, FAINT)):
            above.plot(along, np.where(driven, frames['speed'], math.nan), color=colour,
                       linewidth=1.3)
        below.plot(*with_gaps(frames | {'mm': 1e3 * frames['lateral']}, 'along', 'mm'), color=INK,
                   linewidth=1)
        gone = left_the_lane(drive)
        below.plot(along[gone], 1e3 * frames['lateral'][gone], 'x', color=VERMILION)
        for side in (-1, 1):
            below.axhline(side * 1e3 * record['lane_band'], color=FAINT, linewidth=0.8)
        for sign in record['signs']:
            draw_glyph(above, record['glyphs'][sign['glyph']], (sign['along'] + 1.0, 2.55),
                       (0.022 * farthest, 0.4))
        above.set(ylabel='speed [m/s]', ylim=(0, 2.8), yticks=(0, 1, 2), xlim=(0, farthest))
        most = 500 * record['lane_width']
        below.set(ylabel='[mm]', ylim=(-most, most), yticks=(-most, 0, most))
        obeyed, signs = drive.figures['signs']
        above.set_title(f'{label(drive)}: {obeyed} of {signs} signs obeyed', loc='left',
                        fontsize=10, fontweight='bold')
    panels[-1].set_xlabel('along the course [m]')
