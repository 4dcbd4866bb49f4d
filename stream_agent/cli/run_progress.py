"""What is told of a run to those who wait for it: how far it is, and where its report lies."""

from collections.abc import Callable
from pathlib import Path
import re
import shlex
import sys
import time
from typing import TextIO

# What is being done since a process said so.
STAGES = {'driving': ': driving ', 'writing the report': ": recorded to '"}
# Between two lines that say so where there is no terminal [s].
QUIET_PERIOD = 15.0


class Report:
    """Whether there is a report, from what the recorder says."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.written = False

    def hear(self, line: str) -> None:
        """Take notice of a line."""
        if found := re.search(r"recording .* to '(.+)'$", line):
            self.folder = Path(found[1])
        self.written |= re.search(r'(^|\s)report: /', line) is not None

    @property
    def fault(self) -> str:
        """Return a sentence that says how to make a report that is missing; empty if none is."""
        if self.written or self.folder is None:
            return ''
        return ('the report was not written; make it from what was recorded: '
                f'python -m stream_agent.measurement.report {shlex.quote(str(self.folder))}')


class Progress:
    """
    Says how far a run is: in one line on a terminal, otherwise in a line now and then.

    :param duration: Of the drive; 0: until stopped [s].
    """

    def __init__(self, duration: float, stream: TextIO = sys.stderr,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._duration, self._stream, self._clock = duration, stream, clock
        self._terminal = stream.isatty()
        self._period = 0.5 if self._terminal else QUIET_PERIOD
        self._doing = 'starting'
        self._since = self._said_at = clock()

    def show(self, line: str) -> None:
        """Print what a process says, in place of the line on the terminal."""
        self.note(line)
        self.clear()
        print(line, flush=True)

    def note(self, line: str) -> None:
        """Take notice of what a process says, without printing it."""
        for doing, words in STAGES.items():
            if words in line and doing != self._doing:
                self._doing, self._since = doing, self._clock()

    def clear(self) -> None:
        """Take the line from the terminal."""
        if self._terminal:
            self._write('\r\x1b[K')

    def tick(self) -> None:
        """Say how far the run is, if that has not been said for a while."""
        now = self._clock()
        if now - self._said_at < self._period:
            return
        self._said_at = now
        of = (f' of {self._duration:g}' if self._duration and self._doing == 'driving' else '')
        said = f'stream_agent run: {self._doing}, {now - self._since:.0f}{of} s'
        self._write(f'\r\x1b[K{said}' if self._terminal else f'{said}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def say(sentence: str) -> None:
    """Print a sentence to those who wait."""
    print(f'stream_agent run: {sentence}', file=sys.stderr, flush=True)
