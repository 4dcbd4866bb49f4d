"""The computer to emulate, on the command line."""

import argparse
from pathlib import Path

from stream_agent.theory.planning.candidates import EXECUTIONS, SERIAL

HANDOVER = 1.0


def add_computer(parser: argparse.ArgumentParser) -> None:
    """Take the computer to emulate."""
    group = parser.add_argument_group(
        'an emulated computer', 'drives in lockstep as if every node took its time; the expert '
        f'drives the first {HANDOVER:g} s, and as long after a departure, which does not count')
    group.add_argument('--pass-periods', type=positive_number, metavar='R', help='what a pass '
                       'through all nodes costs, in camera periods')
    group.add_argument('--costs', type=Path, metavar='FILE', help='seconds of the nodes, as '
                       '`plan --save-costs` writes them; without it, nodes cost alike')
    group.add_argument('--device', choices=EXECUTIONS, help='one node after the other, or every '
                       f'node on a device of its own ({SERIAL})')
    group.add_argument('--pipelined', action='store_true', help='let a frame follow the one '
                       'before through a parallel device, as soon as the dearest node is free')
    group.add_argument('--pushes', type=not_negative_number, metavar='RAD_S', help='largest yaw '
                       'rate that pushes the robot now and then, alike for all policies (0)')
    group.add_argument('--plot', type=Path, metavar='FILE', help='draw the figures: .svg or .png')


def check_computer(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """
    Say whether a computer is to be emulated, and fill in the defaults.

    Options that would mean nothing are refused.
    """
    arguments.emulated = arguments.costs is not None or arguments.pass_periods is not None
    if arguments.emulated and arguments.real_time:
        parser.error('--real-time takes the time of this computer; leave it out to emulate '
                     'another')
    for name, default in (('device', SERIAL), ('pipelined', False), ('pushes', 0.0),
                          ('plot', None)):
        given = getattr(arguments, name)
        if given and not arguments.emulated:
            parser.error(f'--{name} is of an emulated computer; add --pass-periods or --costs')
        setattr(arguments, name, given or default)
    if arguments.plot and arguments.plot.suffix not in ('.svg', '.png'):
        parser.error(f"--plot: '{arguments.plot}' is neither .svg nor .png")


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
