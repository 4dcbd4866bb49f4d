"""Scan, IMU and odometry of the simulator as messages, over real DDS."""

from collections import Counter
import time

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, Imu, LaserScan
from stream_agent.command import Command
from stream_agent.contract.contract import Contract
from stream_agent.contract.messages import read_values
from stream_agent.contract.settings import IMAGE, IMU, InputSettings, ODOMETRY, SCAN
from stream_agent.nodes.messages import (
    COMMAND_QOS, command_to_twist, stamp_to_ns, WATCH_FRAME_QOS)
from stream_agent.nodes.simulated_messages import not_simulated, publishing_order
from stream_agent.nodes.simulation_node import SimulationNode
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from support.wall_follower import follow

SMALL = {'width_px': 64, 'height_px': 48, 'probe_changes': 0, 'allow_foreign_listeners': True}
EXACT = {'scan_rays': 60, 'scan_noise': 0.0, 'scan_dropout': 0.0}


def by_stamp(heard):
    return {stamp_to_ns(one.message.header.stamp): one.message for one in heard}


@pytest.mark.real_time
@pytest.mark.parametrize('delay', [0.0, 0.1])
def test_what_sensors_measure_is_published_with_the_frame_s_stamp(peer, start_node, delay):
    settings = {'camera_delay': delay, 'odometry_scale': 0.2, 'imu_yaw_bias': 0.3}
    start_node('simulation', course_seed=3, start_subscribers=9, **SMALL, **EXACT, **settings)
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    # As SLAM or a viewer listens, and as a driver's readers do.
    scans = peer.hear(LaserScan, 'scan')
    peer.hear(LaserScan, 'scan', qos_profile_sensor_data)
    imus, wheels = peer.hear(Imu, 'imu'), peer.hear(Odometry, 'odom')
    peer.spin_until(lambda: min(map(len, (images, scans, imus, wheels))) > 20)
    environment = DrivingEnvironment(
        SimulationSettings(width_px=64, height_px=48, **EXACT, **settings), 3, camera=False)
    frame, scan = environment.reset(), scans[-1].message
    assert np.array_equal(np.frombuffer(scan.ranges, np.float32), frame.scan.ranges)
    assert (scan.angle_min, scan.angle_max) == pytest.approx((-2.0, 2.0))
    assert scan.angle_increment == pytest.approx(4.0 / 59)
    assert (scan.range_min, scan.range_max) == pytest.approx((0.05, 6.0))
    assert (scan.scan_time, scan.time_increment, len(scan.intensities)) == (0.0, 0.0, 0)
    imu = imus[-1].message
    assert imu.angular_velocity.z == frame.sensed[IMU]['angular_velocity.z'] != 0.0
    assert imu.linear_acceleration.z == pytest.approx(9.80665)
    assert imu.orientation_covariance[0] == -1.0
    assert not imu.angular_velocity_covariance.any()
    # The same instants.
    common = set(by_stamp(images)) & set(by_stamp(scans)) & set(by_stamp(imus))
    assert len(common) > 10
    assert scan.header.frame_id == 'laser' and imu.header.frame_id == 'base_link'
    # Odometry knows no delay.
    late = wheels[-1].ros_ns - stamp_to_ns(wheels[-1].message.header.stamp)
    assert late < 90e6 or not delay


@pytest.mark.real_time
def test_odometry_is_wrong_by_as_much_as_set_and_its_pose_is_true(peer, start_node):
    simulation = start_node('simulation', course_seed=3, odometry_scale=0.2, **SMALL)
    wheels = peer.hear(Odometry, 'odom')
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    publisher = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    peer.spin_until(lambda: images and wheels and publisher.get_subscription_count())
    while 'driving' not in simulation.output or wheels[-1].message.twist.twist.linear.x < 0.1:
        publisher.publish(command_to_twist(Command(0.5, 0.0), 1))
        peer.spin(0.02)
    peer.spin(1.0)
    said = wheels[-1].message.twist.twist.linear.x
    first, last = wheels[-25], wheels[-1]
    seconds = (stamp_to_ns(last.message.header.stamp)
               - stamp_to_ns(first.message.header.stamp)) / 1e9
    x, y = (getattr(last.message.pose.pose.position, axis)
            - getattr(first.message.pose.pose.position, axis) for axis in 'xy')
    assert np.hypot(x, y) / seconds == pytest.approx(0.5, abs=0.01)
    assert 0.4 <= said <= 0.6 and abs(said - 0.5) > 0.01


@pytest.mark.real_time
def test_a_drive_by_scan_alone_starts_without_anybody_who_sees(peer, start_node):
    simulation = start_node('simulation', start_subscribers=1, scan_rays=60, **SMALL)
    scans = peer.hear(LaserScan, 'scan')
    publisher = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    peer.spin_until(lambda: scans and publisher.get_subscription_count())
    assert ("waiting for 1 subscribers of '/image' or '/scan' and a first command"
            in simulation.output)
    peer.spin_until(lambda: (publisher.publish(command_to_twist(Command(0.5, 0.0), 1)),
                             'commands arrive: driving' in simulation.output)[1])


@pytest.mark.real_time
def test_a_wall_follower_drives_by_the_published_scans(peer, start_node):
    simulation = start_node(
        'simulation', scan_rays=90, scan_noise=0.02, scan_dropout=0.05, course_seed=5,
        duration=30.0, pacing='lockstep', lockstep_timeout=30.0, **SMALL)
    scans, scan = peer.hear(LaserScan, 'scan'), InputSettings(type=SCAN, high=(6.0,))
    publisher = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    peer.spin_until(lambda: scans and publisher.get_subscription_count())
    since = time.monotonic()
    while simulation.popen.poll() is None:
        assert time.monotonic() - since < 60.0
        peer.spin_until(lambda: scans or simulation.popen.poll() is not None)
        if scans:
            message = scans[-1].message
            scans.clear()
            publisher.publish(command_to_twist(
                follow(read_values(scan, message)), stamp_to_ns(message.header.stamp)))
    assert simulation.wait() == 0
    # More than a lap.
    assert 'drove 1.' in simulation.output and ', 0 departures' in simulation.output
    assert ' 0 skipped, 0 unanswered' in simulation.output


CONTRACT = """
/**:
  ros__parameters:
    inputs:
      image: {type: sensor_msgs/msg/Image, topic: image, trigger: true}
      scan: {type: sensor_msgs/msg/LaserScan, topic: scan, rays: 60, high: [6.0]}
      odometry: {type: nav_msgs/msg/Odometry, topic: odom, fields: [twist.twist.linear.x],
                 units: [m/s], low: [-2.0], high: [2.0]}
      joints: {type: sensor_msgs/msg/JointState, fields: [position.arm], units: [rad],
               low: [-1.0], high: [1.0]}
    output: {type: twist_stamped, topic: cmd_vel}
"""


class Noted:
    """Stands for a publisher to which somebody listens."""

    def __init__(self, publisher, sent):
        self._publisher, self._sent = publisher, sent
        self.topic_name = publisher.topic_name

    def get_subscription_count(self):
        return 1

    def publish(self, data):
        self._sent.append((self.topic_name, deserialize_message(data, self._publisher.msg_type)))


@pytest.fixture
def noted(make_node, tmp_path):
    """Return a node and the list of what it publishes of its measurements."""
    def noted_one(**parameters):
        sent, file = [], tmp_path / 'robot.yaml'
        file.write_text(CONTRACT)
        node = make_node(SimulationNode, '--params-file', str(file), pacing='lockstep',
                         course_seed=3, **SMALL, **EXACT, **parameters)
        node._measured_pubs = {kind: Noted(publisher, sent)
                               for kind, publisher in node._measured_pubs.items()}
        return node, sent
    return noted_one


@pytest.mark.any_time
def test_what_triggers_is_published_after_what_else_the_contract_names(noted):
    node, sent = noted()
    node._publish_next()
    assert [topic for topic, _ in sent] == ['/odom', '/scan', '/image', '/imu']
    assert len({stamp_to_ns(message.header.stamp) for _, message in sent}) == 1


@pytest.mark.any_time
def test_odometry_is_of_now_and_all_else_of_the_capture(noted):
    node, sent = noted(camera_delay=0.1, odometry_speed_noise=0.01)
    environment = node._session.environment
    node._session.begin()
    for _ in range(8):
        environment.send(Command(0.8, 0.5))
        sent.clear()
        node._publish_next()
    by_topic = dict(sent)
    ages = {topic: stamp_to_ns(by_topic['/odom'].header.stamp)
            - stamp_to_ns(message.header.stamp) for topic, message in sent}
    assert ages == {'/odom': 0, '/imu': 10**8, '/scan': 10**8, '/image': 10**8}
    now, sensed = environment.now, environment.sensed_at(environment.now)
    said = by_topic['/odom'].twist.twist
    assert said.linear.x == sensed[ODOMETRY]['twist.twist.linear.x'] != now.speed
    assert said.angular.z == now.yaw_rate
    assert by_topic['/odom'].pose.pose.position.x == now.pose.x
    assert now.yaw_rate > by_topic['/imu'].angular_velocity.z > 0.0


@pytest.mark.any_time
def test_nobody_s_scan_is_made_for_nothing(noted, monkeypatch):
    node, sent = noted()
    monkeypatch.setattr(Noted, 'get_subscription_count', lambda _: 0)
    node._publish_next()
    assert [topic for topic, _ in sent] == ['/odom', '/image']


@pytest.mark.real_time
def test_it_says_what_a_contract_names_and_it_has_not(peer, start_node, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text(CONTRACT)
    simulation = start_node('simulation', '--params-file', str(file), **SMALL)
    peer.spin_until(lambda: 'waiting' in simulation.output)
    assert ('inputs.scan: there is no scan, as scan_rays is 0; set scan_rays, such as 60; '
            'policies that read it get no command through here') in simulation.output
    assert 'inputs.joints: there is no sensor_msgs/msg/JointState;' in simulation.output


def contract(trigger, **types):
    values = {'output.type': 'twist_stamped', f'inputs.{trigger}.trigger': True}
    for name, kind in types.items():
        values[f'inputs.{name}.type'] = kind
        if kind == SCAN:
            values |= {f'inputs.{name}.rays': 60, f'inputs.{name}.high': [6.0]}
        elif 'Image' not in kind:
            values |= {f'inputs.{name}.fields': ['header.stamp.sec'], f'inputs.{name}.low': [0.0],
                       f'inputs.{name}.high': [1.0], f'inputs.{name}.units': ['s']}
    return Contract.of_values(values)


@pytest.mark.parametrize('given, before', [
    (Contract.of_values({}), [IMAGE]),
    (Contract.of_values({'image_transport': 'compressed'}), [IMAGE]),
    (contract('image', image=IMAGE, odometry=ODOMETRY), [ODOMETRY, IMAGE]),
    (contract('scan', image=IMAGE, scan=SCAN, odometry=ODOMETRY), [ODOMETRY, IMAGE, SCAN]),
    (contract('image', image=IMAGE, scan=SCAN, imu=IMU, odometry=ODOMETRY),
     [ODOMETRY, IMU, SCAN, IMAGE]),
    (contract('odometry', scan=SCAN, odometry=ODOMETRY), [SCAN, ODOMETRY])])
def test_others_are_published_before_what_triggers(given, before):
    first, after = publishing_order(given)
    assert first == before
    assert Counter(first + after) == Counter([ODOMETRY, IMU, SCAN, IMAGE])


def test_what_the_simulator_lacks_is_said():
    given = contract('image', image=IMAGE, rear=IMAGE, scan=SCAN, imu=IMU)
    ending = '; policies that read it get no command through here'
    assert not_simulated(given, 60) == [
        'inputs.rear: there is one camera, which is inputs.image' + ending]
    assert not_simulated(Contract.of_values({}), 0) == []
    depth = Contract.of_values({
        'output.type': 'twist', 'inputs.image.type': IMAGE, 'inputs.depth.type': IMAGE,
        'inputs.depth.units': ['m'], 'inputs.depth.high': [5.0]})
    assert not_simulated(depth, 0) == ['inputs.depth: there is no depth camera' + ending]
