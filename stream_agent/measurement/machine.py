"""The machine on which something was measured, which belongs to every figure."""

from contextlib import suppress
from importlib import metadata
import json
import os
from pathlib import Path
import platform


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


def show(lines: list[str], figures: dict, as_json: bool) -> None:
    """Print lines of text, or figures as JSON, with the machine."""
    figures = {**figures, 'machine': machine()}
    print(json.dumps(figures) if as_json else '\n'.join([*lines, figures['machine']]))
