"""
Where an imported network comes from: a callable of the user's, a .pt2 file, or an ONNX file.

Each gives the network as a program, and what the original answers to random frames. A callable is
the user's own code and runs here. Torch may execute what is in a .pt2 file while it reads it, so
that happens in a process of its own, which hands back JSON and tensors; nothing is unpickled here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
import inspect
from io import StringIO
import json
from operator import attrgetter
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
import traceback
from typing import Any, NamedTuple
import warnings

from safetensors import safe_open
from safetensors.torch import save_file
from stream_agent.importing import exported, onnx_file
from stream_agent.importing.program import (
    ImportedOperation, ImportedProgram, ImportedState, ImportFault)
from stream_agent.network.transforms import Shape
from stream_agent.theory.checks import nearest
import torch
from torch import nn, Tensor

Inputs = Mapping[str, Shape]
#: By which factor each of the frames that are compared exceeds the standard normal distribution.
FRAME_SCALES = 1.0, 1.0, 0.3, 3.0
FORMS = ("a network is given as 'my_package.policy:make_policy' (a callable that makes a torch "
         'module), as a .pt2 file of torch.export, or as an .onnx file')
# What people have instead, by the end of the file's name.
WEIGHTS_ALONE = 'weights without a network; write a function that makes the module and loads them'
OTHER_FILES = {
    '.pt': WEIGHTS_ALONE, '.pth': WEIGHTS_ALONE, '.ckpt': WEIGHTS_ALONE, '.bin': WEIGHTS_ALONE,
    '.safetensors': WEIGHTS_ALONE,
    **dict.fromkeys(('.h5', '.keras', '.pb', '.tflite'), 'a file of TensorFlow; convert it to '
                    'ONNX, for example by tf2onnx'),
    '.pdmodel': 'a file of PaddlePaddle; convert it to ONNX by paddle2onnx',
    **dict.fromkeys(('.engine', '.plan'), 'compiled for one GPU; import what it was made of'),
    '.py': "Python code; name the function in it, as 'my_policy:make_policy' without '.py'"}
THIS_MODULE = 'stream_agent.importing.sources'
FLOAT32 = torch.finfo(torch.float32).eps


class Source(NamedTuple):
    """
    A network that is being imported.

    :param frames: (T, *shape) of each input, random; whole numbers 0 ... 255 where the original
        takes such.
    :param outputs: (T, *shape), what the original gives for them, one after the other.
    :param rounding: Relative error of one operation of the original.
    """

    program: ImportedProgram
    frames: Mapping[str, Tensor]
    outputs: Tensor
    rounding: float = FLOAT32


def open_source(given: str, inputs: Inputs) -> Source:
    """
    Read a network.

    :param given: ``module:callable``, or the path of a .pt2 or .onnx file.
    :param inputs: Shapes without batch, by name; may be empty where a file fixes them.
    :raises ImportFault: With place, fault and remedy, if it cannot be imported.
    """
    path = Path(given).expanduser()
    if path.suffix == '.pt2':
        return in_own_process(readable(path), inputs)
    if path.suffix == '.onnx':
        model, reading = onnx_file.read(readable(path), inputs)
        from stream_agent.importing.onnx_model import Original  # needs onnx, which is there now
        return answered(reading.program, Original(model, reading))
    if path.exists() or ':' not in given:
        kind = OTHER_FILES.get(path.suffix.lower())
        if kind is None and ':' not in given and not path.exists():
            kind = 'there is no such file'
        raise ImportFault(f"'{given}': {kind or 'not a network'}; {FORMS}")
    module = make_module(given)
    if not inputs:
        raise ImportFault(f"'{given}': the size of its input is not known; give it without the "
                          'batch, such as --input 3x224x224')
    try:
        with quiet():
            return answered(*exported.reading_of(module, inputs))
    except ImportFault as fault:
        raise ImportFault(f"'{given}': {fault}") from fault


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the user what torch prints while it exports: graphs, and hints for its makers."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter('ignore')
        yield


def readable(path: Path) -> Path:
    """Return the path of a file that can be opened; OSError, which names it, otherwise."""
    with path.open('rb'):
        return path


def make_module(given: str) -> nn.Module:
    """Call what the user names, as ``module:callable``; modules of this folder come first."""
    name, _, attribute = given.partition(':')
    if name.endswith('.py') or not all(map(str.isidentifier, f'{name}.{attribute}'.split('.'))):
        raise ImportFault(f"'{given}': not the names of a module and of a callable in it; write "
                          "them with dots and without '.py', as my_package.policy:make_policy")
    if '' not in sys.path:
        sys.path.insert(0, '')
    try:
        found = attrgetter(attribute)(import_module(name))
    except ModuleNotFoundError as error:
        if not f'{name}.'.startswith(f'{error.name}.'):
            raise raised(given, 'importing it', error) from error
        raise ImportFault(f"'{given}': there is no module '{error.name}' in this folder or among "
                          'the installed packages; give its dotted name as seen from here, or '
                          'set PYTHONPATH') from None
    except AttributeError as error:
        whole = sys.modules.get(name)
        if whole is None or error.obj is not whole:
            raise raised(given, 'importing it', error) from error
        raise ImportFault(f"'{given}': the module '{name}' has no '{attribute}'; " + nearest(
            attribute, [key for key, value in vars(whole).items()
                        if callable(value) and not key.startswith('_')], 'callables')) from None
    except (Exception, SystemExit) as error:  # code of the user's may fail in any way
        raise raised(given, 'importing it', error) from error
    module = found if isinstance(found, nn.Module) else call(given, found)
    if not isinstance(module, nn.Module):
        raise ImportFault(f"'{given}': it gives {type(module).__name__}, not a torch.nn.Module; "
                          'return the network itself')
    for path, part in module.named_modules():
        if part.training:
            raise ImportFault(
                f"'{given}': {f'its module {path!r}' if path else 'the network'} "
                f'({type(part).__name__}) is in training mode; call .eval() on the network before '
                'it is returned')
    return module


def call(given: str, found: Any) -> Any:
    """Call what makes a network, which takes no arguments."""
    if not callable(found):
        raise ImportFault(f"'{given}': {type(found).__name__} cannot be called; name a function "
                          'that makes the network')
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise ImportFault(f"'{given}': {error}; it is called without arguments, so give them "
                          'defaults, or name a function that passes them') from None
    except ValueError:  # of what is not written in Python; it may do without arguments
        pass
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise raised(given, 'calling it', error) from error


def raised(given: str, doing: str, error: BaseException) -> ImportFault:
    """Return a fault that says what the user's own code raised, and where."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return ImportFault(f"'{given}': {doing} raises {type(error).__name__} "
                       f'({Path(place.filename).name}:{place.lineno}): {error}; correct it there')


@torch.no_grad()
def answered(program: ImportedProgram, original: Callable[[Mapping[str, Tensor]], Tensor]
             ) -> Source:
    """Return a program with what the original answers to random frames."""
    random = torch.Generator().manual_seed(17)
    whole = getattr(original, 'whole', ())
    frames = {name: torch.randint(256, (len(FRAME_SCALES), *shape), generator=random).float()
              if name in whole else torch.stack([factor * torch.randn(shape, generator=random)
                                                 for factor in FRAME_SCALES])
              for name, shape in program.inputs.items()}
    outputs = torch.cat([
        original({name: values[i:i + 1] for name, values in frames.items()}).detach().float()
        for i in range(len(FRAME_SCALES))])
    return Source(program, frames, outputs, getattr(original, 'rounding', FLOAT32))


def in_own_process(path: Path, inputs: Inputs) -> Source:
    """Read a .pt2 file in another interpreter, where torch may unpickle what it holds."""
    with TemporaryDirectory() as folder:
        result, fault = Path(folder, 'program.safetensors'), Path(folder, 'fault')
        process = subprocess.run(
            [sys.executable, '-m', THIS_MODULE, str(path), folder, json.dumps(inputs)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace')
        if fault.exists():
            said = fault.read_text()
            raise ImportFault(said if str(path) in said else f"'{path}': {said}")
        if process.returncode or not result.exists():
            last = process.stderr.strip().splitlines()[-1:] or ['nothing was said']
            raise ImportFault(f"'{path}': the process that reads it ended with code "
                              f'{process.returncode} ({last[0]}); export it again, and check '
                              'that memory suffices')
        return load_source(result)


def read_for_another(path: str, folder: str, inputs: str) -> None:
    """Read a .pt2 file, and leave what it holds, or what is wrong with it, in a folder."""
    shapes = {name: tuple(shape) for name, shape in json.loads(inputs).items()}
    try:
        source = answered(*exported.reading_of_pt2(Path(path), shapes))
        save_source(Path(folder, 'program.safetensors'), source)
    except ImportFault as fault:
        Path(folder, 'fault').write_text(str(fault))


def save_source(path: Path, source: Source) -> None:
    """Write a source as tensors and JSON."""
    program = source.program
    tensors = {'outputs': source.outputs,
               **{f'frames/{name}': values for name, values in source.frames.items()}}
    # Tied weights are one tensor here, which safetensors would refuse to write twice.
    tied: dict[tuple, str] = {}
    operations = []
    for number, operation in enumerate(program.operations):
        places = {}
        for name, value in operation.weights.items():
            key = f'{number}/{name}'
            same = value.data_ptr(), value.shape, value.stride()
            places[name] = tied.setdefault(same, key) if value.numel() else key
            if places[name] == key:
                tensors[key] = value.detach().clone(memory_format=torch.contiguous_format)
        operations.append({**vars(operation), 'weights': places})
    metadata = {'inputs': dict(program.inputs), 'operations': operations,
                'states': {name: [state.shape, state.next]
                           for name, state in program.states.items()},
                'output': program.output, 'notices': program.notices,
                'rounding': source.rounding}
    save_file(tensors, path, {'program': json.dumps(metadata)})


def load_source(path: Path) -> Source:
    """Read what ``save_source`` wrote."""
    with safe_open(str(path), framework='pt') as file:
        data = json.loads((file.metadata() or {})['program'])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    operations = tuple(ImportedOperation(**{
        **each, 'of': tuple(each['of']), 'shape': tuple(each['shape']),
        'weights': {name: tensors[key] for name, key in each['weights'].items()}})
        for each in data['operations'])
    program = ImportedProgram(
        {name: tuple(shape) for name, shape in data['inputs'].items()},
        {name: ImportedState(tuple(shape), following)
         for name, (shape, following) in data['states'].items()},
        operations, data['output'], tuple(data['notices']))
    frames = {name: tensors[f'frames/{name}'] for name in program.inputs}
    return Source(program, frames, tensors['outputs'], data['rounding'])


if __name__ == '__main__':
    arguments: Sequence[str] = sys.argv[1:]
    read_for_another(*arguments)
