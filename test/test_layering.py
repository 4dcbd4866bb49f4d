"""Who may import whom: below nodes/ nothing knows ROS, and the theory and the gate no torch."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'stream_agent'
# The doctor's node and its watch look at topics, and share.py asks ROS's index of packages where
# there is one.
KNOW_ROS = {'doctor/node.py', 'doctor/options.py', 'doctor/watching.py', 'share.py'}
BELOW_ROS = [path for path in sorted(PACKAGE.rglob('*.py'))
             if 'nodes' not in path.parts and str(path.relative_to(PACKAGE)) not in KNOW_ROS]
# The doctor's probe runs the policy, in a process of its own.
KNOW_TORCH = {'doctor/policy_probe.py'}
NO_TORCH = [path for folder in (
    'theory', 'graph_files', 'gate', 'measurement', 'simulation', 'recordings', 'doctor',
    'contract')
            for path in sorted((PACKAGE / folder).rglob('*.py'))
            if str(path.relative_to(PACKAGE)) not in KNOW_TORCH]
ABOVE_NETWORK = {'engine', 'driving', 'learning', 'simulation', 'gate', 'measurement', 'cli',
                 'recordings', 'doctor', 'importing'}
DRAW = {'drawing'}
# What lies to the left of a folder in the data's way may not import what lies to its right.
NOT_BELOW = {
    'contract': {'theory', 'graph_files', 'network', *DRAW, *ABOVE_NETWORK},
    'theory': {'graph_files', 'network', *DRAW, *ABOVE_NETWORK},
    'graph_files': {'network', *DRAW, *ABOVE_NETWORK},
    'drawing': {'graph_files', 'network', *ABOVE_NETWORK},
    'network': ABOVE_NETWORK | DRAW,
    'engine': {'driving', 'learning', 'simulation', 'cli', 'doctor', 'importing', *DRAW},
    'importing': {'driving', 'learning', 'simulation', 'cli', 'doctor', 'gate', 'recordings',
                  *DRAW},
    'driving': {'learning', 'cli', 'doctor', 'importing'},
    'learning': {'cli', 'doctor', 'importing'},
    'gate': {'theory', 'network', *ABOVE_NETWORK} - {'gate'},
    'simulation': {'theory', 'network', *ABOVE_NETWORK} - {'simulation'},
    'measurement': {'theory', 'network', *ABOVE_NETWORK} - {'measurement'},
    'recordings': {'theory', 'network', *ABOVE_NETWORK} - {'recordings'},
}
ROS = {'ament_index_python', 'builtin_interfaces', 'launch', 'launch_ros', 'rclpy', 'std_srvs'}


@cache
def imports(path: Path) -> set[str]:
    """Return the full names of what a module imports, wherever it does, and of where from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: a relative import hides where it leads'
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


def top_level(path: Path) -> set[str]:
    """Return the packages that a module imports."""
    return {name.split('.')[0] for name in imports(path)}


def test_nothing_below_the_nodes_knows_ros():
    for path in BELOW_ROS:
        assert not {name for name in top_level(path)
                    if name in ROS or name.endswith('_msgs')}, path
        assert not {name for name in imports(path)
                    if name.startswith('stream_agent.nodes')}, path


def test_what_is_not_about_networks_knows_no_torch():
    for path in NO_TORCH:
        assert not {'torch', 'safetensors'} & top_level(path), path


@pytest.mark.parametrize('folder', NOT_BELOW)
def test_data_flows_one_way(folder):
    imported = {name.split('.')[1] for path in (PACKAGE / folder).rglob('*.py')
                for name in imports(path) if name.startswith('stream_agent.')}
    assert not imported & NOT_BELOW[folder]


# The report can be made anew without the command line of the package.
READ_ARGUMENTS = {'cli', 'doctor', 'measurement/report.py'}


def test_the_command_line_alone_reads_arguments():
    for path in PACKAGE.rglob('*.py'):
        name = path.relative_to(PACKAGE)
        if not READ_ARGUMENTS & {name.parts[0], str(name)}:
            assert 'argparse' not in imports(path), path


def test_the_imports_are_read():
    assert {'torch', 'numpy'} <= top_level(PACKAGE / 'engine' / 'engine.py')
    assert 'rclpy' in top_level(PACKAGE / 'nodes' / 'agent_node.py')


def test_the_theory_draws_nothing():
    for path in (PACKAGE / 'theory').rglob('*.py'):
        assert not {'torch', 'matplotlib'} & top_level(path), path
