"""The computer to emulate, on the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stream_agent.driving.compute_model import ComputeModel
from stream_agent.theory.planning.candidates import EXECUTIONS, SERIAL

HANDOVER = 1.0


def add_computer(parser: argparse.ArgumentParser, description: str) -> argparse._ArgumentGroup:
    """
    Take the computer to emulate.

    :param description: What is done under its timing.
    :returns: The group, for what else an emulated computer has.
    """
    group = parser.add_argument_group('emulated computer', description)
    group.add_argument('--pass-periods', type=positive_number, metavar='R', help='what a pass '
                       'through all nodes costs, in camera periods')
    group.add_argument('--costs', type=Path, metavar='FILE', help='seconds of the nodes, as '
                       '`plan --save-costs` writes them; without it, nodes cost alike')
    group.add_argument('--execution', choices=EXECUTIONS, default=SERIAL, help='one node after '
                       'the other, or every node on a device of its own (%(default)s)')
    group.add_argument('--pipelined', action='store_true', help='let a frame follow the one '
                       'before through a parallel device, as soon as the dearest node is free')
    return group


def check_computer(parser: argparse.ArgumentParser, arguments: argparse.Namespace,
                   also: Sequence[str] = ()) -> None:
    """
    Refuse options that would mean nothing.

    :param also: Names of further ones that only an emulated computer has.
    """
    for name in ('execution', 'pipelined', *also):
        if not computer_of(arguments) and getattr(arguments, name) != parser.get_default(name):
            parser.error(f'--{name} is of an emulated computer; add --pass-periods or --costs')


def computer_of(arguments: argparse.Namespace) -> ComputeModel | None:
    """Return the computer to emulate; None for none."""
    if arguments.costs is None and arguments.pass_periods is None:
        return None
    return ComputeModel(arguments.execution, arguments.costs, arguments.pass_periods,
                        arguments.pipelined)


def positive_number(text: str) -> float:
    """Read a number above 0, for argparse."""
    value = not_negative_number(text)
    if not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
    return value


def not_negative_number(text: str) -> float:
    """Read a number from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 to a million")
    return value
