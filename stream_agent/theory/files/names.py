"""Names of nodes in graph files: ranges, lists, and names that a parameter gave."""

from itertools import product
from math import prod
import re
from typing import Any

from stream_agent.theory.faults import GraphError, show

# More nodes, edges or names than any graph has that somebody wants.
MAX_SIZE = 10_000
RANGE = re.compile(r'\{([0-9]{1,9})\.\.([0-9]{1,9})\}')


class Given(str):
    """
    Text that a block gave as the whole value of a parameter.

    A name in it is one of the place where the block stands, so the block's prefix does not apply.

    :param level: Through how many blocks it was given.
    """

    def __new__(cls, text: str, level: int) -> 'Given':
        given = super().__new__(cls, text)
        given.level = level
        return given


def level_of(name: str) -> int:
    """Return through how many blocks a name was given; 0 for a name that stands as it is."""
    return name.level if isinstance(name, Given) else 0


def given(name: str, level: int) -> str:
    """Return the name as one that was given through so many blocks."""
    return Given(name, level) if level else str(name)


def read_names(place: str, value: Any) -> list[str]:
    """
    Return the names of a name, a range of names such as ``h{1..3}``, or a list of those.

    :raises GraphError: If it is none of these, or over 10,000 names.
    """
    if isinstance(value, list):
        names = []
        for item_place, item in zip(value.places, value):
            names += read_names(item_place, item)
            check_size(place, len(names), 'names')
        return names
    if not isinstance(value, str):
        raise GraphError(f"{place}: {show(value)} is no name; a name of letters, digits and '_' "
                         "is expected, a range such as 'h{1..3}', or a list of names")
    return [given(name, level_of(value)) for name in read_range(place, value)]


def read_range(place: str, text: str) -> list[str]:
    """Return the names that a range, or several in one name, stands for."""
    parts = RANGE.split(text)
    literals = parts[::3]
    if any(brace in literal for literal in literals for brace in '{}'):
        raise GraphError(f"{place}: {show(text)} is no range; write one as in 'h{{1..3}}', "
                         'with whole numbers')
    spans = list(zip(parts[1::3], parts[2::3]))
    counts = [count(place, *span) for span in spans]
    check_size(place, prod(map(len, counts)), 'names')
    numbers = [[str(i).zfill(digits(*span)) for i in range_] for range_, span
               in zip(counts, spans)]
    return [''.join(part for pair in zip(literals, (*choice, '')) for part in pair)
            for choice in product(*numbers)]


def count(place: str, first: str, last: str) -> range:
    """Return the numbers of a range; {1..0} has none."""
    if int(last) + 1 < int(first):
        raise GraphError(f'{place}: the range {{{first}..{last}}} counts down; write '
                         f'{{{last}..{first}}}, or {{1..0}} for no name')
    return range(int(first), int(last) + 1)


def digits(first: str, last: str) -> int:
    """Return how many digits the numbers of a range have at least: more than one after a 0."""
    padded = any(end[0] == '0' and len(end) > 1 for end in (first, last))
    return max(len(first), len(last)) if padded else 1


def check_size(place: str, size: int, what: str) -> None:
    """Refuse what would fill the memory."""
    if size > MAX_SIZE:
        raise GraphError(f'{place}: over {MAX_SIZE:,} {what}; a graph has fewer')
