"""Command line: write a policy as ONNX models of its two halves, to run it without torch."""

import argparse
from pathlib import Path

from stream_agent.commands.export_check import check
from stream_agent.commands.export_folder import INITIAL, MANIFEST, open_folder, write
from stream_agent.commands.export_models import ExportError, make_export
from stream_agent.engine.executors import lacks
from stream_agent.installation import share_folder
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.options import add_allowed, positive, run_tool
from stream_agent.runner import policy_file


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='export', description=__doc__)
    parser.add_argument('policy', type=Path, help='policy file, or the name of a shipped one')
    parser.add_argument('--output', type=Path, required=True, metavar='FOLDER',
                        help='for the models, their initial values and their manifest')
    parser.add_argument('--batch-size', type=positive, default=1, metavar='N',
                        help='streams of images that are stepped together (1)')
    parser.add_argument('--force', action='store_true',
                        help='replace an export that is in the folder already')
    add_allowed(parser)
    return parser.parse_args(args)


def run(arguments: argparse.Namespace) -> None:
    """Export, check, and say what there is."""
    missing = lacks('onnx')()
    if missing:
        raise ExportError(f'this machine lacks {missing}')
    allow_transforms(arguments.allow)
    path = policy_file(arguments.policy, share_folder())
    policy = load_policy(path)
    open_folder(arguments.output, arguments.force)
    export = make_export(path.stem, policy, arguments.batch_size)
    write(arguments.output, export)
    for name in (*export.models, INITIAL, MANIFEST):
        size = (arguments.output / name).stat().st_size
        print(f'wrote {arguments.output / name} ({size / 1024:,.0f} KiB)')
    print(check(arguments.output, policy.network, arguments.batch_size))
    print('docs/export.md shows how to run it, in a page of Python')


def main(args: list[str]) -> int:
    """Export one policy."""
    arguments = parse(args)
    return run_tool('export', lambda: run(arguments))
