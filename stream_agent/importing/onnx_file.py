"""Reads a network from an ONNX file, by ONNX Runtime's help."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

from stream_agent.engine.backends import lacks
from stream_agent.importing.program import ImportedProgram, ImportFault
from stream_agent.network.transforms import Shape
from torch import Tensor

if TYPE_CHECKING:
    import onnx
    from stream_agent.importing.onnx_model import Reading

AGAIN = 'export the network again'


def read_onnx(path: Path, inputs: Mapping[str, Shape] | None = None) -> ImportedProgram:
    """
    Read an ONNX file as a program of our vocabulary.

    :param inputs: Sizes by input, without batch, for those that the file leaves open; a single
        name that the file does not have is taken for its image.
    :raises ImportFault: If it is no such file, or holds what the vocabulary does not.
    """
    return read(path, inputs or {})[1].program


def original_of(path: Path, inputs: Mapping[str, Shape] | None = None
                ) -> Callable[[Tensor], Tensor]:
    """Return the file's network in ONNX Runtime, (1, *shape) to (1, *output), frame by frame."""
    from stream_agent.importing.onnx_model import Original
    return Original(*read(path, inputs or {}))


def read(path: Path, inputs: Mapping[str, Shape]) -> 'tuple[onnx.ModelProto, Reading]':
    """Return the model, and what was read of it."""
    path = Path(path)
    if missing := lacks('onnx', 'onnxruntime')():
        raise ImportFault(f"'{path}': reading ONNX needs what this machine lacks: {missing}")
    from stream_agent.importing.onnx_model import read_model
    try:
        model = load(path)
        return model, read_model(model, inputs)
    except ImportFault as fault:
        raise ImportFault(f"'{path}': {fault}") from fault.__cause__
    except Exception as error:  # a damaged file may say anything
        raise ImportFault(f"'{path}': is damaged ({type(error).__name__}: {first_line(error)}); "
                          f'{AGAIN}') from error


def load(path: Path) -> 'onnx.ModelProto':
    """Return what a file holds, with its external data."""
    import onnx
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImportFault(f'cannot be read ({error.strerror}); check the path') from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf, which has several packages
        raise ImportFault(f'is not an ONNX file, or is not complete; {AGAIN}') from error
    if not model.ir_version or not model.graph.node:
        raise ImportFault(f'holds no network; {AGAIN}, or name another file')
    for tensor in tensors(model.graph):
        if onnx.external_data_helper.uses_external_data(tensor):
            check_location(path, tensor)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ImportFault(f'its external data cannot be read ({first_line(error)}); {AGAIN}, '
                          'and keep both files together') from error
    return model


def first_line(error: BaseException) -> str:
    """Return what an error says, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def graphs(graph: Any) -> Iterator[Any]:
    """Return a graph, and those in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField('g') else [])]:
                yield from graphs(inner)


def nodes_of(model: 'onnx.ModelProto') -> Iterator['onnx.NodeProto']:
    """Return all nodes, also of functions and of graphs within."""
    for graph in (model.graph, *model.functions):
        for inner in graphs(graph):
            yield from inner.node


def tensors(graph: Any) -> Iterator['onnx.TensorProto']:
    """Return all tensors of a graph and of those in it."""
    for inner in graphs(graph):
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField('t'):
                    yield attribute.t


def check_location(path: Path, tensor: 'onnx.TensorProto') -> None:
    """Refuse external data that is missing, or not beside the file."""
    location = next((pair.value for pair in tensor.external_data if pair.key == 'location'), '')
    folder = path.parent.resolve()
    file = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise ImportFault(f"names external data outside of its folder, '{location}'; {AGAIN}, "
                          'with its data beside it')
    if not file.is_file():
        raise ImportFault(f"its weights are in '{location}', which is missing beside it; put "
                          'both files into one folder')
