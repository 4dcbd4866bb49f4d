"""
YAML as plain maps, lists, text and numbers that know their places in a file.

Of YAML, graph files use maps, lists and scalars. Aliases, tags, further documents and keys that
are defined twice are refused; 1e-3 is a number; only true and false are truth values, so that a
node may be called ``on``.
"""

from collections.abc import Iterator
import re
from typing import Any

from stream_agent.theory.checks import GraphError
import yaml

PARSER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
MAX_DEPTH = 40
INTEGER = re.compile(r'[-+]?[0-9]{1,18}')
NUMBER = re.compile(r'[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?')
WORDS = {'': None, '~': None, 'null': None,
         'true': True, 'True': True, 'false': False, 'False': False}


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
    try:
        return Reader(yaml.parse(text, Loader=PARSER), file).read_document()
    except yaml.MarkedYAMLError as error:
        lines = text.splitlines() or ['']
        line = min((error.problem_mark or error.context_mark).line, len(lines) - 1)
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
                value, first = self.read(next(self.events)), False
        return value

    def read(self, event: yaml.Event, depth: int = 0) -> Any:
        """Read the value that begins with an event."""
        place = self.place(event)
        if event.anchor is not None:
            sign = '*' if isinstance(event, yaml.AliasEvent) else '&'
            raise GraphError(f'{place}: anchors and aliases ({sign}{event.anchor}) are not '
                             'supported; write the value out')
        if event.tag is not None:
            tag = event.tag.replace('tag:yaml.org,2002:', '!!')
            raise GraphError(f'{place}: tags ({tag}) are not supported; leave it out')
        if depth > MAX_DEPTH:
            raise GraphError(f'{place}: nested over {MAX_DEPTH} deep; write it flat')
        if isinstance(event, yaml.MappingStartEvent):
            return self.read_map(place, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.read_list(depth)
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
