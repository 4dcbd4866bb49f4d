"""The measurements of the embedded simulator as messages, and which of a contract's it gives."""

from array import array
import math

from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import Imu, LaserScan
from stream_agent.contract.contract import Contract
from stream_agent.contract.conversions import Scan
from stream_agent.contract.settings import COMPRESSED, IMAGE, IMU, ODOMETRY, SCAN
from stream_agent.simulation.environment import Moment
from stream_agent.simulation.sensors import Sensed
from stream_agent.simulation.settings import TOPICS

# As the IMU knows no orientation (REP 145).
UNKNOWN_ORIENTATION = np.array([-1.0, *(0.0,) * 8])
STANDARD_GRAVITY = 9.80665


def publishing_order(contract: Contract) -> tuple[list[str], list[str]]:
    """Return the types that are published first, the last of which triggers, and those after."""
    trigger = contract.inputs[contract.trigger].type
    trigger = trigger if trigger in TOPICS else IMAGE
    others = [kind for kind in TOPICS if kind != trigger]
    needed = {one.type for one in contract.inputs.values()}
    # Where nobody needs them, the trigger does not wait for them.
    first = [kind for kind in others if kind in needed]
    return [*first, trigger], [kind for kind in others if kind not in needed]


def not_simulated(contract: Contract, scan_rays: int) -> list[str]:
    """Say which inputs of a contract the simulator does not give, and what to do about it."""
    cameras = [name for name, one in contract.inputs.items() if one.is_camera]
    found = {}
    for name, one in contract.inputs.items():
        if one.type == SCAN and not scan_rays:
            found[name] = 'there is no scan, as scan_rays is 0; set scan_rays, such as 60'
        elif name in cameras[1:]:
            found[name] = f'there is one camera, which is inputs.{cameras[0]}'
        elif one.is_depth:
            found[name] = 'there is no depth camera'
        elif not (one.is_own or one.type in (*TOPICS, COMPRESSED)):
            found[name] = f'there is no {one.type}'
    return [f'inputs.{name}: {sentence}; policies that read it get no command through here'
            for name, sentence in found.items()]


def odometry_message(moment: Moment, sensed: Sensed) -> Odometry:
    """Convert a moment's pose, and its motion as the wheels give it, to a message."""
    msg = Odometry(child_frame_id='base_link')
    msg.header.frame_id = 'odom'
    msg.pose.pose.position.x, msg.pose.pose.position.y = moment.pose.x, moment.pose.y
    msg.pose.pose.orientation.z = math.sin(0.5 * moment.pose.yaw)
    msg.pose.pose.orientation.w = math.cos(0.5 * moment.pose.yaw)
    wheels, twist = sensed[ODOMETRY], msg.twist.twist
    twist.linear.x = wheels['twist.twist.linear.x']
    twist.angular.z = wheels['twist.twist.angular.z']
    return msg


def imu_message(sensed: Sensed) -> Imu:
    """Convert what an IMU measures to a message; at rest it feels gravity, upwards."""
    msg, felt = Imu(orientation_covariance=UNKNOWN_ORIENTATION), sensed[IMU]
    msg.header.frame_id = 'base_link'
    msg.angular_velocity.z = felt['angular_velocity.z']
    msg.linear_acceleration.x = felt['linear_acceleration.x']
    msg.linear_acceleration.y = felt['linear_acceleration.y']
    msg.linear_acceleration.z = STANDARD_GRAVITY
    return msg


def scan_message(scan: Scan) -> LaserScan:
    """Convert a scan to a message; the last ray is as old as the first."""
    # An array.array goes in whole; an ndarray would be checked element by element.
    msg = LaserScan(
        angle_min=scan.angle_min, angle_increment=scan.angle_increment,
        angle_max=scan.angle_min + scan.angle_increment * (len(scan.ranges) - 1),
        range_min=scan.range_min, range_max=scan.range_max,
        ranges=array('f', scan.ranges.tobytes()))
    msg.header.frame_id = 'laser'
    return msg
