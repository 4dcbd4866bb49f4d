"""A recording as arrays with one entry per frame, the same frames for every policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from stream_agent.measurement.recording import read_changes, read_description, read_rows
from stream_agent.measurement.rows import Row


@dataclass(frozen=True)
class Trace:
    """
    The answers of one policy to T frames; what did not arrive is nan.

    Times are seconds since the first frame's stamp; commands are (speed, yaw rate).

    :param arrivals: (T,), of the first command of every frame.
    :param commands: (T, 2), these commands.
    :param gated_arrivals: (T,), of the gate's commands made from them.
    :param later: (N, 3), arrival and command of the second and further commands of a frame.
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
    :param reference: (T, 2), the reference commands; nan if unknown.
    :param lateral_errors: (T,), the vehicle's lateral errors [m]; nan if unknown.
    :param traces: By the policy's name, in the order of the parameter ``policies``.
    :param changes: (N,), stamps [s] of the first frames that show a changed scene.
    :param description: The content of ``run.json``.
    """

    stamps: np.ndarray
    reference: np.ndarray
    lateral_errors: np.ndarray
    traces: dict[str, Trace]
    changes: np.ndarray
    description: dict = field(default_factory=dict)

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
    return make_run(read_rows(folder), read_changes(folder), read_description(folder))


def make_run(rows: Sequence[Row], changes_ns: Sequence[int] = (), description: dict | None = None
             ) -> RunTraces:
    """Make a recording of rows in any order."""
    description = description or {}
    stamps_ns = sorted({row.stamp_ns for row in rows})
    start = stamps_ns[0] if stamps_ns else 0
    index = {stamp_ns: i for i, stamp_ns in enumerate(stamps_ns)}
    names = list(description.get('policies', {})) or sorted({row.policy for row in rows})
    known = np.full((len(index), 3), np.nan)
    for row in rows:
        known[index[row.stamp_ns]] = (row.reference_speed, row.reference_yaw_rate,
                                      row.lateral_error)
    return RunTraces(seconds(stamps_ns, start), known[:, :2], known[:, 2],
                     {name: make_trace([row for row in rows if row.policy == name], index, start)
                      for name in names},
                     seconds(sorted(changes_ns), start), description)


def seconds(stamps_ns: Sequence[int | None], start_ns: int) -> np.ndarray:
    """Return seconds since the start, differences of exact integers; nan for None."""
    return np.array([np.nan if ns is None else (ns - start_ns) * 1e-9 for ns in stamps_ns])


def make_trace(rows: Sequence[Row], index: dict[int, int], start_ns: int) -> Trace:
    """Make the trace of one policy's rows; ``index`` is that of every frame by its stamp."""
    first, later = np.full((len(index), 4), np.nan), []
    for row in rows:
        arrival, gated = seconds([row.arrival_ns, row.gated_arrival_ns], start_ns)
        if row.update == 0:
            first[index[row.stamp_ns]] = arrival, row.speed, row.yaw_rate, gated
        else:
            later.append((arrival, row.speed, row.yaw_rate))
    return Trace(first[:, 0], first[:, 1:3], first[:, 3], np.array(later).reshape(-1, 3))
