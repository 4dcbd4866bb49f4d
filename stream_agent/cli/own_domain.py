"""ROS domains of its own for a run: nobody else's robot hears it, nor does another run."""

from collections.abc import Collection, Mapping, MutableMapping, Sequence
import errno
from functools import partial
import os
from pathlib import Path
import random
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

from stream_agent.cli.process_group import begin

# Above them the ports of a domain are among those that Linux gives to anybody (32768 and up).
DOMAINS = range(1, 101)
# Ports of DDS: that of domain d is 7400 + 250 d, and those that follow [RTPS 2.5, 9.6.2].
PORT_BASE, PORTS_OF_DOMAIN = 7400, 250
ADDRESS = '\0stream_agent/run/'
# The highest that DDS can make ports of.
LAST_DOMAIN = 232
OPEN_SOCKETS = Path('/proc/net')
# What would let others in: addresses of peers and servers, and the old name of the range.
WAYS_IN = ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER', 'ROS_LOCALHOST_ONLY')


class RunMark:
    """
    What tells other runs on this machine of this one: a socket without a file, until it ends.

    :param name: Unique among the runs of the machine, such as that of a domain.
    :param ours: Names of the same run's other marks, which are told of others alone.
    :raises OSError: If there is a run of that name.
    """

    def __init__(self, name: str, ours: Collection[str] = ()) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(ADDRESS + name if sys.platform == 'linux' else '')
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self.met_others = greet(but={name, *ours})

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


def greet(but: Collection[str]) -> bool:
    """Tell other runs on this machine that there is one more; returns whether there are any."""
    met = False
    for line in lines_of('unix'):
        _, found, name = line.partition('@' + ADDRESS[1:])
        if found and name not in but:
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


def take_domain(ours: Collection[str] = ()) -> tuple[int, RunMark]:
    """
    Choose a domain at random that nobody on this machine is in, and mark it as taken.

    :param ours: As for ``RunMark``.
    :raises OSError: If all of them are taken.
    """
    free = sorted(set(DOMAINS) - occupied_domains())
    random.shuffle(free)
    for domain in free:
        try:
            return domain, RunMark(f'domain/{domain}', ours)
        except OSError:
            continue
    raise OSError('all ROS domains from 1 to 100 are in use on this machine; choose one by '
                  '--domain')


def keep_to_itself(environment: MutableMapping[str, str], domain: int) -> None:
    """Let the processes that get this environment meet in a domain, and nobody else."""
    for name in WAYS_IN:
        environment.pop(name, None)
    environment.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')


class Domain(NamedTuple):
    """
    A ROS domain that a run uses.

    :param environment: Of the processes that are to meet in it.
    :param mark: By which other runs know of this one.
    :param is_ours: Whether nobody was in it, and whoever comes knows that it is a simulator's.
    """

    number: int
    environment: dict[str, str]
    mark: RunMark
    is_ours: bool


class ForeignListenerError(ValueError):
    """A node that might move a real robot; the message says which, and what to do."""


def choose_domains(count: int, first: int | None, allow_foreign_listeners: bool,
                   topic: str = 'cmd_vel') -> list[Domain]:
    """
    Choose as many ROS domains as are needed.

    :param first: The number of the first, if the user chose it; others follow it. If None, that
        of ``ROS_DOMAIN_ID``, and without one, domains that nobody on this machine is in.
    :param topic: Of the commands.
    :raises ForeignListenerError: If a node in a chosen one listens to commands.
    :raises OSError: If too few domains are free.
    :raises ValueError: If there are too few from the first one on.
    """
    variables = {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', **os.environ}
    if first is None and (given := variables.get('ROS_DOMAIN_ID')):
        if not (given.isdecimal() and int(given) <= LAST_DOMAIN):
            raise ValueError(f"ROS_DOMAIN_ID is '{given}'; set it to a whole number from 0 to "
                             f'{LAST_DOMAIN}, or to nothing')
        first = int(given)
    domains: list[Domain] = []
    for place in range(count):
        ours = [domain.mark.name for domain in domains]
        environment = dict(variables)
        if first is None:
            number, mark = take_domain(ours)
            keep_to_itself(environment, number)
        else:
            number, name = first + place, f'process/{os.getpid()}/{place}'
            if first + count - 1 > LAST_DOMAIN:
                raise ValueError(f'{count} drives need as many ROS domains, and the highest is '
                                 f'{LAST_DOMAIN}; choose one up to {LAST_DOMAIN - count + 1}')
            environment['ROS_DOMAIN_ID'] = str(number)
            if not allow_foreign_listeners:
                refuse_foreign_listeners(environment, topic)
            mark = RunMark(name, ours)
        domains.append(Domain(number, environment, mark, first is None))
    return domains


def how_to_look_in(domains: Sequence[Domain], names: Sequence[str]) -> str:
    """Say in a sentence where what drives can be watched; ``names`` say what is in a domain."""
    numbers = [str(domain.number) if len(domains) == 1 else f'{domain.number} ({name})'
               for domain, name in zip(domains, names)]
    return (f"in ROS domain{'s' * (len(domains) > 1)} {', '.join(numbers)}, on this machine only; "
            f'to look in: ROS_DOMAIN_ID={domains[0].number} '
            'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST rqt')


def refuse_foreign_listeners(environment: Mapping[str, str], topic: str) -> None:
    """Raise ForeignListenerError if a node listens to commands before any of ours is started."""
    # In a process of its own, as this one knows no ROS.
    probe = subprocess.run(
        [sys.executable, '-m', 'stream_agent.nodes.listeners', f"/{topic.lstrip('/')}"],
        capture_output=True, text=True, env=environment,
        preexec_fn=partial(begin, os.getpid(), signal.SIGTERM))
    if probe.returncode:
        raise OSError(f'nobody could look who listens to {topic}: {probe.stderr.strip()}')
    if found := probe.stdout.strip():
        raise ForeignListenerError(
            f"in ROS domain {environment['ROS_DOMAIN_ID']}: {found}; nothing was started. Leave "
            'out --domain and ROS_DOMAIN_ID for a domain of its own, or say '
            '--allow-foreign-listeners if it cannot move anything')
