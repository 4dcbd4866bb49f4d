"""Files of the package and of robots: where they are, and how ROS reads parameter files."""

from collections.abc import Iterable, Iterator
from pathlib import Path
import re
from typing import Any

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
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ParameterFileError(f"'{path}': {error.strerror}; give the path of a parameter "
                                 'file') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = ' '.join(str(error).split()).replace(';', ',')
        raise ParameterFileError(f"'{path}' is not valid YAML: {reason}; fix it there") from error
    sections = list(walk(data, '', path)) if isinstance(data, dict) else []
    if not sections:
        raise ParameterFileError(f"'{path}' has no section with {PARAMETERS}; config/robot.yaml "
                                 'shows what a parameter file of ROS 2 looks like')
    return sections


def walk(data: dict[str, Any], prefix: str, path: Path
         ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the sections, whose namespaces and names may be nested keys."""
    for key, value in data.items():
        if key == PARAMETERS and isinstance(value, dict):
            # ROS reads 1e-3 as a number; to PyYAML it is text.
            yield prefix, {
                str(name): float(item) if isinstance(item, str) and NUMBER.fullmatch(item)
                else item for name, item in value.items()}
        elif isinstance(value, dict):
            yield from walk(value, f"{prefix}/{str(key).strip('/')}", path)
        else:
            raise ParameterFileError(
                f"'{path}': '{key}' is not in a section; put it below the name of a process and "
                f'{PARAMETERS}')


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


def policy_file(given: Path) -> Path:
    """
    Return the file of a policy, given the file itself or a name in ``config/policies``.

    :raises InstallationError: If there is no such file.
    """
    shipped = share_folder() / 'config' / 'policies' / f'{given}.safetensors'
    for path in (given.expanduser(), shipped):
        if path.is_file():
            return path.resolve()
    names = ', '.join(sorted(path.stem for path in shipped.parent.glob('*.safetensors')))
    raise InstallationError(f"policy '{given}': no such file; shipped policies are "
                            f"{names or 'none'}")
