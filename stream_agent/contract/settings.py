"""What a contract says of each input and of the output, field by field."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
import math
import re

from stream_agent.bounded_settings import (
    BoundedSettings, choice, free_text, numbers, printable, quantity, SettingsError, several)

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
SCAN, ODOMETRY = 'sensor_msgs/msg/LaserScan', 'nav_msgs/msg/Odometry'
IMU, JOINT_STATE = 'sensor_msgs/msg/Imu', 'sensor_msgs/msg/JointState'
# What the agent itself knows: its last commands, and how old the triggering message is.
OWN_COMMANDS, OWN_AGE = 'own/commands', 'own/age'
#: How the base obeys speed and yaw rate; these are as ``command_type`` was before.
BASE_TYPES = ('twist_stamped', 'twist', 'ackermann', 'twist_steering')
#: How any actuators obey a vector.
VECTOR_TYPES = ('float64_multi_array', 'joint_trajectory', 'joint_state')
TYPE = re.compile(r'([a-z]\w*)/(?:msg/)?([A-Z]\w*)', re.ASCII)
TOPIC = re.compile(r'(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)
KNOWN_TYPES = (IMAGE, COMPRESSED, SCAN, ODOMETRY, IMU, JOINT_STATE, OWN_COMMANDS, OWN_AGE)
MOST = 1e9
# As people write it, in radians.
FULL_TURN = 2 * math.pi + 1e-3


@dataclass(frozen=True)
class InputSettings(BoundedSettings):
    """
    Where an input comes from, and what its numbers mean.

    :raises SettingsError: If they contradict each other; the message begins with a field's name.
    """

    type: str = free_text(IMAGE, 'type of its messages, as `ros2 topic info` says it; '
                          'own/commands or own/age for what the agent itself knows', 'TYPE')
    topic: str = free_text('', 'its topic, relative to the namespace; empty: the name of the '
                           'input', 'TOPIC')
    trigger: bool = choice(False, 'a message of it makes the network step')
    fields: tuple[str, ...] = several((), 'where its numbers are in a message, such as '
                                      'twist.twist.linear.x, data.0, or position.JOINT by the '
                                      "joint's name", 'FIELD')
    units: tuple[str, ...] = several((), 'their units, one each or one for all', 'UNIT')
    low: tuple[float, ...] = numbers(
        'its unit', -MOST, MOST, 'what becomes -1, one each or one for all; beyond is cut off')
    high: tuple[float, ...] = numbers(
        'its unit', -MOST, MOST, 'what becomes 1; of a scan or a depth image metres, of own/age '
        'seconds')
    align: str = choice('newest', 'which message goes with the trigger: the newest one, the '
                        "newest one that is not later than the trigger's stamp, or a line "
                        'between the two around it', ('newest', 'hold', 'interpolate'))
    oldest: float = quantity(
        0.5, 's', 0.0, 3600.0, 'age against the trigger up to which it counts')
    stamp: str = choice('header', 'what its time is: that of its header, or when it arrived',
                        ('header', 'arrival'))
    rate: float = quantity(0.0, 'Hz', 0.0, 1e4, 'messages a second; 0: unknown')
    rays: int = quantity(0, '', 0, 100_000, 'rays that the network sees of a scan; 0: as many as '
                         'its input node has values')
    angle_min: float = quantity(-3.1416, 'rad', -6.3, 6.3, 'of the first of them')
    angle_max: float = quantity(3.1416, 'rad', -6.3, 6.3, 'of the last of them')
    invalid: float = quantity(-1.0, 'm', -1.0, 1e4, 'what a faulty range or depth counts as; -1: '
                              'the greatest')
    count: int = quantity(1, '', 1, 1000, 'of own/commands: how many of the last')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type not in (OWN_COMMANDS, OWN_AGE):
            if not (found := TYPE.fullmatch(self.type)):
                raise SettingsError(f'type is {self.type!r}, which is not a type of messages'
                                    f'{did_you_mean(self.type, KNOWN_TYPES)}')
            object.__setattr__(self, 'type', f'{found[1]}/msg/{found[2]}')
        if self.topic and not TOPIC.fullmatch(self.topic):
            raise SettingsError(f'topic is {printable(self.topic)!r}; write letters, digits and _ '
                                'between slashes')
        if self.align == 'interpolate' and self.kind != 'vector':
            raise SettingsError(f'align is interpolate, but nothing lies between two messages of '
                                f'{self.type}; write newest or hold')
        if self.type == COMPRESSED and self.is_depth:
            raise SettingsError(f'type is {COMPRESSED}, which is not read as depth; take a topic '
                                f'of {IMAGE}, or leave out units, low and high')
        getattr(self, f'_check_{self.kind}')()

    @property
    def kind(self) -> str:
        """What it is: 'image' (a camera's or of depth), 'scan', 'vector', 'commands' or 'age'."""
        return {IMAGE: 'image', COMPRESSED: 'image', SCAN: 'scan', OWN_COMMANDS: 'commands',
                OWN_AGE: 'age'}.get(self.type, 'vector')

    @property
    def is_own(self) -> bool:
        """Whether the agent itself knows it, so that it has no topic."""
        return self.kind in ('commands', 'age')

    @property
    def is_depth(self) -> bool:
        """Whether it is an image of distances, which has units, low and high."""
        return self.kind == 'image' and bool(self.units or self.low or self.high)

    @property
    def is_camera(self) -> bool:
        """Whether it is an image of a camera, which has no units."""
        return self.kind == 'image' and not self.is_depth

    def _check_vector(self) -> None:
        if not self.fields:
            near = get_close_matches(self.type, KNOWN_TYPES, 1, 0.8)
            other = f', or is {near[0]} meant?' if near and self.type not in KNOWN_TYPES else ''
            raise SettingsError(f'fields is empty, but a {self.type} has many numbers; name those '
                                f'that the network sees, such as twist.twist.linear.x{other}')
        if self.type == JOINT_STATE:
            for name in self.fields:
                if not re.fullmatch(r'(position|velocity|effort)\..+', name):
                    raise SettingsError(f'fields has {printable(name)!r}; of a JointState write '
                                        'position.JOINT, velocity.JOINT or effort.JOINT')
        check_names('fields', self.fields)
        for name in ('units', 'low', 'high'):
            check_count(name, getattr(self, name), self.fields, 'fields')
        check_ends(self.fields, of_each(self.low, self.fields), of_each(self.high, self.fields))

    def _check_scan(self) -> None:
        if self.units not in ((), ('m',)):
            raise SettingsError(f'units is {list(self.units)}; ranges are in m, so write [m] or '
                                'leave it out')
        check_one('high', self.high, 'the range in m that becomes 1, such as [6.0]')
        if not self.angle_min < self.angle_max <= self.angle_min + FULL_TURN:
            raise SettingsError(f'angle_max is {self.angle_max:g} and angle_min '
                                f'{self.angle_min:g}; let it be greater, by a full turn '
                                '(6.2832) at most')

    def _check_image(self) -> None:
        if self.is_depth:
            if self.units not in ((), ('m',)):
                raise SettingsError(f'units is {list(self.units)}; depth is in m, so write [m] or '
                                    'leave it out')
            check_one('high', self.high, 'the depth in m that becomes 1, such as [5.0]')
            if len(self.low) > 1 or self.low and not 0 <= self.low[0] < self.high[0]:
                raise SettingsError(f'low is {list(self.low)}; write one number, from 0 to below '
                                    f'high ({self.high[0]:g})')

    def _check_commands(self) -> None:
        self._check_own()

    def _check_age(self) -> None:
        self._check_own()
        if self.units not in ((), ('s',)):
            raise SettingsError(f'units is {list(self.units)}; ages are in s, so write [s] or '
                                'leave it out')
        check_one('high', self.high, 'the age in s that becomes 1, such as [0.5]')

    def _check_own(self) -> None:
        if self.trigger:
            raise SettingsError(f'trigger is true, but no message of {self.type} comes; let an '
                                'input with a topic be the trigger')
        if self.topic:
            raise SettingsError(f'topic is {self.topic!r}, but {self.type} is what the agent '
                                'itself knows; leave it out')


@dataclass(frozen=True)
class OutputSettings(BoundedSettings):
    """
    Who obeys, and within which limits.

    :raises SettingsError: If they contradict each other; the message begins with a field's name.
    """

    type: str = choice('twist_stamped', 'message of the commands', BASE_TYPES + VECTOR_TYPES)
    topic: str = free_text('cmd_vel', 'its topic', 'TOPIC')
    # Of vector types; one value stands for all of them.
    names: tuple[str, ...] = several((), 'joints or whatever obeys, in the order of the output')
    horizon: float = quantity(0.05, 's', 0.001, 10.0, 'time_from_start of a joint_trajectory')
    # Named as the function is that declares the one above, so it comes after that.
    quantity: str = choice('velocity', 'what is commanded', ('position', 'velocity', 'effort'))
    units: tuple[str, ...] = several((), 'their units, one each or one for all', 'UNIT')
    lowest: tuple[float, ...] = numbers(
        'its unit', -MOST, MOST, 'what may be commanded at least, one each or one for all')
    highest: tuple[float, ...] = numbers(
        'its unit', -MOST, MOST, 'what may be commanded at most')
    max_rate: tuple[float, ...] = numbers(
        'its unit/s', 0.0, MOST, 'greatest change of a command in a second')
    max_acceleration: tuple[float, ...] = numbers(
        'its unit/s2', 0.0, MOST, 'greatest change of that change in a second; none: any')
    measured_topic: str = free_text('joint_states', 'sensor_msgs/JointState with the present '
                                    'positions, without which nothing that holds a position '
                                    'moves', 'TOPIC')

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('topic', 'measured_topic'):
            if not TOPIC.fullmatch(topic := getattr(self, name)):
                raise SettingsError(f'{name} is {printable(topic)!r}; write letters, digits and _ '
                                    'between slashes')
        if self.is_vector:
            self._check_vector()

    @property
    def is_vector(self) -> bool:
        """Whether any actuators obey, not a base."""
        return self.type in VECTOR_TYPES

    @property
    def stop(self) -> str:
        """What a stop is: 'hold' the last position, or 'zero' velocity or effort."""
        return 'hold' if self.quantity == 'position' and self.is_vector else 'zero'

    @property
    def size(self) -> int:
        """How many values a command has; of a base speed and yaw rate."""
        return len(self.names) if self.is_vector else 2

    def _check_vector(self) -> None:
        if not self.names:
            raise SettingsError(f'names is empty, but a {self.type} commands several; name the '
                                "joints in the order of the network's output")
        check_names('names', self.names)
        for name in ('units', 'lowest', 'highest', 'max_rate'):
            check_count(name, getattr(self, name), self.names, 'names')
        if self.max_acceleration:
            check_count('max_acceleration', self.max_acceleration, self.names, 'names')
        for name in ('max_rate', 'max_acceleration'):
            if not all(value > 0 for value in getattr(self, name)):
                raise SettingsError(f'{name} is {list(getattr(self, name))}; each is greater than '
                                    '0, as nothing would move otherwise')
        for name, low, high in zip(self.names, of_each(self.lowest, self.names),
                                   of_each(self.highest, self.names)):
            if low >= high:
                raise SettingsError(f"lowest is {low:g} of '{name}' and highest {high:g}; let it "
                                    'be less')
            if self.stop == 'zero' and not low <= 0 <= high:
                raise SettingsError(f"lowest is {low:g} of '{name}' and highest {high:g}, but a "
                                    f'stop is {self.quantity} 0; let them include 0')
        if self.type == 'joint_trajectory' and self.quantity == 'effort':
            raise SettingsError('quantity is effort, which joint_trajectory_controller does not '
                                'follow; write position or velocity, or the type joint_state')


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the remedy for a name that does not exist: the nearest one, or which there are."""
    near = get_close_matches(name, known := list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else (
        f"; there are {', '.join(known)}" if known else '; there is none')


def of_each(values: tuple, names: Sequence[str]) -> tuple:
    """Return a value for each name, where one may stand for all."""
    return values * len(names) if len(values) == 1 else values


def check_names(field_name: str, names: Sequence[str]) -> None:
    """Refuse names that are empty or there twice."""
    for i, name in enumerate(names):
        if not name.strip() or name in names[:i]:
            raise SettingsError(f"{field_name} has '{printable(name)}' "
                                f"{'twice' if name.strip() else 'among them'}; name each once")


def check_count(field_name: str, values: Sequence, names: Sequence, several_names: str) -> None:
    """Refuse as many values as there are neither names nor one."""
    if len(values) not in (1, len(names)):
        raise SettingsError(f'{field_name} has {len(values)} values for {len(names)} '
                            f'{several_names}; write one for each, or one for all')


def check_ends(names: Sequence[str], low: Sequence[float], high: Sequence[float]) -> None:
    """Refuse two equal ends."""
    for name, first, last in zip(names, low, high):
        if first == last:
            raise SettingsError(f"low is {first:g} of '{name}', and so is high; what becomes -1 "
                                'and what becomes 1 must differ')


def check_one(field_name: str, values: Sequence[float], what: str) -> None:
    """Refuse other than one number above zero."""
    if len(values) != 1 or values[0] <= 0:
        raise SettingsError(f'{field_name} is {list(values)}; write {what}')
