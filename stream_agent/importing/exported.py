"""
Reads networks of torch: modules, and files of ``torch.export``.

Both become operators of torch first (``torch.export``, without taking apart what the vocabulary
has), then operations of the vocabulary, whose weights are copies: nothing of the example inputs,
of source files or of code goes along.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
import zipfile

from stream_agent.importing import aten_cells, aten_shapes  # noqa: F401 (they register)
from stream_agent.importing.ends import (finished, given_value, outer_size, paired,
                                         result_value)
from stream_agent.importing.exporting import bound, exported_module, Pack
from stream_agent.importing.program import ImportedProgram, ImportFault
from stream_agent.importing.states import Pairing
from stream_agent.importing.tracing import HANDLERS, operator_name, SHAPE_ONLY, Tracer, Value
from stream_agent.network.program import by_input, Frames
from stream_agent.network.transforms import Shape
from stream_agent.theory.checks import nearest
import torch
from torch import nn, Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as trees

#: What makes a file that can be read.
EXPORT = 'write it by torch.export.save(torch.export.export(module.eval(), (example,)), path)'


class Original:
    """
    The network that was read, frame by frame: (1, *shape) of each input to (1, *output), float32.

    States start from zeros and are handed on.
    """

    def __init__(self, call: Callable[..., Any], pack: Pack, examples: Mapping[str, Tensor],
                 pairing: Pairing) -> None:
        self._call, self._pack, self._pairing = call, pack, pairing
        self._values = {name: value.clone() for name, value in examples.items()}
        #: Inputs of whole numbers.
        self.whole = {name for name in pairing.inputs
                      if not self._values[name].is_floating_point()}
        #: Relative error of an operation of it, which may compute in float16.
        self.rounding = max(torch.finfo(value.dtype).eps for value in (
            *examples.values(), torch.empty(0)) if value.is_floating_point())

    @torch.no_grad()
    def __call__(self, frame: Frames) -> Tensor:
        for name, value in by_input(self._pairing.inputs, frame).items():
            own = self._values[name]
            self._values[name] = (value.round() if name in self.whole else value).reshape(
                own.shape).to(own.dtype)
        outputs = trees.tree_leaves(self._call(*self._pack(list(self._values.values()))))
        for name, number in self._pairing.states.items():
            self._values[name] = outputs[int(number) - 1].clone()
        output = outputs[int(self._pairing.output) - 1].float()
        return output.reshape(1, *output.shape[1:] if output.shape[:1] == (1,) else output.shape)


class Reading(NamedTuple):
    """A network that has been read, and what runs the original."""

    program: ImportedProgram
    original: Original


def read_module(module: nn.Module, inputs: Mapping[str, Shape]) -> ImportedProgram:
    """
    Read a module as it is: in evaluation mode, if it knows others.

    :param inputs: Shapes without batch, by the names of forward's parameters; 'input' stands for
        the first one that is not named.
    :raises ImportFault: If it cannot be imported.
    """
    return reading_of(module, inputs).program


def read_pt2(path: Path, inputs: Mapping[str, Shape] | None = None) -> ImportedProgram:
    """
    Read a file of ``torch.export.save``; torch may unpickle in doing so.

    :param inputs: Shapes without batch, needed only where the file leaves sizes open.
    :raises ImportFault: If it is none, or cannot be imported.
    """
    return reading_of_pt2(path, inputs).program


def reading_of(module: nn.Module, inputs: Mapping[str, Shape]) -> Reading:
    """Read a module once for both, the program and the original."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ImportFault(f'{type(module).__name__}: a ScriptModule cannot be exported; give the '
                          'module that it was scripted from')
    names, pack = bound(module, inputs)
    exported, examples, assigned = exported_module(module, inputs, names, pack)
    program, pairing, changed = read_exported(exported, examples)
    program = replace(program, notices=(*program.notices, *(
        f'forward assigns self.{name}; what it keeps there for the next frame is not imported'
        for name in sorted(assigned))))
    own = {name: value.clone() for name, value in module.named_buffers() if name in changed}
    return Reading(program, Original(
        lambda *values: torch.func.functional_call(module, own, values), pack, examples, pairing))


def reading_of_pt2(path: Path, inputs: Mapping[str, Shape] | None = None) -> Reading:
    """Read a file once for both, the program and the original."""
    exported = loaded(path)
    own = [spec.arg.name for spec in user_inputs(exported)]
    given = dict(inputs or {})
    names = own
    if 'input' in given and 'input' not in own:
        first = next((name for name in own if name not in given), '')
        names = ['input' if name == first else name for name in own]
    for name in given:
        if name not in names:
            raise ImportFault(f"{path}: has no input '{name}'; " + nearest(name, own, 'inputs'))
    values = {node.name: node.meta['val'] for node in exported.graph.nodes if node.name in own}
    batches = {str(value.shape[0]) for value in values.values()
               if len(value.shape) and not isinstance(value.shape[0], int)}
    examples = {name: torch.zeros(fixed_size(name, values[each].shape, given.get(name), batches),
                                  dtype=values[each].dtype) for name, each in zip(names, own)}
    program, pairing, _ = read_exported(exported, examples)
    module = exported.module()

    def pack(given: list[Tensor]) -> tuple:
        left = iter(given)
        leaves = [next(left) if isinstance(spec.arg, TensorArgument) else spec.arg.value
                  for spec in exported.graph_signature.input_specs
                  if spec.kind is InputKind.USER_INPUT]
        return trees.tree_unflatten(leaves, exported.call_spec.in_spec)
    return Reading(program, Original(lambda args, kwargs: module(*args, **kwargs), pack, examples,
                                     pairing))


def loaded(path: Path) -> ExportedProgram:
    """
    Return what a file of ``torch.export.save`` holds.

    :raises ImportFault: If it is none.
    """
    if not path.is_file():
        raise ImportFault(f'{path}: no such file; check the path')
    if not zipfile.is_zipfile(path):
        raise ImportFault(f'{path}: is not a file of torch.export, or it is damaged; {EXPORT}')
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    if any('/code/' in name and name.endswith('.py') for name in members):
        raise ImportFault(f'{path}: is a TorchScript file; {EXPORT}')
    if any(name.endswith('/data.pkl') for name in members) and \
            not any('models/' in name or 'serialized' in name for name in members):
        raise ImportFault(f'{path}: holds weights or a pickled module, not an exported program; '
                          f'{EXPORT}')
    try:
        return torch.export.load(path)
    except Exception as error:  # whatever a file may hold
        said = next(iter(str(error).splitlines()), '')
        said = '' if 'warnings above' in said else f' ({said})'
        raise ImportFault(f'{path}: is not a file of torch.export, or it is damaged{said}; '
                          f'{EXPORT}') from None


def user_inputs(exported: ExportedProgram) -> list[Any]:
    return [spec for spec in exported.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)]


def fixed_size(name: str, traced: Sequence[Any], given: Shape | None, batches: set[str]) -> Shape:
    """
    Return an input's size with a batch of one, where the file leaves sizes open.

    :param batches: Symbols of batch sizes.
    """
    size = [1 if str(length) in batches else length for length in traced]
    opened = [i for i, length in enumerate(size) if not isinstance(length, int)]
    if given is not None:
        batch = next((i for i, length in enumerate(size) if length == 1), None)
        for wanted in (given, given[:batch or 0] + (1,) + given[batch or 0:]):
            if len(wanted) == len(size) and all(
                    i in opened or own == length
                    for i, (own, length) in enumerate(zip(wanted, size))):
                return wanted
        raise ImportFault(
            f"'{name}': {'x'.join(map(str, given))} does not fit the file, which takes "
            f"{'x'.join('N' if i in opened else str(own) for i, own in enumerate(size))} with its "
            "batch; leave --input out where the file's sizes are fixed, or export the network for "
            'this size')
    if opened:
        axes = {1: 'channels', 2: 'height', 3: 'width'} if len(size) == 4 else {}
        form = 'x'.join('CHW'[i - 1] if i in opened and axes else 'N' if i in opened
                        else str(length) for i, length in enumerate(size) if i)
        raise ImportFault(f"'{name}': its {axes.get(opened[0], f'axis {opened[0]}')} is dynamic; "
                          f'give --input {form}')
    return tuple(size)


def one_frame(name: str, size: Shape) -> None:
    """
    Check that an input has a batch of one, and is no sequence.

    :raises ImportFault: Otherwise.
    """
    shape = [length for length in outer_size(size)]
    if len(shape) > 1 and 1 not in shape or len(shape) > 4:
        count = shape[1] if len(shape) > 4 and shape[0] == 1 else shape[0]
        raise ImportFault(f"'{name}' {list(size)} takes {count} frames at once; export it for one "
                          'frame (a batch of 1), with its state as input and output')


def read_exported(exported: ExportedProgram, examples: Mapping[str, Tensor]
                  ) -> tuple[ImportedProgram, Pairing, set[str]]:
    """
    Read an exported program.

    :param examples: Its inputs by name, with a batch of one.
    :returns: The program, which outputs are what, and the buffers that forward overwrites.
    """
    exported = lowered(exported)
    tracer = Tracer(exported.graph_module)
    signature = exported.graph_signature
    tensors = {**exported.state_dict, **exported.constants}
    kinds = {str(weight.dtype).partition('.')[2] for weight in exported.state_dict.values()
             if weight.is_floating_point() and weight.dtype != torch.float32}
    tracer.notices += [f'{kind} weights: converted to float32' for kind in sorted(kinds)]
    changed = {spec.target: number for number, spec in enumerate(signature.output_specs)
               if spec.kind is OutputKind.BUFFER_MUTATION and spec.target is not None}
    buffers = {target: target.replace('.', '_') for target in changed}
    left = iter(examples.items())
    values: list[Any] = []
    sources: dict[str, Value] = {}
    for spec in signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            name, like = next(left)
            one_frame(name, tuple(like.shape))
            sources[name] = given_value(tracer, name, like)
            values.append(sources[name])
        elif spec.target in buffers:
            name = buffers[spec.target]
            sources[name] = given_value(tracer, name, tensors[spec.target])
            values.append(sources[name])
        else:
            values.append(getattr(spec.arg, 'value', None) if spec.target is None
                          else tensors.get(spec.target))
    with torch.no_grad():
        results = [result_value(tracer, value, sources) if isinstance(value, Value) else value
                   for value in tracer.run(exported.graph_module, values)]
    outputs = [value if isinstance(value, Value) else None
               for value, spec in zip(results, signature.output_specs)
               if spec.kind is OutputKind.USER_OUTPUT]
    pairing = paired(tracer, {name: sources[name] for name in examples}, outputs)
    following = {name: outputs[int(number) - 1] for name, number in pairing.states.items()}
    following |= {buffers[target]: results[number] for target, number in changed.items()}
    output = outputs[int(pairing.output) - 1]
    assert output is not None
    return finished(tracer, pairing.inputs, output, following, {
        name: tensors[target] for target, name in buffers.items()}), pairing, set(buffers)


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
