"""Bags: both storages, every type of image and command, and every fault with its sentence."""

from collections import Counter
import sys

import numpy as np
import pytest
from stream_agent.recordings.alignment import Alignment, cut
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings
from support.recordings_files import (
    ackermann, ackermann_stamped, compressed, drive, joy, MCAP, picture, raw, SQLITE3, stamps,
    START, twist, twist_stamped, write)

IMAGES = 'sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage'
COMMANDS = ('geometry_msgs/msg/TwistStamped or geometry_msgs/msg/Twist or '
            'ackermann_msgs/msg/AckermannDriveStamped or ackermann_msgs/msg/AckermannDrive or '
            'sensor_msgs/msg/Joy')


def opened(path, **reading):
    (recording,) = open_recordings([path], Reading(**reading))
    return recording


def fault_of(path, **reading):
    """Return the sentence, without the path that it begins with."""
    with pytest.raises(BadRecordingError) as error:
        list(opened(path, **reading).images())
    assert str(error.value).startswith(f"'{path}': ")
    return str(error.value).removeprefix(f"'{path}': ")


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
@pytest.mark.parametrize('image', [raw, compressed])
def test_frames_and_commands_of_both_storages(tmp_path, storage, image):
    recording = opened(drive(tmp_path / 'bag', image=image, storage=storage, late=7))
    assert recording.frame_stamps.tolist() == stamps(8)
    assert recording.stamps_from == recording.commands.stamps_from == 'header'
    assert recording.rate == 20
    for index, pixels in recording.images():
        np.testing.assert_array_equal(pixels, picture(index))
    assert index == 7
    np.testing.assert_array_equal(recording.commands.stamps, stamps(8))
    np.testing.assert_allclose(recording.commands.values,
                               [(0.5, i / 10) for i in range(8)], atol=1e-6)
    assert recording.summary() == ('bag: 8 frames at 20.0 Hz (stamps: header), 8 commands '
                                   '(yaw rate; stamps: header)')


@pytest.mark.parametrize('command, steering, stamps_from, reading', [
    (twist, 'yaw rate', 'receive', {}),
    (twist_stamped, 'yaw rate', 'header', {}),
    (ackermann, 'steering angle', 'receive', {}),
    (ackermann_stamped, 'steering angle', 'header', {}),
    (joy, 'steering', 'header', {'steering_axis': 0, 'throttle_axis': 2})])
def test_every_command_type(tmp_path, command, steering, stamps_from, reading):
    commands = opened(drive(tmp_path / 'bag', command=command), **reading).commands
    assert (commands.steering, commands.stamps_from) == (steering, stamps_from)
    np.testing.assert_allclose(commands.values[4], (0.5, 0.4), atol=1e-6)


def test_the_sign_of_a_joystick_and_the_wheelbase_of_a_car(tmp_path):
    path = drive(tmp_path / 'joy', command=joy)
    commands = opened(path, steering_axis=0, steering_sign='right').commands
    np.testing.assert_allclose(commands.values[4], (0.0, -0.4), atol=1e-6)
    commands = opened(drive(tmp_path / 'car', command=ackermann), wheelbase=0.25).commands
    assert commands.steering == 'yaw rate'
    assert commands.values[4, 1] == pytest.approx(0.5 * np.tan(0.4) / 0.25)


@pytest.mark.parametrize('encoding, pixels', [
    ('bgr8', picture(3)[..., ::-1]), ('mono8', picture(3)[..., :1]),
    ('rgba8', np.dstack([picture(3), picture(0)[..., 0]]))])
def test_encodings_and_padded_rows(tmp_path, encoding, pixels):
    path = write(tmp_path / 'bag', ('/cmd', [(START, twist(START, 1.0, 0.0))]), (
        '/camera', [(START, raw(START, np.ascontiguousarray(pixels), encoding, step=70))]))
    ((_, found),) = opened(path).images()
    np.testing.assert_array_equal(found, picture(3)[..., 0] if encoding == 'mono8' else picture(3))


def test_a_single_file_is_a_bag_and_a_folder_may_hold_many(tmp_path):
    for name in ('b', 'a'):
        drive(tmp_path / name)
    assert len(opened(tmp_path / 'a' / 'a.mcap')) == 8
    assert [each.name for each in open_recordings([tmp_path], Reading())] == ['a', 'b']


def test_headers_of_another_clock_do_not_meet_commands_without_headers(tmp_path):
    path = drive(tmp_path / 'bag', command=twist, late=3600 * 10**9)
    recording = opened(path)
    assert recording.stamps_from == recording.commands.stamps_from == 'receive'
    assert recording.frame_stamps[0] == START + 3600 * 10**9
    assert opened(path, stamps='header').frame_stamps[0] == START


def test_unset_headers_are_no_stamps(tmp_path):
    path = write(tmp_path / 'bag', ('/cmd', [(START, twist_stamped(START, 1.0, 0.0))]),
                 ('/camera', [(t, raw(0, picture(0))) for t in stamps(3)]))
    assert opened(path).frame_stamps.tolist() == stamps(3)
    assert fault_of(path, stamps='header') == (
        "topic '/camera': headers without a stamp; give --stamps receive")


def test_late_and_repeated_frames_are_counted(tmp_path):
    numbers = [0, 1, 1, 3, 2, 4]
    frames = [(START + i, raw(stamps(9)[number], picture(number)))
              for i, number in enumerate(numbers)]
    recording = opened(write(tmp_path / 'bag', ('/camera', frames),
                             ('/cmd', [(START, twist_stamped(START, 1.0, 0.0))])))
    assert [pixels[0, 0, 0] // 10 for _, pixels in recording.images()] == [0, 1, 3, 4]
    assert recording.frame_stamps.tolist() == [stamps(9)[i] for i in (0, 1, 3, 4)]
    assert recording.summary().endswith('; left out: 1 frames out of order, 1 frames that came '
                                        'twice')


def test_broken_frames_and_commands_are_counted(tmp_path):
    good = compressed(START + 1, picture(1))
    torn = compressed(START + 2, picture(1))
    torn.data = torn.data[:30]
    recording = opened(write(
        tmp_path / 'bag', ('/camera', [(START + 1, good), (START + 2, torn)]),
        ('/cmd', [(START, twist_stamped(START, 1.0, 0.0)), (START, b'\0\1\0\0abc')])))
    assert [index for index, _ in recording.images()] == [0]
    assert recording.summary().endswith(
        '; left out: 1 commands that cannot be read, 1 frames that cannot be decoded (first: '
        "frame 1: compressed image of format 'png' ends early)")


def test_topics_that_are_not_there_or_of_another_type(tmp_path):
    path = drive(tmp_path / 'bag')
    listed = '/camera (sensor_msgs/msg/Image), /cmd_vel (geometry_msgs/msg/TwistStamped)'
    assert fault_of(path, image_topic='/front') == (
        f"there is no topic '/front'; give another by --image-topic. Topics are: {listed}")
    assert fault_of(path, image_topic='/cmd_vel') == (
        "topic '/cmd_vel' is of the type geometry_msgs/msg/TwistStamped; give one by "
        f'--image-topic that is {IMAGES}')


def test_a_topic_is_chosen_only_where_there_is_one(tmp_path):
    frames = [(START, raw(START, picture(0)))]
    path = write(tmp_path / 'bag', ('/left', frames), ('/right', frames))
    assert fault_of(path) == (
        f'several topics are of a type for images, {IMAGES}; give one by --image-topic. Topics '
        'are: /left (sensor_msgs/msg/Image), /right (sensor_msgs/msg/Image)')
    assert fault_of(path, image_topic='/left') == (
        f'no topic is of a type for commands, {COMMANDS}; record one, or leave the recording out. '
        'Topics are: /left (sensor_msgs/msg/Image), /right (sensor_msgs/msg/Image)')


def test_a_topic_without_messages(tmp_path):
    path = write(tmp_path / 'bag', ('/camera', 'sensor_msgs/msg/Image'),
                 ('/cmd', [(START, twist(START, 1.0, 0.0))]))
    assert fault_of(path) == ("topic '/camera' has no messages; leave the recording out, or give "
                              'another topic by --image-topic')


def test_an_encoding_that_is_not_read(tmp_path):
    frames = [(START, raw(START, picture(0), '16UC1'))]
    path = write(tmp_path / 'bag', ('/camera', frames),
                 ('/cmd', [(START, twist(START, 1.0, 0.0))]))
    assert fault_of(path) == (
        "topic '/camera': no frame can be decoded (frame 0: image encoding is '16UC1', which is "
        "depth; in the robot's contract give its input units: [m] and high: [5.0] or so, or take "
        'a topic of pictures); record one of the supported kinds, or choose another topic '
        'by --image-topic')


def test_a_joystick_without_axes(tmp_path):
    path = drive(tmp_path / 'bag', command=joy)
    assert fault_of(path) == ('it is not known which axis of the joystick steers; add '
                              '--steering-axis N, 0 to 2')
    assert fault_of(path, steering_axis=0, throttle_axis=3) == (
        '--throttle-axis 3: the joystick has the axes 0 to 2')


def test_a_clock_that_was_set_back_ends_an_episode(tmp_path):
    times = [*stamps(5), *(t - 10**9 for t in stamps(5))]
    both = list(enumerate(zip(stamps(10), times)))
    path = write(
        tmp_path / 'bag', ('/camera', [(at, raw(stamp, picture(i))) for i, (at, stamp) in both]),
        ('/cmd', [(at, twist_stamped(stamp, 0.5, i / 10)) for i, (at, stamp) in both]))
    recording = opened(path)
    assert recording.notes == ['the clock was set back by 1.2 s at frame 5: an episode ends '
                               'there; set clocks before a recording']
    spans = cut(recording.frame_stamps, recording.commands, Alignment(), Counter())
    assert [span.frames.tolist() for span in spans] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    np.testing.assert_allclose(np.concatenate([span.commands for span in spans])[:, 1],
                               np.arange(10) / 10, atol=1e-6)


def test_a_truncated_file(tmp_path):
    path = drive(tmp_path / 'bag', count=60)
    file = path / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-9000])
    fault = fault_of(path)
    assert fault.startswith('the file is truncated or damaged: no message is whole; it breaks off')
    assert fault.endswith(' before its end; copy it again, or leave it out')


def test_what_is_no_recording(tmp_path):
    assert fault_of(tmp_path) == (
        'neither a rosbag2 recording (a folder with metadata.yaml, an .mcap or .db3 file), nor a '
        'DonkeyCar tub (manifest.json or record_*.json), nor a folder of them; give one of '
        'these')
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    assert fault_of(tmp_path / 'old.bag').endswith(
        '; a bag of ROS 1 becomes one by `rosbags-convert --src FILE --dst FOLDER`')
    assert fault_of(tmp_path / 'nothing') == (
        'there is no such file or folder; give the path of a recording, or of a folder of them')
    (tmp_path / 'link.mcap').symlink_to('gone.mcap')
    assert fault_of(tmp_path / 'link.mcap').startswith('leads to what is not there; give ')


def test_different_ways_to_steer_are_not_mixed(tmp_path):
    paths = [drive(tmp_path / 'a'), drive(tmp_path / 'b', command=ackermann)]
    with pytest.raises(BadRecordingError) as error:
        open_recordings(paths, Reading())
    assert str(error.value) == (
        f"the recordings steer by different quantities ('{paths[0]}': yaw rate; '{paths[1]}': "
        'steering angle); give --wheelbase to turn steering angles into yaw rates, or train on '
        'those of one kind')


def test_without_the_library(tmp_path, monkeypatch):
    path = drive(tmp_path / 'bag')
    monkeypatch.setitem(sys.modules, 'rosbags', None)
    with pytest.raises(BadRecordingError) as error:
        opened(path)
    assert str(error.value) == ('rosbag2 recordings are read by the package rosbags, which is '
                                "missing: pip install 'stream_agent[learning]'")
