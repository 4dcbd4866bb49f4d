"""Groups of operations that become nodes: what may be merged, and what is."""

from collections.abc import Iterable, Mapping, Sequence
import heapq

from stream_agent.importing.program import ImportedOperation, ImportedProgram, ImportFault
from stream_agent.importing.running import place_of

# Sums that a skip connection ends in. A product with a gate or a concatenation is not a boundary.
JOINS = ('add', 'subtract')
# What a runtime computes together with the layer in front.
ACTIVATIONS = ('relu', 'clip', 'leaky_relu', 'elu', 'gelu', 'sigmoid', 'tanh', 'silu',
               'hard_swish', 'hard_sigmoid', 'softplus')
# Axes that a node's value may have.
MOST_AXES = 3


def free_operations(program: ImportedProgram) -> set[str]:
    """Return the operations that depend on no input and on no state."""
    free = set[str]()
    for operation in program.operations:
        if free.issuperset(operation.of):
            free.add(operation.name)
    return free


def can_be_node(operation: ImportedOperation) -> bool:
    """Return whether a node may have the operation's value: the batch in front, few axes."""
    return 1 <= len(operation.shape) <= MOST_AXES


class Grouping:
    """
    Groups of operations, each known by the one whose value leaves it, its last.

    All ways from an operation of a group lead through its end, so groups never form a cycle.

    :param early: Operations whose values are wanted besides.
    :raises ImportFault: If a value that cannot be a node's would have to leave a group.
    """

    def __init__(self, program: ImportedProgram, early: Sequence[str] = ()) -> None:
        free = free_operations(program)
        self._operations = {operation.name: operation for operation in program.operations
                            if operation.name not in free}
        self._position = {name: i for i, name in enumerate(self._operations)}
        self.output = program.output
        self.kept = {program.output, *(state.next for state in program.states.values())}
        known = {*self._operations, *program.inputs}
        self._of = {name: [source for source in operation.of if source in known]
                    for name, operation in self._operations.items()}
        self._readers: dict[str, list[str]] = {name: [] for name in known}
        for name, sources in self._of.items():
            for source in dict.fromkeys(sources):
                self._readers[source].append(name)
        #: The end of the group that an operation belongs to, and the operations of a group.
        self.home = {name: name for name in self._operations}
        self.members = {name: [name] for name in self._operations}
        self._hide_what_cannot_leave()
        for name in early:
            if self.home[name] != name:
                raise ImportFault(f'early outputs: {place_of(self._operations[name])} gives a '
                                  'value in the middle of an attention or a reshuffle; name the '
                                  'module around it')
        self.kept |= {*early}

    def order(self) -> list[str]:
        """Return the groups so that each stands behind those that it reads."""
        return sorted(self.members, key=self._position.__getitem__)

    def reads(self, end: str) -> set[str]:
        """Return the inputs and the groups that a group reads."""
        own = {*self.members[end]}
        return {source for name in own for source in self._of[name]} - own

    def _groups_reading(self, end: str) -> set[str]:
        return {self.home[reader] for reader in self._readers[end]} - {end}

    def _meetings(self) -> dict[str, str]:
        """Return where all ways from an operation meet first; '' for beyond the network."""
        meeting: dict[str, str] = {}
        depth = {'': 0}
        for name in reversed(self._operations):
            found: str | None = '' if name in self.kept else None
            for reader in self._readers[name]:
                found = reader if found is None else common(found, reader, meeting, depth)
            meeting[name] = found or ''
            depth[name] = depth[meeting[name]] + 1
        return meeting

    def _between(self, start: str, end: str) -> set[str]:
        """Return the operations on all ways from one operation to one where they meet."""
        found, waiting = {end}, [start]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._readers[name]
        return found

    def joined(self, end: str) -> set[str]:
        """Return what sums in a group take from other groups."""
        return {source for name in self.members[end] for source in self._of[name]
                if self._operations[name].kind in JOINS} - {*self.members[end]}

    def is_activation(self, end: str) -> bool:
        """Return whether a group is an activation alone."""
        return len(self.members[end]) == 1 and self._operations[end].kind in ACTIVATIONS

    def unite(self, names: Iterable[str]) -> None:
        """Make one group of those that operations belong to."""
        ends = {self.home[name] for name in names}
        last = max(ends, key=self._position.__getitem__)
        members = sorted((name for end in ends for name in self.members.pop(end)),
                         key=self._position.__getitem__)
        self.members[last] = members
        self.home |= dict.fromkeys(members, last)

    def _hide_what_cannot_leave(self) -> None:
        meeting = self._meetings()
        for name, operation in self._operations.items():
            if can_be_node(operation):
                continue
            end = meeting[name]
            while end and not can_be_node(self._operations[end]):
                end = meeting[end]
            if not end:
                shape = list(operation.shape) if operation.shape else (
                    'without axes or with another one in front than that of the batch')
                raise ImportFault(
                    f'{place_of(operation)}: its value, {shape}, would have to go from node to '
                    'node, which take [features], [tokens, features] or [channels, height, '
                    'width]; return one such tensor')
            self.unite(self._between(name, end))

    def merge_modules(self, labels: Mapping[str, str]) -> None:
        """
        Merge what has the same label as far as one value leaves it.

        What is of no module belongs to the only reader, or else to all that it reads.
        """
        meeting = self._meetings()
        for name in self._operations:
            if meeting[name]:
                between = self._between(name, meeting[name])
                if len({labels[each] for each in between}) == 1:
                    self.unite(between)
        for end in self.order():
            if any(self._operations[name].module for name in self.members[end]):
                continue
            readers = self._groups_reading(end)
            sources = [source for source in self.reads(end) if source in self.members]
            if len(readers) == 1 and end not in self.kept:
                self.unite({end} | readers)
            elif len(sources) == 1 and self._groups_reading(*sources) == {end} and not (
                    self.kept & {*sources}):
                self.unite({end, *sources})

    def merge_by_cost(self, costs: dict[str, float], longest: int, most: float) -> None:
        """
        Merge groups into their only readers, the cheapest pairs first.

        Fan-out stays a boundary until all readers are one group, and a skip connection stays an
        edge, unless the longest way has too many nodes.

        :param costs: Seconds of every group.
        :param most: Part of all seconds that a group of several operations may take.
        """
        merging = Merging(self, costs, most)
        merging.merge_all()
        while merging.merge_on_longest_way(longest):
            pass


def common(one: str, other: str, meeting: Mapping[str, str], depth: Mapping[str, int]) -> str:
    """Return the first meeting that two operations have in common, themselves included."""
    while one != other:
        if depth[one] < depth[other]:
            one, other = other, one
        one = meeting[one]
    return one


class Merging:
    """
    Groups that are merged into their only readers.

    :param costs: Seconds of every group.
    :param most: Part of all seconds that a group of several operations may take.
    """

    def __init__(self, grouping: Grouping, costs: dict[str, float], most: float) -> None:
        self._grouping, self._costs = grouping, costs
        self._limit = most * sum(costs.values()) * (1 + 1e-9)
        self._reads = {end: grouping.reads(end) for end in grouping.members}
        #: What sums in a group take from others.
        self._joined = {end: grouping.joined(end) for end in grouping.members}
        self._readers: dict[str, set[str]] = {end: set() for end in grouping.members}
        for end, sources in self._reads.items():
            for source in sources & self._readers.keys():
                self._readers[source].add(end)

    def only_reader(self, end: str) -> str:
        """Return the group that alone reads one, if both together cost little; else ''."""
        readers = self._readers[end]
        if len(readers) != 1 or end in self._grouping.kept:
            return ''
        (reader,) = readers
        return reader if self._cost(end, reader) <= self._limit else ''

    def _cost(self, end: str, reader: str) -> float:
        return self._costs[end] + self._costs[reader]

    def merge(self, end: str, reader: str) -> None:
        """Make a group a part of its only reader."""
        self._grouping.unite((end, reader))
        for source in self._reads[end] & self._readers.keys():
            self._readers[source].discard(end)
            self._readers[source].add(reader)
        self._costs[reader] += self._costs.pop(end)
        del self._readers[end]
        for table in (self._reads, self._joined):
            table[reader] = (table[reader] | table.pop(end)) - {end}

    def merge_all(self) -> None:
        """
        Merge the cheapest pairs, but not where a sum joins what the group reads.

        Layers with their activations come first: apart, both would take longer.
        """
        position = {end: i for i, end in enumerate(self._grouping.order())}
        pairs: list[tuple[bool, float, int, str, str]] = []

        def consider(end: str) -> None:
            reader = self.only_reader(end) if end in position else ''
            if reader and not self._joined[reader] & self._reads[end]:
                heapq.heappush(pairs, (not self._grouping.is_activation(reader),
                                       self._cost(end, reader), position[end], end, reader))

        for end in position:
            consider(end)
        while pairs:
            _, cost, _, end, reader = heapq.heappop(pairs)
            # What has changed since has been considered again.
            if not {end, reader} <= self._costs.keys() or cost != self._cost(end, reader) or (
                    self._joined[reader] & self._reads[end]):
                continue
            self.merge(end, reader)
            for changed in (reader, *sorted(self._reads[reader])):
                consider(changed)

    def merge_on_longest_way(self, longest: int) -> bool:
        """Merge the cheapest pair on a longest way to the output, if that is too long."""
        order = self._grouping.order()
        depth: dict[str, int] = {}
        for end in order:
            depth[end] = 1 + max((depth[each] for each in self._reads[end] if each in depth),
                                 default=0)
        output = self._grouping.output
        below = {output: 0}
        for end in reversed(order):
            ways = [below[each] + 1 for each in self._readers[end] if each in below]
            if ways and end != output:
                below[end] = max(ways)
        pairs = [(self._cost(end, reader), depth[end], end, reader) for end in order
                 if (reader := self.only_reader(end)) and reader in below
                 and depth[reader] == depth[end] + 1
                 and depth[reader] + below[reader] == depth[output]]
        if depth[output] <= longest or not pairs:
            return False
        self.merge(*min(pairs)[2:])
        return True
