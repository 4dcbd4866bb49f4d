"""A stop that is asked for, through a real gate: standstill by the deceleration (G10)."""

from itertools import pairwise
from pathlib import Path
import signal
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from stream_agent.command import Command, STOP
from stream_agent.nodes.messages import (
    array_to_image, ask_for_stop, command_to_twist, make_stop_request, read_policy_command,
    STOP_FRAME_ID, WATCH_FRAME_QOS)

pytestmark = pytest.mark.real_time

# What discovery, DDS and a busy machine may add to speed / deceleration [s].
TOLERANCE = 0.1


@pytest.mark.any_time
def test_a_request_is_not_a_zero_command_and_a_zero_command_is_no_request():
    asked = read_policy_command(serialize_message(make_stop_request(5)))
    assert asked == (STOP, 5, STOP_FRAME_ID)
    assert read_policy_command(serialize_message(command_to_twist(STOP, 5))) == (
        STOP, 5, 'base_link')
    assert make_stop_request(5_000_000_001).header.stamp.sec == 5
    # For those who do not know requests.
    assert make_stop_request(5).twist == command_to_twist(STOP, 5).twist


def ask(robot) -> float:
    """Ask for a stop; return how long after that the base was told to stand still [s]."""
    count, since = len(robot.heard), time.monotonic()
    ask_for_stop(robot._policy, robot.peer.node.get_clock(), 0.0)
    robot.peer.spin_until(lambda: STOP in robot.commands[count:])
    return next(heard.at for heard, command in zip(robot.heard[count:], robot.commands[count:])
                if command == STOP) - since


@pytest.mark.parametrize('speed', [0.5, 1.0])
def test_standstill_comes_by_the_deceleration(robot, start_node, speed):
    start_node('gate', max_speed=1.0)
    robot.ready()
    for _ in range(3):
        robot.drive(Command(speed, 0.5), speed / 2.5 + 0.4)
        assert robot.commands[-1] == (speed, 0.5)
        count = len(robot.heard)
        waited = ask(robot)
        # A watchdog would take 0.25 s for any speed, and leave no ramp.
        assert 0.8 * speed / 2.5 < waited < speed / 2.5 + TOLERANCE
        ramp = robot.commands[count:]
        assert all(after.speed < before.speed for before, after in pairwise(ramp[:-1]))
        assert len(ramp) >= 6
        robot.peer.spin(0.3)
        assert set(robot.commands[count + len(ramp):]) == {STOP}
    status = robot.status()
    values = {item.key: item.value for item in status.values}
    assert (values['stops_asked'], values['timeouts']) == ('3', '0')
    assert status.message == 'stopped, as the policy asked for it'


@pytest.mark.parametrize('deceleration', [1.0, 5.0])
def test_the_deceleration_is_a_parameter(robot, start_node, deceleration):
    start_node('gate', stop_deceleration=deceleration)
    robot.ready().drive(Command(0.5, 0.0))
    waited = ask(robot)
    assert 0.8 * 0.5 / deceleration < waited < 0.5 / deceleration + TOLERANCE


def test_a_request_counts_whatever_its_stamp_says(robot, start_node):
    start_node('gate')
    robot.ready().drive(Command(0.5, 0.0))
    since = time.monotonic()
    robot._policy.publish(make_stop_request(1))
    robot.peer.spin(0.4)
    stands = next(heard.at for heard, command in zip(robot.heard, robot.commands)
                  if heard.at > since and command == STOP)
    assert stands - since < 0.5 / 2.5 + TOLERANCE


def test_the_next_policy_command_drives_again(robot, start_node):
    start_node('gate')
    robot.ready().drive(Command(0.5, 0.0))
    ask(robot)
    robot.drive(Command(0.5, 0.0))
    assert robot.commands[-1] == (0.5, 0.0)


def test_the_stop_input_is_faster_than_the_ramp(robot, start_node):
    start_node('gate', stop_input=True, stop_deceleration=0.1)
    stop_pub = robot.peer.node.create_publisher(Bool, 'stop', 1)
    robot.ready().peer.spin_until(stop_pub.get_subscription_count)
    for _ in range(3):
        stop_pub.publish(Bool(data=False))
        robot.drive(Command(0.5, 0.0), 0.3)
    stop_pub.publish(Bool(data=False))
    robot._policy.publish(make_stop_request(1))
    robot.peer.spin(0.2)
    assert 0.4 < robot.commands[-1].speed < 0.5
    since = time.monotonic()
    stop_pub.publish(Bool(data=True))
    assert robot.first_zero(since, 0.2) < 0.1


# --- by an agent ----------------------------------------------------------------------------

CHECKPOINT = str(Path(__file__).parents[2] / 'config' / 'policies' / 'lane_streaming.safetensors')


class Road:
    """A camera that keeps an agent driving."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self._publisher = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)
        self._pixels = np.full((120, 160, 3), 128, np.uint8)
        self._due = 0.0

    def spin_until(self, condition, seconds: float = 20.0) -> None:
        """Send frames until the condition is true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f'did not happen within {seconds} s'
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + 1 / 30
                # A camera is never so still that its pictures are equal.
                self._pixels[0, 0, 0] ^= 1
                stamp_ns = self.peer.node.get_clock().now().nanoseconds
                self._publisher.publish(array_to_image(self._pixels, stamp_ns, 'camera'))
            self.peer.spin(0.005)


def end_of_drive(peer, agent, how: str) -> None:
    """Tell an agent in one of three ways to stop driving, without waiting for it."""
    if how == 'SIGINT':
        agent.signal(signal.SIGINT)
        return
    transition = {'deactivate': Transition.TRANSITION_DEACTIVATE,
                  'shutdown': Transition.TRANSITION_ACTIVE_SHUTDOWN}[how]
    client = peer.node.create_client(ChangeState, 'agent/change_state')
    peer.spin_until(client.service_is_ready)
    client.call_async(ChangeState.Request(transition=Transition(id=transition)))


@pytest.mark.parametrize('how', ['deactivate', 'shutdown', 'SIGINT'])
def test_an_agent_that_stops_driving_asks_for_a_stop(robot, start_node, how):
    robot.peer.node.destroy_publisher(robot._policy)
    start_node('gate')
    agent = start_node('agent', checkpoint=CHECKPOINT, autostart=True, backend='eager', threads=1)
    road = Road(robot.peer)
    road.spin_until(lambda: robot.commands[-40:] and abs(robot.commands[-1].speed) > 0.45)
    end_of_drive(robot.peer, agent, how)
    count = len(robot.heard)
    # From the first command that is slower on, as the way of the request is not the gate's; the
    # last one before may be of that speed.
    road.spin_until(lambda: STOP in robot.commands[count:])
    ramp = robot.commands[count - 1:]
    start = max(i for i, command in enumerate(ramp) if abs(command.speed) > 0.45)
    standstill = robot.heard[count - 1 + len(ramp) - 1].at - robot.heard[count - 1 + start].at
    assert 0.15 < standstill < 0.5 / 2.5 + TOLERANCE
    values = {item.key: item.value for item in gate_status(robot).values}
    assert (values['stops_asked'], values['timeouts']) == ('1', '0')


def gate_status(robot):
    """Wait for the next diagnostics of the gate; the agent has some, too."""
    count = len(robot.diagnostics)

    def found():
        return [status for heard in robot.diagnostics[count:] for status in heard.message.status
                if status.name.startswith('gate')]

    robot.peer.spin_until(found)
    return found()[-1]
