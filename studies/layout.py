"""How the studies lay out tables: one function, since pages quote what they print."""

from collections.abc import Sequence


def layout(rows: Sequence[Sequence[str]], markdown: bool) -> list[str]:
    """Return a table as lines, its first row as the head."""
    if markdown:
        lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
        return [lines[0], '|' + '---|' * len(rows[0]), *lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ['  '.join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
            for row in rows]
