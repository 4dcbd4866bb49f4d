"""The machine on which something was measured, which belongs to every figure."""

from contextlib import suppress
from importlib import metadata
import json
import os
from pathlib import Path
import platform
import time
from typing import NamedTuple


def machine() -> str:
    """Return the machine's name, processor and cores."""
    return f'{platform.node()}: {processor()}, {len(os.sched_getaffinity(0))} cores'


def processor() -> str:
    """Return the processor's model as the kernel names it."""
    with suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found = {'Python': platform.python_version()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


KERNEL_TIMES = Path('/proc/stat')
# Cores that others may use, and the share of time that a host may take from a virtual machine,
# without a measurement being another one [cores, 1].
QUIET_CORES, QUIET_STEAL = 0.3, 0.02


class CoreTimes(NamedTuple):
    """What the cores of the machine did so far, and this process with its threads [s]."""

    total: float
    idle: float
    stolen: float
    own: float


def core_times() -> CoreTimes | None:
    """Return what the kernel has counted; None where it does not tell."""
    try:
        first = KERNEL_TIMES.read_text().split('\n', 1)[0]
        # user, nice, system, idle, iowait, irq, softirq, steal [proc_stat(5)]
        values = [int(value) / os.sysconf('SC_CLK_TCK') for value in first.split()[1:9]]
        return CoreTimes(sum(values), values[3] + values[4], values[7], time.process_time())
    except (OSError, ValueError, IndexError):
        return None


def disturbance(start: CoreTimes | None) -> str:
    """Say in a sentence how busy others kept the machine since then; empty if they hardly did."""
    end = core_times()
    if start is None or end is None or end.total <= start.total:
        return ''
    total, idle, stolen, own = (b - a for a, b in zip(start, end))
    cores = os.cpu_count() or 1
    others = max(0.0, total - idle - stolen - own) / total * cores
    if others < QUIET_CORES and stolen / total < QUIET_STEAL:
        return ''
    return (f'the machine is busy: meanwhile others used {others:.1f} of {cores} cores, and its '
            f'host took {stolen / total:.0%} of the time; do not trust what was measured, and '
            'repeat it when the machine is idle')


def show(lines: list[str], figures: dict, as_json: bool) -> None:
    """Print lines of text, or figures as JSON, with the machine."""
    figures = {**figures, 'machine': machine()}
    print(json.dumps(figures) if as_json else '\n'.join([*lines, figures['machine']]))
