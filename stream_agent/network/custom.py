"""
Transforms by name: those of the package, and code from outside that its user has allowed.

A graph file or a checkpoint may name such code, but nothing in it makes it run: only who starts
the program can allow a name, and only then is anything imported.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
import inspect
from typing import Any

from stream_agent.graph_files.shorthand import EDGE_KEYS
from stream_agent.network.transforms import look_up, TRANSFORMS
from stream_agent.theory.errors import GraphError, nearest
from torch import nn

Maker = Callable[..., nn.Module]

_allowed: dict[str, Maker] = {}


def allow_transforms(names: Iterable[str]) -> None:
    """
    Import transforms from outside, so that graphs can name them.

    :param names: Dotted Python names, such as ``my_package.layers.wavelet``, of callables
        ``(source_shape, target_shape, **options) -> nn.Module``. Shapes are without batch; the
        target's sizes are None as long as they are being inferred.
    :raises GraphError: If there is no such callable.
    """
    for name in names:
        _allowed[name] = import_maker(name)


def import_maker(name: str) -> Maker:
    """Import the callable of a dotted Python name."""
    if not is_dotted(name):
        raise GraphError(f"allow: '{name}' is no dotted Python name; write one such as "
                         'my_package.layers.wavelet')
    module_name, _, attribute = name.rpartition('.')
    try:
        module = import_module(module_name)
    except Exception as error:  # code from outside may fail in any way
        raise GraphError(f"allow: importing '{module_name}' failed ({type(error).__name__}: "
                         f'{error}); it has to be on the Python path') from error
    maker = getattr(module, attribute, None)
    if not callable(maker):
        callables = [key for key, value in vars(module).items() if callable(value)]
        raise GraphError(f"allow: '{module_name}' has no callable '{attribute}'; "
                         + nearest(attribute, callables, 'callables in it'))
    return maker


def is_dotted(name: Any) -> bool:
    """Return whether a transform's name is that of code from outside."""
    return (isinstance(name, str) and '.' in name
            and all(part.isidentifier() for part in name.split('.')))


def find_maker(place: str, name: str) -> Maker:
    """
    Return what makes the transform of that name.

    :param place: The edge in the graph file, for messages.
    """
    if is_dotted(name):
        if name in _allowed:
            return _allowed[name]
        raise GraphError(f"{place}: the graph asks for code from outside, '{name}', "
                         f'which is not allowed; if you trust it, add --allow {name}')
    return look_up(place, 'transform', name, TRANSFORMS)


def check_options(place: str, name: str, maker: Maker, options: Mapping[str, Any]) -> None:
    """Refuse options that the transform does not take, and say which it does."""
    parameters = list(inspect.signature(maker).parameters.values())[2:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            hint = nearest(option, [*known, *EDGE_KEYS], 'keys of an edge')
            raise GraphError(f"{place}: {name} has no option '{option}'; {hint} "
                             f"(its options: {', '.join(known) or 'none'})")
