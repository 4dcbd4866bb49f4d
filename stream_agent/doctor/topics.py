"""Checks of topics: who publishes frames, who commands the base, who follows commands."""

from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from stream_agent.doctor.findings import error, Finding, not_checked, ok, warning

# These nodes subscribe to commands and drive nothing.
WATCHERS = ('record', 'record_bag', 'recorder', 'rosbag2_recorder', 'doctor')
IMAGE_TYPES = {'sensor_msgs/msg/Image': 'raw', 'sensor_msgs/msg/CompressedImage': 'compressed'}
BASE_COMMAND_TYPES = {'geometry_msgs/msg/TwistStamped': 'twist_stamped',
                      'geometry_msgs/msg/Twist': 'twist',
                      'ackermann_msgs/msg/AckermannDriveStamped': 'ackermann'}
VECTOR_COMMAND_TYPES = {'std_msgs/msg/Float64MultiArray': 'float64_multi_array',
                        'trajectory_msgs/msg/JointTrajectory': 'joint_trajectory',
                        'sensor_msgs/msg/JointState': 'joint_state'}


class Obeying(NamedTuple):
    """
    How those who obey are spoken of.

    :param check: The name of the check.
    :param driver: Who listens.
    :param type_setting: What sets the type of commands, and ``topic_setting`` their topic.
    :param types: What it is set to, by the types of messages.
    """

    check: str = 'base'
    driver: str = "the base's driver"
    type_setting: str = 'command_type of gate and recorder'
    topic_setting: str = 'cmd_vel_topic'
    types: Mapping[str, str] = BASE_COMMAND_TYPES


OLD_BASE = Obeying()
BASE = OLD_BASE._replace(type_setting='output.type', topic_setting='output.topic')
ACTUATORS = Obeying('actuators', 'the controller', 'output.type', 'output.topic',
                    VECTOR_COMMAND_TYPES)


class Endpoint(NamedTuple):
    """
    One end of a topic.

    :param node: The node's name with its namespace.
    :param kind: The message type, as ROS writes it.
    :param qos: Reliability and durability, in words.
    :param incompatible: Why QoS keeps our end from communicating with this one; empty if not.
    """

    node: str
    kind: str
    qos: str = 'reliable, volatile'
    incompatible: str = ''


def nodes_of(ends: Sequence[Endpoint]) -> str:
    """Return the names of the nodes, each once."""
    return ', '.join(dict.fromkeys(end.node for end in ends))


def check_image_topic(topic: str, wanted: str, publishers: Sequence[Endpoint],
                      others: Mapping[str, str]) -> Finding:
    """Judge who publishes frames; ``others`` has the types of all topics with frames, by topic."""
    right = [end for end in publishers if end.kind == wanted]
    if not publishers:
        return error('image topic', f"nobody publishes '{topic}'",
                     f"start the camera's driver{instead(topic, others)}")
    if not right:
        return error('image topic', f"'{topic}' has {publishers[0].kind} from "
                     f'{nodes_of(publishers)}; the agent expects {wanted}',
                     wrong_type_remedy(topic, publishers[0].kind, wanted, others))
    if deaf := [end for end in right if end.incompatible]:
        return error('image topic', f"'{topic}': {nodes_of(deaf)} offers {deaf[0].qos}, which the "
                     f'agent cannot receive: {deaf[0].incompatible}',
                     'let the driver publish with sensor QoS')
    if len(right) > 1:
        return error('image topic', f"'{topic}' has frames from several cameras: "
                     f'{nodes_of(right)}', 'let one of them publish, or give each its own topic')
    return ok('image topic', f"'{topic}': {wanted} from {right[0].node}, {right[0].qos}")


def similar(topic: str, others: Collection[str]) -> list[str]:
    """Return up to four other topics, the most similar first."""
    return sorted((name for name in others if name != topic),
                  key=lambda name: -SequenceMatcher(None, topic, name).ratio())[:4]


def instead(topic: str, others: Mapping[str, str]) -> str:
    """Name topics with frames, the most similar first, and how to set them."""
    names = similar(topic, others)
    if not names:
        return '; no other topic has frames'
    listed = ', '.join(f"{name.removesuffix('/compressed')} (image_transport "
                       f'{IMAGE_TYPES[others[name]]})' for name in names)
    return f', or set image_topic to one that has frames: {listed}'


def wrong_type_remedy(topic: str, found: str, wanted: str, others: Mapping[str, str]) -> str:
    """Say how to get frames where another type is published."""
    transport = IMAGE_TYPES.get(found)
    if transport == 'compressed' and topic.endswith('/compressed'):
        return f"set image_transport to 'compressed'{instead(topic, others)}"
    if transport:
        expected = 'Image' if IMAGE_TYPES[wanted] == 'raw' else 'CompressedImage'
        return f'let the driver publish {expected} there{instead(topic, others)}'
    return f'that is not an image{instead(topic, others)}'


def check_command_topic(topic: str, wanted: str, gate: str, publishers: Sequence[Endpoint],
                        listeners: Sequence[Endpoint], obeying: Obeying = OLD_BASE
                        ) -> list[Finding]:
    """Judge who commands the base besides the gate of this name, and whether it subscribes."""
    base = [end for end in listeners if end.node.rpartition('/')[2] not in WATCHERS]
    return [check_base(topic, wanted, publishers, base, obeying),
            check_rivals(topic, gate, publishers, obeying)]


def check_base(topic: str, wanted: str, publishers: Sequence[Endpoint], base: Sequence[Endpoint],
               obeying: Obeying) -> Finding:
    """Judge who subscribes to commands, and whether all use the right type (G7)."""
    if foreign := [end for end in (*publishers, *base) if end.kind != wanted]:
        other = obeying.types.get(foreign[0].kind)
        return error(obeying.check, f"'{topic}': {nodes_of(foreign)} uses {foreign[0].kind}; the "
                     f'gate sends {wanted}, so they cannot communicate',
                     f"set {obeying.type_setting} to '{other}'" if other else
                     f'set {obeying.topic_setting} to the topic of commands to the base')
    if not base:
        return warning(obeying.check, f"nobody subscribes to '{topic}'",
                       f'start {obeying.driver}, or set {obeying.topic_setting} to its topic')
    if deaf := [end for end in base if end.incompatible]:
        return error(obeying.check, f"'{topic}': {nodes_of(deaf)} asks for {deaf[0].qos} and "
                     f'cannot receive from the gate: {deaf[0].incompatible}', 'let the driver '
                     'subscribe with reliable or best effort, and volatile QoS')
    return ok(obeying.check, f"'{topic}': {nodes_of(base)} subscribes to {wanted}")


def check_rivals(topic: str, gate: str, publishers: Collection[Endpoint], obeying: Obeying
                 ) -> Finding:
    """Find nodes that command the robot besides the gate."""
    rivals = [end for end in publishers if end.node != gate]
    gates = len(publishers) - len(rivals)
    if rivals:
        return error('rivals', f"'{topic}' is also published by {nodes_of(rivals)}, "
                     'bypassing the gate', 'stop them, or put a multiplexer in between, and set '
                     f'{obeying.topic_setting} to its input')
    if gates > 1:
        return error('rivals', f"'{topic}' is published by {gates} gates named {gate}",
                     'stop all but one')
    return ok('rivals', f"nobody{' but the gate' if gates else ''} publishes '{topic}'")


SPEED = 0.05
DRIVE = 1.0
SILENCE = 2.0
# Below this share of the commanded speed a base counts as stationary.
STANDING = 0.2


class OdometryMotion(NamedTuple):
    """When odometry arrived, by the steady clock [s], and its forward speed [m/s]."""

    at: float
    speed: float


def reason_not_to(publishers: Sequence[Endpoint], listeners: Sequence[Endpoint],
                  motions: Sequence[OdometryMotion], odom: str, speed: float) -> str:
    """Say why the wheels must not be turned now; empty if they may be."""
    if publishers:
        return (f'refused, as {nodes_of(publishers)} commands the base; stop it, even if it '
                'is the gate, and try again')
    if not listeners:
        return 'refused, as nobody subscribes to commands of this type'
    if not motions:
        return f"refused, as no odometry arrives on '{odom}'; give its topic with --odom-topic"
    if speed <= 0:
        return 'refused, as max_speed of the gate is 0'
    if abs(motions[-1].speed) > STANDING * speed:
        return 'refused, as the base is already moving'
    return ''


def check_wheels(motions: Sequence[OdometryMotion], start: float, silence: float, end: float,
                 speed: float) -> Finding:
    """Judge the base by the steady times [s] of the first and last command and the first zero."""
    slow = STANDING * speed
    driven = [motion for motion in motions if start <= motion.at <= silence]
    alone = [motion for motion in motions if silence < motion.at <= end]
    if not any(abs(motion.speed) > slow for motion in driven):
        return warning('wheels', f'the base did not move at {speed:g} m/s',
                       'release its emergency stop and switch its motors on; it may also need a '
                       'greater speed to start')
    if not alone:
        return not_checked('wheels', 'odometry stopped together with the commands')
    moving = [motion.at - silence for motion in alone if abs(motion.speed) > slow]
    if abs(alone[-1].speed) > slow:
        return warning('wheels', 'the base still drives '
                       f'{moving[-1]:.1f} s after the last command',
                       'never run it without the gate, which keeps sending zeros; leave '
                       'release_after_stop false')
    took = max(moving, default=0.0)
    return ok('wheels', f'the base stops by itself, {took:.2f} s after the last command')
