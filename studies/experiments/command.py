"""Command line: run the published experiments with rollouts and linear recurrences anew."""

import argparse
import signal
import sys

from stream_agent.cli.arguments import in_words
from studies.experiments.memory_command import add_memory
from studies.experiments.noisy_command import add_noisy, STOPPED


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='studies', description=__doc__)
    commands = parser.add_subparsers(dest='experiment', required=True, metavar='EXPERIMENT')
    add_noisy(commands, 'noisy-mnist', "folder with MNIST's four idx files (.gz or not), or an "
              'archive mnist.npz')
    add_noisy(commands, 'noisy-cifar10', 'folder with the binary version of CIFAR-10, or an '
              'archive cifar10*.npz')
    add_noisy(commands, 'gtsrb', "folder with GTSRB's official training images, or an archive "
              'gtsrb*.npz')
    add_memory(commands)
    return parser.parse_args(args)


def main(args: list[str]) -> int:
    """Run one experiment."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = parse(args)
    try:
        return arguments.do(arguments)
    except KeyboardInterrupt:
        print('\nstudies: stopped immediately; what was finished is kept, and the same command '
              'resumes', file=sys.stderr)
        return STOPPED
    except (OSError, ValueError) as error:
        print(f'studies: {in_words(error)}', file=sys.stderr)
        return 1
