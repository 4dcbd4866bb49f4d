"""The studies' command line: ``python -m studies NAME ...``, from the repository's root."""

from importlib import import_module
import sys

EXPERIMENTS = 'studies.experiments.command'
#: By name: the module whose ``main`` runs the study, and what it asks.
STUDIES = {
    'noisy-mnist': (EXPERIMENTS, 'how early and how right are rollouts of a digit classifier?'),
    'noisy-cifar10': (EXPERIMENTS, 'the same of densely connected networks on small photographs'),
    'gtsrb': (EXPERIMENTS, 'the same on traffic signs that come nearer'),
    'long-memory': (EXPERIMENTS, 'how far back do linear recurrences remember, and how fast?'),
    'closed-loop': ('studies.closed_loop.command', 'which rollout drives best on which computer?'),
    'regimes': ('studies.regimes.command', 'when does streaming win, in real time?'),
    'driving': ('studies.driving', 'how well is the steering of recorded drives predicted?'),
}


def usage() -> str:
    """List the studies, a line each."""
    lines = [f'  {name:<14} {question}' for name, (_, question) in STUDIES.items()]
    return '\n'.join(['usage: python -m studies STUDY ...', '', *lines])


def main(arguments: list[str]) -> int:
    """
    Run one study.

    :param arguments: The study's name and its own arguments.
    :returns: The exit code; 2 if there is no such study.
    """
    if not arguments or arguments[0] in ('-h', '--help'):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in STUDIES:
        print(f"studies: no study '{name}'; studies are {', '.join(STUDIES)}", file=sys.stderr)
        return 2
    module, _ = STUDIES[name]
    # The experiments share one command line, whose first word is the experiment.
    words = [name, *rest] if module == EXPERIMENTS else rest
    sys.argv[0] = 'studies' if module == EXPERIMENTS else f'studies {name}'
    return import_module(module).main(words) or 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
