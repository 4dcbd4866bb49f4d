"""A recording as arrays with one entry per frame, the same frames for every policy."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from stream_agent.measurement.recording import (
    is_cut, read_changes, read_description, read_recording)
from stream_agent.measurement.rows import BASE, Element, Row

# A stamp this far [ns] from where it belongs is that of another clock.
FAR_NS = 2 * 10**9
# Greater commands and errors, in their units, are not known: sums of them overflow.
MOST = 1e6


@dataclass(frozen=True)
class Trace:
    """
    The answers of one policy to T frames; what did not arrive is nan.

    Times are seconds since the first frame's stamp; commands have E elements, of which a base's
    are (speed, yaw rate).

    :param arrivals: (T,), of the first command of every frame.
    :param commands: (T, E), these commands.
    :param gated_arrivals: (T,), of the gate's commands made from them.
    :param later: (N, 1 + E), arrival and command of the second and further commands of a frame.
    """

    arrivals: np.ndarray
    commands: np.ndarray
    gated_arrivals: np.ndarray
    later: np.ndarray


@dataclass(frozen=True)
class RunTraces:
    """
    A recording of T frames.

    :param stamps: (T,), the frames' stamps [s] since the first one.
    :param reference: (T, E), the reference commands; nan if unknown.
    :param lateral_errors: (T,), the vehicle's lateral errors [m]; nan if unknown.
    :param traces: By the policy's name, in the order of the parameter ``policies``.
    :param changes: (N,), stamps [s] of the first frames that show a changed scene.
    :param description: The content of ``run.json``.
    :param strays: Frames left out because their stamps are far from when they came.
    :param set_backs: How often the clock was set back.
    :param cut_after: After how many rows the file breaks off; None if it does not.
    :param elements: What a command consists of.
    """

    stamps: np.ndarray
    reference: np.ndarray
    lateral_errors: np.ndarray
    traces: dict[str, Trace]
    changes: np.ndarray
    description: dict = field(default_factory=dict)
    strays: int = 0
    set_backs: int = 0
    cut_after: int | None = None
    elements: tuple[Element, ...] = BASE

    @property
    def period(self) -> float:
        """The camera period [s]: as given, or else the median time between two frames."""
        given = self.description.get('camera_period', 0.0)
        return given or (float(np.median(np.diff(self.stamps))) if len(self.stamps) > 1 else 0.0)


def read_run(folder: Path) -> RunTraces:
    """
    Read a recording.

    :raises RecordingError: If the folder is not a recording.
    """
    rows, names = read_recording(folder)
    description = read_description(folder)
    run = make_run(rows, read_changes(folder), description, elements_of(names, description))
    return replace(run, cut_after=len(rows)) if is_cut(folder) else run


def elements_of(names: Sequence[str], description: dict) -> tuple[Element, ...]:
    """Return the elements of commands by their names; ``run.json`` has the units of vectors."""
    known = {element.name: element for element in BASE}
    if [*names] == [*known]:
        return BASE
    units = description.get('outputs', {})
    return tuple(Element(name, str(units.get(name, ''))) for name in names)


def make_run(rows: Sequence[Row], changes_ns: Sequence[int] = (), description: dict | None = None,
             elements: tuple[Element, ...] = BASE) -> RunTraces:
    """Make a recording of rows in the order in which they were written."""
    description = description or {}
    rows, strays = without_strays(rows)
    rows, shifts, set_backs = on_one_clock(rows)
    # A stamp that came twice is that of two frames, the first change on the first one.
    changes_ns = [stamp_ns + (by.pop(0) if len(by := shifts.get(stamp_ns, [0])) > 1 else by[0])
                  for stamp_ns in changes_ns]
    stamps_ns = sorted({row.stamp_ns for row in rows})
    start = stamps_ns[0] if stamps_ns else 0
    index = {stamp_ns: i for i, stamp_ns in enumerate(stamps_ns)}
    names = list(description.get('policies', {})) or sorted({row.policy for row in rows})
    size = len(elements)
    known = np.full((len(index), size + 1), np.nan)
    for row in rows:
        known[index[row.stamp_ns]] = *row.reference, row.lateral_error
    known[~(np.abs(known) < MOST)] = np.nan
    return RunTraces(seconds(stamps_ns, start), known[:, :size], known[:, size],
                     {name: make_trace([row for row in rows if row.policy == name], index, start,
                                       size) for name in names},
                     seconds(sorted(changes_ns), start), description, strays, set_backs,
                     elements=elements)


def without_strays(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Return the rows without frames whose stamps are far off, and the number of these frames."""
    ages: dict[int, int] = {}
    for row in rows:
        came_ns = row.frame_arrival_ns or row.arrival_ns
        if came_ns is not None:
            ages.setdefault(row.stamp_ns, came_ns - row.stamp_ns)
    usual = sorted(ages.values())[len(ages) // 2] if ages else 0
    strays = {stamp_ns for stamp_ns, age in ages.items() if abs(age - usual) > FAR_NS}
    return [row for row in rows if row.stamp_ns not in strays], len(strays)


def on_one_clock(rows: Sequence[Row]) -> tuple[list[Row], dict[int, list[int]], int]:
    """
    Let the rows after a clock was set back follow those before it.

    :returns: The rows, by how much [ns] the frames of each stamp were moved, and how often the
        clock was set back: a new frame is far before the newest one, or has a stamp once more.
    """
    moved, shifts, set_backs = [], defaultdict(list), 0
    shift, known, seen = 0, set[int](), set[tuple]()
    newest: int | None = None
    for row in rows:
        stamp_ns, key = row.stamp_ns, row[:3]
        if newest is not None and (key in seen or (
                stamp_ns not in known and stamp_ns < newest - FAR_NS)):
            shift += newest + FAR_NS - stamp_ns
            newest, set_backs = stamp_ns, set_backs + 1
            known.clear()
            seen.clear()
        if stamp_ns not in known:
            known.add(stamp_ns)
            shifts[stamp_ns].append(shift)
        seen.add(key)
        newest = max(newest or stamp_ns, stamp_ns)
        later: dict = {
            name: None if (ns := getattr(row, name)) is None else ns + shift
            for name in ('arrival_ns', 'gated_arrival_ns', 'frame_arrival_ns')} if shift else {}
        moved.append(row._replace(stamp_ns=stamp_ns + shift, **later) if shift else row)
    return moved, shifts, set_backs


def seconds(stamps_ns: Sequence[int | None], start_ns: int) -> np.ndarray:
    """Return seconds since the start, differences of exact integers; nan for None."""
    return np.array([np.nan if ns is None else (ns - start_ns) * 1e-9 for ns in stamps_ns])


def make_trace(rows: Sequence[Row], index: dict[int, int], start_ns: int, size: int) -> Trace:
    """
    Make the trace of one policy's rows.

    :param index: That of every frame by its stamp.
    :param size: How many elements a command has.
    """
    first, later = np.full((len(index), 2 + size), np.nan), []
    for row in rows:
        arrival, gated = seconds([row.arrival_ns, row.gated_arrival_ns], start_ns)
        if row.update == 0:
            first[index[row.stamp_ns]] = arrival, gated, *row.command
        else:
            later.append((arrival, *row.command))
    others = np.array(later).reshape(-1, 1 + size)
    for commands in (first[:, 2:], others[:, 1:]):
        commands[~(np.abs(commands) < MOST)] = np.nan
    return Trace(first[:, 0], first[:, 2:], first[:, 1], others)
