"""
The values of an input in its messages.

The messages may be rclpy's or those of a library that reads recordings; the fields are the same.
What a message says to be absent is refused: a number would be made up otherwise.
"""

from collections.abc import Callable
from functools import lru_cache, reduce
from itertools import groupby
from math import isfinite
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.conversions import Scan
from stream_agent.contract.settings import COMPRESSED, did_you_mean, InputSettings, JOINT_STATE
from stream_agent.images import compressed_to_array, depth_to_array, image_to_array

# What a message of a scan says to take [s]; more is a mistake of its driver.
LONGEST_SCAN = 1.0


class MissingValue(ValueError):
    """Values that a message does not have; says where in it, what is wrong, and what to do."""


def read_values(settings: InputSettings, message: Any) -> 'np.ndarray | Scan':
    """
    Return what an input takes of a message: what its conversion takes.

    :returns: float64 (n,) of a vector; of an image of a camera as ``image_to_array``, of depth
        as ``depth_to_array``.
    :raises MissingValue: If the message does not have them.
    :raises ImageError: If an image cannot be read.
    """
    kind: Any = type(message)
    return reader_of(settings, kind)(message)


def stamp_of(settings: InputSettings, message: Any) -> int:
    """
    Return the time [ns] of what a message says, as its header says it.

    That is of a scan's last ray: the header's is of the first one.

    :raises MissingValue: If it has no header.
    """
    try:
        stamp = message.header.stamp
    except AttributeError:
        raise MissingValue(f'{settings.type} has no header; write stamp: arrival') from None
    ns = stamp.sec * 10**9 + stamp.nanosec
    if settings.kind == 'scan' and 0 < message.scan_time <= LONGEST_SCAN:
        ns += round(message.scan_time * 1e9)
    return ns


def check_fields(settings: InputSettings, message: Any) -> None:
    """
    Hold an input against the type of its messages, before one has come.

    :param message: Any of them; what is absent in it, such as in an empty array, is no fault.
    :raises MissingValue: If the type has no such field, or no header where its stamp counts.
    """
    if settings.stamp == 'header':
        stamp_of(settings, message)
    if settings.kind == 'vector':
        for name in settings.fields:
            check_path(settings, message, name.split('.'))


def check_path(settings: InputSettings, message: Any, parts: list[str]) -> None:
    """Refuse a field that a message's type does not have, or that is no number."""
    for i, part in enumerate(parts):
        if is_array(message):
            if settings.type == JOINT_STATE or len(message) <= index_of(settings, parts, i):
                return
            message = message[int(part)]
            continue
        if not hasattr(message, part):
            raise MissingValue(f"{settings.type} has no field '{'.'.join(parts[:i + 1])}'"
                               f'{did_you_mean(part, names_of(message))}')
        message = getattr(message, part)
    if not isinstance(message, (bool, int, float, np.number, np.bool_)):
        raise MissingValue(f'{".".join(parts)} of {settings.type} is not a number; '
                           + ('write .0 behind it for the first of the array'
                              if is_array(message) else 'name one of its fields'
                              f'{did_you_mean("", names_of(message))}'))


def index_of(settings: InputSettings, parts: list[str], at: int) -> int:
    """Return the place in an array that a part of a field's name says."""
    if not parts[at].isdecimal():
        raise MissingValue(f"{'.'.join(parts[:at])} of {settings.type} is an array, and "
                           f"'{printable(parts[at])}' no place in it; write a whole number, "
                           'such as 0 for its first')
    return int(parts[at])


def is_array(value: Any) -> bool:
    return hasattr(value, '__len__') and not isinstance(value, (str, bytes))


def names_of(message: Any) -> list[str]:
    """Return the names of a message's fields, whichever library made it."""
    if hasattr(message, 'get_fields_and_field_types'):
        return list(message.get_fields_and_field_types())
    return [name for name in getattr(message, '__dict__', {}) if not name.startswith('_')]


@lru_cache(maxsize=256)
def reader_of(settings: InputSettings, kind: type) -> Callable[[Any], Any]:
    """Return what reads an input of messages of a class."""
    if settings.kind == 'scan':
        return read_scan
    if settings.kind == 'image':
        if settings.type == COMPRESSED:
            return compressed_to_array
        return depth_to_array if settings.is_depth else image_to_array
    if settings.type == JOINT_STATE:
        return JointReader(settings)
    return FieldReader(settings)


def read_scan(message: Any) -> Scan:
    """Return a laser scan, its ranges without a copy."""
    if not len(message.ranges):
        raise MissingValue('ranges of the scan is empty; look whether the scanner turns')
    return Scan(np.asarray(message.ranges, np.float32), message.angle_min,
                message.angle_increment, message.range_min, message.range_max)


class FieldReader:
    """Reads fields by their names with dots; a number is a place in an array."""

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings
        self._getters = [getter_of(name) for name in settings.fields]
        # What says whether a datum is there at all; which a message has is found in the first.
        self._covariances: list[tuple[str, Callable[[Any], Any]]] | None = None

    def __call__(self, message: Any) -> np.ndarray:
        if self._covariances is None:
            self._covariances = covariances_of(self._settings, message)
        for name, covariance in self._covariances:
            if covariance(message)[0] == -1:
                raise MissingValue(f'{name} of {self._settings.type} is absent, as the first of '
                                   'its covariances is -1; leave it out of fields, or take a '
                                   'topic that has it')
        try:
            values = [get(message) for get in self._getters]
            if all(map(isfinite, values)):
                return np.array(values, float)
        except (AttributeError, IndexError, TypeError, KeyError):
            for name in self._settings.fields:
                check_path(self._settings, message, name.split('.'))
        raise self.fault(message)

    def fault(self, message: Any) -> MissingValue:
        """Return what to say of the first field that is not a finite number, or not there."""
        for name, get in zip(self._settings.fields, self._getters):
            try:
                value = get(message)
                if isfinite(value):
                    continue
            except (IndexError, TypeError):
                return MissingValue(f'{name} of {self._settings.type} is not in an array this '
                                    'short; let its sender fill it, or name fewer')
            return MissingValue(f'{name} of {self._settings.type} is {value}; look at what '
                                'publishes it')
        raise AssertionError('every field can be read')


def getter_of(name: str) -> Callable[[Any], Any]:
    """Return what finds a field in a message; a number in its name is a place in an array."""
    steps: list[Callable[[Any], Any]] = []
    for is_place, parts in groupby(name.split('.'), str.isdecimal):
        steps += [itemgetter(int(part)) for part in parts] if is_place else [
            attrgetter('.'.join(parts))]
    if len(steps) == 1:
        return steps[0]
    return lambda message: reduce(lambda value, step: step(value), steps, message)


def covariances_of(settings: InputSettings, message: Any
                   ) -> list[tuple[str, Callable[[Any], Any]]]:
    """
    Return the data that fields are part of and that have covariances, and how these are found.

    Of an Imu that is angular_velocity_covariance for angular_velocity.z; of an Odometry
    twist.covariance for twist.twist.linear.x.
    """
    found = {}
    for name in settings.fields:
        parts = name.split('.')
        for i in range(1, len(parts)):
            datum = '.'.join(parts[:i])
            for path in (f'{datum}_covariance', f'{datum}.covariance'):
                try:
                    if len(attrgetter(path)(message)):
                        found[datum] = attrgetter(path)
                except (AttributeError, TypeError):
                    pass
    return list(found.items())


class JointReader:
    """Reads joints by their names, as their order is the sender's, and may change."""

    def __init__(self, settings: InputSettings) -> None:
        self._wanted = [tuple(name.split('.', 1)) for name in settings.fields]
        self._kinds = {kind for kind, _ in self._wanted}
        self._names: list[str] | None = None
        self._places: list[tuple[str, int]] = []

    def __call__(self, message: Any) -> np.ndarray:
        if message.name != self._names:
            self._find(list(message.name))
        count = len(message.name)
        try:
            values = [getattr(message, kind)[at] for kind, at in self._places]
        except IndexError:
            values = []
        if not values or not all(map(isfinite, values)) or any(
                len(getattr(message, kind)) != count for kind in self._kinds):
            raise self.fault(message)
        return np.array(values, float)

    def _find(self, names: list[str]) -> None:
        """Find the joints among the names of a message."""
        self._names = None
        lacking = [joint for _, joint in self._wanted if joint not in names]
        if lacking:
            raise MissingValue(
                f"the joint '{printable(lacking[0])}' is not in this JointState"
                f'{did_you_mean(lacking[0], [printable(name) for name in names[:12]])}')
        if twice := [joint for _, joint in self._wanted if names.count(joint) > 1]:
            raise MissingValue(f"the joint '{printable(twice[0])}' is twice in this JointState; "
                               'let its driver name each once')
        self._places = [(kind, names.index(joint)) for kind, joint in self._wanted]
        self._names = names

    def fault(self, message: Any) -> MissingValue:
        """Return what to say of the first joint that has no finite number."""
        count = len(message.name)
        for kind, at in self._places:
            values = getattr(message, kind)
            if len(values) != count:
                return MissingValue(
                    f'{kind} of the JointState has {len(values)} values for {count} joints; '
                    + (f'take what its driver fills instead of {kind}' if not len(values)
                       else 'let its driver send one for each, or none'))
            if not isfinite(values[at]):
                return MissingValue(
                    f"{kind} of the joint '{printable(message.name[at])}' is {values[at]}, as "
                    'ros2_control says what it does not know; take what its driver fills '
                    f'instead of {kind}')
        raise AssertionError('every joint can be read')
