"""What an export of a policy consists of: models, initial values, and a manifest."""

from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from stream_agent.engine.runtimes.half_steps import (
    carry, frame_halves, FrameHalves, HalfStep, initial_values, key_of)
from stream_agent.engine.runtimes.onnx_export import OPSET, to_onnx
from stream_agent.installation import share_folder
from stream_agent.network.checkpoint import Policy
from stream_agent.network.preprocessing import MOST_VALUES_BY_AREA, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.information import frames_unanswered
from stream_agent.theory.patterns import streaming_edges
import torch

FORMAT = 'stream_agent export 1'


class ExportError(ValueError):
    """A policy that cannot be exported; the message says why and what to do."""


class Export(NamedTuple):
    """
    What is written.

    :param models: ONNX by file.
    :param initial: What the first step after a reset finds, by name.
    """

    manifest: dict[str, Any]
    models: dict[str, bytes]
    initial: dict[str, np.ndarray]


def make_export(name: str, policy: Policy, batch_size: int) -> Export:
    """Make all that is written of a policy."""
    network = policy.network
    halves = frame_halves(network)
    # Frame 1 is the first after a reset.
    halves = halves[1:] + halves[:1]
    carried = carried_names(network, halves)
    initial = initial_values(network, batch_size)
    models, files = files_of(make_models(halves, {
        **network.initial_state(batch_size).values,
        **{key_of(name): value for name, value in initial.items()}}))
    steps = [{'respond': files.get(frame.respond), 'settle': files.get(frame.settle),
              'carry': names} for frame, names in zip(halves, carried)]
    distinct = [step for i, step in enumerate(steps) if step not in steps[:i]]
    return Export(
        {**description(name, policy, batch_size), 'steps': distinct,
         'schedule': [distinct.index(step) for step in steps]},
        models, {name: initial[name].numpy() for name in sorted(carried[-1])})


def carried_names(network: RolloutNetwork, halves: list[FrameHalves]) -> list[dict[str, str]]:
    """
    Return what every frame hands on: names in the next frame, with those that they have in it.

    Only what a later frame reads is handed on. The value of a node that the next frame holds
    is the same there.
    """
    before = {after: name for name, after in carry(network).items()}
    needs: list[set[str]] = [set() for _ in halves]
    found: list[dict[str, str]] = [{} for _ in halves]
    grown = True
    while grown:
        known = [set(names) for names in needs]
        for i in reversed(range(len(halves))):
            respond, settle, held = halves[i]
            found[i] = {name: name if name in held else before[name]
                        for name in sorted(needs[(i + 1) % len(halves)])}
            later = {*settle.inputs, network.graph.output,
                     *(set(found[i].values()) - set(settle.outputs))}
            needs[i] = {*respond.inputs, *(later - set(respond.outputs))} - {network.input}
        grown = needs != known
    return found


@torch.inference_mode()
def make_models(halves: list[FrameHalves], examples: dict[str, torch.Tensor]
                ) -> dict[str, dict[HalfStep, bytes]]:
    """
    Make the ONNX models of all halves that have something to do, by kind.

    :param examples: What the first frame finds, by key; what the others find is added.
    """
    models: dict[str, dict[HalfStep, bytes]] = {'respond': {}, 'settle': {}}
    for frame in dict.fromkeys(halves):
        for kind, made in models.items():
            half = getattr(frame, kind)
            arguments = [examples[key_of(name)] for name in half.inputs]
            examples.update(zip(map(key_of, half.outputs), half(*arguments)))
            if half.outputs:
                made[half] = model_of(half, kind, arguments)
    return models


def files_of(models: dict[str, dict[HalfStep, bytes]]
             ) -> tuple[dict[str, bytes], dict[HalfStep, str]]:
    """Return the models by file, each once, and the file of every half."""
    files, names_of_halves = {}, {}
    for kind, made in models.items():
        distinct = list(dict.fromkeys(made.values()))
        names = [f'{kind}.onnx' if len(distinct) == 1 else f'{kind}_{i}.onnx'
                 for i in range(1, len(distinct) + 1)]
        files.update(zip(names, distinct))
        names_of_halves.update(
            {half: names[distinct.index(model)] for half, model in made.items()})
    return files, names_of_halves


def model_of(half: HalfStep, kind: str, arguments: list[torch.Tensor]) -> bytes:
    """
    Return the ONNX model of a half.

    :raises ExportError: If a transform has none.
    """
    try:
        return to_onnx(half, arguments)
    except Exception as error:  # code from outside may fail in any way
        first = error
        while first.__context__:
            first = first.__context__
        remedy = 'write the transform of your own with other operators'
        if isinstance(error, ImportError):
            remedy = 'onnxscript might help: pip install onnxscript'
        reason, *_ = [*str(first).splitlines(), type(first).__name__]
        raise ExportError(f'{kind} cannot be written as ONNX: {reason}; {remedy}') from error


def description(name: str, policy: Policy, batch_size: int) -> dict[str, Any]:
    """Return what the manifest says of a policy, but for its steps."""
    network, how = policy.network, policy.preprocessing
    low, high = scale(np.array([0, 255], np.uint8)).tolist()
    version = ElementTree.parse(share_folder() / 'package.xml').findtext('version')
    return {
        'format': FORMAT,
        'versions': {'stream_agent': version, 'torch': torch.__version__},
        'policy': {'name': name, 'pattern': policy.pattern_name,
                   'streams': streaming_edges(network.pattern)},
        'precision': 'float32',
        'opset': OPSET,
        'input': {
            'name': network.input, 'shape': [batch_size, *how.shape],
            'preprocessing': {
                'crop_top': how.crop_top, 'crop_bottom': how.crop_bottom,
                'colours': 'grey' if how.shape[0] == 1 else 'RGB',
                'most_values_by_area': MOST_VALUES_BY_AREA,
                'scale': (high - low) / 255, 'offset': low}},
        'output': {
            'name': network.graph.output, 'shape': [batch_size, 2],
            'max_speed': policy.limits.max_speed, 'max_yaw_rate': policy.limits.max_yaw_rate},
        'updates_per_frame': policy.updates_per_frame,
        'updates_unanswered': frames_unanswered(network.graph, network.pattern)}
