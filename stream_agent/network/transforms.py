"""
The transforms that a graph file may name: what an edge makes of its source's value.

A maker takes the shapes of source and target, without batch, and the edge's options. Sizes of
the target that nothing has said yet are None; a maker that needs them raises ``Undecided``.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
import inspect
from math import prod
from typing import Any

from stream_agent.graph_files.shorthand import EDGE_KEYS
from stream_agent.network.recurrence import cells
from stream_agent.theory.checks import GraphError, nearest
from stream_agent.theory.graph import OPERAND
import torch
from torch import nn, Tensor

Shape = tuple[int, ...]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'identity': nn.Identity,
    'relu': nn.ReLU,
    'leaky_relu': nn.LeakyReLU,
    'elu': nn.ELU,
    'tanh': nn.Tanh,
    'sigmoid': nn.Sigmoid,
}


class GroupNorm(nn.GroupNorm):
    """Torch's, but also of a single value, for which torch has a remark on training."""

    def forward(self, value: Tensor) -> Tensor:
        return torch.group_norm(value, self.num_groups, self.weight, self.bias, self.eps)


# Over the features of one sample: the same in training, in batches, and in steps of one frame.
NORMALISATIONS: dict[str, Callable[[Shape], nn.Module]] = {
    'none': lambda shape: nn.Identity(),
    'layer': lambda shape: GroupNorm(1, shape[0]),
}

CELLS: Mapping[str, Callable[[Shape], nn.Module]] = cells.CELLS


class NamedModules(nn.ModuleDict):
    """Modules by names of nodes and edges; unlike torch's, names may be 'forward' or 'keys'."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        vars(self)['_modules'][name] = module


def chain(*modules: nn.Module) -> nn.Module | None:
    """Return a module that applies the given ones in turn; None if none does anything."""
    active = [module for module in modules if not isinstance(module, nn.Identity)]
    return nn.Sequential(*active) if len(active) > 1 else active[0] if active else None


def look_up(place: str, kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return a table's entry, or say which entries there are and which is meant."""
    if name not in table:
        raise GraphError(f"{place}: no {kind} named '{name}'; {choices(name, table)}")
    return table[name]


def choices(name: str, table: Mapping[str, Any]) -> str:
    """Return what may take the place of an unknown name, the nearest first."""
    near, known = nearest(name, table, 'choices'), f"choices are {', '.join(table)}"
    return known if near.startswith('choices') else f'{near} {known.capitalize()}'


def make_normalisation(place: str, name: str, shape: Shape) -> nn.Module:
    """Return a normalisation over the features of one sample, shape (C, ...)."""
    if 'batch' in name:
        raise GraphError(
            f"{place}: the normalisation '{name}' would depend on the other samples of a batch, "
            "so that training and steps of one frame would differ; take 'layer'")
    return look_up(place, 'normalisation', name, NORMALISATIONS)(shape)


# Unknown sizes are None; if nothing is known, all three.
Wanted = tuple[int | None, ...]

WRITE_CHANNELS = "'channels: N'"
WRITE_SHAPE = "'shape: [features]' or 'shape: [channels, height, width]'"


class Undecided(GraphError):
    """A transform takes from its target what nothing has said yet; the remedy is what to write."""

    def __init__(self, message: str, remedy: str = WRITE_SHAPE) -> None:
        super().__init__(message)
        self.remedy = remedy


class OptionError(GraphError):
    """An option of a transform has an impossible value; the message begins with its name."""


class Dense(nn.Module):
    """Every target feature from every source feature, (B, *source) to (B, *target)."""

    def __init__(self, source: Shape, target: Wanted) -> None:
        super().__init__()
        known = tuple(size for size in target if size is not None)
        if len(known) < len(target):
            raise Undecided('gives whatever shape its target has')
        self.linear = nn.Linear(prod(source), prod(known))
        self.target = known

    def forward(self, value: Tensor) -> Tensor:
        return self.shaped(self.linear(value.flatten(1)))

    def shaped(self, features: Tensor) -> Tensor:
        """Return features in the target's shape, (B, *target)."""
        return features if len(self.target) == 1 else features.unflatten(1, self.target)


class Keypoints(nn.Module):
    """
    Where every channel is active: the mean position under a softmax over its pixels.

    The spatial soft-argmax of Finn et al.: Deep spatial autoencoders for visuomotor learning,
    ICRA 2016, with its learned temperature; the sharpness is 1 over that.

    Shapes: (B, C, H, W) to (B, 2 C): x of every channel (-1 is the first column, 1 the last),
    then y of every channel (-1 is the first row, 1 the last).
    """

    x: Tensor
    y: Tensor

    def __init__(self, source: Shape, target: Wanted) -> None:
        super().__init__()
        _, height, width = maps(source)
        self.sharpness = nn.Parameter(torch.ones(1))
        for axis, count in (('x', width), ('y', height)):
            places = torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1)
            self.register_buffer(axis, places, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        weights = (self.sharpness * value.flatten(2)).softmax(-1).view_as(value)
        return torch.cat([(weights.sum(-2) * self.x).sum(-1),
                          (weights.sum(-1) * self.y).sum(-1)], dim=1)


def maps(shape: Shape) -> Shape:
    """Return the shape if it is that of feature maps."""
    if len(shape) != 3:
        raise GraphError(f'the source is {list(shape)}, not [channels, height, width]')
    return shape


def wanted_maps(target: Wanted) -> int:
    """Return the channels of the target's feature maps."""
    if len(target) != 3:
        raise GraphError('it gives [channels, height, width], but the target takes [features]')
    if target[0] is None:
        raise Undecided('gives as many channels as its target has', WRITE_CHANNELS)
    return target[0]


def check_positive(**options: Any) -> None:
    """Refuse options that are not positive integers."""
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise OptionError(f'{name}: {value!r} is not a positive integer')


def convolution(source: Shape, target: Wanted, kernel: int = 3, stride: int = 1,
                dilation: int = 1, groups: int = 1) -> nn.Module:
    """Return a convolution, padded so that stride 1 keeps the size."""
    check_positive(kernel=kernel, stride=stride, dilation=dilation, groups=groups)
    channels, wanted = maps(source)[0], wanted_maps(target)
    if channels % groups or wanted % groups:
        raise OptionError(f'groups: {groups} does not divide the {channels} channels of the '
                          f'source and the {wanted} of the target')
    padding = dilation * (kernel - 1)
    module = nn.Conv2d(channels, wanted, kernel, stride, padding // 2, dilation, groups)
    if stride == 1 and padding % 2:
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), module)
    return module


def transposed(source: Shape, target: Wanted, kernel: int = 4, stride: int = 2) -> nn.Module:
    """Return a transposed convolution, whose result is larger by the stride."""
    check_positive(kernel=kernel, stride=stride)
    surplus = max(kernel - stride, 0)
    if stride == 1 and surplus % 2:
        raise OptionError(f'kernel: {kernel} is even, which with stride 1 would change the '
                          'size; take an odd one')
    padding = (surplus + 1) // 2
    return nn.ConvTranspose2d(maps(source)[0], wanted_maps(target), kernel, stride, padding,
                              output_padding=stride - kernel + 2 * padding)


def upsampling(source: Shape, target: Wanted, factor: int = 2) -> nn.Module:
    """Return the enlargement that repeats every pixel."""
    check_positive(factor=factor)
    maps(source)
    return nn.Upsample(scale_factor=factor)


def pooling(source: Shape, target: Wanted, kernel: int = 2, kind: str = 'average') -> nn.Module:
    """Return average or maximum pooling over windows side by side."""
    kinds = {'average': nn.AvgPool2d, 'maximum': nn.MaxPool2d}
    check_window(source, kernel)
    if not isinstance(kind, str) or kind not in kinds:
        raise OptionError(f"kind: no pooling of the kind '{kind}'; {choices(str(kind), kinds)}")
    return kinds[kind](kernel)


def readout(source: Shape, target: Wanted, kernel: int = 1, kind: str = 'average') -> nn.Module:
    """
    Return a dense layer on averages or maxima over windows side by side.

    Averages make large feature maps small; of maxima it does not matter where in its window
    something was seen.
    """
    pool = pooling(source, target, kernel, kind)
    return nn.Sequential(pool, Dense((source[0], *(n // kernel for n in source[1:])), target))


def check_window(source: Shape, kernel: int) -> None:
    """Refuse windows that do not fit into the source once."""
    check_positive(kernel=kernel)
    if kernel > min(maps(source)[1:]):
        raise OptionError(f'kernel: a window of {kernel} x {kernel} does not fit into the '
                          f'source, {list(source)}')


TRANSFORMS: Mapping[str, Callable[..., nn.Module]] = {
    'dense': Dense,
    'convolution': convolution,
    # One pixel at a time.
    'pointwise': lambda source, target: nn.Conv2d(maps(source)[0], wanted_maps(target), 1),
    'transposed': transposed,
    'upsampling': upsampling,
    'pooling': pooling,
    'readout': readout,
    'keypoints': Keypoints,
    'identity': lambda source, target: nn.Identity(),
    OPERAND: lambda source, target: nn.Identity(),
}

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
        if not is_dotted(name):
            raise GraphError(f"allow: '{name}' is not a dotted Python name; write one such as "
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
        _allowed[name] = maker


def is_dotted(name: str) -> bool:
    """Return whether a transform's name is that of code from outside."""
    return '.' in name and all(part.isidentifier() for part in name.split('.'))


def find_maker(place: str, name: str) -> Maker:
    """Return what makes the transform of that name."""
    if is_dotted(name):
        if name in _allowed:
            return _allowed[name]
        raise GraphError(f"{place}: the graph asks for code from outside, '{name}', "
                         f'which is not allowed; if you trust it, add --allow {name}')
    return look_up(place, 'transform', name, TRANSFORMS)


def check_options(place: str, name: str, maker: Maker, options: Mapping[str, Any]) -> None:
    """Refuse options that the transform does not take, and say which it does."""
    parameters = inspect.signature(maker).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    _, _, *known = parameters
    for option in options:
        if option not in known and not takes_any:
            hint = nearest(option, [*known, *EDGE_KEYS], 'keys of an edge')
            raise GraphError(f"{place}: {name} has no option '{option}'; {hint} "
                             f"(its options: {', '.join(known) or 'none'})")
