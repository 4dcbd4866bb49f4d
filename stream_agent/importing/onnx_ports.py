"""The inputs of an ONNX model: their sizes, their batch, and which one is the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto
from stream_agent.importing.onnx_file import AGAIN, nodes_of
from stream_agent.importing.onnx_reader import identifier
from stream_agent.importing.program import ImportFault
from stream_agent.network.transforms import Shape
from stream_agent.theory.checks import nearest


@dataclass(frozen=True)
class Port:
    """
    An input.

    :param own_name: That the program gives it.
    :param sizes: With the batch; None where the file leaves them open.
    :param axis: Of the batch.
    :param only: Whether it is known to be the image.
    """

    name: str
    own_name: str
    sizes: tuple[int | None, ...]
    axis: int
    kind: int
    only: bool = False

    def shape(self) -> Shape:
        """Return the shape without batch."""
        return tuple(size or 0 for axis, size in enumerate(self.sizes) if axis != self.axis)


def find_ports(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> list[Port]:
    """Return the inputs, the one that is an image first."""
    weights = {each.name for each in model.graph.initializer}
    used = {name for node in nodes_of(model) for name in node.input} | {
        port.name for port in model.graph.output}
    raw = [each for each in model.graph.input if each.name not in weights and each.name in used]
    if not raw:
        raise ImportFault(f'takes no input; {AGAIN}, with an example image')
    dims = {each.name: [dim.dim_value or None if dim.dim_value >= 0 else None
                        for dim in each.type.tensor_type.shape.dim] for each in raw}
    named = [each.name for each in raw if each.name in inputs]
    image = named[0] if len(named) == 1 else max(
        raw, key=lambda each: len(dims[each.name]) >= 4).name
    unknown = [name for name in inputs if name not in dims]
    if unknown and unknown != ['input']:
        raise ImportFault(f"it has no input '{unknown[0]}'; "
                          + nearest(unknown[0], dims, 'its inputs'))
    own_names = {name: identifier(name) for name in dims}
    if unknown:
        # As sizes without a name are called.
        own_names[image] = 'input'
    given = {image if name in unknown else name: shape for name, shape in inputs.items()}
    if len({*own_names.values()}) < len(own_names):
        raise ImportFault(f"its inputs {', '.join(dims)} have one name, but for signs; {AGAIN}, "
                          'with other names')
    first = next(each for each in raw if each.name == image)
    batch = [dim.dim_param for dim in first.type.tensor_type.shape.dim][:1]
    ports = [make_port(each, own_names[each.name], dims[each.name], given.get(each.name),
                       None if each.name == image else batch, dims[image][:1] or [None])
             for each in raw]
    if len(given) == 1:
        ports = [replace(port, only=port.name == image) for port in ports]
    for port in ports:
        check_port(port)
    return sorted(ports, key=lambda port: port.name != image)


def make_port(raw: onnx.ValueInfoProto, own_name: str, sizes: list[int | None],
              given: Shape | None, names: Sequence[str] | None, batch: Sequence[int | None]
              ) -> Port:
    """
    Return an input with what is known of its sizes.

    :param names: The name that the file gives the size of the image's batch, if any; None for the
        image itself, which has it in front.
    :param batch: The size of the image's batch, if it is fixed.
    """
    own = [dim.dim_param for dim in raw.type.tensor_type.shape.dim]
    if not sizes and given is not None:
        sizes = [None, *given]
    axis = 0
    if names and names[0] in own and names[0]:
        axis = own.index(names[0])
    elif names is not None and len(sizes) == 3 and sizes[1] == batch[0]:
        # As (layers, batch, features) of a recurrent layer.
        axis = 1
    if given is not None:
        fixed = [size for place, size in enumerate(sizes) if place != axis]
        if len(fixed) != len(given) or any(
                size not in (None, wanted) for size, wanted in zip(fixed, given)):
            raise ImportFault(
                f"input '{raw.name}' is {shown(fixed)} in the file, not {shown(given)}; leave the "
                'sizes out, or export the network for others')
        sizes = [*given[:axis], sizes[axis], *given[axis:]]
    return Port(raw.name, own_name, tuple(sizes), axis, raw.type.tensor_type.elem_type)


def shown(sizes: Sequence[int | None]) -> str:
    """Return sizes as users write them."""
    return 'x'.join('?' if size is None else str(size) for size in sizes)


def check_port(port: Port) -> None:
    """Refuse an input whose sizes are open, or that is not made of numbers."""
    sizes = [size for axis, size in enumerate(port.sizes) if axis != port.axis]
    if len(port.sizes) < 2:
        raise ImportFault(f"input '{port.name}' has {len(port.sizes)} axes; {AGAIN}, with a "
                          'batch in front of its values')
    if None in sizes:
        raise ImportFault(f"input '{port.name}' has open sizes, {shown(sizes)}; give them, such "
                          'as --input 3x224x224')
    if port.kind not in (TensorProto.FLOAT, TensorProto.UINT8):
        kind = TensorProto.DataType.Name(port.kind).lower()
        raise ImportFault(f"input '{port.name}' is {kind}; it needs to be an image or a state, "
                          f'float or uint8; {AGAIN}')
