"""Templates of graph files: blocks become nodes and edges, with names of their own."""

from collections.abc import Mapping
from typing import Any

from stream_agent.theory.checks import NAME
from stream_agent.theory.faults import GraphError, nearest, show
from stream_agent.theory.files.names import check_size, given, level_of, read_names
from stream_agent.theory.files.parameters import arguments, Budget, Substitution
from stream_agent.theory.files.parts import (
    check_keys, items, Parts, read_edges, read_nodes)
from stream_agent.theory.files.yaml_places import PlacedMap

BODY_KEYS = ('nodes', 'edges', 'blocks')
MAX_NESTED = 40


class Expansion:
    """
    Makes nodes and edges of what stands in graph files and in the templates that they use.

    :param templates: By name, as ``read_templates`` returns them.
    """

    def __init__(self, templates: Mapping[str, PlacedMap]) -> None:
        self.templates = templates
        self.sizes = {'nodes': 0, 'edges': 0}
        self.budget = Budget()

    def read(self, body: PlacedMap, chain: tuple[str, ...] = ()) -> Parts:
        """
        Return the nodes and edges of a file, or of a template with its values put in.

        :param chain: The templates around it, the outermost first.
        """
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
            raise GraphError(f'{place}: blocks stand over {MAX_NESTED} deep in each other; '
                             'a graph takes a few levels')
        parts = Parts()
        prefixes = [''] if block.get('as') is None else read_names(block.at('as'), block['as'])
        for prefix in prefixes:
            parts.add(self.read_instance(block, prefix, (*chain, str(name))))
        return parts

    def read_instance(self, block: PlacedMap, prefix: str, chain: tuple[str, ...]) -> Parts:
        """Return the nodes and edges of a block under one prefix; it may be empty."""
        if prefix and not NAME.fullmatch(prefix):
            raise GraphError(f"{block.at('as')}: {show(prefix)} cannot begin a name; "
                             "take letters, digits and '_'")
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
    Return what a template made as it stands one level further out.

    Its own nodes get the prefix; names that a parameter gave, and names of nodes that the
    template does not have, stay as they are.
    """
    own = parts.own()

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
        raise GraphError(f"{place}: {show(label)} is no label; take letters, digits and '_', "
                         'the same in every block that shares')
    edges = []
    for i, edge in enumerate(parts.edges):
        settings = edge.settings
        if not settings.get('share'):
            settings = PlacedMap({**settings, 'share': f'{label}_{i}'}, settings.place,
                                 settings.places)
        edges.append(edge._replace(settings=settings))
    return Parts(parts.nodes, edges)


def read_templates(files: list[PlacedMap]) -> dict[str, PlacedMap]:
    """
    Return the templates of all files, each with its ``parameters`` as a map.

    :raises GraphError: If one stands twice or is none.
    """
    templates: dict[str, PlacedMap] = {}
    for file in files:
        part = file.get('templates')
        if part is not None and not isinstance(part, PlacedMap):
            raise GraphError(f"{file.at('templates')}: {show(part)} is no map of templates; "
                             'write name: {parameters: ..., nodes: ..., edges: ...}')
        for name, template in (part or {}).items():
            place = part.at(name)
            if name in templates:
                raise GraphError(f"{place}: the template '{name}' stands at "
                                 f'{templates[name].place} already; rename one of them')
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
            fault = "which is the block's prefix" if name == 'as' else (
                "which is not made of letters, digits and '_'")
            raise GraphError(f"{declared.at(name)}: a parameter is named '{name}', {fault}; "
                             'rename it')
    return declared
