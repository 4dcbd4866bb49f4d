"""Whether the base stops by itself when commands stop, tried with its wheels up."""

from collections.abc import Sequence
from typing import NamedTuple

from stream_agent.doctor.findings import Finding, not_checked, ok, warning
from stream_agent.doctor.topics import Endpoint, nodes_of

SPEED = 0.05
DRIVE = 1.0
SILENCE = 2.0
# Of the speed asked for; below it a base counts as standing.
STANDING = 0.2


class Motion(NamedTuple):
    """
    A speed that odometry told.

    :param at: Steady time of its arrival [s].
    :param speed: [m/s].
    """

    at: float
    speed: float


def reason_not_to(publishers: Sequence[Endpoint], listeners: Sequence[Endpoint],
                  motions: Sequence[Motion], odom: str, speed: float) -> str:
    """Say why the wheels are not to be turned now; empty if they may be."""
    if publishers:
        return (f'refused, as {nodes_of(publishers)} commands the base; stop it, the gate too, '
                'and try again')
    if not listeners:
        return 'refused, as nobody listens to commands of this type'
    if not motions:
        return f"refused, as no odometry comes on '{odom}'; give its topic by --odom-topic"
    if speed <= 0:
        return 'refused, as max_speed of the gate is 0'
    if abs(motions[-1].speed) > STANDING * speed:
        return 'refused, as the base moves already'
    return ''


def check_wheels(motions: Sequence[Motion], start: float, silence: float, end: float,
                 speed: float) -> Finding:
    """
    Judge how the base went on when commands stopped.

    :param start: Steady time of the first command [s].
    :param silence: That of the last one, before zeros.
    :param end: When zeros came.
    :param speed: That was commanded [m/s].
    """
    slow = STANDING * speed
    driven = [motion for motion in motions if start <= motion.at <= silence]
    alone = [motion for motion in motions if silence < motion.at <= end]
    if not any(abs(motion.speed) > slow for motion in driven):
        return warning('wheels', f'the base did not move at {speed:g} m/s',
                       'release its emergency stop and switch its motors on; it may also need a '
                       'greater speed to start')
    if not alone:
        return not_checked('wheels', 'odometry fell silent with the commands')
    moving = [motion.at - silence for motion in alone if abs(motion.speed) > slow]
    if abs(alone[-1].speed) > slow:
        return warning('wheels', f'the base drives on {moving[-1]:.1f} s after the last command',
                       'never run it without the gate, which goes on sending zeros; leave '
                       'release_after_stop false')
    took = max(moving, default=0.0)
    return ok('wheels', f'the base stops by itself, {took:.2f} s after the last command')
