"""Which operations of an imported program become one node."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from stream_agent.importing.grouping import can_be_node, free_operations, Grouping
from stream_agent.importing.program import ImportedOperation, ImportedProgram, ImportFault
from stream_agent.theory.checks import nearest


def cut(program: ImportedProgram, seconds: Mapping[str, float], how: str | Sequence[str] = 'auto',
        longest: int = 16, most: float = 0.25, early: Sequence[str] = ()) -> list[list[str]]:
    """
    Group operations into nodes: one value leaves a group, and no groups form a cycle.

    :param program: Simplified, with the shapes of all operations.
    :param seconds: What every operation takes; matters for 'auto'.
    :param how: 'auto' by cost, 'all' for as many nodes as possible, or names of modules, each of
        which becomes a node where one value leaves it, as does what lies between them.
    :param longest: Nodes on the longest way to the output that 'auto' tries to keep.
    :param most: Part of all seconds that 'auto' lets several operations take as one node.
    :param early: Modules whose output is to be the value of a node.
    :returns: Names of operations by node, each in the program's order, as are the nodes; without
        those that depend on no input, which belong to every node that reads them.
    :raises ImportFault: If a name is unknown, or a value cannot be that of a node.
    """
    grouping = Grouping(program, [output_of(program, name, 'early outputs') for name in early])
    if how == 'auto':
        grouping.merge_by_cost(costs_of(grouping, seconds), longest, most)
    elif how != 'all':
        grouping.merge_modules(module_labels(program, [how] if isinstance(how, str) else how))
    return [grouping.members[end] for end in grouping.order()]


def in_module(operation: ImportedOperation, module: str) -> bool:
    """Return whether an operation comes from a module or from a part of it."""
    return f'{operation.module}.'.startswith(f'{module}.')


def modules_of(program: ImportedProgram) -> list[str]:
    """Return the paths of all modules that operations come from, and of those that hold them."""
    return [*paths_of(operation.module for operation in program.operations)]


def paths_of(modules: Iterable[str]) -> Counter[str]:
    """Return how many of some modules each path holds, itself included."""
    return Counter(path for module in filter(None, modules) for path in accumulate(
        module.split('.'), '{}.{}'.format))


def output_of(program: ImportedProgram, module: str, what: str = 'cut') -> str:
    """
    Return the last operation of a module whose value can be that of a node.

    :param what: What the module is named for, in messages.
    :raises ImportFault: If there is none.
    """
    free = free_operations(program)
    for operation in reversed(program.operations):
        if in_module(operation, module) and can_be_node(operation) and operation.name not in free:
            return operation.name
    raise ImportFault(f"{what}: the network has no module named '{module}' that computes "
                      f"anything; {nearest(module, modules_of(program), 'its modules')}")


def module_labels(program: ImportedProgram, modules: Sequence[str]) -> dict[str, str]:
    """Return the innermost of some modules that every operation comes from; '' for none."""
    for module in modules:
        output_of(program, module)
    return {operation.name: max((module for module in modules if in_module(operation, module)),
                                key=len, default='') for operation in program.operations}


def costs_of(grouping: Grouping, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of every group, by its last operation."""
    for name in grouping.home:
        if name not in seconds:
            raise ImportFault(f"costs: the operation '{name}' is missing; measure the network "
                              'again, as the file of costs is of another one')
    return {end: sum(seconds[name] for name in names) for end, names in grouping.members.items()}
