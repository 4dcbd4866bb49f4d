"""Teaching by driving: what is recorded of a drive in the simulator is what happened."""

import signal

from geometry_msgs.msg import Twist, TwistStamped
import numpy as np
import pytest
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from stream_agent.contract.contract import Contract
from stream_agent.nodes.messages import (
    COMMAND_QOS, image_to_array, stamp_to_ns, twist_to_command, WATCH_FRAME_QOS)
from stream_agent.nodes.record_bag_node import RecordNode
from stream_agent.recordings.frame_inputs import wanted_inputs
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import LiveBag

pytestmark = pytest.mark.real_time

SMALL = {'width_px': 64, 'height_px': 48, 'probe_changes': 0, 'course_seed': 3}


def test_a_drive_in_the_simulator_is_recorded_as_it_was(start_node, peer, tmp_path):
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    references = peer.hear(TwistStamped, 'reference')
    wheels = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    sent = {}

    def drive() -> bool:
        """Follow the expert."""
        if references and references[-1].message is not sent.get('last'):
            sent['last'] = msg = references[-1].message
            msg.header.stamp = peer.node.get_clock().now().to_msg()
            sent[stamp_to_ns(msg.header.stamp)] = twist_to_command(msg)
            wheels.publish(msg)
        return 'recording' in record.output and len(sent) > 90

    record = start_node('record_bag', output=str(tmp_path), name='drive')
    start_node('simulation', allow_foreign_listeners=True, **SMALL)
    peer.spin_until(drive, 60.0)
    record.signal(signal.SIGINT)
    assert record.wait() == 0
    assert f"wrote '{tmp_path}/drive': " in record.output
    (recording,) = open_recordings([tmp_path / 'drive'], Reading())
    heard = {stamp_to_ns(one.message.header.stamp): one.message for one in images}
    assert len(recording) > 40
    assert set(recording.frame_stamps.tolist()) <= heard.keys()
    for index, pixels in recording.images():
        expected = image_to_array(heard[int(recording.frame_stamps[index])])
        assert np.array_equal(pixels.squeeze(), expected)
    stamps = recording.commands.stamps.tolist()
    assert len(stamps) > 40 and set(stamps) <= sent.keys()
    for stamp, values in zip(stamps, recording.commands.values):
        assert values == pytest.approx(sent[stamp], abs=1e-6)


def test_whatever_the_driver_s_type_is_it_is_found_out(make_node, peer, tmp_path, capfd):
    record = make_node(RecordNode, output=str(tmp_path), name='drive')
    driver = peer.node.create_publisher(Twist, 'cmd_vel', COMMAND_QOS)

    def after_a_turn(condition):
        rclpy.spin_once(record, timeout_sec=0.02)
        return condition()

    peer.spin_until(lambda: after_a_turn(driver.get_subscription_count))
    for sent in range(1, 6):
        driver.publish(Twist())
        peer.spin_until(lambda: after_a_turn(lambda: record._bag.counts['/cmd_vel'] == sent))
    record.say()
    record.stop()
    said = capfd.readouterr().err
    assert "waiting for a driver on '/cmd_vel'" in said
    assert '(geometry_msgs/msg/Twist)' in said
    assert "nothing arrives on '/image'" in said
    assert f"wrote '{tmp_path}/drive': 0 of /image, 5 of /cmd_vel" in said


def test_a_second_publisher_is_named_and_what_is_odd_is_said(make_node, peer, tmp_path, capfd):
    record = make_node(RecordNode, output=str(tmp_path), name='drive')
    drivers = [peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS) for _ in range(2)]
    camera = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)

    def after_a_turn(condition):
        rclpy.spin_once(record, timeout_sec=0.02)
        return condition()

    peer.spin_until(lambda: after_a_turn(lambda: camera.get_subscription_count() and all(
        driver.get_subscription_count() for driver in drivers)))
    for sent in range(1, 21):
        stamp = peer.node.get_clock().now().to_msg()
        msg, frame = TwistStamped(), Image(height=2, width=2, encoding='mono8', step=2)
        msg.header.stamp = frame.header.stamp = stamp
        frame.data = bytes(4)
        camera.publish(frame)
        drivers[sent % 2].publish(msg)
        peer.spin_until(lambda: after_a_turn(lambda: record._bag.counts['/cmd_vel'] == sent))
    peer.spin_until(lambda: after_a_turn(lambda: record._bag.counts['/image'] >= 2))
    record.say()
    record.stop()
    said = capfd.readouterr().err
    name = peer.node.get_fully_qualified_name()
    assert (f"2 publishers send commands on '/cmd_vel', {name}, {name}: all of them are recorded, "
            'mixed; stop all but the driver') in said
    assert 'drive: all 20 commands are zero, so there is nothing to learn' in said


@pytest.mark.any_time
def test_without_a_driver_there_is_no_recording(make_node, tmp_path, capfd):
    record = make_node(RecordNode, output=str(tmp_path))
    assert record._say_timer.timer_period_ns == 5 * 10**9
    record.look()
    record.say()
    record.stop()
    said = capfd.readouterr().err
    assert "nobody publishes commands on '/cmd_vel'" in said
    assert 'there was no driver, so there is no recording' in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_time
def test_a_recording_that_is_there_is_not_touched(refusal, tmp_path):
    assert refusal(RecordNode, output=str(tmp_path.parent), name=tmp_path.name) == (
        f"name: '{tmp_path}' already exists; give another name")


@pytest.mark.any_time
def test_a_recording_that_cannot_be_written_ends_the_process_with_an_error(
        make_node, tmp_path, capfd):
    record = make_node(RecordNode, output=str(tmp_path), name='drive')
    (tmp_path / 'drive').mkdir()
    record._bag = LiveBag(tmp_path / 'drive', {'/cmd_vel': 'geometry_msgs/msg/Twist'})
    assert not record._bag.close(10.0)
    record.say()
    assert record.finished
    record.stop()
    assert record.exit_code == 1
    assert f"the recording ended early: '{tmp_path / 'drive'}' already exists" in (
        capfd.readouterr().err)


ARM = {'inputs.joints.type': 'sensor_msgs/msg/JointState', 'inputs.joints.topic': 'joint_states',
       'inputs.joints.trigger': True, 'inputs.joints.fields': ['position.b', 'velocity.a'],
       'inputs.joints.units': ['rad', 'rad/s'], 'inputs.joints.low': [-9.0],
       'inputs.joints.high': [9.0], 'inputs.goal.type': 'std_msgs/msg/Float64MultiArray',
       'inputs.goal.fields': ['data.0'], 'inputs.goal.units': ['m'], 'inputs.goal.low': [-1.0],
       'inputs.goal.high': [1.0], 'inputs.goal.stamp': 'arrival', 'inputs.goal.oldest': 60.0,
       'inputs.last.type': 'own/commands', 'output.type': 'float64_multi_array',
       'output.topic': 'arm/commands', 'output.names': ['a', 'b'], 'output.units': ['rad/s'],
       'output.lowest': [-1.0], 'output.highest': [1.0], 'output.max_rate': [5.0]}


def test_all_topics_of_a_contract_are_recorded_whatever_their_senders_offer(
        make_node, peer, tmp_path, capfd):
    lasting = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    goals = peer.node.create_publisher(Float64MultiArray, 'goal', lasting)
    goals.publish(Float64MultiArray(data=[0.25]))  # once, before anybody records
    record = make_node(RecordNode, output=str(tmp_path), name='drive', **ARM)
    driver = peer.node.create_publisher(Float64MultiArray, 'arm/commands', WATCH_FRAME_QOS)

    def after_a_turn(condition):
        rclpy.spin_once(record, timeout_sec=0.02)
        return condition()

    def counted(topic):
        return record._bag.counts[topic] if record._bag else 0

    peer.spin_until(lambda: after_a_turn(lambda: driver.get_subscription_count()
                                         and counted('/goal')))
    # One that comes later, and offers less than is asked for until then.
    joints = peer.node.create_publisher(JointState, 'joint_states', WATCH_FRAME_QOS)
    peer.spin_until(lambda: after_a_turn(joints.get_subscription_count))
    for sent in range(1, 6):
        state = JointState(name=['b', 'a'], position=[float(sent), 0.0], velocity=[0.0, -sent / 2])
        state.header.stamp = peer.node.get_clock().now().to_msg()
        driver.publish(Float64MultiArray(data=[sent / 10, -sent / 10]))
        peer.spin_until(lambda: after_a_turn(lambda: counted('/arm/commands') == sent))
        joints.publish(state)
        peer.spin_until(lambda: after_a_turn(lambda: counted('/joint_states') == sent))
    record.say()
    record.stop()
    assert "recording '/joint_states', '/goal' and '/arm/commands'" in capfd.readouterr().err
    contract = Contract.of_values(ARM)
    conversions = {name: contract.conversion(name, (size,)) for name, size in (
        ('joints', 2), ('goal', 1), ('last', 2))}
    (recording,) = open_recordings([tmp_path / 'drive'], Reading(), wanted_inputs(
        contract, 'joints', conversions))
    found = [(frame.values.tolist(), frame.others['goal'].tolist())
             for _, frame in recording.frames()]
    assert found == [([sent, -sent / 2], [0.25]) for sent in range(1, 6)]
    np.testing.assert_allclose(recording.commands.values, [
        (sent / 10, -sent / 10) for sent in range(1, 6)])


def test_a_sender_of_another_type_is_named(start_node, peer, tmp_path):
    peer.node.create_publisher(Float64MultiArray, 'arm/commands', COMMAND_QOS)
    peer.node.create_publisher(Twist, 'goal', COMMAND_QOS)
    record = start_node('record_bag', output=str(tmp_path), name='drive', **ARM)
    name = peer.node.get_fully_qualified_name()
    peer.spin_until(lambda: (
        "nothing arrives on '/joint_states', '/goal', '/arm/commands'; "
        f"'{name}' sends geometry_msgs/msg/Twist on '/goal' where "
        "std_msgs/msg/Float64MultiArray is read; set the input's type and topic in the "
        'contract') in record.output, 60.0)


@pytest.mark.any_time
def test_a_type_that_cannot_be_recorded_is_refused(refusal, tmp_path):
    assert refusal(RecordNode, output=str(tmp_path), **{
        **ARM, 'inputs.goal.type': 'my_msgs/msg/Goal'}) == (
        "the input 'goal' is of my_msgs/msg/Goal, which is not one of the common interfaces of "
        'ROS 2, so it cannot be recorded; let a node publish its numbers as '
        'std_msgs/msg/Float64MultiArray')
