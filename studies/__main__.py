"""The studies' command line: ``python -m studies NAME ...``, from the repository's root."""

import argparse
from importlib import import_module
import os
import signal
import sys
from typing import NamedTuple


class Study(NamedTuple):
    """
    What a study asks, and the module that answers it.

    :param module: Has ``add_options(parser)`` and ``run(arguments)``, which returns the exit code.
    :param resumes: Whether finished parts are kept and the same command resumes.
    """

    module: str
    question: str
    resumes: bool = True


STUDIES = {
    'noisy-mnist': Study('studies.noisy.command', 'how early, and how surely, do rollouts of a '
                         'digit classifier see through noise?'),
    'noisy-cifar10': Study('studies.noisy.command', 'the same of densely connected networks, on '
                           'small photographs'),
    'gtsrb': Study('studies.noisy.command', 'the same on traffic signs that come nearer'),
    'long-memory': Study('studies.long_memory.command', 'how fast do linear recurrences learn to '
                         'remember thousands of frames?'),
    'closed-loop': Study('studies.closed_loop.command',
                         'which rollout drives best on which computer?'),
    'reflex': Study('studies.reflex.command',
                    'who has a quick reflex and slow recognition in one drive, when a pass takes '
                    'several camera periods?'),
    'law': Study('studies.law', 'how does the score of a drive past signs follow from timing?',
                 False),
    'regimes': Study('studies.regimes.command', 'when does streaming win, in real time?', False),
    'imported': Study('studies.imported.command', 'a network that is trained elsewhere, for '
                      'docs/importing.md', False),
    'driving': Study('studies.driving', 'how well is the steering of recorded drives predicted?',
                     False),
}
STOPPED = 130


def usage() -> str:
    """List the studies, a line each."""
    lines = [f'  {name:<14} {study.question}' for name, study in STUDIES.items()]
    return '\n'.join(['usage: python -m studies STUDY ...', '', *lines])


def main(arguments: list[str] | None = None) -> int:
    """
    Run one study.

    :param arguments: The study's name and its own arguments; those of the process if None.
    :returns: The exit code; 2 if there is no such study.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ('-h', '--help'):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in STUDIES:
        print(f"studies: no study '{name}'; studies are {', '.join(STUDIES)}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return run(name, rest)
    except KeyboardInterrupt:
        kept = '; what was finished is kept, and the same command resumes'
        print(f'\nstudies: {name} stopped immediately' + kept * STUDIES[name].resumes,
              file=sys.stderr)
        return STOPPED


def run(name: str, arguments: list[str]) -> int:
    """Run a study, and say in a sentence why it cannot be done."""
    module = import_module(STUDIES[name].module)
    parser = argparse.ArgumentParser(
        f'studies {name}', description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(study=name)
    module.add_options(parser)
    parsed = parser.parse_args(arguments)
    from stream_agent.cli.arguments import in_words  # the list of studies is there without it
    try:
        return module.run(parsed)
    except BrokenPipeError:
        # Whoever reads what is printed has seen enough; the interpreter must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(f'studies: {in_words(error)}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
