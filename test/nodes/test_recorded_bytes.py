"""Messages as ROS 2 serialises them are read from recordings, whichever arrays are empty."""

from itertools import product
import struct

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension
from stream_agent.contract.image_files import ImageError
from stream_agent.recordings.bags import deserialized, types
from stream_agent.recordings.cdr_reader import CdrReader, read_cdr
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

NAMES = (['a', 'b'], ['a', 'bc'], ['joint_1', 'joint_22', 'joint_333'], [])


@pytest.mark.parametrize('names', NAMES, ids=' '.join)
@pytest.mark.parametrize('there', [*product((False, True), repeat=3)], ids=str)
def test_joint_states_may_lack_any_of_their_arrays(names, there):
    fields = {field: [i + 0.5 + len(field) for i in range(len(names))] if given else []
              for field, given in zip(('position', 'velocity', 'effort'), there)}
    message = JointState(name=names, **fields)
    message.header.stamp.sec, message.header.stamp.nanosec = 7, 8
    message.header.frame_id = 'arm'
    found = deserialized(serialize_message(message), 'sensor_msgs/msg/JointState')
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (7, 8)
    assert (found.header.frame_id, list(found.name)) == ('arm', names)
    assert {field: getattr(found, field).tolist() for field in fields} == fields


@pytest.mark.parametrize('data', [[], [1.5], [1.5, -2.5]])
def test_arrays_with_and_without_a_layout(data):
    message = Float64MultiArray(data=data)
    for dimensions in ([], [MultiArrayDimension(label='all', size=2, stride=3)]):
        message.layout.dim = dimensions
        found = deserialized(serialize_message(message), 'std_msgs/msg/Float64MultiArray')
        assert found.data.tolist() == data
        assert [(each.label, each.size, each.stride) for each in found.layout.dim] == [
            ('all', 2, 3)] * len(dimensions)


@pytest.mark.parametrize('there', [*product((False, True), repeat=4)], ids=str)
def test_trajectories_may_lack_any_of_their_arrays(there):
    message = JointTrajectory(joint_names=['a', 'bc'])
    names = 'positions', 'velocities', 'accelerations', 'effort'
    for k in range(2):
        fields = {name: [k + 0.5, i - 1.5] if given else []
                  for i, (name, given) in enumerate(zip(names, there))}
        message.points.append(JointTrajectoryPoint(**fields))
        message.points[-1].time_from_start.nanosec = 50_000_000 + k
    found = deserialized(serialize_message(message), 'trajectory_msgs/msg/JointTrajectory')
    assert list(found.joint_names) == ['a', 'bc'] and len(found.points) == 2
    for one, other in zip(found.points, message.points):
        assert {name: getattr(one, name).tolist() for name in names} == {
            name: list(getattr(other, name)) for name in names}
        assert one.time_from_start.nanosec == other.time_from_start.nanosec


@pytest.mark.parametrize('velocity, effort', [([], []), ([], [3.0]), ([2.0], []), ([2.0], [3.0])])
@pytest.mark.parametrize('filling', [bytes(4), b'\xfe\xca\xfe\xca'])
def test_writers_that_align_behind_an_empty_sequence(velocity, effort, filling):
    body = struct.pack('<iII', 7, 8, 4) + b'arm\0' + struct.pack('<III', 1, 2, 0x61)
    for values in ([1.0], velocity, effort):
        body += struct.pack('<I', len(values))
        body += filling[:-len(body) % 8] + struct.pack(f'<{len(values)}d', *values)
    found = read_cdr(b'\0\1\0\0' + body, 'sensor_msgs/msg/JointState', types())
    assert (list(found.name), found.position.tolist()) == (['a'], [1.0])
    assert (found.velocity.tolist(), found.effort.tolist()) == (velocity, effort)


def test_what_is_cut_off_or_claims_more_is_refused():
    data = serialize_message(JointState(name=['a', 'b'], position=[1.0, 2.0]))
    for wrong in (data[:-9], data[:40], data + bytes(16), data[:24] + struct.pack('<I', 2**31)
                  + data[28:]):
        with pytest.raises(ImageError, match='the message is not a sensor_msgs/msg/JointState'):
            deserialized(wrong, 'sensor_msgs/msg/JointState')


def test_both_orders_of_bytes_and_numbers_of_every_size():
    pixels = np.arange(12, dtype=np.uint8)
    message = Image(height=2, width=2, encoding='rgb8', step=6, data=pixels.tobytes())
    found = CdrReader(serialize_message(message), types()).message('sensor_msgs/msg/Image')
    assert (found.height, found.encoding, found.step) == (2, 'rgb8', 6)
    assert found.data.tolist() == pixels.tolist()
    big = (b'\0\0\0\0' + struct.pack('>II', 0, 0) + struct.pack('>I', 2) + bytes(4)
           + struct.pack('>2d', 1.5, -2.0))
    found = CdrReader(big, types()).message('std_msgs/msg/Float64MultiArray')
    assert found.data.tolist() == [1.5, -2.0] and found.data.dtype == np.float64
