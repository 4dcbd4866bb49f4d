"""What the modules of a network cannot be made of."""

from stream_agent.network.shapes import where
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from torch import nn


def check_batch_statistics(place: str, edge: EdgeSpec, module: nn.Module) -> None:
    """Refuse a module of one's own that normalises by the other samples of a batch."""
    for part in module.modules():
        # Public names for all of these there are none.
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise GraphError(
                f'{place}: {edge.transform} has a {type(part).__name__}, which depends on the '
                'other samples of a batch, so that training and steps of one frame would differ; '
                'take a GroupNorm')


def check_products(graph: GraphSpec) -> None:
    """Refuse factors without a second one, whose label is probably misspelt."""
    labels = [(edge.target, edge.product) for edge in graph.edges]
    for edge, label in zip(graph.edges, labels):
        if edge.product and labels.count(label) == 1:
            raise GraphError(f"{where(edge)}: no other edge into '{edge.target}' has the product "
                             f"'{edge.product}'; give it to the edge to multiply with, or leave "
                             'it out')


def check_input(place: str, node: NodeSpec) -> None:
    """Refuse settings of an input that would have no effect."""
    for key, nothing in (('normalisation', 'none'), ('cell', ''), ('activation', 'identity')):
        if getattr(node, key) != nothing:
            raise GraphError(f'{place}: {key}: an input is the frame as it is; leave it out')


def check_carrier(place: str, edge: EdgeSpec) -> None:
    """Refuse settings of a cell's self-edge that would have no effect."""
    if edge.transform != 'identity':
        raise GraphError(f"{place}: the transform '{edge.transform}' on the self-edge of a cell, "
                         'which gives the cell its last value as it is; set it to identity')
    for key, nothing in (('normalisation', 'none'), ('dropout', 0), ('noise', 0), ('share', ''),
                         ('product', '')):
        if getattr(edge, key) != nothing:
            raise GraphError(f'{place}: {key}: the self-edge of a cell gives the cell its last '
                             'value as it is; leave it out')
