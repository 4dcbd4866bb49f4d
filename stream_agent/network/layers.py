"""The names that a graph file may use for activations, normalisations and cells."""

from collections.abc import Callable, Mapping
from typing import Any

from stream_agent.network.recurrence import cells
from stream_agent.theory.faults import GraphError, nearest
from torch import nn

Shape = tuple[int, ...]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'identity': nn.Identity,
    'relu': nn.ReLU,
    'leaky_relu': nn.LeakyReLU,
    'elu': nn.ELU,
    'tanh': nn.Tanh,
    'sigmoid': nn.Sigmoid,
}

# Over the features of one sample: the same in training, in batches, and in steps of one frame.
NORMALISATIONS: dict[str, Callable[[Shape], nn.Module]] = {
    'none': lambda shape: nn.Identity(),
    'layer': lambda shape: nn.GroupNorm(1, shape[0]),
}

CELLS: Mapping[str, Callable[[Shape], nn.Module]] = cells.CELLS


class NamedModules(nn.ModuleDict):
    """Modules by names of nodes and edges; unlike torch's, names may be 'forward' or 'keys'."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module


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
    """Return what may stand in the place of a name that is unknown, the nearest first."""
    near, known = nearest(name, table, 'choices'), f"choices are {', '.join(table)}"
    return known if near.startswith('choices') else f'{near} {known.capitalize()}'


def make_normalisation(place: str, name: str, shape: Shape) -> nn.Module:
    """
    Return a normalisation over the features of one sample.

    :param place: The node or edge in the graph file, for messages.
    """
    if 'batch' in name:
        raise GraphError(
            f"{place}: the normalisation '{name}' would depend on the other samples of a batch, "
            "so that training and steps of one frame would differ; take 'layer'")
    return look_up(place, 'normalisation', name, NORMALISATIONS)(shape)
