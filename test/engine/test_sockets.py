"""What listens: nothing that another machine could reach, where all processes are on this one."""

import os
from pathlib import Path
import socket
import struct
import subprocess
import sys

import pytest
from stream_agent.engine.ranks.local_ranks import make_job, start_ranks
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import streaming_pattern
from support.graphs import EVERY_LAYER
from support.jobs import wait_for

ROOT = Path(__file__).parents[2]
# A process of two, which stays in the group until its standard input ends.
TRAINING = """
import sys
from pathlib import Path
from stream_agent.learning import distributed
distributed.join('cpu')
distributed.summed([1.0])
Path(sys.argv[1], f'joined{distributed.rank()}').touch()
sys.stdin.read()
"""
pytestmark = pytest.mark.child_process


def listening(pids):
    """Return (address, port) of all TCP sockets on which processes listen; ::1 is not an IPv4."""
    inodes = {os.readlink(file).removeprefix('socket:[').removesuffix(']')
              for pid in pids for file in Path(f'/proc/{pid}/fd').iterdir()
              if os.path.islink(file)}
    found = set()
    for table in ('tcp', 'tcp6'):
        for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == '0A' and words[9] in inodes:
                address, port = words[1].split(':')
                if table == 'tcp':
                    address = socket.inet_ntoa(struct.pack('=I', int(address, 16)))
                found.add((address, int(port, 16)))
    return found


def other_address():
    """Return an address of this machine by which others reach it; '' if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # Nothing is sent: the system says which address it would send from.
            asked.connect(('192.0.2.254', 9))
        except OSError:
            return ''
        address = asked.getsockname()[0]
    return '' if address.startswith('127.') else address


def check_only_loopback(pids):
    found = listening(pids)
    assert found and {address for address, _ in found} == {'127.0.0.1'}
    for _, port in found:
        with socket.create_connection(('127.0.0.1', port), timeout=5):
            pass
        if address := other_address():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, port), timeout=5)


def children(pid):
    words = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [int(word) for word in words]


def test_ranks_of_an_agent_listen_on_loopback_alone(tmp_path):
    path = tmp_path / 'policy.safetensors'
    network = RolloutNetwork(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    save_policy(path, Policy(
        network, Preprocessing((1, 8, 8)), CommandScale(1.0, 2.0), 'streaming', {}))
    engine = start_ranks(make_job(2, str(path), partition='equal'), load_policy(path).network)
    try:
        assert engine.ranks == 2
        check_only_loopback([os.getpid(), *children(os.getpid())])
    finally:
        engine.close()


def test_processes_of_a_training_listen_on_loopback_alone(tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    # As torchrun sets it, but for the store that it has in a process of its own.
    processes = [subprocess.Popen(
        [sys.executable, '-c', TRAINING, str(tmp_path)], stdin=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'RANK': str(rank),
             'WORLD_SIZE': '2', 'LOCAL_WORLD_SIZE': '2', 'MASTER_ADDR': socket.gethostname(),
             'MASTER_PORT': str(port)}) for rank in range(2)]
    try:
        wait_for(lambda: all((tmp_path / f'joined{rank}').exists() for rank in range(2)), 60)
        check_only_loopback([process.pid for process in processes])
    finally:
        for process in processes:
            process.stdin.close()
        for process in processes:
            assert process.wait(30) == 0
