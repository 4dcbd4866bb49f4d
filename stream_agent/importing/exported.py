"""
Reads networks of torch: modules, and files of ``torch.export``.

Both become operators of torch first (``torch.export``, without taking apart what the vocabulary
has), then operations of the vocabulary, whose weights are copies: nothing of the example inputs,
of source files or of code goes along.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import inspect
import itertools
from pathlib import Path
from typing import Any
import zipfile

from stream_agent.importing import aten_cells, aten_shapes  # noqa: F401 (they register)
from stream_agent.importing.ends import ends, finished, given_value
from stream_agent.importing.program import ImportedProgram, ImportFault
from stream_agent.importing.tracing import (HANDLERS, operator_name, SHAPE_ONLY, Tracer, Value)
from stream_agent.network.transforms import Shape
import torch
from torch import nn, Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

#: How a shape becomes an example: the batch in front; behind the layers of a state; in front of a
#: sequence of one frame; nowhere.
LAYOUTS: tuple[Callable[[Shape], Shape], ...] = (
    lambda shape: (1, *shape),
    lambda shape: (shape[0], 1, *shape[1:]) if len(shape) > 1 else (1, 1, *shape),
    lambda shape: (1, 1, *shape),
    lambda shape: shape)

CONTROL_FLOW = ("forward decides by the values of tensors ('if', 'while', int(), .item()); "
                'torch.export cannot follow. Compute both ways and blend them, or decide by '
                'settings in __init__')


def read_module(module: nn.Module, inputs: Mapping[str, Shape]) -> ImportedProgram:
    """
    Read a module as it is: in evaluation mode, if it knows others.

    :param inputs: Shapes without batch, by the names of forward's parameters; a name that is none
        of those goes to the first parameter left.
    :raises ImportFault: If it cannot be imported.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ImportFault(f'{type(module).__name__}: a ScriptModule cannot be exported; give the '
                          'module that it was scripted from')
    names, pack = bound(module, inputs)
    kind = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()),
                torch.float32)
    first: Exception | None = None
    for sizes in layouts([tuple(inputs[name]) for name in names]):
        example = pack([torch.zeros(size, dtype=kind) for size in sizes])
        try:
            with torch.no_grad():
                exported = torch.export.export(module, example, strict=False)
        except Exception as error:  # torch and the module refuse in many ways
            first = first or error
            if type(error).__name__ in ('GuardOnDataDependentSymNode', 'NotImplementedError'):
                break
        else:
            return read_exported(exported, names, sizes)
    assert first is not None
    raise export_fault(module, inputs, first) from None


def bound(module: nn.Module, inputs: Mapping[str, Shape]
          ) -> tuple[list[str], Callable[[list[Tensor]], tuple]]:
    """Return the inputs' names in forward's order, and what makes forward's arguments of them."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    free = [name for name in inputs if name not in {each.name for each in parameters}]
    order: list[list[str]] = []  # of each argument; several make a tuple
    needed = [each for each in parameters if each.name not in inputs
              and each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    for each in parameters:
        if each.name in inputs:
            order.append([each.name])
        elif free and (each in needed or not needed):
            taken = free if len(needed) == 1 and (order or each.kind is each.VAR_POSITIONAL) \
                else free[:1]
            if each.kind is each.VAR_POSITIONAL:
                order += [[name] for name in taken]
            else:
                order.append(list(taken))
            free = free[len(taken):]
        elif each in needed and each.kind is not each.VAR_POSITIONAL:
            raise ImportFault(f"{type(module).__name__}: forward takes '{each.name}', of which no "
                              f'shape is given; give it: --input {each.name}=...')
        elif order and any(later.name in inputs for later in
                           parameters[parameters.index(each) + 1:]):
            raise ImportFault(f"{type(module).__name__}: forward takes '{each.name}' before other "
                              f'inputs; give its shape: --input {each.name}=...')
    if free:
        raise ImportFault(f"{type(module).__name__}: forward has no parameter '{free[0]}'; it has "
                          + ', '.join(f"'{each.name}'" for each in parameters))

    def pack(values: list[Tensor]) -> tuple:
        left = iter(values)
        groups = [tuple(next(left) for _ in names) for names in order]
        return tuple(group if len(group) > 1 else group[0] for group in groups)
    return [name for names in order for name in names], pack


def layouts(shapes: Sequence[Shape]) -> Iterator[list[Shape]]:
    """Yield sizes of example inputs to try, likely ones first; states of as many axes alike."""
    front, behind, sequence, bare = LAYOUTS
    kinds = sorted({len(shape) for shape in shapes[1:]})
    seen = []
    for first in (front, sequence, bare):
        for chosen in itertools.product((front, behind, bare), repeat=len(kinds)):
            makers = dict(zip(kinds, chosen))
            sizes = [first(shapes[0]), *(makers[len(shape)](shape) for shape in shapes[1:])]
            if sizes not in seen:
                seen.append(sizes)
                yield sizes


def export_fault(module: nn.Module, inputs: Mapping[str, Shape], error: Exception) -> ImportFault:
    """Return what to say when ``torch.export`` fails."""
    text = str(error)
    if type(error).__name__ == 'GuardOnDataDependentSymNode' or 'data-dependent' in text:
        return ImportFault(f'{type(module).__name__}: {CONTROL_FLOW}')
    if 'assigned during export' in text or 'register_buffer' in text:
        return ImportFault(f'{type(module).__name__}: forward keeps a tensor as an attribute; '
                           'make it a buffer (register_buffer), or an input and an output')
    sizes = ', '.join(f"{name} {'x'.join(map(str, shape))}" for name, shape in inputs.items())
    lines = [line for line in text.splitlines() if line.strip()]
    return ImportFault(f'{type(module).__name__}: forward failed for {sizes}: '
                       f'{lines[0] if lines else type(error).__name__}; give the sizes that the '
                       'network takes (--input), without the batch')


def read_pt2(path: Path, inputs: Mapping[str, Shape] | None = None) -> ImportedProgram:
    """
    Read a file of ``torch.export.save``; torch may unpickle in doing so.

    :param inputs: Shapes without batch, needed only where the file leaves sizes open.
    :raises ImportFault: If it is none, or cannot be imported.
    """
    remedy = 'write it by torch.export.save(torch.export.export(module.eval(), (example,)), path)'
    if not path.is_file():
        raise ImportFault(f'{path}: no such file; check the path')
    if not zipfile.is_zipfile(path):
        raise ImportFault(f'{path}: is not a file of torch.export, or it is damaged; {remedy}')
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    if any('/code/' in name and name.endswith('.py') for name in members):
        raise ImportFault(f'{path}: is a TorchScript file; {remedy}')
    if any(name.endswith('/data.pkl') for name in members) and \
            not any('models/' in name or 'serialized' in name for name in members):
        raise ImportFault(f'{path}: holds weights or a pickled module, not an exported program; '
                          f'{remedy}')
    try:
        exported = torch.export.load(path)
    except Exception as error:  # whatever a file may hold
        first = next(iter(str(error).splitlines()), '')
        raise ImportFault(f'{path}: is not a file of torch.export, or it is damaged '
                          f'({type(error).__name__}: {first}); {remedy}') from None
    specs = user_inputs(exported)
    names = [spec.arg.name for spec in specs]
    given = dict(inputs or {})
    if len(given) == 1 and len(names) == 1:
        given = {names[0]: next(iter(given.values()))}
    sizes = [fixed_size(name, size, given.get(name))
             for name, size in zip(names, traced_sizes(exported, names))]
    return read_exported(exported, names, sizes)


def user_inputs(exported: ExportedProgram) -> list[Any]:
    return [spec for spec in exported.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)]


def traced_sizes(exported: ExportedProgram, names: Sequence[str]) -> list[Sequence[Any]]:
    """Return the inputs' sizes; where the file leaves one open, it is no int."""
    nodes = {node.name: node for node in exported.graph.nodes}
    return [nodes[name].meta['val'].shape for name in names]


def fixed_size(name: str, traced: Sequence[Any], given: Shape | None) -> Shape:
    """Return an input's size with a batch of one, where the file leaves sizes open."""
    opened = [i for i, size in enumerate(traced) if not isinstance(size, int)]
    size = [1 if i in opened and i == 0 else length for i, length in enumerate(traced)]
    if given is not None:
        wanted = [*given] if len(given) == len(size) else [1, *given]
        if len(wanted) == len(size) and all(i in opened or a == b for i, (a, b) in
                                            enumerate(zip(wanted, size))):
            return tuple(wanted)
        raise ImportFault(f"'{name}': {'x'.join(map(str, given))} does not fit the file, which "
                          f'takes {list(map(str, size[1:]))} behind the batch; leave --input out, '
                          'or export the network for this size')
    rest = [i for i in opened if i]
    if rest:
        axis = {2: 'height', 3: 'width'}.get(rest[0], f'axis {rest[0]}') if len(size) == 4 \
            else f'axis {rest[0]}'
        form = 'x'.join({1: 'C', 2: 'H', 3: 'W'}.get(i, 'N') if i in opened else str(length)
                        for i, length in enumerate(size) if i)
        raise ImportFault(f"'{name}': its {axis} is dynamic; give --input {form}")
    return tuple(size)


def read_exported(exported: ExportedProgram, names: Sequence[str], sizes: Sequence[Shape]
                  ) -> ImportedProgram:
    """
    Read an exported program.

    :param names: Of its inputs.
    :param sizes: Of them, with a batch of one.
    """
    exported = lowered(exported)
    tracer = Tracer(exported.graph_module)
    signature = exported.graph_signature
    tensors = {**exported.state_dict, **exported.constants}
    overwritten = {spec.target: i for i, spec in enumerate(signature.output_specs)
                   if spec.kind is OutputKind.BUFFER_MUTATION}
    kinds = {node.name: node.meta.get('val') for node in exported.graph.nodes
             if node.op == 'placeholder'}
    left = iter(zip(names, sizes))
    values: list[Any] = []
    sources: dict[str, Value] = {}
    buffers: dict[str, int] = {}
    for spec in signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            name, size = next(left)
            like = torch.empty(size, dtype=kinds[spec.arg.name].dtype, device='meta')
            sources[name] = given_value(tracer, name, like)
            values.append(sources[name])
        elif spec.target in overwritten and spec.target is not None:
            name = spec.target.replace('.', '_')
            sources[name] = given_value(tracer, name, tensors[spec.target])
            buffers[name] = overwritten[spec.target]
            values.append(sources[name])
        elif spec.kind is InputKind.USER_INPUT:
            values.append(getattr(spec.arg, 'value', None))
        else:
            values.append(tensors.get(spec.target))
    with torch.no_grad():
        results = tracer.run(exported.graph_module, values)
    outputs = [result for result, spec in zip(results, signature.output_specs)
               if spec.kind is OutputKind.USER_OUTPUT]
    inputs = {name: value for name, value in sources.items() if name not in buffers}
    image, output, following = ends(inputs, outputs)
    following |= {name: results[i] for name, i in buffers.items()}
    return finished(tracer, sources, image, output, following,
                    {name: tensors[spec.target] for spec in signature.input_specs
                     for name in buffers if spec.target == name})


def lowered(exported: ExportedProgram) -> ExportedProgram:
    """Return a program without writing in place, whose operators are taken apart where needed."""
    exported = exported.run_decompositions({})
    for _ in range(8):
        exported.graph.eliminate_dead_code()
        strange = strangers(exported)
        if not strange:
            break
        known = torch.export.default_decompositions()
        table = {target: known[target] for target in strange if target in known}
        if not table:
            break
        exported = exported.run_decompositions(table)
    return exported


def strangers(exported: ExportedProgram) -> set[Any]:
    """Return the operators that depend on inputs and that the vocabulary has not."""
    sources = {spec.arg.name for spec in user_inputs(exported)}
    sources |= {spec.arg.name for spec in exported.graph_signature.input_specs
                if spec.kind is InputKind.BUFFER and spec.target in
                exported.graph_signature.buffers_to_mutate.values()}
    found, depends = set(), set()
    for node in exported.graph.nodes:
        if node.name in sources or any(parent in depends for parent in node.all_input_nodes):
            depends.add(node)
            if isinstance(node.target, torch._ops.OpOverload) and \
                    operator_name(node.target) not in HANDLED:
                found.add(node.target)
    return found


#: Operators that are left whole.
HANDLED = {*HANDLERS, *SHAPE_ONLY}
