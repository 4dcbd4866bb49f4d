"""Teaching by driving: what is recorded of a drive in the simulator is what happened."""

import signal

from geometry_msgs.msg import Twist, TwistStamped
import numpy as np
import pytest
from sensor_msgs.msg import Image
from stream_agent.nodes.messages import (
    COMMAND_QOS, image_to_array, stamp_to_ns, twist_to_command, WATCH_FRAME_QOS)
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings

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
    start_node('simulation', **SMALL)
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


def test_whatever_the_driver_s_type_is_it_is_found_out(start_node, peer, tmp_path):
    record = start_node('record_bag', output=str(tmp_path), name='drive')
    peer.spin_until(lambda: "waiting for a driver on '/cmd_vel'" in record.output, 20.0)
    driver = peer.node.create_publisher(Twist, 'cmd_vel', COMMAND_QOS)
    peer.spin_until(lambda: '(geometry_msgs/msg/Twist)' in record.output
                    and driver.get_subscription_count())
    for _ in range(5):
        driver.publish(Twist())
        peer.spin(0.05)
    peer.spin_until(lambda: "nothing arrives on '/image'" in record.output)
    record.signal(signal.SIGINT)
    assert record.wait() == 0
    assert '0 of /image, 5 of /cmd_vel' in record.output


def test_without_a_driver_there_is_no_recording(start_node, tmp_path, peer):
    record = start_node('record_bag', output=str(tmp_path))
    peer.spin_until(lambda: "nobody publishes commands on '/cmd_vel'" in record.output, 20.0)
    record.signal(signal.SIGINT)
    assert record.wait() == 0
    assert 'there was no driver, so there is no recording' in record.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_time
def test_a_recording_that_is_there_is_not_touched(start_node, tmp_path):
    record = start_node('record_bag', output=str(tmp_path.parent), name=tmp_path.name)
    assert record.wait(20.0) == 1
    assert f"name: '{tmp_path}' already exists; give another name" in record.output
