"""What the doctor found: a line for each check, and how to fix it."""

from collections.abc import Sequence
from enum import IntEnum
import textwrap
from typing import Any, NamedTuple

WIDTH = 99
CHECK_WIDTH, LEVEL_WIDTH = 12, 13


class Severity(IntEnum):
    """How bad a finding is."""

    OK = 0
    NOT_CHECKED = 1
    WARN = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """The word that is shown."""
        return 'not checked' if self is Severity.NOT_CHECKED else self.name


class Finding(NamedTuple):
    """
    The result of one check.

    :param check: What was checked, in a word or two.
    :param said: Place and fault, or what is right.
    :param remedy: How to fix it; empty if nothing needs to be done.
    """

    check: str
    level: Severity
    said: str
    remedy: str = ''


def ok(check: str, said: str) -> Finding:
    """Report that something is right."""
    return Finding(check, Severity.OK, said)


def warning(check: str, said: str, remedy: str) -> Finding:
    """Report a fault with which the robot drives, but not as well as it could."""
    return Finding(check, Severity.WARN, said, remedy)


def error(check: str, said: str, remedy: str) -> Finding:
    """Report a fault with which the robot does not drive, or not safely."""
    return Finding(check, Severity.ERROR, said, remedy)


def not_checked(check: str, why: str) -> Finding:
    """Report why something was not checked."""
    return Finding(check, Severity.NOT_CHECKED, why)


def from_sentence(check: str, sentence: Exception | str) -> Finding:
    """Report an exception's sentence as an error; its remedy follows the last semicolon."""
    said, _, remedy = str(sentence).rpartition('; ')
    return error(check, said or remedy, remedy if said else '')


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is any error, else 0."""
    return int(any(found.level is Severity.ERROR for found in findings))


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each severity, in a line."""
    counts = {level: sum(found.level is level for found in findings) for level in Severity}
    said = [f"{counts[level]} {word}{'s' if counts[level] > 1 else ''}"
            for level, word in ((Severity.ERROR, 'error'),
                                (Severity.WARN, 'warning')) if counts[level]]
    if counts[Severity.NOT_CHECKED]:
        said.append(f'{counts[Severity.NOT_CHECKED]} not checked')
    return ', '.join(said or ['nothing is wrong'])


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, each remedy below what is wrong."""
    lines = []
    for found in findings:
        head = f'{found.check:<{CHECK_WIDTH}}{found.level.word:<{LEVEL_WIDTH}}'
        lines += filled(head, found.said)
        if found.remedy:
            lines += filled(' ' * (CHECK_WIDTH + LEVEL_WIDTH) + '-> ', found.remedy)
    return '\n'.join([*lines, '', summary(findings)])


def filled(head: str, text: str) -> list[str]:
    """Break a text into lines that are indented to its first word."""
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=' ' * len(head),
                         break_long_words=False, break_on_hyphens=False)


def to_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as values that JSON can represent."""
    return {'exit_code': exit_code(findings), 'findings': [
        {'check': found.check, 'level': found.level.word, 'said': found.said,
         'remedy': found.remedy} for found in findings]}
