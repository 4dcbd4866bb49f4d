"""Who listens to the commands of a simulation: only our own processes should (rule P7)."""

from collections import Counter
from dataclasses import dataclass
import sys
import time

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from stream_agent.bounded_settings import choice
from stream_agent.nodes.messages import name_of_node

# One of each may listen, if it is in the namespace of the simulation.
OURS = ('agent', 'baseline', 'camera', 'doctor', 'expert', 'gate', 'record_bag', 'recorder',
        'simulation')
# Whoever is there is discovered by then [s]; Fast DDS repeats its announcements every 3 s.
DISCOVERY_TIME = 5.0
LOOK_PERIOD = 0.25
# A name reaches us after the endpoint that it belongs to.
UNKNOWN_NAME = '_NODE_NAME_UNKNOWN_'
REMEDY = ('stop it, choose another ROS domain, or set allow_foreign_listeners if it cannot move '
          'anything')


@dataclass(frozen=True)
class ListenerSettings:
    """Whether others may listen to the commands of a simulation."""

    allow_foreign_listeners: bool = choice(
        False, 'drive although other nodes listen to cmd_vel, such as the base of a real robot')


class ListenerWatch:
    """
    Looks for foreign subscribers of a node's command topic while the node is spun.

    :param topic: With its namespace, and remapped.
    :param allowed: Whether nobody is foreign.
    """

    def __init__(self, node: Node, topic: str, allowed: bool) -> None:
        self._node = node
        self._topic = topic
        self._unknown_since: float | None = None
        self._begin = time.monotonic()
        self.foreign: list[str] = []
        self.alone = allowed
        if not allowed:
            self._timer = node.create_timer(
                LOOK_PERIOD, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def look(self) -> None:
        """Update ``foreign``, and ``alone``: nobody foreign has been seen for long enough."""
        now = time.monotonic()
        found = foreign_listeners(self._node, self._topic)
        if UNKNOWN_NAME in found:
            self._unknown_since = self._unknown_since or now
        else:
            self._unknown_since = None
        late = self._unknown_since is not None and now - self._unknown_since > DISCOVERY_TIME
        self.foreign = [name for name in found if late or name != UNKNOWN_NAME]
        self.alone = not self.foreign and (
            self.alone or not found and now - self._begin > DISCOVERY_TIME)

    def complaint(self) -> str:
        """Name who listens, and say what to do."""
        return f'{in_words(self.foreign, self._topic)}; {REMEDY}'


def in_words(foreign: list[str], topic: str) -> str:
    """Say who listens, and why that matters."""
    names = ', '.join(f"'{name}'" for name in foreign)
    return (f"{names} {'listens' if len(foreign) == 1 else 'listen'} to '{topic}' and might move "
            'a real robot')


def foreign_listeners(node: Node, topic: str, ours: tuple[str, ...] = OURS) -> list[str]:
    """
    Return the full names of the nodes that subscribe to a topic and are not ours.

    :param ours: Names of which one each, in the namespace of ``node``, is ours.
    """
    namespace = node.get_namespace().rstrip('/')
    known = {f'{namespace}/{name}' for name in ours}
    counts = Counter(
        UNKNOWN_NAME if info.node_name == UNKNOWN_NAME else name_of_node(info)
        for info in node.get_subscriptions_info_by_topic(topic))
    return [name for name, count in counts.items() if name not in known or count > 1]


def listeners_before_start(topic: str, seconds: float = DISCOVERY_TIME) -> list[str]:
    """
    Return who subscribes to a topic before any process of ours is started.

    :param seconds: How long to wait for the first to be discovered.
    """
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node('_before_start')
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        end = time.monotonic() + seconds
        found: list[str] = []
        while time.monotonic() < end and (not found or UNKNOWN_NAME in found):
            executor.spin_once(timeout_sec=0.1)
            found = foreign_listeners(node, topic, ours=())
        node.destroy_node()
        return found
    finally:
        rclpy.shutdown()


if __name__ == '__main__':
    # For `stream_agent run`, which knows no ROS.
    (commands,) = sys.argv[1:]
    if found := listeners_before_start(commands):
        print(in_words(found, commands))
