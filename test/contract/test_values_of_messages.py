"""Values of real messages: found by name, and refused where a message has none."""

import math
import time

from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores
from sensor_msgs.msg import CompressedImage, Image, Imu, JointState, LaserScan
from std_msgs.msg import Float64MultiArray
from stream_agent.contract import messages, settings
from stream_agent.contract.messages import check_fields, MissingValue, read_values, stamp_of
from stream_agent.contract.settings import InputSettings
from stream_agent.images import ImageError
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

STORE = get_typestore(Stores.ROS2_JAZZY)
NAN, INF = math.nan, math.inf


def vector(kind, *fields, **changes):
    return InputSettings(type=kind, fields=fields, units=('m',), low=(-1.0,), high=(1.0,),
                         **changes)


ODOMETRY = vector('nav_msgs/msg/Odometry', 'twist.twist.linear.x', 'twist.twist.angular.z')
GYRO = vector('sensor_msgs/msg/Imu', 'angular_velocity.z', 'linear_acceleration.x')
JOINTS = vector('sensor_msgs/msg/JointState', 'position.b', 'velocity.a', 'position.c.d')
ARRAY = vector('std_msgs/msg/Float64MultiArray', 'data.0', 'data.2', stamp='arrival')
SCAN = InputSettings(type='sensor_msgs/msg/LaserScan', high=(6.0,))


def odometry(speed=0.5, yaw_rate=-0.25):
    message = Odometry()
    message.twist.twist.linear.x, message.twist.twist.angular.z = speed, yaw_rate
    return message


def joints(**changes):
    return JointState(**{'name': ['a', 'b', 'c.d'], 'position': [1.0, 2.0, 3.0],
                         'velocity': [4.0, 5.0, 6.0]} | changes)


def recorded(message, kind=''):
    """Return a message as the library that reads recordings has it."""
    if isinstance(message, list):
        return [recorded(one) for one in message]
    if not hasattr(message, 'get_fields_and_field_types'):
        return np.asarray(message) if hasattr(message, '__len__') and not isinstance(
            message, str) else message
    package = type(message).__module__.split('.')[0]
    return STORE.types[kind or f'{package}/msg/{type(message).__name__}'](**{
        name: recorded(getattr(message, name)) for name in message.get_fields_and_field_types()})


@pytest.mark.parametrize('chosen, message, expected', [
    (ODOMETRY, odometry(), [0.5, -0.25]), (GYRO, Imu(), [0, 0]), (JOINTS, joints(), [2, 4, 3]),
    (JOINTS, joints(name=['c.d', 'x', 'a', 'b'], position=[1.0, 2.0, 3.0, 4.0],
                    velocity=[5.0, 6.0, 7.0, 8.0]), [4, 7, 1]),
    (ARRAY, Float64MultiArray(data=[1.0, 2.0, 3.0]), [1, 3]),
    (vector('trajectory_msgs/msg/JointTrajectory', 'points.1.positions.0',
            'points.0.time_from_start.sec'),
     JointTrajectory(points=[JointTrajectoryPoint(), JointTrajectoryPoint(positions=[7.0])]),
     [7, 0])])
def test_values_are_found_by_their_names_whoever_read_the_message(chosen, message, expected):
    for one in (message, recorded(message, chosen.type)):
        found = read_values(chosen, one)
        assert found.dtype == float
        np.testing.assert_array_equal(found, expected)


def test_the_order_of_joints_may_change_between_messages():
    for message in (joints(), joints(name=['b', 'a', 'c.d']), joints()):
        at = {name: i for i, name in enumerate(message.name)}
        np.testing.assert_array_equal(read_values(JOINTS, message), [
            message.position[at['b']], message.velocity[at['a']], message.position[at['c.d']]])


ABSENT = 'is absent, as the first of its covariances is -1; leave it out of fields, or take a topi'


def imu(name):
    message = Imu()
    getattr(message, name)[0] = -1
    return message


def unsure(part):
    message = odometry()
    getattr(message, part).covariance[0] = -1
    return message


@pytest.mark.parametrize('chosen, message, said', [
    (GYRO, imu('angular_velocity_covariance'),
     f'angular_velocity of sensor_msgs/msg/Imu {ABSENT}'),
    (GYRO, imu('linear_acceleration_covariance'),
     f'linear_acceleration of sensor_msgs/msg/Imu {ABSENT}'),
    (ODOMETRY, unsure('twist'), f'twist of nav_msgs/msg/Odometry {ABSENT}'),
    (ODOMETRY, odometry(NAN), 'twist.twist.linear.x of nav_msgs/msg/Odometry is nan; look at '),
    (ODOMETRY, odometry(0.0, -INF), 'twist.twist.angular.z of nav_msgs/msg/Odometry is -inf'),
    (JOINTS, joints(name=['a', 'b', 'c']), "the joint 'c.d' is not in this JointState; there are "
     'a, b, c'),
    (JOINTS, joints(name=[], position=[], velocity=[]), "the joint 'b' is not in this JointState; "
     'there is none'),
    (JOINTS, joints(name=['a', 'b', 'b'], position=[1.0] * 3), "the joint 'c.d' is not in"),
    (JOINTS, joints(name=['c.d', 'a', 'b', 'b']), "the joint 'b' is twice in this JointState"),
    (JOINTS, joints(velocity=[]), 'velocity of the JointState has 0 values for 3 joints; take'),
    (JOINTS, joints(position=[1.0, 2.0]), 'position of the JointState has 2 values for 3 joints; '
     'let its driver send one for each, or none'),
    (JOINTS, joints(position=[1.0] * 4), 'position of the JointState has 4 values for 3 joints'),
    (JOINTS, joints(position=[1.0, NAN, 3.0]), "position of the joint 'b' is nan, as ros2_control "
     'says what it does not know'),
    (ARRAY, Float64MultiArray(data=[1.0, 2.0]), 'data.2 of std_msgs/msg/Float64MultiArray is not '
     'in an array this short; let its sender fill it, or name fewer'),
    (ARRAY, Float64MultiArray(), 'data.0 of std_msgs/msg/Float64MultiArray is not in an array'),
    (SCAN, LaserScan(), 'ranges of the scan is empty; look whether the scanner turns')])
def test_what_a_message_does_not_have_is_refused(chosen, message, said):
    for one in (message, recorded(message, chosen.type)):
        with pytest.raises(MissingValue) as fault:
            read_values(chosen, one)
        assert str(fault.value).startswith(said)


def test_what_is_not_asked_for_may_be_absent():
    # As most drivers of an IMU say that it knows no orientation.
    np.testing.assert_array_equal(read_values(GYRO, imu('orientation_covariance')), [0, 0])
    np.testing.assert_array_equal(read_values(ODOMETRY, unsure('pose')), [0.5, -0.25])
    with pytest.raises(MissingValue, match='^orientation of sensor_msgs/msg/Imu is absent'):
        read_values(vector('sensor_msgs/Imu', 'orientation.w'), imu('orientation_covariance'))


def test_a_joint_that_is_missing_once_is_found_again():
    with pytest.raises(MissingValue):
        read_values(JOINTS, joints(name=['a', 'x', 'c.d']))
    np.testing.assert_array_equal(read_values(JOINTS, joints()), [2, 4, 3])
    with pytest.raises(MissingValue):
        read_values(JOINTS, joints(position=[]))
    np.testing.assert_array_equal(read_values(JOINTS, joints()), [2, 4, 3])


FIELDS = [
    (vector('nav_msgs/Odometry', 'twist.twist.linear.q'), Odometry(),
     "nav_msgs/msg/Odometry has no field 'twist.twist.linear.q'; there are x, y, z"),
    (vector('nav_msgs/Odometry', 'twist.twits.linear.x'), Odometry(),
     "nav_msgs/msg/Odometry has no field 'twist.twits'; did you mean 'twist'?"),
    (vector('nav_msgs/Odometry', 'twist.twist.linear'), Odometry(), 'twist.twist.linear of nav_msg'
     's/msg/Odometry is not a number; name one of its fields; there are x, y, z'),
    (vector('nav_msgs/Odometry', 'header.frame_id'), Odometry(), 'header.frame_id of nav_msgs/msg/'
     'Odometry is not a number'),
    (vector('nav_msgs/Odometry', 'pose.covariance'), Odometry(), 'pose.covariance of nav_msgs/msg/'
     'Odometry is not a number; write .0 behind it for the first of the array'),
    (vector('nav_msgs/Odometry', 'pose.covariance.x'), Odometry(), 'pose.covariance of nav_msgs/ms'
     "g/Odometry is an array, and 'x' no place in it; write a whole number")]


@pytest.mark.parametrize('chosen, message, said', FIELDS)
def test_a_field_that_a_type_lacks_is_known_before_a_message_comes(chosen, message, said):
    for look, one in ((check_fields, message), (read_values, message),
                      (read_values, recorded(message, chosen.type))):
        with pytest.raises(MissingValue) as fault:
            look(chosen, one)
        assert str(fault.value).startswith(said)


def test_types_that_fit_pass_although_their_arrays_are_empty():
    for chosen, kind in ((ODOMETRY, Odometry), (GYRO, Imu), (JOINTS, JointState),
                         (ARRAY, Float64MultiArray), (SCAN, LaserScan), (InputSettings(), Image),
                         (vector('nav_msgs/Odometry', 'pose.covariance.35'), Odometry)):
        check_fields(chosen, kind())
    with pytest.raises(MissingValue, match='^std_msgs/msg/Float64MultiArray has no header; write '
                       'stamp: arrival$'):
        check_fields(vector('std_msgs/Float64MultiArray', 'data.0'), Float64MultiArray())


def test_a_stamp_is_that_of_the_last_ray():
    message = LaserScan(scan_time=0.1)
    message.header.stamp.sec, message.header.stamp.nanosec = 5, 7
    assert stamp_of(SCAN, message) == 5_100_000_007
    for wrong in (-1.0, NAN, 3600.0, 0.0):
        message.scan_time = wrong
        assert stamp_of(SCAN, message) == 5_000_000_007
    odometry_message = odometry()
    odometry_message.header.stamp.sec = 3
    assert stamp_of(ODOMETRY, odometry_message) == 3 * 10**9


def test_a_scan_is_read_without_a_copy_of_its_ranges():
    message = LaserScan(ranges=[1.0, INF, NAN], angle_min=-1.0, angle_increment=0.5,
                        range_min=0.25, range_max=8.0)
    for one in (message, recorded(message, SCAN.type)):
        found = read_values(SCAN, one)
        assert found.ranges.dtype == np.float32 and np.shares_memory(found.ranges, one.ranges)
        np.testing.assert_array_equal(found.ranges, np.array([1, INF, NAN], np.float32))
        assert found[1:] == (-1.0, 0.5, 0.25, 8.0)


def test_images_are_read_as_the_contract_means_them():
    grey = Image(height=2, width=2, step=2, encoding='mono8', data=[1, 2, 3, 4])
    depth = Image(height=1, width=2, step=4, encoding='16UC1', data=[1, 2, 3, 4])
    camera, distances = InputSettings(), InputSettings(high=(5.0,))
    np.testing.assert_array_equal(read_values(camera, grey), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(read_values(distances, depth), [[513, 1027]])
    for chosen, message, said in (
            (camera, depth, "image encoding is '16UC1', which is depth; in the robot's contract"),
            (distances, grey, "image encoding is 'mono8', which is not depth; take a topic of"),
            (InputSettings(type=settings.COMPRESSED), CompressedImage(format='x'),
             "compressed image of format 'x' is neither JPEG nor PNG")):
        with pytest.raises(ImageError) as fault:
            read_values(chosen, message)
        assert str(fault.value).startswith(said)


def test_a_vector_of_six_takes_less_than_20_us():
    six = vector('nav_msgs/Odometry', *(f'twist.twist.{part}.{axis}' for part in (
        'linear', 'angular') for axis in 'xyz'))
    message, durations = odometry(), []
    for _ in range(2000):
        start = time.perf_counter()
        read_values(six, message)
        durations.append(time.perf_counter() - start)
    assert np.median(durations) < 20e-6
    assert messages.reader_of.cache_info().maxsize
