"""Files of the package and of robots: where they are, and how ROS reads parameter files."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
import re
from typing import Any, NamedTuple

from stream_agent.bounded_settings import printable
from stream_agent.contract.contract import Contract
from stream_agent.graph_files.located_yaml import (
    Entry, Section, sections_of, texts_of, understood, value_in)
from stream_agent.theory.checks import GraphError, nearest


class InstallationError(ValueError):
    """Missing files of the package; the message says where they were looked for."""


def share_folder() -> Path:
    """
    Return the folder with ``config/`` and ``launch/``.

    :raises InstallationError: If it is not found.
    """
    # Of <prefix>/lib/python3.x/site-packages/stream_agent/share.py.
    here = Path(__file__)
    prefixes = [folder / 'share' / 'stream_agent' for folder in here.parents[4:5]]
    candidates = [here.parents[1], *prefixes, *installed_share()]
    for folder in candidates:
        if (folder / 'package.xml').exists() and (folder / 'config').exists():
            return folder
    raise InstallationError(
        f"no files of stream_agent in {', '.join(map(str, candidates))}; install the package "
        'with `pip install .` (without -e) or `colcon build`')


def installed_share() -> list[Path]:
    """Return the folder in ROS's index of packages, if there is an index and an entry."""
    try:
        from ament_index_python.packages import get_package_share_path
        return [get_package_share_path('stream_agent')]
    # Without AMENT_PREFIX_PATH the index raises OSError, without an entry LookupError.
    except (ImportError, LookupError, OSError):
        return []


# How the files of costs in config/graphs end, in which the others are graphs.
COSTS_FILE = '_costs.yaml'
# What parameters were called in the release before, and are called now.
OLD_PARAMETERS = {'executor': 'backend'}
# Whose sections a parameter file for us may have; 'robot' is for the launch file.
PROCESSES = ('agent', 'baseline', 'gate', 'recorder', 'simulation', 'expert', 'robot')
LARGEST_FILE = 2**20
# Of two values ROS takes the one whose type comes first, whichever was given later.
RANK = (bool, int, float, str)
KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number with a decimal point',
         str: 'text', list: 'a list of the same type'}
RULE = re.compile(r'(?:([A-Za-z_]\w*):)?([A-Za-z_][\w./]*):=(.*)', re.DOTALL | re.ASCII)


class ParameterFileError(ValueError):
    """A file that ROS reads otherwise than it seems to say, or not at all, and what to do."""


class Given(NamedTuple):
    """
    A value that a file or an argument gives to a parameter.

    :param value: As ROS reads it; None where an empty list unsets the parameter.
    :param text: As it is written; a list of texts for a list.
    :param place: ``FILE:LINE``, or the argument.
    :param section: For which processes, such as ``/**/gate``.
    :param order: How many were read before it.
    """

    value: Any
    text: Any
    place: str
    section: str
    order: int

    @property
    def rank(self) -> int:
        """Which of several values in one section counts: the lowest."""
        if isinstance(self.value, list):
            return len(RANK) + RANK.index(type(self.value[0]))
        return 2 * len(RANK) if self.value is None else RANK.index(type(self.value))

    @property
    def is_shared(self) -> bool:
        """Whether its section names no process."""
        return self.section.endswith('*')

    def __str__(self) -> str:
        return printable(f"[{', '.join(self.text)}]" if isinstance(self.text, list)
                         else self.text)


class Stray(NamedTuple):
    """A section that is for none of our processes; ``meant`` if it seems to be for ``nearest``."""

    section: str
    place: str
    nearest: str
    meant: bool

    def __str__(self) -> str:
        return (f"{self.place}: the section '{self.section}' is for none of our processes, the "
                f"nearest of which is '{self.nearest}'; if that is meant, write "
                f"'/**/{self.nearest.rpartition('/')[2]}'")


class ParameterFiles:
    """
    Parameter files as ROS joins them.

    Sections of one name are one, at the place of the first, whichever file they are in; of the
    sections that are for a process a later one overrides an earlier one.

    :raises ParameterFileError: If one of them is not a parameter file.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.paths: list[Path] = []
        #: Those without a parameter, as a power loss leaves them.
        self.empty: list[Path] = []
        # Of every section the parameters, in ROS's order, with all values that they were given.
        self._sections: dict[str, list[tuple[str, list[Given]]]] = {}
        self._places: list[tuple[str, str]] = []
        self._count = 0
        for path in paths:
            self.add_file(path)

    @classmethod
    def of_arguments(cls, args: Sequence[str]) -> 'ParameterFiles':
        """Read the files and single parameters among the arguments of a process, in order."""
        files, ours = cls(), False
        for word, following in zip(args, [*args[1:], '']):
            ours = word == '--ros-args' or ours and word != '--'
            if ours and word == '--params-file' and following:
                files.add_file(Path(following))
            elif ours and word in ('-p', '--param') and (rule := RULE.fullmatch(following)):
                process, name, text = rule.groups()
                place = f'-p {following}'
                try:
                    files._add(process or '/**', Entry(name, value_in(text, name, place), place))
                except GraphError as error:
                    raise ParameterFileError(str(error)) from error
        return files

    def add_file(self, path: Path) -> None:
        """Read another file, whose values override what was read before it."""
        if path not in self.paths:
            self.paths.append(path)
        sections = read_sections(path)
        if not any(section.entries for section in sections):
            self.empty.append(path)
        seen = dict[tuple[str, str], str]()
        for section in sections:
            self._places.append((section.name, section.place))
            for entry in section.entries:
                key = section.name.lstrip('/'), entry.name
                if key in seen:
                    raise ParameterFileError(f"{entry.place}: '{entry.name}' is defined twice, "
                                             f'first at {seen[key]}; leave one of them out')
                seen[key] = entry.place
                self._add(section.name, entry)

    def _add(self, section: str, entry: Entry) -> None:
        """Add a value where ROS's parser puts it."""
        entries, value = self._sections.setdefault(section, []), entry.value
        given = Given(understood(value), texts_of(value), entry.place, section, self._count)
        self._count += 1
        # A nested name is a new entry, unless its first part is the name of a value: that is it.
        known = entry.name.rpartition('.')[0] if entry.nested else entry.name
        for i, (name, values) in enumerate(entries):
            if name == known:
                entries[i] = entry.name, [*values, given]
                return
        entries.append((entry.name, [given]))

    def given(self, process: str) -> dict[str, Given]:
        """Return what counts for a process, by the names of its parameters as they are given."""
        return {name: min(reversed(values), key=lambda given: given.rank)
                for section, entries in self._sections.items() if matches(section, process)
                for name, values in entries}

    def of(self, process: str) -> dict[str, Any]:
        """
        Return the parameters of a process; those that are given by old names have the new ones.

        :param process: With its namespace, such as ``/robot/gate``.
        """
        return {name: given.value for name, given in self.renamed(process).items()}

    def renamed(self, process: str) -> dict[str, Given]:
        """Return what counts for a process as ``given`` does, but by the new names."""
        found = self.given(process)
        return {new: found.pop(old) for old, new in self.old_names(process).items()} | found

    def old_names(self, process: str) -> dict[str, str]:
        """Return new names by those of the release before that a process is given."""
        found = self.given(process)
        return {old: new for old, new in OLD_PARAMETERS.items() if old in found}

    def topics(self, namespace: str = '') -> dict[str, str]:
        """
        Return image_topic, to which /compressed is added, and cmd_vel_topic of the robot.

        :raises ContractError: If it cannot hold, or says others than /**/robot does.
        """
        contract = self.contract_of(f'{namespace}/agent')
        return {'image_topic': contract.image_topic or 'image',
                'cmd_vel_topic': contract.output.topic}

    def contract_of(self, process: str = '/agent') -> Contract:
        """
        Return the contract that a process has; of files without one, that of before.

        The topics of the latter are those that the launch file would give.

        :raises ContractError: If it cannot hold.
        """
        space = process.rpartition('/')[0]
        return Contract.of_given({
            # These belong to single processes, and the topics to the launch file.
            **{name: given[name] for other, name in (
                ('robot', 'image_topic'), ('robot', 'cmd_vel_topic'),
                ('agent', 'image_transport'), ('gate', 'command_type'))
               if name in (given := self.given(f'{space}/{other}'))}, **self.given(process)})

    def sources(self, process: str, parameter: str) -> list[Given]:
        """Return all values that a process is given for a parameter, as they were read."""
        return sorted((given for section, entries in self._sections.items()
                       if matches(section, process) for name, values in entries
                       if name == parameter for given in values), key=lambda given: given.order)

    def ignored(self, process: str) -> Iterator[str]:
        """Say of every value that was given last for a process, but does not count, why."""
        for section, entries in self._sections.items():
            for name, values in entries:
                if values[-1].place.startswith('-p ') and not matches(section, process):
                    yield (f"{values[-1].place} has no effect, as this process is '{process}'; "
                           f'write -p {name}:={values[-1]}')
        for name, counts in self.given(process).items():
            last = self.sources(process, name)[-1]
            if last is counts or last.value == counts.value:
                continue
            if last.section == counts.section:
                remedy = ('write that one with a decimal point' if counts.rank == RANK.index(int)
                          else f'write {KINDS[type(counts.value)]}, which {last} is not to ROS')
            elif last.place.startswith('-p ') and process.count('/') == 1:
                remedy = f'write -p {process[1:]}:{name}:={last}'
            else:
                remedy = f"put it into the section '{counts.section}'"
            yield (f'{last.place}: {name} {last} has no effect, as ROS takes {counts} of '
                   f"{counts.place} (section '{counts.section}'); {remedy}")

    def strays(self, namespace: str, others: Sequence[str] = ()) -> list[Stray]:
        """
        Return the sections that are for none of our processes.

        :param others: Names of processes besides ``PROCESSES``.
        """
        names = [*PROCESSES, *others]
        found = []
        for section, place in self._places:
            # `run` has several.
            section = re.sub(r'(?<=baseline)_\d+$', '', section)
            last = section.rpartition('/')[2]
            if any(matches(section, f'{namespace}/{name}') for name in names):
                continue
            meant = get_close_matches(last.lower(), names, 1, 0.75)
            (nearest,) = meant or get_close_matches(last.lower(), names, 1, 0.0)
            # The same file may serve several robots.
            file = place.rpartition(':')[0]
            served = any(matches(other, f'{namespace}/{nearest}') for other, at in self._places
                         if at.rpartition(':')[0] == file and other.rpartition('/')[2] == last)
            found.append(Stray(section, place, f'{namespace}/{nearest}',
                               bool(meant) and not served))
        return found


def read_sections(path: Path) -> list[Section]:
    """
    Return the sections of a parameter file, if ROS reads it as it is meant (P6).

    :raises ParameterFileError: If it cannot be read, is over 1 MiB, is not valid YAML, defines a
        key twice, or has aliases, anchors, tags or several documents.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text.encode()) > LARGEST_FILE:
            raise ParameterFileError(f"'{path}' is over 1 MiB; give a file of parameters alone")
        return sections_of(text, str(path))
    except OSError as error:
        raise ParameterFileError(f"'{path}': {error.strerror}; give the path of a parameter "
                                 'file') from error
    except UnicodeDecodeError as error:
        raise ParameterFileError(f"'{path}' is not valid YAML: {error}; fix it there") from error
    except GraphError as error:
        raise ParameterFileError(str(error)) from error


def check_parameter_files(args: Sequence[str]) -> None:
    """
    Refuse parameter files that ROS would read otherwise than they seem to say, or not at all.

    :param args: Of a process; its files follow --params-file.
    :raises ParameterFileError: For the first of them.
    """
    ParameterFiles.of_arguments(args)


def matches(pattern: str, name: str) -> bool:
    """Return whether a section is for a process: ``*`` is one part of its name, ``**`` any."""
    pattern = '/' + pattern.removeprefix('/')
    return re.fullmatch(pattern.replace('/*', r'(/\w+)'), name) is not None


def find_robot(name: str, folder: Path) -> Path:
    """
    Return the file of a robot, given its name in the folder or the path of another file.

    :raises ParameterFileError: If there is no such file.
    """
    shipped = {file.stem: file for file in sorted(folder.glob('*.yaml'))}
    file = shipped.get(name, Path(name).expanduser())
    if not file.is_file():
        raise ParameterFileError(
            f"robot: there is no '{name}'; shipped robots are {', '.join(shipped)}; the path of "
            'another such file may be given too')
    refuse_empty(file)
    return file


def refuse_empty(file: Path) -> None:
    """Refuse an empty file, which ROS takes: whoever gives it means some limits."""
    if file.is_file() and not file.read_bytes().strip():
        raise ParameterFileError(f"'{file}' is empty, so no limit would be set; copy it again")


def policy_file(given: str | Path) -> Path:
    """
    Return the file of a policy, given the file itself or a name in ``config/policies``.

    :raises InstallationError: If there is no such file.
    """
    return shipped_file(given, 'policy', 'policies', 'policies/*.safetensors')


def costs_file(given: str | Path) -> Path:
    """
    Return the file of nodes' costs, given the file itself or a name in ``config/graphs``.

    :raises InstallationError: If there is no such file.
    """
    return shipped_file(given, 'costs', 'costs', f'graphs/*{COSTS_FILE}')


def shipped_file(given: str | Path, kind: str, several: str, pattern: str) -> Path:
    """
    Return a file that is given, or that of its name which matches a pattern in ``config``.

    :param kind: What it is, and ``several`` what more than one are, for the error.
    :raises InstallationError: If there is no such file.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path.resolve()
    shipped = {file.stem: file for file in (share_folder() / 'config').glob(pattern)}
    if str(given) in shipped or path.exists():  # whoever reads another thing says what it is
        return shipped.get(str(given), path).resolve()
    known, names = f'shipped {several}', list(shipped)
    if path.suffix and (beside := list(map(str, path.parent.glob(Path(pattern).name)))):
        known, names = f'{several} there', beside
    raise InstallationError(f"{kind} '{given}': no such file; "
                            + nearest(str(given), sorted(names), known))


def write_file(path: str | Path, content: bytes | str) -> None:
    """
    Write a file so that a reader sees the old one or the new one; half of it is never left.

    :raises OSError: With the path, if it cannot be written.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.name}.part')
    try:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())
        unfinished.replace(path)
    except OSError as error:
        # What is there of it would take the last of a full disk; its folder may be none.
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
