"""Whole jobs of several processes: an untrained policy for them, and what is left of them."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import time

from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.network.checkpoint import CommandScale, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import ParameterFiles
from stream_agent.theory.patterns import sequential_pattern
import torch

ROOT = Path(__file__).parents[2]
DOMAIN = str(1 + os.getpid() % 100)


def save_untrained(folder: Path) -> Path:
    """Write a policy of the lane's graph that has learnt nothing."""
    graph = load_graph(ROOT / 'config' / 'graphs' / 'lane.yaml')
    torch.manual_seed(0)
    network = RolloutNetwork(graph, sequential_pattern(graph))
    path = folder / 'untrained.safetensors'
    save_policy(path, Policy(network, Preprocessing(network.shapes[network.input]),
                             CommandScale(1.0, 2.0), 'sequential', {}))
    return path


def save_scanning(folder: Path, **graph) -> Path:
    """
    Write a policy of scan_car's scan alone that has learnt nothing.

    :param graph: Further input nodes by name, with their shapes.
    """
    car = ParameterFiles([ROOT / 'config' / 'robots' / 'scan_car.yaml']).contract_of()
    shapes = {'scan': [60], **graph}
    spec = graph_from_data({
        'nodes': {**{name: {'shape': shape} for name, shape in shapes.items()},
                  'command': {'shape': [2], 'activation': 'tanh'}},
        'edges': [{'source': name, 'target': 'command', 'transform': 'dense'}
                  for name in shapes], 'output': 'command'})
    torch.manual_seed(0)
    network = RolloutNetwork(spec, sequential_pattern(spec))
    path = folder / 'scanning.safetensors'
    save_policy(path, Policy(network, car.conversion('scan', (60,)), CommandScale(1.0, 2.0),
                             'sequential', {}, others={
                                 name: car.conversion(name, shape)
                                 for name, shape in graph.items()}))
    return path


class Job:
    """
    A command that starts processes of its own; both streams go to a file.

    :param domain: Whether this test run's ROS domain is chosen for it.
    """

    def __init__(self, command: list[str], folder: Path, domain: bool = True) -> None:
        self._said = folder / 'said.txt'
        chosen = {'ROS_DOMAIN_ID': DOMAIN if domain else '',
                  'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
        with self._said.open('w') as file:
            self.popen = subprocess.Popen(
                command, cwd=folder, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': '1', 'ROS_LOG_DIR': str(folder),
                     **chosen})

    @property
    def said(self) -> str:
        """All that was printed so far."""
        return self._said.read_text()

    def nodes(self) -> dict[str, int]:
        """Return the processes of ROS nodes that it has started, by the names of the nodes."""
        found = {}
        pid = self.popen.pid
        for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split():
            for word in Path(f'/proc/{child}/cmdline').read_text().split('\0'):
                if word.startswith('__node:='):
                    found[word.removeprefix('__node:=')] = int(child)
        return found

    def close(self) -> None:
        """End it and its processes, whatever state they are in."""
        if self.popen.poll() is None:
            pids = [*self.nodes().values(), self.popen.pid]
            for pid in pids:
                os.kill(pid, 9)
            self.popen.wait()


def is_running(pid: int) -> bool:
    """Say whether a process is there and has not ended."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')')[-1].split()[0] != 'Z'
    except OSError:
        return False


def wait_for(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Fail if a condition does not come true in time."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f'did not happen within {timeout} s'
        time.sleep(0.05)
