"""What a driver's command says: messages to a base, or to any actuators that a contract names."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.settings import OutputSettings, VECTOR_TYPES
from stream_agent.recordings.recording import BadRecordingError, BASE_NAMES, Reading

TWIST = 'geometry_msgs/msg/Twist'
TWIST_STAMPED = 'geometry_msgs/msg/TwistStamped'
ACKERMANN = 'ackermann_msgs/msg/AckermannDrive'
ACKERMANN_STAMPED = 'ackermann_msgs/msg/AckermannDriveStamped'
JOY = 'sensor_msgs/msg/Joy'
COMMAND_TYPES = (TWIST_STAMPED, TWIST, ACKERMANN_STAMPED, ACKERMANN, JOY)
MULTI_ARRAY = 'std_msgs/msg/Float64MultiArray'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
JOINT_STATE = 'sensor_msgs/msg/JointState'
#: By the contract's names for them; a driver may send any of them.
VECTOR_MESSAGES = dict(zip(VECTOR_TYPES, (MULTI_ARRAY, TRAJECTORY, JOINT_STATE)))
# The stamp of a trajectory says when it starts, usually 0 for now, and not when it was sent.
STAMPED = {TWIST_STAMPED, ACKERMANN_STAMPED, JOY, JOINT_STATE}
# The fields of a joint's values, in a JointState and in a point of a JointTrajectory.
FIELDS = {'position': ('position', 'positions'), 'velocity': ('velocity', 'velocities'),
          'effort': ('effort', 'effort')}

# The library that reads recordings has no definitions of these.
DEFINITIONS = {
    ACKERMANN: 'float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\n'
               'float32 acceleration\nfloat32 jerk\n',
    ACKERMANN_STAMPED: 'std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n',
}


class UnreadableCommandError(ValueError):
    """A message that does not say what the contract's elements shall do; with the fault."""


@dataclass(frozen=True)
class CommandReader:
    """
    Reads the values of messages of one type.

    :param output: Who obeyed them; None for a base of which no contract says more.
    """

    type: str
    reading: Reading
    output: OutputSettings | None = None

    @property
    def is_stamped(self) -> bool:
        """Whether messages say when they were sent."""
        return self.type in STAMPED

    @property
    def is_vector(self) -> bool:
        """Whether they are for any actuators, not for a base."""
        return self.output is not None and self.output.is_vector

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values."""
        return self.output.names if self.output and self.is_vector else BASE_NAMES

    @property
    def steering(self) -> str:
        """What the second value of a base's command is, as in ``Commands.steering``."""
        if self.is_vector:
            return ''
        if self.type == JOY:
            return 'steering'
        return 'steering angle' if self._has_angle and not self.reading.wheelbase else 'yaw rate'

    @property
    def _has_angle(self) -> bool:
        return self.type in DEFINITIONS or (
            self.output is not None and self.output.type == 'twist_steering')

    def __call__(self, message: Any) -> Sequence[float]:
        """
        Return speed and steering of a message, or the values of a vector's elements.

        :raises UnreadableCommandError: If one of the elements is missing.
        :raises BadRecordingError: If a Joy lacks an axis; without the place.
        """
        if self.output and self.is_vector:
            return vector_of(message, self.type, self.output)
        if self.type == JOY:
            return joy_values(message.axes, self.reading)
        if self.type in (TWIST, TWIST_STAMPED):
            twist = message.twist if self.type == TWIST_STAMPED else message
            speed, steering = twist.linear.x, twist.angular.z
        else:
            drive = message.drive if self.type == ACKERMANN_STAMPED else message
            speed, steering = drive.speed, drive.steering_angle
        if self._has_angle and self.reading.wheelbase:
            # A bicycle: it turns about the point where the axles' lines meet.
            return speed, speed * math.tan(steering) / self.reading.wheelbase
        return speed, steering


def joy_values(axes: np.ndarray, reading: Reading) -> tuple[float, float]:
    """Return throttle and steering of a joystick's axes."""
    if reading.steering_axis is None:
        raise BadRecordingError('it is not known which axis of the joystick steers; add '
                                f'--steering-axis N, 0 to {len(axes) - 1}')
    for option, axis in (('--steering-axis', reading.steering_axis),
                         ('--throttle-axis', reading.throttle_axis)):
        if axis is not None and not 0 <= axis < len(axes):
            raise BadRecordingError(f'{option} {axis}: the joystick has the axes 0 to '
                                    f'{len(axes) - 1}')
    throttle = 0.0 if reading.throttle_axis is None else float(axes[reading.throttle_axis])
    return throttle, reading.sign('left') * float(axes[reading.steering_axis])


def vector_of(message: Any, message_type: str, output: OutputSettings) -> Sequence[float]:
    """
    Return what a message commands the elements of a contract to do, in the contract's order.

    Elements are found by name; an array has none, and is in the contract's order. Of a
    trajectory, the first point counts.
    """
    if message_type == MULTI_ARRAY:
        if len(message.data) != len(output.names):
            raise UnreadableCommandError(f'{len(message.data)} values, where the contract names '
                                         f'{len(output.names)} elements')
        return message.data
    in_state, in_point = FIELDS[output.quantity]
    if message_type == JOINT_STATE:
        names, field, values = list(message.name), in_state, getattr(message, in_state)
    else:
        if not len(message.points):
            raise UnreadableCommandError('a trajectory without points')
        names, field = list(message.joint_names), in_point
        values = getattr(message.points[0], in_point)
    missing = [name for name in output.names if name not in names]
    if missing:
        raise UnreadableCommandError(
            f'{printable(", ".join(missing))} missing, it names {printable(", ".join(names))}')
    if len(values) != len(names):
        raise UnreadableCommandError(f"{len(values)} values of '{field}' for {len(names)} names, "
                                     f'where the contract commands {output.quantity}')
    return [values[names.index(name)] for name in output.names]
