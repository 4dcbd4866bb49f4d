"""How a command line is read: whole names of options, and mistakes as sentences."""

import argparse
from itertools import takewhile
import sys
from typing import Any, NoReturn

from stream_agent.bounded_settings import printable
from stream_agent.theory.checks import nearest


class CommandParser(argparse.ArgumentParser):
    """
    Reads a command line; what is wrong with it is a sentence, with the nearest name there is.

    Options are known by their whole names only, so that an option that is new in a release
    changes no command line that was right before.
    """

    def __init__(self, command: str, description: str = '') -> None:
        # Of a module's docstring, without what is for readers of its source.
        said = description.removeprefix('Command line: ').replace('``', '`')
        super().__init__(prog=command, description=said[:1].upper() + said[1:],
                         allow_abbrev=False)

    def parse_args(self, args=None, namespace=None):
        """Read the words of a command line, after a look whether all its options exist."""
        words = list(sys.argv[1:] if args is None else args)
        # Before anything else is missed, which a misspelt option may be the reason for.
        for word in takewhile(lambda word: word != '--', words):
            name = word.partition('=')[0]
            if name.startswith('--') and ' ' not in word and not self.has(name):
                self.error(f"there is no option '{name}'; {self.nearest_option(name)}")
        return super().parse_args(words, namespace)

    def has(self, option: str) -> bool:
        """Return whether there is an option of that name."""
        return option in self._option_string_actions

    def nearest_option(self, name: str) -> str:
        """Return the remedy for an option that does not exist."""
        options = [option for option in self._option_string_actions if option.startswith('--')]
        longer = [option for option in options if option.startswith(name)]
        return nearest(longer[0] if len(longer) == 1 else name.replace('_', '-'), options,
                       'options', 0.7)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice: '{value}'; " + nearest(
                str(value), action.choices, 'choices'))

    def error(self, message: str) -> NoReturn:
        """End with a sentence, and only then say how to get help."""
        self.exit(2, f'{self.prog}: error: {printable(message, 4000)}\n'
                  'with --help instead, all options are listed\n')


class Collect(argparse.Action):
    """Collects the values of an option that may come several times, instead of its default."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Put values behind those that came before."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else [*before, *values])
