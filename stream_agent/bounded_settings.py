"""
Settings: meaning, unit, range and default of what a user may set, said once and checked once.

A settings dataclass declares its fields by the functions below. ROS parameters are made of it by
``nodes/parameters.py``, command-line options by ``cli/arguments.py``, whose help calls a value by
its ``kind``. A field that is declared otherwise is set by the program, and by no user.
"""

from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any

Number = int | float


def printable(text: object, most: int = 200) -> str:
    """Return text from outside as it may be printed: no control characters, not too long."""
    shown = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode()
                    for c in str(text)[:most + 1])
    return shown if len(shown) <= most else shown[:most - 3] + '...'


class SettingsError(ValueError):
    """A setting outside what it may be; the message says which one, and what would do."""


def quantity(default: Number | tuple[Number, ...] | None, unit: str, low: Number, high: Number,
             meaning: str, *, whole: bool | None = None, option: str = '') -> Any:
    """
    Declare a number from low to high, or as many of them as the default has.

    :param default: None if nothing is set.
    :param whole: Whether it is a whole number; as the default is, if None.
    :param option: Name of the command-line option, if it is not the field's.
    """
    if whole is None:
        whole = all(isinstance(one, int) for one in
                    (default if isinstance(default, tuple) else [default]))
    return field(default=default, metadata={
        'unit': unit, 'low': low, 'high': high, 'meaning': meaning, 'whole': whole,
        'option': option})


def choice(default: bool | str | None, meaning: str, among: tuple[str, ...] = ()) -> Any:
    """
    Declare a setting that is not a number.

    :param meaning: Of what is true by default, what is done, as the option says 'do not'.
    :param among: The words allowed; none for a truth value.
    """
    return field(default=default, metadata={'meaning': meaning, 'among': among})


def free_text(default: str | None, meaning: str, kind: str = 'TEXT') -> Any:
    """Declare a setting that is any text, such as the name of a topic."""
    return field(default=default, metadata={'meaning': meaning, 'type': str, 'kind': kind})


def file_path(default: Path | None, meaning: str, kind: str = 'FILE') -> Any:
    """Declare the path of a file or folder; None if nothing is set."""
    return field(default=default, metadata={'meaning': meaning, 'type': Path, 'kind': kind})


def several(default: tuple, meaning: str, kind: str = 'NAME', each: type = str,
            among: tuple[str, ...] = ()) -> Any:
    """
    Declare a setting of several words or paths.

    :param each: ``str`` or ``Path``.
    :param among: The words allowed; none for any.
    """
    return field(default=default, metadata={
        'meaning': meaning, 'type': each, 'kind': kind, 'several': True, 'among': among})


def numbers(unit: str, low: Number, high: Number, meaning: str) -> Any:
    """Declare a setting of any count of numbers from low to high; none by default."""
    return field(default=(), metadata={'unit': unit, 'low': low, 'high': high, 'meaning': meaning,
                                       'whole': False, 'several': True})


def settings_fields(settings: Any) -> list[Field]:
    """Return the fields of a settings dataclass, or of an instance, that a user may set."""
    return [item for item in fields(settings) if 'meaning' in item.metadata]


def check(settings: Any) -> None:
    """
    Hold every field of a settings dataclass against what its declaration allows.

    :raises SettingsError: For the first that is not allowed.
    """
    for item in settings_fields(settings):
        value = getattr(settings, item.name)
        if not is_allowed(item, value):
            raise SettingsError(f'{item.name} is {value!r}; set it to {allowed_values(item)}')


class BoundedSettings:
    """Base of settings dataclasses: a value that its field does not allow is a SettingsError."""

    def __post_init__(self) -> None:
        check(self)


def meant(item: Field, value: Any, text: str | list[str]) -> Any:
    """
    Return a parameter's value as the kind of value that a field has, where it can be meant so.

    :param value: As ROS reads it: 1 may be meant as 1.0, and 2.0 as 2.
    :param text: As it is written, which a text is: '007' is read as 7. A list of texts for a list.
    """
    usual = item.default
    if isinstance(usual, float) and type(value) is int:
        return float(value)
    if type(usual) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if item.metadata.get('several') and 'unit' in item.metadata:
        return tuple(float(one) if type(one) is int else one
                     for one in (value if isinstance(value, (list, tuple)) else [value]))
    if item.metadata.get('several') and item.metadata['type'] is str:
        return tuple(text if isinstance(text, list) else [text])
    if isinstance(usual, str) and isinstance(text, str):
        return text
    return value


def is_allowed(item: Field, value: Any) -> bool:
    """Tell whether a field may have a value."""
    about = item.metadata
    if value is None:
        return item.default is None
    if 'unit' in about:
        if not isinstance(item.default, tuple):
            return is_within(item, value)
        return (isinstance(value, tuple)
                and (about.get('several', False) or len(value) == len(item.default))
                and all(is_within(item, number) for number in value))
    if about.get('several'):
        return isinstance(value, tuple) and all(
            isinstance(one, about['type']) and (not about['among'] or one in about['among'])
            for one in value)
    if 'type' in about:
        return isinstance(value, about['type'])
    return value in about['among'] if about['among'] else isinstance(value, bool)


def is_within(item: Field, value: Any) -> bool:
    """Tell whether a value is a number of the kind and range that a quantity has."""
    kinds = int if item.metadata['whole'] else (int, float)
    # Written so that NaN, which compares false with everything, is refused.
    return (isinstance(value, kinds) and not isinstance(value, bool)
            and item.metadata['low'] <= value <= item.metadata['high'])


def allowed_values(item: Field) -> str:
    """Say what a field may be."""
    about = item.metadata
    if 'unit' in about:
        count = 'a list of numbers, each ' if about.get('several') else (
            f'{len(item.default)} numbers, each ' if isinstance(item.default, tuple) else '')
        return f"{count}{numbers_allowed(item)} ({about['meaning']})"
    if about.get('among'):
        return ' or '.join(about['among'])
    if 'type' not in about:
        return 'true or false'
    kind = 'path' if about['type'] is Path else 'text'
    return f"{f'a list of {kind}s' if about.get('several') else f'a {kind}'} ({about['meaning']})"


def range_of(item: Field) -> str:
    """Say from where to where a quantity goes, with its unit."""
    low, high = (str(end) if isinstance(end, int) else f'{end:g}'
                 for end in (item.metadata['low'], item.metadata['high']))
    unit = f" {item.metadata['unit']}" if item.metadata['unit'] else ''
    return f'{low} to {high}{unit}'


def numbers_allowed(item: Field) -> str:
    """Say which number a quantity may be: kind, range, unit."""
    return ('a whole number' if item.metadata['whole'] else 'a number') + f' from {range_of(item)}'
