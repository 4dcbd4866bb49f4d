"""
Real nodes over real DDS: a ROS domain of its own for every run, a peer, and processes.

``peer`` is the test's own end of the topics, ``start`` runs a Python process with its output
captured, ``start_node`` one of ours: ``start_node('gate', max_speed=0.8)``. ``make_node`` makes a
ROS node in this process, without discovery: ``make_node(GateNode, max_speed=0.8)``.
"""

from collections.abc import Callable
import gc
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter_client import AsyncParameterClient
from rclpy.signals import SignalHandlerOptions
from stream_agent.nodes.messages import COMMAND_QOS, WATCH_COMMAND_QOS
from support.fork_server import ForkServer
from support.wheels import Robot

ROOT = Path(__file__).parents[2]

# The others know no torch, and are to be tested without it: it makes their first message to the
# log slow, as that looks for its place among all modules.
SLOW_TO_IMPORT = {'agent', 'doctor', 'recorder'}

# Set before rclpy is initialised, here and in every process that a test starts.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
os.environ.pop('ROS_LOCALHOST_ONLY', None)


def pytest_collection_modifyitems(config, items):
    """Leave tests that last for minutes to those who ask for them by ``-m``."""
    for item in items:
        if item.get_closest_marker('soak') and 'soak' not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason='lasts for minutes: pytest -m soak'))


class Heard(NamedTuple):
    """
    A message and its arrival.

    :param at: Steady seconds (``time.monotonic``) of the arrival.
    :param ros_ns: ROS time of the arrival [ns].
    """

    at: float
    ros_ns: int
    message: Any


class Peer:
    """The test's own ROS node, spun only by ``spin`` and ``spin_until``."""

    def __init__(self) -> None:
        self.node = rclpy.create_node('test_peer')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def hear(self, message_type, topic: str, qos=WATCH_COMMAND_QOS) -> list[Heard]:
        """Subscribe, and return the list that fills while the peer is spun."""
        heard = []
        clock = self.node.get_clock()
        self.node.create_subscription(
            message_type, topic, lambda message: heard.append(
                Heard(time.monotonic(), clock.now().nanoseconds, message)), qos)
        return heard

    def spin(self, seconds: float) -> None:
        """Spin for a time."""
        self._spin(lambda: False, seconds)

    def spin_until(self, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        """
        Spin until the condition is true.

        :param timeout: Seconds after which the test fails.
        """
        assert self._spin(condition, timeout), f'did not happen within {timeout} s'

    def _spin(self, condition: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left, 0.02))
        return True

    def set_parameters(self, node_name: str, **values: float | bool | str) -> list[Any]:
        """Change parameters of another node together; returns its SetParametersResult."""
        client = AsyncParameterClient(self.node, node_name)
        self.spin_until(client.services_are_ready)
        answer = client.set_parameters_atomically(
            [rclpy.Parameter(name, value=value) for name, value in values.items()])
        self.spin_until(answer.done)
        return answer.result().result

    def call(self, service_type, name: str, request, timeout: float = 20.0):
        """
        Ask a service that may be asked twice, and return its answer.

        An answer that the service sends before it has discovered this end is lost.
        """
        client = self.node.create_client(service_type, name)
        self.spin_until(client.service_is_ready, timeout)
        answers = []

        def answered() -> bool:
            return any(answer.done() for answer in answers)

        for _ in range(5):
            answers.append(client.call_async(request))
            if self._spin(answered, timeout / 5):
                return next(answer.result() for answer in answers if answer.done())
        raise AssertionError(f'no answer from {name} within {timeout} s')

    def close(self) -> None:
        """Leave the topics."""
        self._executor.shutdown()
        self.node.destroy_node()


class Process:
    """A Python process; what it says is captured."""

    def __init__(self, server: ForkServer, *arguments: str) -> None:
        self._said = tempfile.TemporaryFile()
        # With ROOT, so that `stream_agent` is this source tree, installed or not.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONPATH': path}
        if arguments[:2] == ('-m', 'stream_agent') and arguments[2] in SLOW_TO_IMPORT:
            self.popen = server.start(
                list(arguments[2:]), ROOT, environment, self._said.fileno())
        else:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=self._said, stderr=subprocess.STDOUT, env=environment)

    @property
    def output(self) -> str:
        """All that the process has written so far, on stdout and stderr."""
        # Read by position: the process writes through the same open file.
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), size, 0).decode(errors='replace')

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        """Return the exit code; fails if the process does not end in time."""
        return self.popen.wait(timeout)

    def close(self) -> None:
        """
        End the process whatever state it is in; SIGKILL works on a stopped one too.

        A killed process leaves its part of the middleware's shared memory behind.
        """
        self.popen.terminate()
        try:
            self.popen.wait(1.0)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10.0)
        self._said.close()


@pytest.fixture
def ros():
    """Initialise rclpy on this run's domain."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.shutdown()
    # A node that refused its parameters hangs in a traceback, and would be in the graph for long.
    # So would an agent's services, which it froze with all else when it was configured.
    gc.unfreeze()
    gc.collect()


@pytest.fixture
def peer(ros):
    """Make a ``Peer`` on this run's domain."""
    the_peer = Peer()
    yield the_peer
    the_peer.close()


@pytest.fixture
def make_node(ros):
    """Make ROS nodes of ours in this process, with ROS arguments and parameters."""
    made = []

    def make_one(kind: type, *ros_arguments: str, **parameters):
        made.append(kind(cli_args=['--ros-args', *ros_arguments, *given(parameters)]))
        return made[-1]

    yield make_one
    for node in made:
        node.destroy_node()


@pytest.fixture
def refusal(make_node):
    """
    Return the sentence with which a ROS node refuses its parameters.

    What a process makes of it, a last line and an exit code, is held by the gate's tests.
    """
    def refusal_of(kind: type, *ros_arguments: str, **parameters) -> str:
        with pytest.raises(ValueError) as refused:
            make_node(kind, *ros_arguments, **parameters)
        return str(refused.value)

    return refusal_of


def given(parameters: dict[str, Any]) -> list[str]:
    """Return the arguments that set parameters; JSON is YAML too: true, 0.5, ["a=b"]."""
    return [word for name, value in parameters.items()
            for word in ('-p', f'{name}:={json.dumps(value)}')]


@pytest.fixture
def robot(peer):
    """Make a ``Robot``: the test is the policy before the gate, and the wheels behind it."""
    return Robot(peer)


@pytest.fixture
def another(ros):
    """Make nodes with a publisher each, which are gone after the test."""
    made = []

    def make_one(name, kind, topic, qos=COMMAND_QOS):
        made.append(rclpy.create_node(name))
        return made[-1].create_publisher(kind, topic, qos)

    yield make_one
    for node in made:
        node.destroy_node()


@pytest.fixture(scope='session')
def fork_server(tmp_path_factory):
    """Fork processes of ours, rather than to import everything for each of them."""
    server = ForkServer(tmp_path_factory.mktemp('server'))
    yield server
    server.close()


@pytest.fixture
def start(fork_server):
    """Start ``python ARGUMENTS...`` as a ``Process``, ended with the test."""
    processes = []

    def start_process(*arguments: str) -> Process:
        processes.append(Process(fork_server, *arguments))
        return processes[-1]

    yield start_process
    for process in processes:
        process.popen.terminate()
    for process in processes:
        process.close()


@pytest.fixture
def start_node(start):
    """Start ``python -m stream_agent COMMAND`` with ROS arguments and parameters."""
    def start_one(command: str, *ros_arguments: str, **parameters) -> Process:
        return start('-m', 'stream_agent', command, '--ros-args', *ros_arguments,
                     *given(parameters))

    return start_one
