"""Holds an export against the policy, in ONNX Runtime."""

from collections.abc import Iterable, Iterator
from itertools import cycle, tee
import json
from pathlib import Path

import numpy as np
from stream_agent.commands.export_folder import INITIAL, MANIFEST
from stream_agent.commands.export_models import ExportError
from stream_agent.engine.executors import lacks
from stream_agent.network.preprocessing import scale
from stream_agent.network.rollout_network import RolloutNetwork
import torch

TOLERANCE = 1e-4
CHECKED_STEPS = 10
ERRORS_ONLY = 3


def outputs_of(folder: Path, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Run what was written in ONNX Runtime, a step an image, by its manifest alone."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    manifest = json.loads((folder / MANIFEST).read_text())
    values: dict[str, np.ndarray] = dict(np.load(folder / INITIAL))
    steps, schedule = manifest['steps'], cycle(manifest['schedule'])
    sessions = {step[half]: onnxruntime.InferenceSession(
        str(folder / step[half]), options, providers=['CPUExecutionProvider'])
        for step in steps for half in ('respond', 'settle') if step[half]}
    for image in images:
        step = steps[next(schedule)]
        values[manifest['input']['name']] = image
        for session in (sessions[step[half]] for half in ('respond', 'settle') if step[half]):
            names = [port.name for port in session.get_outputs()]
            values.update(zip(names, session.run(names, {
                port.name: values[port.name] for port in session.get_inputs()})))
        yield values[manifest['output']['name']]
        values = {name: values[source] for name, source in step['carry'].items()}


@torch.inference_mode()
def largest_difference(folder: Path, network: RolloutNetwork, batch_size: int) -> float:
    """Compare the outputs of what was written with the network's own, on random pixels."""
    state, generator = network.initial_state(batch_size), np.random.default_rng(0)
    shape = state.values[network.input].shape
    mine, theirs = tee(scale(generator.integers(0, 256, shape, np.uint8))
                       for _ in range(CHECKED_STEPS + network.graph.hyperperiod))
    differences = []
    for image, written in zip(mine, outputs_of(folder, theirs)):
        output, state = network.step(torch.from_numpy(image), state)
        differences.append(np.abs(written - output.numpy()).max())
    return float(np.max(differences))


def check(folder: Path, network: RolloutNetwork, batch_size: int) -> str:
    """
    Hold what was written against the network, where ONNX Runtime is.

    :returns: What came of it.
    :raises ExportError: If it does not run, or they differ.
    """
    missing = lacks('onnxruntime')()
    if missing:
        return f'not checked: this machine lacks {missing}'
    try:
        difference = largest_difference(folder, network, batch_size)
    except Exception as error:  # the runtime's have no class in common
        raise ExportError(f"'{folder}' does not run in ONNX Runtime ({type(error).__name__}: "
                          f'{error}); do not drive with it') from error
    # Not a number is no small difference.
    if not difference <= TOLERANCE:
        raise ExportError(f"'{folder}' holds another function than the policy: in ONNX Runtime "
                          f'its outputs differ by up to {difference:.1e}, more than {TOLERANCE}; '
                          'do not drive with it. Transforms of your own may only compute with '
                          'tensors, without branches that depend on their values')
    return (f'checked in ONNX Runtime: outputs differ by at most {difference:.1e} from those of '
            'the policy')
