"""
When does streaming win? Rollouts of one network against (cost of a pass / camera period).

Every rollout runs on the engine in real time, in front of a camera whose period makes the ratio;
what comes while the engine is busy is dropped. Printed are response latency, the ages of the
newest and of the deep information in force, and the error in effect, next to the planner's
forecasts. docs/regimes.md explains it.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.cli.arguments import check_folder
from stream_agent.engine.engine import Engine
from stream_agent.engine.layer_profiler import measure_costs
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.measurement.machine import show
from stream_agent.theory.planning.candidates import Candidate
from studies.regimes.effect import (
    error_in_effect, fresh_network, MovingScene, sources_of_output, still_errors, train, watch,
    with_estimates)
from studies.regimes.picture import draw
from studies.regimes.rollouts import rollouts
from studies.regimes.tables import figures_of, RolloutFigures, RolloutResult, tables
from studies.regimes.timing import (
    answers, engine_of, EngineRun, go_on, make_engine, mean_ages, pass_duration, run_in_real_time,
    same_but_older, stepper)
import torch

GRAPHS = Path(__file__).parents[2] / 'benchmark' / 'graphs'
# Images that the timed camera shows again and again, and how many of them are checked first.
IMAGES, CHECKED = 32, 24
FEWEST_COMMANDS, MOST_COMMANDS = 12, 200
STILLS = 400
# A turn is taken again if a pass then takes another time by more than this share (the machine
# had something else to do), up to so many times in all.
STEADY, MOST_TRIES = 0.1, 4


class RegimeSettings(NamedTuple):
    """
    How much is measured.

    :param ratios: Of the cost of a pass to the camera period.
    :param turns: Of every rollout at every ratio; the figures are their medians.
    :param seconds: Of a turn, in real time.
    :param steps: Of training; 0 to leave the error in effect out.
    :param periods: Of the camera, over which the error in effect is taken.
    :param slownesses: Of the scenes for it; see ``Drift``.
    """

    ratios: tuple[float, ...]
    turns: int
    seconds: float
    steps: int
    periods: int
    slownesses: tuple[int, ...]


FULL = RegimeSettings((0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.2, 1.5, 2, 3, 5), 3, 0.5, 150, 3000,
                      (4, 8, 16))
QUICK = RegimeSettings((0.02, 0.2, 0.8, 2, 5), 1, 0.3, 80, 800, (8,))


class RegimeBench:
    """
    A network, what it costs here, and the scenes that its rollouts are measured on.

    :param graph: Its layers form a chain, each of which the output may read.
    :param device: A torch device string.
    """

    def __init__(self, graph, device: str, settings: RegimeSettings) -> None:
        self.graph, self.device, self.settings = with_estimates(graph), device, settings
        self.sources = sources_of_output(graph)
        self.costs = measure_costs(self.graph, device, frames=50)
        self.network = fresh_network(self.graph, device)
        shape = self.network.shapes[self.network.input]
        scenes = [MovingScene(shape, slowness) for slowness in settings.slownesses]
        scene = scenes[0]
        if settings.steps:
            train(self.network, scene, settings.steps)
        self.accuracy = self._accuracy(scene)
        self.sequential = make_engine(self.network, device)
        self.watched = {scene.name: watch(self.sequential, scene, settings.periods)
                        for scene in scenes if settings.steps}
        self.images = [scene.image(frame) for frame in range(IMAGES)]
        self.checked = answers(self.sequential, self.images[:CHECKED])

    @torch.inference_mode()
    def _accuracy(self, scene: MovingScene) -> list[float]:
        """Return the error of every estimate on still images; 1 is that of saying "middle"."""
        random = np.random.default_rng(1)
        stills = [scene.still(random) for _ in range(STILLS)]
        deviation = np.std([place for _, place in stills])
        return [float(error) ** 0.5 / deviation for error in still_errors(self.network, stills)]

    def cells(self, ratio: float) -> list[RolloutResult]:
        """Check all rollouts at a ratio, then measure them by turns."""
        candidates = rollouts(self.graph, self.costs, ratio)
        engines = {kind: engine_of(candidate, self.network, self.device)
                   for kind, candidate in candidates.items()}
        equal = {kind: same_but_older(engines[kind], candidate, self.sources,
                                      self.images[:CHECKED], self.checked)
                 for kind, candidate in candidates.items()}
        turns = [{kind: self._turn(ratio, candidate, engines[kind])
                  for kind, candidate in candidates.items()}
                 for _ in range(self.settings.turns)]
        return [RolloutResult(ratio, kind, candidate, equal[kind], [turn[kind] for turn in turns])
                for kind, candidate in candidates.items()]

    def _turn(self, ratio: float, candidate: Candidate, engine: Engine) -> RolloutFigures:
        """Time a rollout while a pass takes the same before and after, and take its error."""
        tries = []
        for _ in range(MOST_TRIES):
            before = pass_duration(self.sequential, self.images)
            run = self._run(before / ratio, candidate, engine)
            change = abs(math.log(pass_duration(self.sequential, self.images) / before))
            tries.append((change, run))
            if change < STEADY:
                break
        run = min(tries, key=lambda found: found[0])[1]
        newest, deep = mean_ages(run, candidate)
        long = go_on(run, self.settings.periods, candidate.rollout.graph.hyperperiod)
        errors = [error_in_effect(long, candidate, self.sources, watched)
                  for watched in self.watched.values()]
        return RolloutFigures(run.latency / run.period, newest / run.period, deep / run.period,
                              run.dropped, tuple(errors))

    def _run(self, period: float, candidate: Candidate, engine: Engine) -> EngineRun:
        """Run a rollout in real time, in front of a camera."""
        count = round(self.settings.seconds * candidate.camera_period
                      / (candidate.interval * period))
        fewest = max(FEWEST_COMMANDS + candidate.ages.oldest,
                     3 * candidate.rollout.graph.hyperperiod)
        engine.reset()
        return run_in_real_time(stepper(engine, self.images), period,
                                min(max(fewest, count), MOST_COMMANDS))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--quick', action='store_true', help='under 50 s, wider scatter')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    parser.add_argument('--markdown', action='store_true', help='print tables for docs/regimes.md')
    parser.add_argument('--device', default='cpu', help="torch device: 'cpu', 'cuda' (cpu)")
    parser.add_argument('--graph', default='policy', choices=sorted(
        path.stem for path in GRAPHS.glob('*.yaml')), help='a graph of benchmark/graphs (policy)')
    parser.add_argument('--ratios', type=float, nargs='+', help='instead of the usual ones')
    parser.add_argument('--ages-only', action='store_true',
                        help='leave the error in effect out, for which a network is trained')
    parser.add_argument('--draw', type=Path, metavar='FILE', help='draw it, .svg or .png')


def settings_of(arguments: argparse.Namespace) -> RegimeSettings:
    """Return how much the command line wants to be measured."""
    settings = QUICK if arguments.quick else FULL
    if arguments.ratios:
        settings = settings._replace(ratios=tuple(sorted(arguments.ratios)))
    return settings._replace(steps=0) if arguments.ages_only else settings


def run(arguments: argparse.Namespace) -> int:
    """Measure everything, print it, and draw it; returns the exit code."""
    check_folder(arguments.draw)
    torch.set_num_threads(1)
    settings = settings_of(arguments)
    bench = RegimeBench(load_graph(GRAPHS / f'{arguments.graph}.yaml'), arguments.device, settings)
    cells = [cell for ratio in settings.ratios for cell in bench.cells(ratio)]
    pass_ms = 1e3 * (bench.costs.total() + bench.costs.overhead)
    lines = [*tables(cells, bench.graph, bench.costs, tuple(bench.watched), arguments.markdown),
             f'graph {arguments.graph}: a pass takes {pass_ms:.2f} ms; float32, 1 thread, '
             f'{arguments.device}, torch {torch.__version__}',
             f'estimates as theory says, in all {len(cells)} runs: '
             f'{all(cell.equal for cell in cells)}']
    if settings.steps:
        lines.append('error of the estimates on still images, 1 = saying "middle": ' + ', '.join(
            f'{source} {error:.2f}' for source, error in zip(bench.sources, bench.accuracy)))
    if arguments.draw:
        draw(cells, bench.graph, bench.costs, tuple(bench.watched), arguments.draw)
    show(lines, {'cells': [figures_of(cell) for cell in cells], 'pass_ms': pass_ms,
                 'outputs_equal': all(cell.equal for cell in cells),
                 'scenes': list(bench.watched),
                 'accuracy': dict(zip(bench.sources, bench.accuracy))}, arguments.json)
    return 0
