"""A ROS domain of its own for a run: nobody else's robot hears it, nor does another run."""

from collections.abc import MutableMapping
import errno
from pathlib import Path
import random
import socket
import sys

# Above them the ports of a domain are among those that Linux gives to anybody (32768 and up).
DOMAINS = range(1, 101)
# Ports of DDS: that of domain d is 7400 + 250 d, and those that follow [RTPS 2.5, 9.6.2].
PORT_BASE, PORTS_OF_DOMAIN = 7400, 250
ADDRESS = '\0stream_agent/run/'
OPEN_SOCKETS = Path('/proc/net')
# What would let others in: addresses of peers and servers, and the old name of the range.
WAYS_IN = ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER', 'ROS_LOCALHOST_ONLY')


class RunMark:
    """
    What tells other runs on this machine of this one: a socket without a file, until it ends.

    :param name: Unique among the runs of the machine, such as that of a domain.
    :raises OSError: If there is a run of that name.
    """

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(ADDRESS + name if sys.platform == 'linux' else '')
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.met_others = greet(but=name)

    def others(self) -> bool:
        """Return whether another run was active since this one began."""
        try:
            self._socket.accept()[0].close()
            self.met_others = True
        except BlockingIOError:
            pass
        return self.met_others

    def close(self) -> None:
        """Be no run any more."""
        self._socket.close()


def greet(but: str) -> bool:
    """Tell other runs on this machine that there is one more; returns whether there are any."""
    met = False
    for line in lines_of('unix'):
        _, found, name = line.partition('@' + ADDRESS[1:])
        if found and name != but:
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                # It may end just now; and one that has been told often enough does not answer.
                met |= client.connect_ex(ADDRESS + name) in (0, errno.EAGAIN)
    return met


def lines_of(protocol: str) -> list[str]:
    """Return Linux's list of open sockets of a protocol; empty where there is none."""
    try:
        return (OPEN_SOCKETS / protocol).read_text().splitlines()[1:]
    except OSError:
        return []


def occupied_domains() -> set[int]:
    """Return the domains that a process on this machine takes part in, by its DDS ports."""
    ports = {int(line.split()[1].rsplit(':', 1)[1], 16)
             for protocol in ('udp', 'udp6') for line in lines_of(protocol)}
    return {(port - PORT_BASE) // PORTS_OF_DOMAIN for port in ports if port >= PORT_BASE}


def take_domain() -> tuple[int, RunMark]:
    """
    Choose a domain at random that nobody on this machine is in, and mark it as taken.

    :raises OSError: If all of them are taken.
    """
    free = sorted(set(DOMAINS) - occupied_domains())
    random.shuffle(free)
    for domain in free:
        try:
            return domain, RunMark(f'domain/{domain}')
        except OSError:
            continue
    raise OSError('all ROS domains from 1 to 100 are in use on this machine; choose one by '
                  '--domain')


def keep_to_itself(environment: MutableMapping[str, str], domain: int) -> None:
    """Let the processes that get this environment meet in a domain, and nobody else."""
    for name in WAYS_IN:
        environment.pop(name, None)
    environment.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
