"""What stands around the gate in a test: a policy before it, the wheels behind it."""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from stream_agent.command import Command, STOP
from stream_agent.nodes.messages import COMMAND_QOS, command_to_twist, twist_to_command

PERIOD = 0.02


class Robot:
    """
    Both ends of the gate: a policy, and a base that remembers what it was told.

    :param peer: See conftest.py.
    """

    def __init__(self, peer) -> None:
        self.peer = peer
        self.heard = peer.hear(TwistStamped, 'cmd_vel')
        self.diagnostics = peer.hear(DiagnosticArray, '/diagnostics')
        self._clock = peer.node.get_clock()
        self._policy = peer.node.create_publisher(TwistStamped, 'policy_command', COMMAND_QOS)

    @property
    def commands(self) -> list[Command]:
        return [twist_to_command(heard.message) for heard in self.heard]

    def ready(self) -> 'Robot':
        """Wait until the gate is there, which sends zeros from its start, and hears us."""
        self.peer.spin_until(lambda: self.heard and self._policy.get_subscription_count())
        return self

    def policy(self, command: Command, age: float = 0.0) -> None:
        """Send a policy command that answers a frame of some age [s], and spin a little."""
        stamp_ns = max(self._clock.now().nanoseconds - round(age * 1e9), 0)
        self._policy.publish(command_to_twist(command, stamp_ns))
        self.peer.spin(PERIOD)

    def drive(self, command: Command, seconds: float = 0.6) -> None:
        """Send a policy command again and again; by default until no slew holds it up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.policy(command)

    def until_driven(self) -> None:
        """Spin until the base is told to move."""
        self.peer.spin_until(lambda: self.commands[-1].speed > 0.1)

    def first_zero(self, since: float, seconds: float = 1.0) -> float:
        """Spin for a time; return how long after a steady moment the first zero came [s]."""
        self.peer.spin(seconds)
        return next((heard.at - since for heard in self.heard if heard.at >= since
                     and twist_to_command(heard.message) == STOP), math.inf)

    def status(self) -> DiagnosticStatus:
        """Wait for the next diagnostics of the gate."""
        count = len(self.diagnostics)
        self.peer.spin_until(lambda: len(self.diagnostics) > count)
        (status,) = self.diagnostics[-1].message.status
        return status
