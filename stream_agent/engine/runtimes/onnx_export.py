"""The halves of a step as ONNX models."""

import io
import warnings

from stream_agent.engine.runtimes.half_steps import HalfStep
import torch
from torch import Tensor

OPSET = 18


@torch.inference_mode()
def to_onnx(half: HalfStep, arguments: list[Tensor]) -> bytes:
    """
    Return an ONNX model of a half, with the names of its tensors.

    :param arguments: Values of the right shapes and types; they do not matter otherwise.
    """
    file = io.BytesIO()
    options = {'input_names': half.inputs, 'output_names': half.outputs, 'opset_version': OPSET}
    with warnings.catch_warnings():
        # The older exporter is ten times as fast, and is asked for on purpose.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(half, tuple(arguments), file, dynamo=False, **options)
        except (torch.onnx.errors.OnnxExporterError, TypeError):
            program = torch.onnx.export(half, tuple(arguments), dynamo=True, verbose=False,
                                        **options)
            return program.model_proto.SerializeToString()
    return file.getvalue()
