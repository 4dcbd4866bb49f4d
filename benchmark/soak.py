"""
The main job for minutes or hours: memory, open files and the latency's tail stay as they are.

Every process of ``stream_agent run`` is watched from outside, once a second. The slope of its
memory is that of a straight line through the least resident set of every tenth of the time after
the start-up. Every frame is answered, or counted as dropped by the agent. The latency's tail is
said to have grown if the whole 95 % interval of its growth is beyond the limit.
"""

import argparse
from collections import Counter
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import time

from harness import show
import numpy as np
from scipy.stats import linregress, t as students_t
from stream_agent.cli.run import check_files, node_commands, parse as parse_run
from stream_agent.measurement.recording import read_rows
from stream_agent.measurement.rows import Row
from stream_agent.share import share_folder

# Until all bounded buffers are full.
START_UP = 90.0
# MiB/h, and shares.
GREATEST_SLOPE, GREATEST_DRIFT = 1.0, 0.10
PIECES = 10
# Of the latency's percentiles [s].
BLOCK = 20.0
PAGE = os.sysconf('SC_PAGE_SIZE')


def look(pid: int) -> tuple[float, int]:
    """Return the resident memory of a process [MiB], and how many descriptors it has open."""
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return pages * PAGE / 2**20, len(os.listdir(f'/proc/{pid}/fd'))


def watch(processes: dict[str, subprocess.Popen], seconds: float) -> dict[str, np.ndarray]:
    """Return (seconds, memory, descriptors) of each process, (N, 3), after the start-up."""
    start, seen = time.monotonic(), {name: [] for name in processes}
    while (elapsed := time.monotonic() - start) < START_UP + seconds:
        time.sleep(1.0)
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f'soak: {name} ended with exit code {process.returncode}')
            if elapsed > START_UP:
                seen[name].append((elapsed, *look(process.pid)))
    return {name: np.array(values) for name, values in seen.items()}


def slope(values: np.ndarray) -> float:
    """Return by how much memory grows [MiB/h]."""
    least = [piece[piece[:, 1].argmin()] for piece in np.array_split(values, PIECES)]
    seconds, memory, _ = np.array(least).T
    return float(np.polyfit(seconds / 3600, memory, 1)[0])


def tail_drift(rows: list[Row], policy: str) -> tuple[float, float, float]:
    """
    Return by which share the 99th percentile of the latency grew from the first block to the last.

    A line through the logarithms of the blocks' percentiles; with its 95 % interval, as a virtual
    machine's tail is up and down by a quarter from one block to the next.

    :returns: Estimate, lower and upper bound.
    """
    answered = [row for row in rows if row.policy == policy and row.arrival_ns]
    answered = answered[len(answered) // 20:]
    seconds = np.array([row.stamp_ns for row in answered]) / 1e9
    blocks = ((seconds - seconds[0]) / BLOCK).astype(int)
    # The last block is not whole.
    numbers = np.arange(blocks[-1])
    latencies = np.array([row.latency for row in answered])
    tails = [np.log(np.percentile(latencies[blocks == number], 99)) for number in numbers]
    line = linregress(numbers, tails)
    spread = students_t.ppf(0.975, len(numbers) - 2) * line.stderr
    return tuple(float(np.expm1(slope * numbers[-1])) for slope in (
        line.slope, line.slope - spread, line.slope + spread))


def unanswered(rows: list[Row], policy: str) -> int:
    """Return the frames between a policy's first and last answer that it did not answer."""
    answered = {row.stamp_ns for row in rows if row.policy == policy and row.arrival_ns}
    return len({row.stamp_ns for row in rows if min(answered) < row.stamp_ns < max(answered)}
               - answered)


def run(seconds: float, output: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Start the main job, watch it, and stop it; returns also what each process printed."""
    options = parse_run(['--shadow', '--output', str(output), '--duration', '100000'])
    check_files(options)
    processes, files = {}, {}
    for name, command in node_commands(options, share_folder() / 'config').items():
        files[name] = (output / f'{name}.txt').open('w+')
        processes[name] = subprocess.Popen(command, stdout=files[name], stderr=subprocess.STDOUT)
    try:
        seen = watch(processes, seconds)
    finally:
        # The recorder last, so that it sees everything.
        for name in sorted(processes, key='recorder'.__eq__):
            processes[name].send_signal(signal.SIGINT)
            processes[name].wait(120)
    return seen, {name: Path(file.name).read_text() for name, file in files.items()}


def main() -> None:
    """Run, watch, and hold what was seen against the limits; exit code 1 if one is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=5.0, help='default %(default)s')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    arguments = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    with tempfile.TemporaryDirectory() as folder:
        seen, printed = run(60 * arguments.minutes, Path(folder))
        rows = read_rows(Path(folder) / 'latest')
    lines, figures, broken = [], {'slope': {}, 'descriptors': {}, 'drift': {}, 'lost': {}}, []
    for name, values in seen.items():
        growth, opened = slope(values), int(values[-1, 2] - values[:, 2].min())
        figures['slope'][name], figures['descriptors'][name] = growth, opened
        lines.append(f'{name:<11} {values[-1, 1]:7.1f} MiB, {growth:+6.2f} MiB/h; '
                     f'{opened} descriptors more')
        broken += [f'{name}: memory'] * (growth > GREATEST_SLOPE)
        broken += [f'{name}: descriptors'] * (opened > 0)
    for policy in sorted(Counter(row.policy for row in rows)):
        (drift, low, high), missing = tail_drift(rows, policy), unanswered(rows, policy)
        dropped = re.search(r'dropped (\{.*\})', printed[policy])
        counted = sum(int(count) for count in re.findall(r': (\d+)', dropped[1]))
        figures['drift'][policy], figures['lost'][policy] = (drift, low, high), missing - counted
        lines.append(f'{policy:<11} p99 of the latency {drift:+.0%} ({low:+.0%} to {high:+.0%}); '
                     f'{missing} frames without an answer, {counted} counted as dropped')
        broken += [f'{policy}: latency'] * (low > GREATEST_DRIFT)
        broken += [f'{policy}: frames lost silently'] * (missing > counted)
    show([*lines, f"broken: {', '.join(broken) or 'nothing'}"],
         {**figures, 'broken': broken, 'minutes': arguments.minutes}, arguments.json)
    sys.exit(bool(broken))


if __name__ == '__main__':
    main()
