"""What was found: a line for each check, and what mends it."""

from collections.abc import Sequence
from enum import IntEnum
import textwrap
from typing import Any, NamedTuple

WIDTH = 99
CHECK_WIDTH, LEVEL_WIDTH = 12, 13


class Severity(IntEnum):
    """How bad it is; what was not checked has its reason in another finding, or was not asked."""

    OK = 0
    NOT_CHECKED = 1
    WARN = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """As it is shown."""
        return 'not checked' if self is Severity.NOT_CHECKED else self.name


class Finding(NamedTuple):
    """
    The result of one check.

    :param check: What was looked at, in a word or two.
    :param said: Place and fault, or what is right.
    :param remedy: What mends it; empty if nothing has to be done.
    """

    check: str
    level: Severity
    said: str
    remedy: str = ''


def ok(check: str, said: str) -> Finding:
    """Say that it is right."""
    return Finding(check, Severity.OK, said)


def warning(check: str, said: str, remedy: str) -> Finding:
    """Say that it will drive, but not as well as it could."""
    return Finding(check, Severity.WARN, said, remedy)


def error(check: str, said: str, remedy: str) -> Finding:
    """Say that it will not drive, or not safely."""
    return Finding(check, Severity.ERROR, said, remedy)


def not_checked(check: str, why: str) -> Finding:
    """Say why there is nothing to say."""
    return Finding(check, Severity.NOT_CHECKED, why)


def from_sentence(check: str, sentence: Exception | str) -> Finding:
    """Make an error of one of our sentences, whose remedy comes after the last semicolon."""
    said, _, remedy = str(sentence).rpartition('; ')
    return error(check, said or remedy, remedy if said else '')


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is any error, else 0."""
    return int(any(found.level is Severity.ERROR for found in findings))


def summary(findings: Sequence[Finding]) -> str:
    """Say in a line how many there are of what."""
    counts = {level: sum(found.level is level for found in findings) for level in Severity}
    said = [f"{counts[level]} {word}{'s' if counts[level] > 1 else ''}"
            for level, word in ((Severity.ERROR, 'error'),
                                (Severity.WARN, 'warning')) if counts[level]]
    if counts[Severity.NOT_CHECKED]:
        said.append(f'{counts[Severity.NOT_CHECKED]} not checked')
    return ', '.join(said or ['nothing is wrong'])


def table(findings: Sequence[Finding]) -> str:
    """Lay the findings out, a check a line, the remedy below what is wrong."""
    lines = []
    for found in findings:
        head = f'{found.check:<{CHECK_WIDTH}}{found.level.word:<{LEVEL_WIDTH}}'
        lines += filled(head, found.said)
        if found.remedy:
            lines += filled(' ' * (CHECK_WIDTH + LEVEL_WIDTH) + '-> ', found.remedy)
    return '\n'.join([*lines, '', summary(findings)])


def filled(head: str, text: str) -> list[str]:
    """Break a text into lines that begin below its first word."""
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=' ' * len(head),
                         break_long_words=False, break_on_hyphens=False)


def to_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON takes them."""
    return {'exit_code': exit_code(findings), 'findings': [
        {'check': found.check, 'level': found.level.word, 'said': found.said,
         'remedy': found.remedy} for found in findings]}
