"""Dense layers onto the same features, as one product."""

from stream_agent.network.modules import Term
from stream_agent.network.transforms import Dense
import torch
from torch import nn, Tensor
from torch.nn import functional

# Larger sources are not worth being copied side by side.
MOST_FEATURES = 8192


class ReadOuts(nn.Module):
    """
    The sum of several dense layers, each maybe behind a pooling.

    Shapes: values (B, *source) each, to (B, features).

    :param modules: For each of which ``dense_part`` gives something.
    """

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        parts = [dense_part(module) for module in modules]
        self._pools = [pool for pool, _ in parts]
        weight = torch.cat([dense.linear.weight for _, dense in parts], dim=1)
        bias = torch.stack([dense.linear.bias for _, dense in parts]).sum(0)
        self.register_buffer('weight', weight.detach(), persistent=False)
        self.register_buffer('bias', bias.detach(), persistent=False)

    def forward(self, *values: Tensor) -> Tensor:
        columns = [(pool(value) if pool else value).flatten(1)
                   for pool, value in zip(self._pools, values)]
        return functional.linear(torch.cat(columns, dim=1), self.weight, self.bias)


def dense_part(module: nn.Module) -> tuple[nn.Module | None, Dense] | None:
    """Return the pooling and the dense layer onto features that a module is; None if not."""
    pool = None
    if isinstance(module, nn.Sequential) and len(module) == 2:
        pool, module = module
        if type(pool) is not nn.AvgPool2d:
            return None
    if type(module) is Dense and len(module.target) == 1:
        return pool, module
    return None


def join_read_outs(terms: list[Term]) -> tuple[list[Term], list[Term]]:
    """Return the terms that one product can compute together, and all others."""
    joined = [term for term in terms if not term.others and dense_part(term.module)
              and dense_part(term.module)[1].linear.in_features <= MOST_FEATURES]
    if len(joined) < 2:
        return [], terms
    return joined, [term for term in terms if term not in joined]
