"""Templates of graph files: blocks become nodes and edges, with names of their own."""

from collections.abc import Mapping
import re
from typing import Any

from stream_agent.graph_files.located_yaml import PlacedList, PlacedMap
from stream_agent.graph_files.shorthand import (
    check_keys, check_size, given, items, level_of, Parts, read_edges, read_names, read_nodes)
from stream_agent.theory.checks import GraphError, NAME, nearest, show

PARAMETER = re.compile(r'\$(\$|[A-Za-z_]\w*|\{[^{}]*\}|)')
MAX_WORK = 300_000


class TemplateBudget:
    """Bounds what templates that use each other may make, of a file however small."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, place: str, work: int = 1) -> None:
        """Count a value, or as many as a text is long in hundreds; refuse over MAX_WORK."""
        self.left -= work
        if self.left < 0:
            raise GraphError(f'{place}: the templates make more than any graph holds; check how '
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
    """Puts the values of parameters into a template; the suffix says in which block it is used."""

    def __init__(self, values: Mapping[str, Any], suffix: str, budget: TemplateBudget) -> None:
        self.values = values
        self.suffix = suffix
        self.budget = budget

    def copy(self, place: str, part: Any) -> Any:
        """Return a copy of a part of the template, found at a place, with the values in it."""
        self.budget.spend(place)
        if isinstance(part, PlacedMap):
            return self.copy_map(part)
        if isinstance(part, PlacedList):
            places = [item_place + self.suffix for item_place in part.places]
            return PlacedList([self.copy(*item) for item in zip(places, part)], places)
        return self.copy_text(place, part) if isinstance(part, str) else part

    def copy_map(self, part: PlacedMap) -> PlacedMap:
        """Return a copy of a map; parameters may also be in its keys."""
        items, places = {}, {}
        for key, item in part.items():
            place = part.at(key) + self.suffix
            new = self.copy_text(place, key)
            if not isinstance(new, str):
                raise GraphError(f"{place}: '{key}' is {show(new)} here; a name is expected "
                                 'before the colon')
            if new in items:
                raise GraphError(f"{place}: '{new}' is defined twice; leave one of them out")
            places[new] = place
            items[new] = self.copy(place, item)
        return PlacedMap(items, part.place + self.suffix, places)

    def copy_text(self, place: str, text: str) -> Any:
        """Return the value of a parameter that is used alone, or the text with values in it."""
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
        """Return the value of a parameter within a longer text."""
        value = '$' if name == '$' else self.value(place, name)
        if isinstance(value, (dict, list)) or value is None:
            raise GraphError(f"{place}: the parameter '{name.strip('{}')}' is {show(value)}, "
                             'which does not fit into a longer text; use it alone')
        return str(value) if isinstance(value, str) else show(value)


def arguments(name: str, template: PlacedMap, block: PlacedMap, budget: TemplateBudget
              ) -> dict[str, Any]:
    """Return the values of a template's parameters: what the block gives, else the defaults."""
    declared = template['parameters']
    values = PlacedMap({}, block.place, {}) if block.get('with') is None else block['with']
    if not isinstance(values, PlacedMap):
        raise GraphError(f'{block.at("with")}: {show(values)} is not a map; '
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


BODY_KEYS = ('nodes', 'edges', 'blocks')
MAX_NESTED = 40


class Expansion:
    """Makes nodes and edges of graph files and of the templates that they use, as read."""

    def __init__(self, templates: Mapping[str, PlacedMap]) -> None:
        self.templates = templates
        self.sizes = {'nodes': 0, 'edges': 0}
        self.budget = TemplateBudget()

    def read(self, body: PlacedMap, chain: tuple[str, ...] = ()) -> Parts:
        """Return the nodes and edges of a file, or of a template within a chain of templates."""
        parts = Parts()
        for key in body:
            if key == 'blocks':
                for place, block in items(body.at(key), 'list of blocks', body[key]):
                    parts.add(self.read_block(block, place, chain))
            elif key in self.sizes:
                read = read_nodes if key == 'nodes' else read_edges
                new = read(body.at(key), body[key])
                getattr(parts, key).extend(new)
                self.sizes[key] += len(new)
                check_size(body.at(key), self.sizes[key], key)
        return parts

    def read_block(self, block: Any, place: str, chain: tuple[str, ...]) -> Parts:
        """Return the nodes and edges of a block, once for every name under ``as``."""
        check_keys('block', block, place, ('template',), ('as', 'with', 'share'))
        name = block['template']
        if not isinstance(name, str) or name not in self.templates:
            raise GraphError(f'{block.at("template")}: no template named {show(name)}; '
                             + nearest(str(name), self.templates, 'templates'))
        if name in chain:
            raise GraphError(f'{place}: a template cannot use itself; here it does: '
                             + ' -> '.join((*chain[chain.index(name):], name)))
        if len(chain) == MAX_NESTED:
            raise GraphError(f'{place}: blocks are nested over {MAX_NESTED} deep; '
                             'a graph takes a few levels')
        parts = Parts()
        for prefix in [''] if block.get('as') is None else read_names(
                block.at('as'), block['as']):
            parts.add(self.read_instance(block, prefix, (*chain, str(name))))
        return parts

    def read_instance(self, block: PlacedMap, prefix: str, chain: tuple[str, ...]) -> Parts:
        """Return the nodes and edges of a block under one prefix; it may be empty."""
        if prefix and not NAME.fullmatch(prefix):
            raise GraphError(f"{block.at('as')}: {show(prefix)} cannot begin a name; "
                             "use letters, digits and '_'")
        template = self.templates[chain[-1]]
        values = arguments(chain[-1], template, block, self.budget)
        substitution = Substitution({'as': str(prefix), **values},
                                    f', in the block at {block.place}', self.budget)
        parts = self.read(substitution.copy(block.place, template.without('parameters')), chain)
        if block.get('share') is not None:
            parts = shared(parts, block['share'], block.at('share'))
        return renamed(parts, prefix)


def renamed(parts: Parts, prefix: str) -> Parts:
    """
    Return what a template made, as seen one level further out.

    Its own nodes get the prefix; names that a parameter gave, and names of nodes that the
    template does not have, stay as they are.
    """
    own = {node.name for node in parts.nodes if not level_of(node.name)}

    def outside(name: str) -> str:
        if level_of(name):
            return given(name, level_of(name) - 1)
        return f'{prefix}_{name}' if prefix and name in own else name

    return Parts([node._replace(name=outside(node.name)) for node in parts.nodes],
                 [edge._replace(source=outside(edge.source), target=outside(edge.target))
                  for edge in parts.edges])


def shared(parts: Parts, label: Any, place: str) -> Parts:
    """Return what a block made, each edge sharing weights with that of other blocks so marked."""
    if not isinstance(label, str) or not NAME.fullmatch(label):
        raise GraphError(f"{place}: {show(label)} is not a label; use letters, digits and '_', "
                         'the same in every block that shares')
    return Parts(parts.nodes, [edge._replace(settings=PlacedMap(
        {**edge.settings, 'share': edge.settings.get('share') or f'{label}_{i}'},
        edge.settings.place, edge.settings.places)) for i, edge in enumerate(parts.edges)])


def read_templates(files: list[PlacedMap]) -> dict[str, PlacedMap]:
    """Return the templates of all files, each with its ``parameters`` as a map."""
    templates: dict[str, PlacedMap] = {}
    for file in files:
        part = file.get('templates')
        if part is not None and not isinstance(part, PlacedMap):
            raise GraphError(f"{file.at('templates')}: {show(part)} is not a map of templates; "
                             'write name: {parameters: ..., nodes: ..., edges: ...}')
        for name, template in part.items() if part else ():
            place = file['templates'].at(name)
            if name in templates:
                raise GraphError(f"{place}: the template '{name}' is already defined at "
                                 f'{templates[name].place}; rename one of them')
            check_keys('template', template, place, optional=('parameters', *BODY_KEYS))
            templates[name] = PlacedMap(
                {**template, 'parameters': declared_parameters(template)}, place, template.places)
    return templates


def declared_parameters(template: PlacedMap) -> PlacedMap:
    """Return the parameters of a template with their defaults; empty for those without one."""
    place, declared = template.at('parameters'), template.get('parameters')
    if not isinstance(declared, PlacedMap):
        names = [name for item in items(place, 'list of parameters', declared)
                 for name in read_names(*item)]
        declared = PlacedMap(dict.fromkeys(names), place, {})
    for name in declared:
        if not NAME.fullmatch(name) or name == 'as':
            fault = "the block's prefix" if name == 'as' else (
                "not made of letters, digits and '_'")
            raise GraphError(f"{declared.at(name)}: a parameter is named '{name}', which is "
                             f'{fault}; rename it')
    return declared
