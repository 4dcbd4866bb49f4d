"""
YAML as plain maps, lists, text and numbers that know their places in a file.

Of YAML, graph files use maps, lists and scalars. Aliases, tags, further documents and keys that
are defined twice are refused, and so is deep nesting, as soon as it is met: no small file expands
to a large one. 1e-3 is a number; only true and false are truth values, so that a node may be
called ``on``.

Parameter files of ROS are read by the same rules, but to ROS's parser their scalars mean something
else, and it stumbles over what other parsers read: both are here, held case by case against it.
"""

from collections.abc import Iterator
import math
import re
from typing import Any, NamedTuple

from stream_agent.theory.checks import GraphError
import yaml

PARSER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
MAX_DEPTH = 40
INTEGER = re.compile(r'[-+]?[0-9]{1,18}')
NUMBER = re.compile(r'[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?')
WORDS = {'': None, '~': None, 'null': None,
         'true': True, 'True': True, 'false': False, 'False': False}
PARAMETERS = 'ros__parameters'
SECTION = re.compile(r'/?(\*\*?|[A-Za-z_]\w*)(/(\*\*?|[A-Za-z_]\w*))*', re.ASCII)
# Scalars as ROS's parser of parameter files, which is C, understands them.
TRUE = {'Y', 'y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON'}
FALSE = {'N', 'n', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF'}
SPECIAL = {sign + word for word in ('.inf', '.Inf', '.INF') for sign in ('', '+', '-')} | {
    '.nan', '.NaN', '.NAN'}
WHOLE = re.compile(r'[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)')
HEXADECIMAL = re.compile(
    r'[-+]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[-+]?[0-9]+)?', re.IGNORECASE)
WORD = re.compile(r'([-+]?)(nan(\(\w*\))?|inf(inity)?)', re.IGNORECASE | re.ASCII)
SMALLEST = 2.0**-1022


class PlacedMap(dict):
    """A map with the places of itself and its keys: ``FILE:LINE``, or the way, as ``edges[3]``."""

    def __init__(self, items: dict, place: str, places: dict[str, str]) -> None:
        super().__init__(items)
        self.place = place
        self.places = places

    def at(self, key: str) -> str:
        """Return the place of a key, or of the map if it lacks the key."""
        return self.places.get(key, self.place)

    def without(self, *keys: str) -> 'PlacedMap':
        return PlacedMap({key: self[key] for key in self if key not in keys},
                         self.place, self.places)


class PlacedList(list):
    """A list that knows the places of its items."""

    def __init__(self, items: list, places: list[str]) -> None:
        super().__init__(items)
        self.places = places


def plain(value: Any) -> Any:
    """Return a value without places, as JSON and YAML writers take it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def place_data(data: Any, place: str = '', depth: int = 0) -> Any:
    """Return data that came from no file, with the way to every part as its place."""
    if depth > MAX_DEPTH:
        raise GraphError(f'{place[:60]}...: nested over {MAX_DEPTH} deep; write it flat')
    if isinstance(data, dict):
        places = {str(key): f'{place}.{key}' if place else str(key) for key in data}
        return PlacedMap({str(key): place_data(value, places[str(key)], depth + 1)
                          for key, value in data.items()}, place or 'graph', places)
    if isinstance(data, (list, tuple)):
        listed = [f'{place}[{i}]' for i in range(len(data))]
        return PlacedList([place_data(item, listed[i], depth + 1)
                           for i, item in enumerate(data)], listed)
    return data


def read_yaml(text: str, file: str) -> Any:
    """Return what a YAML text holds, with places in a file of that name."""
    return read_by(Reader, text, file)


def read_by(kind: type['Reader'], text: str, file: str) -> Any:
    """Return what a reader makes of a text; GraphError, with the place, if that is nothing."""
    try:
        return kind(yaml.parse(text, Loader=PARSER), file).read_document()
    except yaml.MarkedYAMLError as error:
        lines = text.splitlines() or ['']
        line = min((error.problem_mark or error.context_mark).line, len(lines) - 1)
        if 'nesting' in str(error.problem):
            raise GraphError(f'{file}:{line + 1}: nested over {MAX_DEPTH} deep; write it flat'
                             ) from None
        raise GraphError(f'{file}:{line + 1}: not YAML: {error.problem}'
                         + remedy(lines[line])) from None
    except yaml.reader.ReaderError:
        found = yaml.reader.Reader.NON_PRINTABLE.search(text)
        line = text.count('\n', 0, found.start()) + 1
        raise GraphError(f'{file}:{line}: not YAML: the character {found.group()!a} is not '
                         'allowed; write plain text') from None


def remedy(line: str) -> str:
    """Return what is usually right where YAML stumbles over a line."""
    if re.search(r'\w\$?\{|\$\{', line):
        return "; inside [ ] and { } a range or a parameter is quoted, as in ['h{1..3}', '${p}']"
    if '\t' in line:
        return '; indent with spaces, not with tabs'
    return '; check that every bracket and quote is closed, and that lines are indented alike'


class Reader:
    """Turns the events of YAML's parser into values with places."""

    #: Of scalars, beside none.
    tags: tuple[str, ...] = ()
    #: Of YAML, as a file may state it.
    versions: tuple[tuple[int, int] | None, ...] = None, (1, 1), (1, 2)

    def __init__(self, events: Iterator[yaml.Event], file: str) -> None:
        self.events = events
        self.file = file

    def place(self, event: yaml.Event) -> str:
        return f'{self.file}:{event.start_mark.line + 1}'

    def read_document(self) -> Any:
        """Read the one document of the file; None if it is empty."""
        value = None
        first = True
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if not first:
                    raise GraphError(f'{self.place(event)}: a second document begins here; '
                                     'a file holds one')
                if event.version not in self.versions:
                    raise GraphError(f'{self.place(event)}: %YAML has a version that is not read; '
                                     'leave that line out')
                value, first = self.read(next(self.events)), False
        return value

    def read(self, event: yaml.Event, depth: int = 0) -> Any:
        """Read the value that begins with an event."""
        place = self.place(event)
        if event.anchor is not None:
            sign = '*' if isinstance(event, yaml.AliasEvent) else '&'
            raise GraphError(f'{place}: anchors and aliases ({sign}{event.anchor}) are not '
                             'supported; write the value out')
        if event.tag is not None and event.tag not in self.tags:
            tag = event.tag.replace('tag:yaml.org,2002:', '!!')
            raise GraphError(f'{place}: tags ({tag}) are not supported; leave it out')
        if depth > MAX_DEPTH:
            raise GraphError(f'{place}: nested over {MAX_DEPTH} deep; write it flat')
        if isinstance(event, yaml.MappingStartEvent):
            return self.read_map(place, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.read_list(depth)
        return self.scalar(event)

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        return value_of(event.value) if event.implicit[0] else event.value

    def read_map(self, place: str, depth: int) -> PlacedMap:
        items, places = dict[str, Any](), dict[str, str]()
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.read(event, depth + 1)
                raise GraphError(f'{self.place(event)}: a key is expected here, not a list or '
                                 "a map; inside { } a parameter is quoted, as in '${p}'")
            key = event.value
            if key in items:
                raise GraphError(f"{self.place(event)}: '{key}' is defined twice, first at "
                                 f'{places[key]}; leave one of them out')
            places[key] = self.place(event)
            items[key] = self.read(next(self.events), depth + 1)
        return PlacedMap(items, place, places)

    def read_list(self, depth: int) -> PlacedList:
        items, places = [], []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            places.append(self.place(event))
            items.append(self.read(event, depth + 1))
        return PlacedList(items, places)


def value_of(text: str) -> Any:
    """Return the number, truth value or text that an unquoted scalar is."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


class Scalar(NamedTuple):
    """A value for ROS as it is written; ``quoted`` means that it is text in any case."""

    text: str
    quoted: bool


class Entry(NamedTuple):
    """A parameter in a section, its name with dots; ``nested`` if it was written as a map."""

    name: str
    value: Scalar | list[Scalar]
    place: str
    nested: bool = False


class Section(NamedTuple):
    """The parameters that a file has for some processes, such as those of ``/**/gate``."""

    name: str
    place: str
    entries: list[Entry]


class ParameterReader(Reader):
    """Leaves scalars as they are written, to be understood as ROS understands them."""

    tags = ('tag:yaml.org,2002:str',)
    versions = None, (1, 1)

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        return Scalar(event.value, event.style in ("'", '"') or event.tag is not None)


def understood(value: Any) -> Any:
    """
    Return the number, truth value or text that a scalar, or a list of them, is to ROS.

    An empty list is None: it unsets a parameter. As in C's strtol and strtod, 010 is 8, and what
    overflows or underflows is text; 1_0 and 1:30 are text, too.
    """
    if isinstance(value, list):
        return [understood(item) for item in value] or None
    text = value.text
    if value.quoted:
        return text
    if text in TRUE or text in FALSE:
        return text in TRUE
    digits = text.lstrip(' \t\n\v\f\r')
    if WHOLE.fullmatch(digits):
        base = 10 if digits.lstrip('+-')[:1] != '0' else 16 if 'x' in digits.lower() else 8
        if -2**63 <= (whole := int(digits, base)) < 2**63:
            return whole
    number = as_double(text if text in SPECIAL else digits)
    return text if number is None else number


def as_double(text: str) -> float | None:
    """Return the number that C's strtod reads; None for other text, or outside its range."""
    if text in SPECIAL:
        return float(text.replace('.', ''))
    if found := WORD.fullmatch(text):
        return float(found[1] + found[2][:3])
    try:
        if HEXADECIMAL.fullmatch(text):
            return float.fromhex(text)
    except OverflowError:
        return None
    if not NUMBER.fullmatch(text):
        return None
    number = float(text)
    is_zero = not re.search('[1-9]', re.split('[eE]', text)[0])
    return number if is_zero or SMALLEST <= abs(number) < math.inf else None


def texts_of(value: Scalar | list[Scalar]) -> str | list[str]:
    """Return a scalar, or a list of them, as it is written."""
    return [one.text for one in value] if isinstance(value, list) else value.text


def sections_of(text: str, file: str) -> list[Section]:
    """Return the sections of a parameter file; GraphError if ROS would not read it as meant."""
    data = read_by(ParameterReader, text, file)
    if data is None:
        return []
    if not isinstance(data, PlacedMap):
        raise GraphError(f"'{file}' has no section with {PARAMETERS}; write it as "
                         'config/robot.yaml is written')
    return list(walk(data, '', f'{file}:1'))


def value_in(text: str, name: str, place: str) -> Any:
    """Return the value in a rule ``name:=text``; GraphError if ROS would refuse it."""
    return checked(read_by(ParameterReader, text, place), name, place)


def walk(data: PlacedMap, name: str, place: str) -> Iterator[Section]:
    """Yield the sections in a map, whose namespaces and names may be nested keys."""
    for i, (key, value) in enumerate(data.items()):
        at = data.at(key)
        if key.startswith(PARAMETERS):
            if fault := fault_of_section(key, value, name, last=i == len(data) - 1):
                raise GraphError(f'{at}: {fault}')
            yield Section(name, place, list(flat(value)))
        elif not isinstance(value, PlacedMap):
            raise GraphError(f"{at}: '{key}' is not in a section; put it below the name of a "
                             f'process and {PARAMETERS}')
        elif not key or name and '/' in key:
            raise GraphError(f"{at}: '{key}' cannot be a name within '{name}'; nest every part of "
                             'the name, or write it as one key')
        else:
            joint = '' if not name or name.endswith('/') else '/'
            yield from walk(value, f'{name}{joint}{key}', at)


def fault_of_section(key: str, value: Any, name: str, last: bool) -> str:
    """Return what is wrong with the key that begins the parameters of a section, or ''."""
    if key != PARAMETERS:
        return f"'{key}' is read as {PARAMETERS}; write it so"
    if not name:
        return f'{PARAMETERS} without a name; put it below the name of a process, or /**'
    if not SECTION.fullmatch(name):
        return (f"'{name}' cannot be the name of a process; write letters, digits and _ between "
                'slashes, or * and ** for any')
    if not isinstance(value, PlacedMap):
        return f'{PARAMETERS} has no parameters; write them below it as NAME: VALUE'
    return '' if last else (f'ROS cannot read what follows {PARAMETERS} here; give each process a '
                            f"section of its own, such as '{name}/NAME'")


def flat(parameters: PlacedMap, prefix: str = '') -> Iterator[Entry]:
    """Yield all parameters in a map."""
    for key, value in parameters.items():
        at, name = parameters.at(key), f'{prefix}{key}'
        if not key or key == '<<':
            raise GraphError(f"{at}: '{key}' is not the name of a parameter; write every "
                             'parameter out')
        if isinstance(value, PlacedMap):
            if not value or prefix and '.' in key:
                raise GraphError(f"{at}: ROS cannot read the map '{key}'; write "
                                 f"'{name}.NAME: VALUE' in one line each")
            yield from flat(value, f'{name}.')
        else:
            yield Entry(name, checked(value, name, at), at, bool(prefix))


def checked(value: Any, name: str, place: str) -> Any:
    """Return a scalar or a list that ROS can read; GraphError for another value."""
    items = value if isinstance(value, list) else [value]
    fault = ''
    if value is None or any(item == ('', False) for item in items):
        fault = "has no value; write one ('' is an empty text), or leave it out"
    elif not all(isinstance(item, Scalar) for item in items):
        fault = 'is not a value or a list of single values; write it flat'
    elif any('\0' in item.text for item in items):
        fault = 'has a zero byte, where ROS ends it; leave it out'
    elif len({type(understood(item)) for item in items}) > 1:
        fault = ('is a list of several types, which ROS refuses; write all its numbers with a '
                 'decimal point, or everything in quotes')
    if fault:
        raise GraphError(f"{place}: '{name}' {fault}")
    return value
