"""Where the package's shared files lie: graphs, policies, parameters, launch files."""

import os
from pathlib import Path
import sys

PACKAGE = 'stream_agent'


def share_folder() -> Path:
    """
    Return the folder that holds config/ and launch/.

    The source tree where this module is part of one, else the first install prefix with the
    package: those of ROS 2 (AMENT_PREFIX_PATH), then Python's own.

    :raises FileNotFoundError: If there is none.
    """
    source_tree = Path(__file__).parents[1]
    if (source_tree / 'package.xml').is_file():
        return source_tree
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        share = Path(prefix) / 'share' / PACKAGE
        if (share / 'config').is_dir():
            return share
    raise FileNotFoundError(f'no share/{PACKAGE} under {", ".join(filter(None, prefixes))}; '
                            'install the package with `pip install .` or `colcon build`')
