"""What every operation of an imported program takes, on the back end that will run it."""

from collections.abc import Iterator
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
import warnings

from stream_agent.engine.backends import BACKENDS
from stream_agent.engine.compiled import OPSET
from stream_agent.engine.torch_globals import flushed_denormals, torch_threads
from stream_agent.importing.program import ImportedOperation, ImportedProgram
from stream_agent.importing.running import Whole
import torch
from torch import nn, Tensor

ROUNDS = 7
# An operation and what it reads.
Case = tuple[nn.Module, list[Tensor]]


class SideBySide(nn.Module):
    """Operations that do not read each other, all operands one after another."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self._modules_of = nn.ModuleList(module for module, _ in cases)
        self._counts = [len(operands) for _, operands in cases]

    def forward(self, *operands: Tensor) -> tuple[Tensor, ...]:
        rest = iter(operands)
        return tuple(module(*[next(rest) for _ in range(count)])
                     for module, count in zip(self._modules_of, self._counts))


@torch.inference_mode()
def measured_seconds(program: ImportedProgram, threads: int = 1) -> dict[str, float]:
    """
    Measure every operation by itself, the minimum of some rounds, in ONNX Runtime if there is.

    What repeats is measured once. Values are those of a random frame.

    :param threads: That the back end has.
    :returns: Seconds by operation; in torch where ONNX Runtime is not installed, or its exporter
        lacks an operation.
    """
    whole = Whole(program).eval()
    values = whole.values(*(torch.randn(1, *shape) for shape in program.inputs.values()))
    cases: dict[str, Case] = {}
    keys = {}
    for operation in program.operations:
        if operation.of:
            keys[operation.name] = key = key_of(operation, whole)
            cases.setdefault(key, (whole.operations[operation.name],
                                   [values[name] for name in operation.of]))
    seconds = measured_cases([*cases.values()], threads)
    by_key = dict(zip(cases, seconds))
    return {operation.name: by_key[keys[operation.name]] if operation.of else 0.0
            for operation in program.operations}


def key_of(operation: ImportedOperation, whole: Whole) -> str:
    """Return what two operations that take equally long have in common."""
    sizes = [whole.sizes[name][0] for name in operation.of]
    return f'{operation.kind} {sizes} {sorted(operation.options.items())}'


def measured_cases(cases: list[Case], threads: int) -> list[float]:
    """Return the seconds of operations, in their order."""
    if not BACKENDS['onnxruntime'].missing():
        try:
            return seconds_in_onnx_runtime(cases, threads)
        except Exception as error:  # runtimes and exporters fail in many ways
            reason = f'{error}'.partition(', ')[0].partition('\n')[0]
            warnings.warn(f'costs: ONNX Runtime cannot measure all operations ({reason}); they '
                          'are measured in torch', stacklevel=4)
    with torch_threads(threads), flushed_denormals():
        return [min(timed(*case) for _ in range(ROUNDS)) for case in cases]


def timed(module: nn.Module, operands: list[Tensor]) -> float:
    """Return the seconds of one call in torch."""
    start = perf_counter()
    module(*operands)
    return perf_counter() - start


def seconds_in_onnx_runtime(cases: list[Case], threads: int) -> list[float]:
    """Return the seconds of operations, which all are in one model, from its profile."""
    # Optional packages, imported where they are used.
    import onnx
    import onnxruntime
    file: Any = io.BytesIO()
    arguments = [operand for _, operands in cases for operand in operands]
    inputs = [f'input_{i}' for i in range(len(arguments))]
    outputs = [f'output_{i}' for i in range(len(cases))]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(SideBySide(cases), tuple(arguments), file, dynamo=False,
                          input_names=inputs, output_names=outputs, opset_version=OPSET)
    with TemporaryDirectory() as folder, flushed_denormals():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / 'profile')
        options.optimized_model_filepath = str(Path(folder) / 'optimised.onnx')
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        session = onnxruntime.InferenceSession(file.getvalue(), options,
                                               providers=['CPUExecutionProvider'])
        taken = {port.name for port in session.get_inputs()}
        frame = {name: value.numpy() for name, value in zip(inputs, arguments) if name in taken}
        for _ in range(ROUNDS + 1):
            session.run(outputs, frame)
        profile = Path(session.end_profiling()).read_text()
        model = onnx.load(options.optimized_model_filepath)
    shortest = dict(sorted(kernels(profile), reverse=True))
    return [sum(shortest.get(name, 0.0) for name in nodes_of(model.graph, output))
            for output in outputs]


def kernels(profile: str) -> Iterator[tuple[str, float]]:
    """Return the nodes of a profile with their seconds, in every round."""
    for event in json.loads(profile):
        name = event['name'].removesuffix('_kernel_time')
        if event.get('cat') == 'Node' and name != event['name'] and not (
                # Between layers of a whole network, values stay in the order of the runtime.
                event['args']['op_name'].startswith('Reorder')):
            yield name, 1e-6 * event['dur']


def nodes_of(graph: Any, output: str) -> list[str]:
    """Return the names of the nodes that an output of an ONNX graph depends on."""
    producers = {name: node for node in graph.node for name in node.output}
    found: dict[str, None] = {}
    waiting = [output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            waiting += node.input
    return [*found]
