"""
How near the planner's forecasts come to what the engine takes.

For every shipped graph, the streaming, the sequential and a multi-rate rollout: seconds of the
response and of the whole step, forecast from the measured costs of the nodes, against medians of
the engine.
"""

from harness import parse, run_benchmark, show
import numpy as np
from stream_agent.cli.arguments import find_graph, shipped_graphs
from stream_agent.engine.layer_profiler import Check, check_forecasts, measure_costs
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from stream_agent.theory.planning.candidates import Device, Rollout, SERIAL, waves
import torch

CAMERA_PERIOD = 1 / 30


def checks_of(name: str, rounds: int) -> list[Check]:
    """Measure one graph, and hold its forecasts against the engine."""
    graph = with_schedule(load_graph(find_graph(name)), {})
    device = Device(measure_costs(graph, frames=5 * rounds), SERIAL, CAMERA_PERIOD)
    return check_forecasts({
        'streaming': Rollout(graph, newest_image_pattern(graph), device),
        'sequential': Rollout(graph, sequential_pattern(graph), device),
        'multi-rate': waves(graph, {graph.output}, device, 2)[0].rollout}, rounds=rounds)


def main() -> None:
    """Print a line a graph, and the median over all."""
    arguments = parse(__doc__)
    torch.set_num_threads(1)
    lines, errors = [], {}
    for name in shipped_graphs():
        checks = checks_of(name, 6 if arguments.quick else 20)
        errors[name] = [abs(check.error) for check in checks]
        step = max(check.measured for check in checks)
        worst = max(checks, key=lambda check: abs(check.error))
        lines.append(f'{name:<14} step {step * 1e3:7.2f} ms  error median '
                     f'{np.median(errors[name]):6.1%}  worst {worst.error:+7.1%} '
                     f'({worst.name}, {worst.part}: {worst.measured * 1e3:.3f} ms)')
    overall = np.median(np.concatenate(list(errors.values())))
    lines.append(f'median error over all {overall:.1%}; one thread, torch {torch.__version__}')
    show(lines, {'median_error': float(overall),
                 'median_error_by_graph': {name: float(np.median(values))
                                           for name, values in errors.items()}}, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
