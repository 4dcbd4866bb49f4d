"""
A stop that a policy asks for: how it is sent, and how the gate recognises it (G10).

It is sent on ``policy_command`` itself, as what follows a command there is never taken before it,
while two topics have no order. A gate or recorder that does not know it takes it for a zero.
"""

from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from stream_agent.command import STOP
from stream_agent.nodes.messages import command_to_twist

# No frame of a robot has this name, which the gate takes as the kind of the command.
STOP_FRAME_ID = 'stop'


def make_stop_request(stamp_ns: int) -> TwistStamped:
    """Make the message; its stamp is for people, as a stop is never too old."""
    return command_to_twist(STOP, stamp_ns, STOP_FRAME_ID)


def is_stop_request(message: TwistStamped) -> bool:
    """Return whether a policy command asks for a stop."""
    return message.header.frame_id == STOP_FRAME_ID


def ask_for_stop(publisher: Publisher, clock: Clock, patience: float = 0.2) -> bool:
    """
    Ask the gate for a stop, and wait until all who listen have received it.

    :param publisher: That of the policy commands, which must not be destroyed before this returns.
    :param patience: How long to wait at most [s].
    :returns: Whether all have received it.
    """
    publisher.publish(make_stop_request(clock.now().nanoseconds))
    return publisher.wait_for_all_acked(Duration(seconds=patience))
