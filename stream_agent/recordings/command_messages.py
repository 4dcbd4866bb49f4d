"""Messages of command topics as speed and steering; REP 103: the left is positive."""

import math

import numpy as np
from stream_agent.recordings.recording import BadRecordingError, Reading

TWIST = 'geometry_msgs/msg/Twist'
TWIST_STAMPED = 'geometry_msgs/msg/TwistStamped'
ACKERMANN = 'ackermann_msgs/msg/AckermannDrive'
ACKERMANN_STAMPED = 'ackermann_msgs/msg/AckermannDriveStamped'
JOY = 'sensor_msgs/msg/Joy'
COMMAND_TYPES = (TWIST_STAMPED, TWIST, ACKERMANN_STAMPED, ACKERMANN, JOY)
STAMPED = {TWIST_STAMPED, ACKERMANN_STAMPED, JOY}

# The library that reads recordings brings no definitions of these.
DEFINITIONS = {
    ACKERMANN: 'float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\n'
               'float32 acceleration\nfloat32 jerk\n',
    ACKERMANN_STAMPED: 'std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n',
}


def steering_of(message_type: str, reading: Reading) -> str:
    """Return what the second value of a command is, as in ``Commands.steering``."""
    if message_type in (TWIST, TWIST_STAMPED):
        return 'yaw rate'
    if message_type == JOY:
        return 'steering'
    return 'yaw rate' if reading.wheelbase else 'steering angle'


def values_of(message, message_type: str, reading: Reading) -> tuple[float, float]:
    """
    Return speed and steering of one message.

    :raises BadRecordingError: If a Joy lacks an axis; without the place.
    """
    if message_type == JOY:
        return joy_values(message.axes, reading)
    if message_type in (TWIST, TWIST_STAMPED):
        twist = message.twist if message_type == TWIST_STAMPED else message
        return twist.linear.x, twist.angular.z
    drive = message.drive if message_type == ACKERMANN_STAMPED else message
    if not reading.wheelbase:
        return drive.speed, drive.steering_angle
    # A bicycle: it turns about the point where the axles' lines meet.
    return drive.speed, drive.speed * math.tan(drive.steering_angle) / reading.wheelbase


def joy_values(axes: np.ndarray, reading: Reading) -> tuple[float, float]:
    """Return throttle and steering of a joystick's axes."""
    if reading.steering_axis is None:
        raise BadRecordingError('which axis of the joystick steers is not said; add '
                                f'--steering-axis N, 0 to {len(axes) - 1}')
    for option, axis in (('--steering-axis', reading.steering_axis),
                         ('--throttle-axis', reading.throttle_axis)):
        if axis is not None and not 0 <= axis < len(axes):
            raise BadRecordingError(f'{option} {axis}: the joystick has the axes 0 to '
                                    f'{len(axes) - 1}')
    throttle = 0.0 if reading.throttle_axis is None else float(axes[reading.throttle_axis])
    return throttle, reading.sign('left') * float(axes[reading.steering_axis])
