"""Who may import whom: below nodes/ nothing knows ROS, and the theory and the gate no torch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'stream_agent'
# installation.py asks ROS's index of packages, where there is one.
BELOW_ROS = [path for path in sorted(PACKAGE.rglob('*.py'))
             if 'nodes' not in path.parts and path.name != 'installation.py']
NO_TORCH = [path for folder in (
    'theory', 'gate', 'measurement', 'simulation', 'recordings', 'doctor')
            for path in sorted((PACKAGE / folder).rglob('*.py'))]
ABOVE_NETWORK = {'engine', 'learning', 'simulation', 'gate', 'measurement', 'commands', 'options',
                 'node_durations', 'recordings', 'doctor'}
# What lies to the left of a folder in the data's way may not import what lies to its right.
NOT_BELOW = {
    'theory': {'network', *ABOVE_NETWORK},
    'network': ABOVE_NETWORK,
    'gate': {'theory', 'network', *ABOVE_NETWORK} - {'gate'},
    'simulation': {'theory', 'network', *ABOVE_NETWORK} - {'simulation'},
    'measurement': {'theory', 'network', *ABOVE_NETWORK} - {'measurement'},
    'recordings': {'theory', 'network', *ABOVE_NETWORK} - {'recordings'},
    'doctor': {'theory', 'network', *ABOVE_NETWORK} - {'doctor', 'gate'},
}
ROS = {'ament_index_python', 'builtin_interfaces', 'launch', 'launch_ros', 'rclpy', 'std_srvs'}


def imports(path: Path) -> set[str]:
    """Return the full names of the modules that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: a relative import hides where it leads'
            found.add(node.module)
    return found


def top_level(path: Path) -> set[str]:
    """Return the packages that a module imports."""
    return {name.split('.')[0] for name in imports(path)}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize('path', BELOW_ROS, ids=name_of)
def test_nothing_below_the_nodes_knows_ros(path):
    assert not {name for name in top_level(path) if name in ROS or name.endswith('_msgs')}
    assert not {name for name in imports(path) if name.startswith('stream_agent.nodes')}


@pytest.mark.parametrize('path', NO_TORCH, ids=name_of)
def test_what_is_not_about_networks_knows_no_torch(path):
    assert not {'torch', 'safetensors'} & top_level(path)


@pytest.mark.parametrize('folder', NOT_BELOW)
def test_data_flows_one_way(folder):
    imported = {name.split('.')[1] for path in (PACKAGE / folder).rglob('*.py')
                for name in imports(path) if name.startswith('stream_agent.')}
    assert not imported & NOT_BELOW[folder]


def test_the_imports_are_read():
    assert {'torch', 'numpy'} <= top_level(PACKAGE / 'engine' / 'engine.py')
    assert 'rclpy' in top_level(PACKAGE / 'nodes' / 'agent_node.py')
