"""Parameters of templates: ``$p`` and ``${p}`` in a template's text."""

from collections.abc import Mapping
import re
from typing import Any

from stream_agent.theory.faults import GraphError, nearest, show
from stream_agent.theory.files.names import given, level_of
from stream_agent.theory.files.yaml_places import PlacedList, PlacedMap

PARAMETER = re.compile(r'\$(\$|[A-Za-z_]\w*|\{[^{}]*\}|)')
MAX_WORK = 300_000


class Budget:
    """Bounds what templates that use each other may make, of a file however small."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, place: str, work: int = 1) -> None:
        """
        Count a value, or as many as a text is long in hundreds.

        :raises GraphError: If there were over MAX_WORK.
        """
        self.left -= work
        if self.left < 0:
            raise GraphError(f'{place}: the templates make more than any graph holds; see how '
                             'often they use each other')

    def copy(self, place: str, value: Any, levels: int = 0) -> Any:
        """Return a parameter's value, with names that are given through more levels."""
        self.spend(place)
        if isinstance(value, PlacedMap):
            return PlacedMap({key: self.copy(place, item, levels) for key, item in value.items()},
                             value.place, value.places)
        if isinstance(value, PlacedList):
            return PlacedList([self.copy(place, item, levels) for item in value], value.places)
        return given(value, level_of(value) + levels) if isinstance(value, str) else value


class Substitution:
    """
    Puts values into the text of a template.

    :param values: By parameter.
    :param suffix: What is added to every place: in which block the template is used.
    """

    def __init__(self, values: Mapping[str, Any], suffix: str, budget: Budget) -> None:
        self.values = values
        self.suffix = suffix
        self.budget = budget

    def copy(self, place: str, part: Any) -> Any:
        """
        Return a copy of a part of the template with the values in it.

        :param place: Where the part stands, for messages.
        """
        self.budget.spend(place)
        if isinstance(part, PlacedMap):
            return self.copy_map(part)
        if isinstance(part, PlacedList):
            places = [item_place + self.suffix for item_place in part.places]
            return PlacedList([self.copy(*item) for item in zip(places, part)], places)
        return self.copy_text(place, part) if isinstance(part, str) else part

    def copy_map(self, part: PlacedMap) -> PlacedMap:
        """Return a copy of a map; parameters may stand in its keys, too."""
        items, places = {}, {}
        for key, item in part.items():
            place = part.at(key) + self.suffix
            new = self.copy_text(place, key)
            if not isinstance(new, str):
                raise GraphError(f"{place}: '{key}' is {show(new)} here; a name is expected "
                                 'before the colon')
            if new in items:
                raise GraphError(f"{place}: '{new}' stands twice; leave one of them out")
            places[new] = place
            items[new] = self.copy(place, item)
        return PlacedMap(items, part.place + self.suffix, places)

    def copy_text(self, place: str, text: str) -> Any:
        """Return the value of a parameter that stands alone, or the text with values in it."""
        alone = PARAMETER.fullmatch(text)
        if alone and alone[1] != '$':
            return self.budget.copy(place, self.value(place, alone[1]))
        new = PARAMETER.sub(lambda match: self.text_of(place, match[1]), text)
        self.budget.spend(place, len(new) // 100)
        return new

    def value(self, place: str, name: str) -> Any:
        """Return the value of a parameter."""
        name = name.strip('{}')
        if name not in self.values:
            raise GraphError(f"{place}: no parameter named '{name}'; " + (
                nearest(name, self.values, 'parameters') if name else 'write $$ for a dollar'))
        return self.values[name]

    def text_of(self, place: str, name: str) -> str:
        """Return the value of a parameter that stands within a text."""
        value = '$' if name == '$' else self.value(place, name)
        if isinstance(value, (dict, list)) or value is None:
            raise GraphError(f"{place}: the parameter '{name.strip('{}')}' is {show(value)}, "
                             'which does not go into a longer text; let it stand alone')
        return str(value) if isinstance(value, str) else show(value)


def arguments(name: str, template: PlacedMap, block: PlacedMap, budget: Budget) -> dict[str, Any]:
    """
    Return the values of a template's parameters: what the block gives, else the defaults.

    :raises GraphError: If the block gives an unknown one, or lacks one without a default.
    """
    declared = template['parameters']
    values = block.get('with')
    values = PlacedMap({}, block.place, {}) if values is None else values
    if not isinstance(values, PlacedMap):
        raise GraphError(f'{block.at("with")}: {show(values)} is no map; '
                         'write with: {parameter: value}')
    for key in values:
        if key not in declared:
            raise GraphError(f"{values.at(key)}: the template '{name}' has no parameter named "
                             f"'{key}'; " + nearest(key, declared, 'its parameters'))
    for key, default in declared.items():
        if key not in values and default is None:
            raise GraphError(f"{block.place}: the template '{name}' needs the parameter '{key}'; "
                             f'write with: {{{key}: ...}}')
    return {key: budget.copy(values.at(key), values[key], levels=1) if key in values
            else budget.copy(block.place, default) for key, default in declared.items()}
