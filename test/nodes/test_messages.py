"""Messages to pixels and back, and what is refused."""

from types import SimpleNamespace

import cv2
from hypothesis import given, settings, strategies as st
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from stream_agent.command import Command
from stream_agent.images import CHANNELS, compressed_to_array, image_to_array, ImageError
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.nodes.messages import (
    array_to_image, command_to_twist, foreign_types, make_stop_request, message_class,
    name_of_node, SerializedJointState, stamp_to_ns, twist_to_command)

RED = np.zeros((4, 6, 3), np.uint8)
RED[..., 0] = 255


def image(encoding, pixels, padding=0):
    rows = pixels.reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    msg = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                step=rows.shape[1])
    msg.data.frombytes(rows.tobytes())
    return msg


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding, pixels', [
    ('rgb8', RED), ('bgr8', RED[..., ::-1]),
    ('rgba8', np.dstack([RED, np.full((4, 6), 9, np.uint8)])),
    ('bgra8', np.dstack([RED[..., ::-1], np.full((4, 6), 9, np.uint8)]))])
def test_every_colour_encoding_becomes_rgb_with_padded_rows_too(encoding, pixels, padding):
    np.testing.assert_array_equal(image_to_array(image(encoding, pixels, padding)), RED)


@pytest.mark.parametrize('encoding, channels', CHANNELS.items())
def test_every_encoding_is_a_view_of_the_message(encoding, channels):
    msg = image(encoding, np.zeros((4, 6, channels), np.uint8))
    assert np.shares_memory(image_to_array(msg), np.asarray(msg.data))


@given(rows=st.integers(1, 130), columns=st.integers(1, 130), padding=st.integers(0, 9),
       channels=st.sampled_from([1, 3]), crop=st.floats(0, 0.4), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_every_encoding_of_a_picture_gives_the_same_network_input(rows, columns, padding,
                                                                  channels, crop, seed):
    generator = np.random.default_rng(seed)
    rgb = generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    alpha = generator.integers(0, 256, (rows, columns, 1), dtype=np.uint8)
    preprocessing = Preprocessing((channels, 12, 16), crop)
    expected = preprocessing(rgb)
    for encoding, pixels in (('rgb8', rgb), ('bgr8', rgb[..., ::-1]),
                             ('rgba8', np.dstack([rgb, alpha])),
                             ('bgra8', np.dstack([rgb[..., ::-1], alpha]))):
        msg = image(encoding, pixels, padding)
        np.testing.assert_array_equal(preprocessing(image_to_array(msg)), expected)
    grey = rgb[..., 0].copy()
    np.testing.assert_array_equal(preprocessing(image_to_array(image('mono8', grey, padding))),
                                  preprocessing(grey))


def test_an_array_and_its_stamp_come_back():
    for pixels in (RED, RED[..., 0].copy()):
        msg = array_to_image(pixels, 12_345_678_901, 'camera_optical')
        np.testing.assert_array_equal(image_to_array(msg), pixels)
        assert stamp_to_ns(msg.header.stamp) == 12_345_678_901
        assert msg.header.frame_id == 'camera_optical'


def test_a_command_and_its_stamp_come_back():
    msg = command_to_twist(Command(0.5, -0.25), 7_000_000_001)
    assert twist_to_command(msg) == Command(0.5, -0.25)
    assert stamp_to_ns(msg.header.stamp) == 7_000_000_001
    assert msg.header.frame_id == 'base_link'


@pytest.mark.parametrize('change, sentence', [
    ({'encoding': '16UC1'},
     "image encoding is '16UC1', which is depth; in the robot's contract give its input units: "
     '[m] and high: [5.0] or so, or take a topic of pictures'),
    ({'height': 0}, 'image is 6 x 0 pixels; sides of 1 to 4096 are supported'),
    ({'width': 4097}, 'image is 4097 x 4 pixels; sides of 1 to 4096 are supported'),
    ({'step': 17}, 'image step is 17 bytes for 6 pixels of rgb8; at least 18 are needed, and at '
                   'most 64 MiB in all are read'),
    ({'step': 2**30}, 'image step is 1073741824 bytes for 6 pixels of rgb8; at least 18 are '
                      'needed, and at most 64 MiB in all are read'),
    ({'step': 19}, 'image data has 72 bytes; step x height is 76')])
def test_contradictions_say_what_would_be_right(change, sentence):
    msg = image('rgb8', RED)
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError) as error:
        image_to_array(msg)
    assert str(error.value) == sentence


@given(height=st.integers(0, 2**32 - 1), width=st.integers(0, 2**32 - 1),
       step=st.integers(0, 2**32 - 1), size=st.integers(0, 4096),
       encoding=st.sampled_from(['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '', 'yuv422',
                                 'nv12', 'nv24', 'bayer_rggb16']))
@settings(max_examples=500, deadline=None)
def test_any_header_is_read_or_refused(height, width, step, size, encoding):
    msg = Image(height=height, width=width, step=step, encoding=encoding)
    msg.data.frombytes(bytes(size))
    try:
        assert image_to_array(msg).shape[:2] == (height, width)
    except ImageError:
        pass


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_compressed_colour_and_grey(suffix):
    colour = np.full((24, 32, 3), (200, 30, 60), np.uint8)
    for pixels in (colour, colour[..., 0].copy()):
        encoded = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1]
        msg = CompressedImage(format=suffix[1:], data=encoded.tobytes())
        array = compressed_to_array(msg)
        assert array.shape == pixels.shape
        assert np.abs(array.astype(int) - pixels).max() <= 3


def test_names_of_nodes_are_printed_without_control_characters():
    end = SimpleNamespace(node_namespace='/robot/', node_name='evil\x1b[2J\n' + 'x' * 900,
                          topic_type='other/msg/Type\x07')
    name = name_of_node(end)
    assert name.startswith('/robot/evil\\x1b[2J\\nxxx') and len(name) == 200
    node = SimpleNamespace(get_publishers_info_by_topic=lambda _: [end],
                           get_subscriptions_info_by_topic=lambda _: [])
    assert foreign_types(node, '/cmd_vel', Image) == {'other/msg/Type\\x07': [name]}


@pytest.mark.parametrize('field', ['position', 'velocity', 'effort'])
@pytest.mark.parametrize('count', range(1, 9))
def test_commands_of_any_actuators_are_written_in_place(field, count):
    """Names of several lengths, as numbers begin at multiples of eight bytes."""
    names = ['j' * (1 + i % 5) + str(i) for i in range(count)]
    serialized = SerializedJointState(names, field)
    for turn in range(2):
        values = np.random.default_rng(turn).normal(size=count).tolist()
        msg = deserialize_message(serialized.write(values, 7_000_000_009 + turn), JointState)
        assert (list(msg.name), list(getattr(msg, field))) == (names, values)
        assert stamp_to_ns(msg.header.stamp) == 7_000_000_009 + turn
        assert sum(len(getattr(msg, one)) for one in ('position', 'velocity', 'effort')) == count
        assert msg.header.frame_id == ''


def test_a_stop_of_any_actuators_is_told_by_its_frame_and_has_no_values():
    msg = make_stop_request(5_000_000_001, JointState)
    assert (msg.header.frame_id, stamp_to_ns(msg.header.stamp)) == ('stop', 5_000_000_001)
    assert not msg.name and not msg.velocity


def test_a_type_of_messages_is_found_by_either_name():
    assert message_class('nav_msgs/msg/Odometry') is message_class('nav_msgs/Odometry') is Odometry


@pytest.mark.parametrize('name, words', [
    ('arm_msgs/msg/Grip', "'arm_msgs/msg/Grip' is a message of the package 'arm_msgs', which is "
     'not installed; install it with `sudo apt install ros-${ROS_DISTRO}-arm-msgs`'),
    ('sensor_msgs/msg/LaserScam',
     "there is no message 'sensor_msgs/msg/LaserScam'; the nearest is sensor_msgs/msg/LaserScan"),
    ('Odometry', "'Odometry' is not the type of a message; write it as nav_msgs/msg/Odometry is "
     'written')])
def test_a_type_of_messages_that_is_not_there_is_named_with_a_remedy(name, words):
    with pytest.raises(ValueError) as refused:
        message_class(name)
    assert str(refused.value).startswith(words)
