"""What the doctor found: a line for each check, and how to fix it."""

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import partial
import re
import textwrap
from typing import Any, NamedTuple

from stream_agent.bounded_settings import printable

WIDTH = 99
CHECK_WIDTH, LEVEL_WIDTH = 12, 13
LONGEST = 2000


class Severity(Enum):
    """How bad a finding is, in the words that are shown."""

    OK = 'OK'
    NOT_CHECKED = 'not checked'
    WARN = 'WARN'
    ERROR = 'ERROR'


class Finding(NamedTuple):
    """
    The result of one check.

    :param check: What was checked, in a word or two.
    :param said: Place and fault, or what is right.
    :param remedy: How to fix it; empty if nothing needs to be done.
    """

    level: Severity
    check: str
    said: str
    remedy: str = ''


ok = partial(Finding, Severity.OK)
not_checked = partial(Finding, Severity.NOT_CHECKED)
#: The robot drives, but not as well as it could; needs a remedy, as an error does.
warning = partial(Finding, Severity.WARN)
#: The robot does not drive, or not safely.
error = partial(Finding, Severity.ERROR)


def from_sentence(check: str, sentence: Exception | str) -> Finding:
    """Report an exception's sentence as an error; its remedy follows the last semicolon."""
    return error(check, *split_remedy(str(sentence)))


def split_remedy(sentence: str) -> tuple[str, str]:
    """Return what is wrong and the remedy, which follows the last semicolon outside brackets."""
    found = re.fullmatch(r'(.*); ((?:[^()]|\([^()]*\))*)', sentence, re.DOTALL)
    return (found[1], found[2]) if found else (sentence, '')


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is any error, else 0."""
    return int(any(found.level is Severity.ERROR for found in findings))


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each severity, in a line."""
    counts = Counter(found.level for found in findings)
    words = ((Severity.ERROR, 'error', 's'), (Severity.WARN, 'warning', 's'),
             (Severity.NOT_CHECKED, 'not checked', ''))
    return ', '.join(f"{counts[level]} {word}{plural if counts[level] > 1 else ''}"
                     for level, word, plural in words if counts[level]) or 'nothing is wrong'


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, each remedy below what is wrong."""
    lines = []
    width = max([CHECK_WIDTH, *(len(found.check) + 1 for found in findings)])
    for level, check, said, remedy in findings:
        lines += filled(f'{check:<{width}}{level.value:<{LEVEL_WIDTH}}', said)
        if remedy:
            lines += filled(' ' * (width + LEVEL_WIDTH) + '-> ', remedy)
    return '\n'.join([*lines, '', summary(findings)])


def filled(head: str, text: str) -> list[str]:
    """Break a text into lines that are indented to its first word."""
    return textwrap.wrap(printable(' '.join(text.split()), LONGEST), WIDTH, initial_indent=head,
                         subsequent_indent=' ' * len(head), break_long_words=False,
                         break_on_hyphens=False)


def to_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as values that JSON can represent."""
    return {'exit_code': exit_code(findings), 'findings': [
        {'check': check, 'level': level.value, 'said': said, 'remedy': remedy}
        for level, check, said, remedy in findings]}
