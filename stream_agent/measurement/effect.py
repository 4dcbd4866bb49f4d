"""The error in effect: what was being commanded against what was wanted at that moment."""

import numpy as np

from stream_agent.measurement.traces import Run, Trace


def in_effect(arrivals: np.ndarray, commands: np.ndarray, times: np.ndarray) -> np.ndarray:
    """
    Return the command in effect at every time: the one that arrived last.

    :param arrivals: (N,), ascending [s].
    :param commands: (N, C).
    :returns: (T, C); nan before the first.
    """
    last = np.searchsorted(arrivals, times, side='right') - 1
    return np.where((last >= 0)[:, None], commands[np.maximum(last, 0)], np.nan)


def arrived(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals (N,) and commands (N, 2) of all that came, in the order of arrival."""
    came = ~np.isnan(trace.arrivals)
    arrivals = np.concatenate([trace.arrivals[came], trace.later[:, 0]])
    commands = np.concatenate([trace.commands[came], trace.later[:, 1:]])
    order = np.argsort(arrivals, kind='stable')
    return arrivals[order], commands[order]


def error_in_effect(run: Run, trace: Trace) -> np.ndarray:
    """
    Return the mean absolute error in effect during every frame interval.

    The command holds from its arrival to the next one's, the reference from its frame's stamp
    to the next one's, and the difference is integrated exactly. So a right command that comes
    late costs what the late moments cost.

    :returns: (T, 2): |speed| [m/s] and |yaw rate| [rad/s] error between each frame's stamp and
        the next one's; nan before the first command, without a reference, and for the last.
    """
    errors = np.full((len(run.stamps), 2), np.nan)
    arrivals, commands = arrived(trace)
    if len(arrivals) == 0 or len(run.stamps) < 2:
        return errors
    inside = arrivals[(arrivals > run.stamps[0]) & (arrivals < run.stamps[-1])]
    edges = np.unique(np.concatenate([run.stamps, inside]))
    held = in_effect(arrivals, commands, edges[:-1])
    wanted = in_effect(run.stamps, run.reference, edges[:-1])
    integrals = np.abs(held - wanted) * np.diff(edges)[:, None]
    starts = np.searchsorted(edges, run.stamps[:-1])
    errors[:-1] = np.add.reduceat(integrals, starts) / np.diff(run.stamps)[:, None]
    return errors
