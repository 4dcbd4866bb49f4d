"""The schemes that drive in the closed loop, on each device at each cost of a pass."""

from dataclasses import replace
from pathlib import Path

from stream_agent.graph_files.graph_file import load_graph
from studies.chain import Chain, OURS, Scheme

CHAIN = Chain(load_graph(Path(__file__).with_name('chain.yaml')))
KINDS = ('sequential', 'pipelined', 'smaller', 'streaming', 'k updates', 'hybrid', 'multi-rate',
         OURS)


def plain_schemes(pass_periods: float, execution: str, period: float) -> list[Scheme]:
    """
    Return the schemes that there are on a device.

    :param pass_periods: Cost of all nodes, in camera periods.
    :param period: Of the camera [s].
    """
    return list(CHAIN.schemes(CHAIN.device(pass_periods, execution, period)))


def schemes(pass_periods: float, execution: str, period: float) -> list[Scheme]:
    """Return all schemes, each with and without its last commands as an input."""
    plain = plain_schemes(pass_periods, execution, period)
    return plain + [replace(scheme, inputs=('commands',)) for scheme in plain]
