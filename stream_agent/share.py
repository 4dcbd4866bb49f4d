"""Files of the package and of robots: where they are, and how ROS reads parameter files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
import re
from typing import Any

from stream_agent.graph_files.located_yaml import read_yaml
from stream_agent.theory.checks import GraphError, nearest
import yaml


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


USUAL_TOPICS = {'image_topic': 'image', 'cmd_vel_topic': 'cmd_vel'}
PARAMETERS = 'ros__parameters'
# What parameters were called in the release before, and are called now.
OLD_PARAMETERS = {'executor': 'backend'}
LARGEST_FILE = 2**20
NUMBER = re.compile(r'[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+')


class ParameterFileError(ValueError):
    """A file that ROS would not read either; the message says what is wrong and what to do."""


class ParameterFiles:
    """
    Parameter files, of which the later ones override the earlier ones.

    :raises ParameterFileError: If one of them is not a parameter file.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        paths = list(paths)
        self.paths = list(dict.fromkeys(paths))
        # As in ROS: sections of one name are one, at the place of the first.
        self._sections: dict[str, dict[str, Any]] = {}
        for path in paths:
            for pattern, parameters in read_sections(path):
                self._sections.setdefault(pattern, {}).update(parameters)

    def of(self, name: str) -> dict[str, Any]:
        """
        Return the parameters of a process; those that are given by old names have the new ones.

        :param name: With its namespace, such as ``/robot/gate``.
        """
        found = self._given(name)
        renamed = {new: found.pop(old) for old, new in self.old_names(name).items()}
        return renamed | found

    def old_names(self, name: str) -> dict[str, str]:
        """Return new names by those of the release before that a process is given."""
        return {old: new for old, new in OLD_PARAMETERS.items() if old in self._given(name)}

    def _given(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pattern, parameters in self._sections.items():
            if matches(pattern, name):
                found |= parameters
        return found

    def topics(self, namespace: str = '') -> dict[str, str]:
        """Return image_topic and cmd_vel_topic of the robot, or the usual ones."""
        given = self.of(f'{namespace}/robot')
        return {name: str(given.get(name, usual)) for name, usual in USUAL_TOPICS.items()}


def read_sections(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """
    Return (pattern of names, parameters) of every section of a file.

    :raises ParameterFileError: If it cannot be read, or is not a parameter file.
    """
    data = read_plain(path)
    sections = list(walk(data, '', path)) if isinstance(data, dict) else []
    if not sections:
        raise ParameterFileError(f"'{path}' has no section with {PARAMETERS}; config/robot.yaml "
                                 'shows what a parameter file of ROS 2 looks like')
    return sections


def read_plain(path: Path) -> Any:
    """
    Return what a YAML file says, if that can be read in one way only (P6).

    :raises ParameterFileError: If it cannot be read, is over 1 MiB, is not valid YAML, defines a
        key twice, or has aliases, anchors, tags or several documents.
    """
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read(LARGEST_FILE + 1)
        if len(text.encode()) > LARGEST_FILE:
            raise ParameterFileError(f"'{path}' is over 1 MiB; give a file of parameters alone")
        read_yaml(text, str(path))
        return yaml.safe_load(text)
    except OSError as error:
        raise ParameterFileError(f"'{path}': {error.strerror}; give the path of a parameter "
                                 'file') from error
    except (GraphError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise ParameterFileError(str(error) if isinstance(error, (GraphError, ParameterFileError))
                                 else f"'{path}' is not valid YAML: {error}; fix it there"
                                 ) from error


def check_parameter_files(args: Sequence[str]) -> None:
    """
    Refuse parameter files that ROS would read otherwise than they seem to say.

    :param args: Of a process; its files follow --params-file.
    :raises ParameterFileError: For the first of them.
    """
    for option, path in zip(args, args[1:]):
        if option == '--params-file':
            read_plain(Path(path))


def walk(data: dict[str, Any], prefix: str, path: Path
         ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the sections, whose namespaces and names may be nested keys."""
    for key, value in data.items():
        if key == PARAMETERS and isinstance(value, dict):
            yield prefix, {str(name): number(item) for name, item in value.items()}
        elif isinstance(value, dict):
            yield from walk(value, f"{prefix}/{str(key).strip('/')}", path)
        else:
            raise ParameterFileError(
                f"'{path}': '{key}' is not in a section; put it below the name of a process and "
                f'{PARAMETERS}')


def number(value: Any) -> Any:
    """Read 1e-3 as a number, as ROS does, in lists too; to PyYAML it is text."""
    if isinstance(value, list):
        return [number(item) for item in value]
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def matches(pattern: str, name: str) -> bool:
    """Return whether a section is for a process: ``*`` is one part of its name, ``**`` any."""
    parts = [r'(/[^/]+)*' if part == '**' else '/' + re.escape(part).replace(r'\*', '[^/]+')
             for part in pattern.strip('/').split('/')]
    return re.fullmatch(''.join(parts), name) is not None


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
    return file


def policy_file(given: str | Path) -> Path:
    """
    Return the file of a policy, given the file itself or a name in ``config/policies``.

    :raises InstallationError: If there is no such file.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path.resolve()
    folder = share_folder() / 'config' / 'policies'
    shipped = folder / f'{given}.safetensors'
    if shipped.is_file() or path.exists():  # whoever reads another thing says what it is
        return (shipped if shipped.is_file() else path).resolve()
    kind, names = 'shipped policies', [file.stem for file in folder.glob('*.safetensors')]
    if path.suffix and (beside := list(map(str, path.parent.glob('*.safetensors')))):
        kind, names = 'policies there', beside
    raise InstallationError(f"policy '{given}': no such file; "
                            + nearest(str(given), sorted(names), kind))


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
        # What is there of it would take the last of a full disk.
        unfinished.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
