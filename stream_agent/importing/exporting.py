"""Exports a module as torch's operators: finds examples for its inputs, and says what fails."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import inspect
import itertools
import logging
import math
import re
import warnings

from stream_agent.importing.program import ImportFault
from stream_agent.network.transforms import Shape
from stream_agent.theory.checks import nearest
import torch
from torch import nn, Tensor
from torch.export import ExportedProgram

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
ATTRIBUTE = ('forward keeps a tensor for the next frame as a plain attribute, self.{}; make it a '
             'buffer (register_buffer), or an input and an output')

#: Makes forward's arguments of its inputs.
Pack = Callable[[list[Tensor]], tuple]


def exported_module(module: nn.Module, inputs: Mapping[str, Shape], names: Sequence[str],
                    pack: Pack) -> tuple[ExportedProgram, dict[str, Tensor], set[str]]:
    """
    Export a module.

    :param names: Of its inputs, in forward's order.
    :returns: It, with its examples by name, and the attributes that forward assigns.
    :raises ImportFault: If torch cannot.
    """
    kind = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()),
                torch.float32)
    first: Exception | None = None
    for sizes in layouts([tuple(inputs[name]) for name in names]):
        examples = {name: torch.zeros(size, dtype=kind) for name, size in zip(names, sizes)}
        try:
            exported, assigned = export(module, pack(list(examples.values())))
        except Exception as error:  # torch and the module refuse in many ways
            first = first or error
            if 'data-dependent' in str(error) or isinstance(error, NotImplementedError):
                break
        else:
            kept = assigned.intersection(exported.graph_signature.lifted_tensor_constants)
            if kept:
                raise ImportFault(f'{type(module).__name__}: {ATTRIBUTE.format(min(kept))}')
            return exported, examples, assigned
    assert first is not None
    raise export_fault(module, inputs, first) from None


def export(module: nn.Module, arguments: tuple) -> tuple[ExportedProgram, set[str]]:
    """Return a module as torch's operators, and the attributes of tensors that forward assigns."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # torch prints graphs of what it cannot export
    try:
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter('always')
            exported = torch.export.export(module, arguments, strict=False)
    finally:
        logging.disable(before)
    said = ' '.join(str(warning.message) for warning in caught)
    assigned = re.search(r'attributes? (.*?) w\w+ assigned during export', said)
    names = re.findall(r'self\.([\w.]+)', assigned[1]) if assigned else ()
    # Torch's recurrent modules list their weights anew.
    return exported, {name for name in names if not name.endswith('_flat_weights')}


def bound(module: nn.Module, inputs: Mapping[str, Shape]) -> tuple[list[str], Pack]:
    """
    Return the inputs' names in forward's order, and what makes forward's arguments of them.

    Several names that forward does not have are the parts of the one tuple that it takes.
    """
    kind = type(module).__name__
    parameters = [each for each in inspect.signature(module.forward).parameters.values()
                  if each.kind is not each.VAR_KEYWORD]
    free = [name for name in inputs if name not in {each.name for each in parameters}]
    needed = [each for each in parameters if each.name not in inputs
              and each.default is each.empty]
    several = len(free) > 1 and len(needed) == 1
    anything = several or any(each.kind is each.VAR_POSITIONAL for each in parameters)
    for name in () if anything else free:
        if name != 'input' or len(parameters) < len(inputs):
            raise ImportFault(f"{kind}: forward has no parameter '{name}'; "
                              + nearest(name, [each.name for each in parameters], 'parameters'))
    order: list[list[str]] = []  # of each argument; several make a tuple
    for i, each in enumerate(parameters):
        later = any(other.name in inputs for other in parameters[i + 1:])
        if each.name in inputs and each.kind is each.KEYWORD_ONLY:
            raise ImportFault(f"{kind}: forward takes '{each.name}' by keyword only; wrap it in a "
                              'module that takes it by position')
        if each.name in inputs:
            order.append([each.name])
        elif each.kind is each.VAR_POSITIONAL:
            order += [[free.pop(0)] for _ in [*free]]
        elif several and each in needed:
            order.append([free.pop(0) for _ in [*free]])
        elif 'input' in free and (each in needed or not needed):
            order.append(['input'])
            free.remove('input')
        elif each in needed or later:
            raise ImportFault(f"{kind}: forward takes '{each.name}', of which no shape is given; "
                              f'give --input {each.name}=..., without the batch')

    def pack(values: list[Tensor]) -> tuple:
        left = iter(values)
        groups = [tuple(next(left) for _ in names) for names in order]
        return tuple(group if len(group) > 1 else group[0] for group in groups)
    return [name for names in order for name in names], pack


def layouts(shapes: Sequence[Shape]) -> Iterator[list[Shape]]:
    """
    Yield sizes of example inputs to try, likely ones first.

    The largest one is the image; states of as many axes are alike.
    """
    front, behind, sequence, bare = LAYOUTS
    image = max(range(len(shapes)), key=lambda i: math.prod(shapes[i]))
    kinds = sorted({len(shape) for i, shape in enumerate(shapes) if i != image})
    seen = []
    for first in (front, sequence):
        for chosen in itertools.product((front, behind, bare), repeat=len(kinds)):
            makers = dict(zip(kinds, chosen))
            sizes = [first(shape) if i == image else makers[len(shape)](shape)
                     for i, shape in enumerate(shapes)]
            if sizes not in seen:
                seen.append(sizes)
                yield sizes


def export_fault(module: nn.Module, inputs: Mapping[str, Shape], error: Exception) -> ImportFault:
    """Return what to say when ``torch.export`` fails."""
    text = str(error)
    if type(error).__name__ == 'GuardOnDataDependentSymNode' or 'data-dependent' in text:
        return ImportFault(f'{type(module).__name__}: {CONTROL_FLOW}')
    assigned = re.search(r'self\.(\w+).* assigned during export', text)
    if assigned:  # only a warning in newer versions
        return ImportFault(f'{type(module).__name__}: {ATTRIBUTE.format(assigned[1])}')
    sizes = ', '.join(f"{name} {'x'.join(map(str, shape))}" for name, shape in inputs.items())
    lines = [line for line in text.splitlines() if line.strip()]
    return ImportFault(f'{type(module).__name__}: forward failed for {sizes}: '
                       f'{lines[0] if lines else type(error).__name__}; give the sizes that the '
                       'network takes (--input), without the batch')
