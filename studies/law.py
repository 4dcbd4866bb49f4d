"""
How the score of a drive past signs follows from a rollout's timing: a law fitted on rows.

Rows are those of `python -m studies reflex`, or without --rows those of the expert that drives
with the ages of information that a scheme has. Every cost of a pass, and every scheme, is left out
once and forecast from the others.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar, nnls
from stream_agent.driving.drives import Trial
from stream_agent.measurement.machine import show
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.signs import COMMAND_LENGTH
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from stream_agent.theory.planning.law import Scene, ScoreLaw, share_kept, TASKS, Timing, WHOLE
from studies.reflex.bounds import bound_row, bounds_table, TimedScheme
from studies.reflex.schemes import plain_schemes
from studies.reflex.study import PUSHES, SETTINGS

SCENE = Scene(SETTINGS.look_ahead / SETTINGS.target_speed, COMMAND_LENGTH / SETTINGS.target_speed)
# Courses on which the bounds are driven; the study of trained networks has others.
FIRST_COURSE = FIRST_HELD_OUT_SEED + 3000
RATIOS = (0.16, 0.8, 1.6, 3.2, 6.4)
# Kinds of schemes that recognise in another way than a network that is trained whole.
FAMILIES = ('smaller', 'narrower', 'frozen trunk')
# The expert tells nothing about kinds that differ in how they learn.
LEARNT = ('narrower', 'frozen trunk', 'random delays')
# Between these ages the newest information costs half of the score [steering times].
LEAST_HALF, GREATEST_HALF = 0.02, 50.0


class ScoredRow(NamedTuple):
    """What the law is fitted on: a scheme at a cost of a pass, and its score [%]."""

    scheme: str
    ratio: float
    family: str
    timing: Timing
    score: float


def scored(rows: Iterable[Mapping[str, Any]]) -> list[ScoredRow]:
    """Return the rows of schemes that see images alone; a further input is no matter of timing."""
    return [ScoredRow(row['kind'], row['r'], row['kind'] if row['kind'] in FAMILIES else WHOLE,
                      Timing(row['newest_s'], row['deep_s']), row['task_score'])
            for row in rows if row.get('scheme') and row['scheme'] == row['kind']
            and math.isfinite(row['task_score'])]


def fitted(rows: Sequence[ScoredRow], scene: Scene) -> ScoreLaw:
    """Return the law with the least squares of errors; its ceilings are not below 0."""
    families = sorted({row.family for row in rows})
    scores = np.array([row.score for row in rows])
    # But for ``half`` the law is linear.
    columns = np.array([[*(float(row.family == family) for family in families),
                         -row.timing.deep / scene.steering_time] for row in rows])

    def solved(log_half: float) -> tuple[np.ndarray, float]:
        kept = [share_kept(row.timing, scene, math.exp(log_half)) for row in rows]
        return nnls(columns * np.array(kept)[:, None], scores)

    found = minimize_scalar(lambda log_half: solved(log_half)[1], method='bounded', bounds=(
        math.log(LEAST_HALF), math.log(GREATEST_HALF)))
    *ceilings, stale = map(float, solved(found.x)[0])
    return ScoreLaw(math.exp(found.x), dict(zip(families, ceilings)), stale)


def misses(law: ScoreLaw, rows: Iterable[ScoredRow], scene: Scene) -> list[float]:
    """Return forecast minus score [%] of the rows that the law can forecast."""
    forecasts = [(law.forecast(row.timing, scene, row.family), row.score) for row in rows]
    return [forecast - score for forecast, score in forecasts if forecast is not None]


def left_out(rows: Sequence[ScoredRow], scene: Scene, what: str) -> dict[Any, list[float]]:
    """
    Return the misses in every part, by the law that was fitted on all the others.

    :param what: Which field of the rows tells parts apart.
    """
    found = {}
    for part in sorted({getattr(row, what) for row in rows}):
        others = [row for row in rows if getattr(row, what) != part]
        if others:
            found[part] = misses(fitted(others, scene), [
                row for row in rows if getattr(row, what) == part], scene)
    return found


def rms(values: Iterable[float]) -> float:
    """Return the root mean square, nan of nothing."""
    squares = [value ** 2 for value in values]
    return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


def perfect_rows(courses: int) -> list[dict[str, Any]]:
    """Drive the expert with the ages of the schemes on both devices; some 40 s for 16 courses."""
    trial = Trial(SETTINGS, tuple(range(FIRST_COURSE, FIRST_COURSE + courses)), 20.0, PUSHES)
    return [bound_row(TimedScheme(scheme.kind, ratio, scheme.candidate, scheme.timeline,
                                  scheme.kind != 'smaller'), trial)
            for ratio in RATIOS for execution in (SERIAL, PARALLEL)
            for scheme in plain_schemes(ratio, execution, SETTINGS.period)
            if scheme.kind not in LEARNT]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--rows', type=Path, metavar='DIR', help='rows of the study of trained '
                        'networks, such as results/reflex; without it the expert drives')
    parser.add_argument('--courses', type=int, choices=range(1, 65), default=16, metavar='N',
                        help='courses that the expert drives (16)')
    parser.add_argument('--json', action='store_true', help='print figures for programs')


def run(arguments: argparse.Namespace) -> int:
    """Fit the law, and say how well it forecasts; returns the exit code."""
    if arguments.rows is None:
        data = perfect_rows(arguments.courses)
    else:
        data = [json.loads(path.read_text()) for path in sorted(arguments.rows.glob('*.json'))]
    rows = scored(data)
    if not rows:
        raise ValueError(f"--rows: '{arguments.rows}' has no rows; make them by "
                         '`python -m studies reflex --output DIR`')
    law = fitted(rows, SCENE)
    apart = {what: left_out(rows, SCENE, what) for what in ('ratio', 'scheme')}
    errors = {what: rms(miss for part in parts.values() for miss in part)
              for what, parts in apart.items()}
    spread = float(np.std([row.score for row in rows]))
    show([*([] if arguments.rows else [bounds_table(data), '']),
          f'half of the score is lost at {law.half:.3f} steering times of '
          f'{SCENE.steering_time * 1e3:.0f} ms, {law.half * SCENE.steering_time * 1e3:.0f} ms',
          *(f'ceiling {family}: {ceiling:.1f} %' for family, ceiling in law.ceilings.items()),
          f'stale deep information: {law.stale:.2f} % a steering time',
          f'error of the fit: {rms(misses(law, rows, SCENE)):.1f} % '
          f'({len(rows)} rows, whose scores spread by {spread:.1f} %)',
          *(f'{what} {part} left out: error {rms(missed):.1f} %, largest '
            f'{max(map(abs, missed)):.1f} %'
            for what, parts in apart.items() for part, missed in parts.items() if missed),
          *(f'each {what} left out once: error {error:.1f} %' for what, error in errors.items()),
          f"in the planner: {TASKS['signs'].law}"],
         {'half': law.half, 'ceilings': dict(law.ceilings), 'stale': law.stale, 'errors': errors,
          'left_out': {what: {str(part): rms(missed) for part, missed in parts.items()}
                       for what, parts in apart.items()}, 'rows': data}, arguments.json)
    return 0
