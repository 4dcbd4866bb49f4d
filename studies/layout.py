"""How the studies lay out tables and verdicts, in one place, since pages quote what they print."""

from collections.abc import Sequence
from typing import NamedTuple

from stream_agent.driving.evaluation import written
from stream_agent.measurement.bootstrap import Interval


class MarkResult(NamedTuple):
    """
    Whether a mark was reached.

    :param cost: Of a pass, in camera periods.
    :param value: What was found, with its interval if there is one.
    :param why: What a reader needs to know of it besides; may be empty.
    """

    device: str
    cost: float
    what: str
    value: Interval
    mark: float
    reached: bool
    why: str = ''

    def __str__(self) -> str:
        return (f'{"reached" if self.reached else "MISSED"}: {self.device}, {self.cost:g} periods '
                f'a pass: {self.what} {written(self.value)}, mark {self.mark:g}'
                + (f' ({self.why})' if self.why else ''))


def layout(rows: Sequence[Sequence[str]], markdown: bool) -> list[str]:
    """Return a table as lines, its first row as the head."""
    if markdown:
        lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
        return [lines[0], '|' + '---|' * len(rows[0]), *lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ['  '.join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
            for row in rows]
