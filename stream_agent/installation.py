"""Where the package's files are: in the source tree, or where pip or colcon installed them."""

from pathlib import Path


class InstallationError(ValueError):
    """Files of the package that are not there; the message says where they were looked for."""


def share_folder() -> Path:
    """
    Return the folder with ``config/`` and ``launch/``.

    :raises InstallationError: If there is none.
    """
    # Of <prefix>/lib/python3.x/site-packages/stream_agent/installation.py.
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
    """Return the folder that ROS's index of packages has, if there is an index and an entry."""
    try:
        from ament_index_python.packages import get_package_share_path
        return [get_package_share_path('stream_agent')]
    # Without AMENT_PREFIX_PATH the index raises OSError, without an entry LookupError.
    except (ImportError, LookupError, OSError):
        return []
