"""Numbers that a user may set: meaning, unit, range and default, said once, checked once."""

from dataclasses import field, fields
from typing import Any


class SettingsError(ValueError):
    """A setting outside what it may be; the message says which one, and what would do."""


def quantity(default: float, unit: str, low: float, high: float, meaning: str):
    """
    Declare a number of a settings dataclass; a whole one, if its default is.

    :param low: The least value allowed.
    :param high: The greatest value allowed.
    """
    return field(default=default, metadata={
        'unit': unit, 'low': low, 'high': high, 'meaning': meaning})


def choice(default: bool | str, meaning: str, among: tuple[str, ...] = ()):
    """
    Declare a setting that is no number.

    :param among: The words allowed; none for a truth value.
    """
    return field(default=default, metadata={'meaning': meaning, 'among': among})


def check(settings: Any) -> None:
    """
    Hold every field of a settings dataclass against what its declaration allows.

    :raises SettingsError: For the first that is not allowed.
    """
    for item in fields(settings):
        value = getattr(settings, item.name)
        if 'unit' in item.metadata:
            check_number(item.name, value, item.default, **item.metadata)
        elif item.metadata['among'] and value not in item.metadata['among']:
            raise SettingsError(f'{item.name} is {value!r}; set it to '
                                f"{' or '.join(item.metadata['among'])}")
        elif type(value) is not type(item.default):
            raise SettingsError(f'{item.name} is {value!r}; set it to true or false')


def check_number(name: str, value: Any, default: float, unit: str, low: float, high: float,
                 meaning: str) -> None:
    """Refuse what is no number, no whole one where one is due, or out of its range."""
    kinds = int if isinstance(default, int) else (int, float)
    kind = 'a whole number' if isinstance(default, int) else 'a number'
    # Written so that NaN, which compares false with everything, is refused.
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        unit = f' {unit}' if unit else ''
        raise SettingsError(f'{name} is {value!r}; set it to {kind} from {low:g} to '
                            f'{high:g}{unit} ({meaning})')
