"""What every benchmark shares: arguments, alternation, percentiles, the machine's name."""

import argparse
from collections.abc import Callable
from pathlib import Path
import sys

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from against import compare, Conclude, tree_of  # noqa: E402, F401, I100
from stream_agent.measurement.machine import machine, show  # noqa: E402, F401


def add_against(parser: argparse.ArgumentParser) -> None:
    """Add --against and --set, which ``run_benchmark`` reads."""
    parser.add_argument('--against', metavar='COMMIT', help='measure at that commit and here, '
                        'in turns, and print the ratios')
    parser.add_argument('--set', metavar='NAME=VALUE', action='append', default=[],
                        help='with --against: a constant of this file, on both sides')


def run_benchmark(main: Callable[[], None], conclude: Conclude | None = None) -> None:
    """
    Run a benchmark's main here; with --against at another commit and here, in turns.

    :param conclude: As for ``compare``.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_against(parser)
    parser.add_argument('--json', action='store_true')
    arguments, words = parser.parse_known_args()
    if arguments.against is None:
        main()
    else:
        compare(Path(sys.argv[0]).resolve(), arguments.against, words, arguments.set,
                arguments.json, conclude)


def parse(description: str) -> argparse.Namespace:
    """Read --quick and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--quick', action='store_true', help='under 50 s, wider scatter')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    add_against(parser)
    return parser.parse_args()


def alternate(competitors: dict[str, Callable[[], float]], rounds: int, warm_up: int = 3
              ) -> dict[str, np.ndarray]:
    """
    Let the competitors run in turns, so that a busy moment of the machine meets all alike.

    :param competitors: Each takes one measurement and returns seconds.
    :param rounds: Measurements kept of each, after ``warm_up`` that are not.
    :returns: Seconds, (rounds,) of each.
    """
    seconds = {name: [] for name in competitors}
    for i in range(warm_up + rounds):
        for name, measure in competitors.items():
            value = measure()
            if i >= warm_up:
                seconds[name].append(value)
    return {name: np.array(values) for name, values in seconds.items()}


def percentiles(seconds: np.ndarray) -> str:
    """Return p50, p90 and p99 in milliseconds."""
    p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1e3
    return f'p50 {p50:8.3f}  p90 {p90:8.3f}  p99 {p99:8.3f} ms'
