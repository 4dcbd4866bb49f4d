"""Command line: write a policy as ONNX models of its two halves, to run it without torch."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import cycle, tee
import json
from pathlib import Path
import re
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import numpy as np
from stream_agent.bounded_settings import choice, quantity
from stream_agent.cli.arguments import add_allowed, add_settings, command
from stream_agent.cli.command_parser import CommandParser
from stream_agent.contract.conversions import Conversion
from stream_agent.engine.backends import lacks
from stream_agent.engine.compiled import (
    carry, frame_modules, FrameModule, FrameModules, initial_values, key_of, OPSET, to_onnx)
from stream_agent.network.checkpoint import CommandScale, load_driving_policy, Policy
from stream_agent.network.policy_parts import conversion_to_data
from stream_agent.network.preprocessing import MOST_VALUES_BY_AREA, Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import allow_transforms
from stream_agent.share import policy_file, share_folder, write_file
from stream_agent.theory.information import frames_unanswered
from stream_agent.theory.patterns import streaming_edges
import torch

# Of one image and a base's commands; and of anything else, which earlier readers refuse by it.
FORMAT, FORMAT_OF_ANY = 'stream_agent export 1', 'stream_agent export 2'


class ExportError(ValueError):
    """A policy that cannot be exported; the message says why and what to do."""


def make_export(name: str, policy: Policy, batch_size: int
                ) -> tuple[dict[str, Any], dict[str, bytes], dict[str, np.ndarray]]:
    """Return a policy's manifest, ONNX by file, and what the first step finds, by name."""
    network = policy.network
    halves = frame_modules(network)
    # Frame 1 is the first after a reset.
    halves = halves[1:] + halves[:1]
    carried = carried_names(network, halves)
    initial = initial_values(network, batch_size)
    models, files = make_models(halves, {
        **network.initial_state(batch_size).values,
        **{key_of(name): value for name, value in initial.items()}})
    steps = [{'respond': files.get(frame.respond), 'settle': files.get(frame.settle),
              'carry': names} for frame, names in zip(halves, carried)]
    distinct = [step for i, step in enumerate(steps) if step not in steps[:i]]
    manifest = description(name, policy, batch_size) | {
        'steps': distinct, 'schedule': [distinct.index(step) for step in steps]}
    return manifest, models, {name: initial[name].numpy() for name in sorted(carried[-1])}


def carried_names(network: RolloutNetwork, halves: list[FrameModules]) -> list[dict[str, str]]:
    """
    Return what every frame hands on: names in the next frame, with those that they have in it.

    Only what a later frame reads is handed on. The value of a node that the next frame holds
    is the same there.
    """
    before = {after: name for name, after in carry(network).items()}
    needs: list[set[str]] = [set() for _ in halves]
    found: list[dict[str, str]] = [{} for _ in halves]
    known: list[set[str]] = []
    while known != needs:
        known = list(needs)
        for i in reversed(range(len(halves))):
            respond, settle, held = halves[i]
            found[i] = {name: name if name in held else before[name]
                        for name in sorted(needs[(i + 1) % len(halves)])}
            later = {*settle.inputs, network.graph.output,
                     *(set(found[i].values()) - set(settle.outputs))}
            needs[i] = {*respond.inputs, *(later - set(respond.outputs))} - {*network.inputs}
    return found


@torch.inference_mode()
def make_models(halves: list[FrameModules], examples: dict[str, torch.Tensor]
                ) -> tuple[dict[str, bytes], dict[FrameModule, str]]:
    """
    Make the ONNX models of all halves that have something to do.

    :param examples: What the first frame finds, by key; what the others find is added.
    :returns: The models by file, each once, and the file of every half.
    """
    made: dict[str, dict[FrameModule, bytes]] = {'respond': {}, 'settle': {}}
    for frame in dict.fromkeys(halves):
        for kind, models in made.items():
            half = getattr(frame, kind)
            arguments = [examples[key_of(name)] for name in half.inputs]
            examples.update(zip(map(key_of, half.outputs), half(*arguments)))
            if half.outputs:
                models[half] = model_of(half, kind, arguments)
    files: dict[str, bytes] = {}
    file_of: dict[FrameModule, str] = {}
    for kind, models in made.items():
        distinct = list(dict.fromkeys(models.values()))
        names = [f'{kind}.onnx' if len(distinct) == 1 else f'{kind}_{i}.onnx'
                 for i in range(1, len(distinct) + 1)]
        files.update(zip(names, distinct))
        file_of |= {half: names[distinct.index(model)] for half, model in models.items()}
    return files, file_of


def model_of(half: FrameModule, kind: str, arguments: list[torch.Tensor]) -> bytes:
    """Return the ONNX model of a half; ExportError if a transform has none."""
    try:
        return to_onnx(half, arguments)
    except Exception as error:  # code from outside may fail in any way
        first: BaseException = error
        while first.__context__:
            first = first.__context__
        remedy = 'write the transform of your own with other operators'
        if isinstance(error, ImportError):
            remedy = 'onnxscript might help: pip install onnxscript'
        reason, *_ = [*str(first).splitlines(), type(first).__name__]
        raise ExportError(f'{kind} cannot be written as ONNX: {reason}; {remedy}') from error


def description(name: str, policy: Policy, batch_size: int) -> dict[str, Any]:
    """Return what the manifest says of a policy, but for its steps."""
    network = policy.network
    inputs = {name: input_description(network, name, conversion, batch_size)
              for name, conversion in policy.conversions.items()}
    of_one_image = not policy.others and isinstance(policy.preprocessing, Preprocessing)
    by_base = isinstance(policy.limits, CommandScale)
    version = ElementTree.parse(share_folder() / 'package.xml').findtext('version')
    return {
        'format': FORMAT if of_one_image and by_base else FORMAT_OF_ANY,
        'versions': {'stream_agent': version, 'torch': torch.__version__},
        'policy': {'name': name, 'pattern': policy.pattern_name,
                   'streams': streaming_edges(network.pattern)},
        'precision': 'float32',
        'opset': OPSET,
        'input': inputs.pop(policy.trigger),
        **({'others': list(inputs.values())} if inputs else {}),
        'output': {
            'name': network.graph.output,
            'shape': [batch_size, *network.shapes[network.graph.output]], **asdict(policy.limits)},
        'updates_per_frame': policy.updates_per_frame,
        'updates_unanswered': frames_unanswered(network.graph, network.pattern)}


def input_description(network: RolloutNetwork, name: str, how: Conversion, batch_size: int
                      ) -> dict[str, Any]:
    """Return what the manifest says of an input."""
    said = {'name': name, 'shape': [batch_size, *network.shapes[name]]}
    if not isinstance(how, Preprocessing):
        return {**said, 'conversion': conversion_to_data(how)}
    low, high = scale(np.array([0, 255], np.uint8)).tolist()
    return {**said, 'preprocessing': {
        'crop_top': how.crop_top, 'crop_bottom': how.crop_bottom,
        'colours': 'grey' if how.shape[0] == 1 else 'RGB',
        'most_values_by_area': MOST_VALUES_BY_AREA, 'scale': (high - low) / 255, 'offset': low}}


MANIFEST, INITIAL = 'manifest.json', 'initial.npz'
OWN_FILES = re.compile(r'manifest\.json|initial\.npz|(respond|settle)(_[0-9]+)?\.onnx')


def earlier_export(folder: Path) -> list[Path]:
    """Return the files in a folder that have the names of an export's."""
    return sorted(path for path in folder.iterdir() if OWN_FILES.fullmatch(path.name))


def open_folder(folder: Path, force: bool) -> None:
    """Make the folder, before work is done for it, unless that would replace an export."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"--output: '{folder}' is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in earlier_export(folder)]
    if names and not force:
        raise ExportError(f"--output: '{folder}' holds {', '.join(names)} already; replace them "
                          'with --force, or name another folder')


def write(folder: Path, manifest: dict[str, Any], models: dict[str, bytes],
          initial: dict[str, np.ndarray]) -> None:
    """Replace what the folder holds of an export by the whole new one, or by nothing of it."""
    packed = BytesIO()
    # As np.savez does it, which cannot take a node that is called 'file'.
    with ZipFile(packed, 'w') as archive:
        for name, value in initial.items():
            with archive.open(f'{name}.npy', 'w') as file:
                np.save(file, value)
    earlier = earlier_export(folder)
    unfinished = Path(mkdtemp(prefix='.unfinished-', dir=folder))
    try:
        files: dict[str, bytes | str] = {
            **models, INITIAL: packed.getvalue(), MANIFEST: json.dumps(manifest, indent=2) + '\n'}
        for name, content in files.items():
            write_file(unfinished / name, content)
        for path in earlier:
            path.unlink()
        # The manifest comes last, when all is there.
        for name in files:
            (unfinished / name).replace(folder / name)
    except OSError as error:
        raise ExportError(f"'{folder}' cannot be written ({error.strerror}); make room, or name "
                          'another folder. What was there is unchanged') from error
    finally:
        rmtree(unfinished, ignore_errors=True)


TOLERANCE = 1e-4
CHECKED_STEPS = 10
ERRORS_ONLY = 3


def outputs_of(folder: Path, frames: Iterable[Mapping[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Run what was written in ONNX Runtime, one step for each frame, by its manifest alone."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    manifest = json.loads((folder / MANIFEST).read_text())
    values: dict[str, np.ndarray] = dict(np.load(folder / INITIAL))
    sessions = {step[half]: onnxruntime.InferenceSession(
        str(folder / step[half]), options, providers=['CPUExecutionProvider'])
        for step in manifest['steps'] for half in ('respond', 'settle') if step[half]}
    inputs = [each['name'] for each in (manifest['input'], *manifest.get('others', ()))]
    for frame, number in zip(frames, cycle(manifest['schedule'])):
        step = manifest['steps'][number]
        values.update({name: frame[name] for name in inputs})
        for session in (sessions[step[half]] for half in ('respond', 'settle') if step[half]):
            names = [port.name for port in session.get_outputs()]
            values.update(zip(names, session.run(names, {
                port.name: values[port.name] for port in session.get_inputs()})))
        yield values[manifest['output']['name']]
        values = {name: values[source] for name, source in step['carry'].items()}


@torch.inference_mode()
def largest_difference(folder: Path, network: RolloutNetwork, batch_size: int) -> float:
    """Compare the outputs of what was written with the network's own, on random inputs."""
    state, generator = network.initial_state(batch_size), np.random.default_rng(0)
    shapes = {name: state.values[name].shape for name in network.inputs}
    mine, theirs = tee({name: scale(generator.integers(0, 256, shape, np.uint8))
                        for name, shape in shapes.items()}
                       for _ in range(CHECKED_STEPS + network.graph.hyperperiod))
    differences = []
    for frame, written in zip(mine, outputs_of(folder, theirs)):
        output, state = network.step({name: torch.from_numpy(value)
                                      for name, value in frame.items()}, state)
        differences.append(np.abs(written - output.numpy()).max())
    return float(np.max(differences))


def check(folder: Path, network: RolloutNetwork, batch_size: int) -> str:
    """
    Compare what was written with the network, where ONNX Runtime is installed.

    :returns: The result in words.
    :raises ExportError: If it does not run, or they differ.
    """
    if missing := lacks('onnxruntime')():
        return f'not checked: this machine lacks {missing}'
    try:
        difference = largest_difference(folder, network, batch_size)
    except Exception as error:  # the runtime's have no class in common
        raise ExportError(f"'{folder}' does not run in ONNX Runtime ({type(error).__name__}: "
                          f'{error}); do not drive with it') from error
    # NaN is not a small difference.
    if not difference <= TOLERANCE:
        raise ExportError(f"'{folder}' holds another function than the policy: in ONNX Runtime "
                          f'its outputs differ by up to {difference:.1e}, more than {TOLERANCE}; '
                          'do not drive with it. Transforms of your own may only compute with '
                          'tensors, without branches that depend on their values')
    return (f'checked in ONNX Runtime: outputs differ by at most {difference:.1e} from those of '
            'the policy')


@dataclass(frozen=True)
class ExportOptions:
    """How a policy is written."""

    batch_size: int = quantity(1, '', 1, 10**6, 'streams of images that are stepped together')
    force: bool = choice(False, 'replace an export that is in the folder already')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('export', __doc__)
    parser.add_argument('policy', type=Path, help='policy file, or the name of a shipped one')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER',
                        help='for the models, their initial values and their manifest')
    add_settings(parser, ExportOptions)
    add_allowed(parser)
    return parser.parse_args(args)


def run(arguments: argparse.Namespace) -> None:
    """Export, check, and say what there is."""
    if missing := lacks('onnx')():
        raise ExportError(f'this machine lacks {missing}')
    allow_transforms(arguments.allow)
    path = policy_file(arguments.policy)
    policy = load_driving_policy(path)
    open_folder(arguments.output, arguments.force)
    manifest, models, initial = make_export(path.stem, policy, arguments.batch_size)
    write(arguments.output, manifest, models, initial)
    for name in (*models, INITIAL, MANIFEST):
        size = (arguments.output / name).stat().st_size
        print(f'wrote {arguments.output / name} ({size / 1024:,.0f} KiB)')
    print(check(arguments.output, policy.network, arguments.batch_size))
    print('docs/export.md shows how to run it, in a page of Python')


main = command('export', parse, run)
