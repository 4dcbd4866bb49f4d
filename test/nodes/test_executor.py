"""The executor that keeps its wait set: nothing is missed, nothing is touched too late."""

import time

import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Int32
from std_srvs.srv import Trigger
from stream_agent.nodes.messages import WATCH_COMMAND_QOS
from stream_agent.nodes.process import PromptExecutor

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]


@pytest.fixture
def spun(peer):
    """Make a node under the executor, and what spins both until something is true."""
    node = LifecycleNode('spun')
    executor = PromptExecutor()
    executor.add_node(node)

    def spin_until(condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            executor.spin_once(timeout_sec=0.01)
            peer.spin(0.001)

    yield node, executor, spin_until
    executor.remove_node(node)
    node.destroy_node()


def test_messages_timers_and_services_are_all_served(peer, spun):
    node, executor, spin_until = spun
    heard, with_info, ticks = [], [], []
    node.create_subscription(Int32, 'numbers', heard.append, WATCH_COMMAND_QOS)
    node.create_subscription(Int32, 'numbers', lambda data, info: with_info.append((data, info)),
                             WATCH_COMMAND_QOS, raw=True)
    node.create_timer(0.01, lambda: ticks.append(1))
    node.create_service(Trigger, 'ask', lambda _, response: response)
    publisher = peer.node.create_publisher(Int32, 'numbers', WATCH_COMMAND_QOS)
    spin_until(lambda: publisher.get_subscription_count() == 2)
    for number in range(50):
        publisher.publish(Int32(data=number))
    client = peer.node.create_client(Trigger, 'ask')
    spin_until(client.service_is_ready)
    answer = client.call_async(Trigger.Request())
    spin_until(lambda: answer.done() and len(heard) == len(with_info) == 50)
    assert [message.data for message in heard] == list(range(50))
    assert [int.from_bytes(data[4:8], 'little') for data, _ in with_info] == list(range(50))
    assert all(info['received_timestamp'] for _, info in with_info)
    spin_until(lambda: len(ticks) > 20)


def test_entities_come_and_go_in_callbacks(peer, spun):
    """What crashed under rclpy's experimental events executor after 3 to 12 turns."""
    node, executor, spin_until = spun
    turns, made = [], []
    publisher = peer.node.create_publisher(Int32, 'numbers', WATCH_COMMAND_QOS)

    def anew(*_):
        turns.append(1)
        for destroy, entity in made:
            destroy(entity)
        made[:] = [
            (node.destroy_subscription,
             node.create_subscription(Int32, 'numbers', anew, WATCH_COMMAND_QOS)),
            (node.destroy_timer, node.create_timer(0.001, anew)),
            (node.destroy_publisher, node.create_publisher(Int32, 'others', 10)),
            (node.destroy_service, node.create_service(Trigger, 'ask', lambda _, answer: answer))]

    anew()

    def go_on():
        publisher.publish(Int32(data=1))
        return len(turns) > 300

    spin_until(go_on, 60.0)
    assert len(turns) > 300 and len(made) == 4


def test_an_error_leaves_later_messages_to_be_heard(peer, spun):
    node, executor, spin_until = spun
    heard = []

    def fail_first(message):
        heard.append(message.data)
        if message.data == 0:
            raise ValueError('the first one')

    node.create_subscription(Int32, 'numbers', fail_first, WATCH_COMMAND_QOS)
    publisher = peer.node.create_publisher(Int32, 'numbers', WATCH_COMMAND_QOS)
    spin_until(publisher.get_subscription_count)
    for number in range(20):
        publisher.publish(Int32(data=number))
    with pytest.raises(ValueError, match='the first one'):
        spin_until(lambda: len(heard) == 20)
    spin_until(lambda: len(heard) == 20)
    assert heard == list(range(20))


def test_what_is_to_be_done_later_waits_for_its_time_and_is_done_once(spun):
    node, executor, spin_until = spun
    done = []
    executor.call_at(time.monotonic() + 5.0, lambda: done.append('replaced'))
    due = time.monotonic() + 0.05
    executor.call_at(due, lambda: done.append(time.monotonic()))
    spin_until(lambda: time.monotonic() > due + 0.1)
    (at,) = done
    assert due <= at < due + 0.05
    assert rclpy.ok()
