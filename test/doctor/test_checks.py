"""Every verdict, both ways."""

import pytest
from stream_agent.doctor.camera import (
    ArrivedFrame, check_disk, check_frames, existing, GREATEST_AGE)
from stream_agent.doctor.findings import Severity
from stream_agent.doctor.parameters import check_parameters, make_settings, usable_settings
from stream_agent.doctor.policy_probe import check_limits, check_response, check_step, PolicyTiming
from stream_agent.doctor.topics import (
    check_command_topic, check_image_topic, check_wheels, Endpoint, OdometryMotion, reason_not_to)
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.engine.settings import EngineSettings
from stream_agent.gate.settings import GateSettings
from stream_agent.measurement.durations import Durations
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing

OK, NOT_CHECKED, WARN, ERROR = Severity
T = 0.05
SETTINGS = FrameFilterSettings(camera_period=T)
PREPROCESSING = Preprocessing((1, 60, 120), 0.25)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STAMPED, TWIST = 'geometry_msgs/msg/TwistStamped', 'geometry_msgs/msg/Twist'


# Parameters

@pytest.mark.parametrize('agent, gate, recorder, level, said', [
    ({}, {}, {}, OK, 'robot.yaml: readable and consistent'),
    ({'camera_period': T}, {'camera_period': T, 'max_speed': 1.0}, {}, OK, ''),
    ({}, {'max_speed': 30.0}, {}, ERROR, 'gate: max_speed is 30.0'),
    ({}, {'max_speed': 1}, {}, OK, ''),
    ({}, {'max_speed': None}, {}, ERROR, 'gate: max_speed is []'),
    ({}, {'max_sped': 1.0}, {}, ERROR, "gate: there is no parameter 'max_sped'"),
    ({}, {'command_type': 5}, {'command_type': 5}, ERROR, 'gate: command_type is 5'),
    ({'threads': 'two'}, {}, {}, ERROR, "agent: threads is 'two'"),
    ({'max_gap': -1}, {}, {}, ERROR, 'agent: max_gap is -1'),
    ({'image_transport': 'theora'}, {}, {'image_transport': 'theora'}, ERROR, "is 'theora'"),
    ({'pass_periods': 6.4}, {}, {}, WARN, 'the agent emulates a slow computer'),
    ({'costs': 'costs.yaml'}, {}, {}, WARN, 'the agent emulates a slow computer'),
    ({'image_transport': 'compressed'}, {}, {}, WARN, 'image_transport is compressed for the'),
    ({}, {'command_type': 'twist'}, {}, WARN, 'command_type is twist for the gate, twist_stamp'),
    ({'camera_period': T}, {'camera_period': 0.1}, {}, WARN, 'camera_period is not the same')])
def test_parameters(agent, gate, recorder, level, said):
    (found,) = check_parameters(agent, gate, recorder, 'robot.yaml')
    assert found.level is level and said in found.said
    assert bool(found.remedy) is (level is not OK)


def test_a_wrong_value_is_reported_once_and_left_out():
    assert make_settings(EngineSettings, {'threads': 'two', 'device': 'cpu', 'max_gap': 1}) == (
        EngineSettings(device='cpu'))
    contradictory = {'camera_period': T, 'max_speed': 3.0, 'command_timeout': 0.06}
    assert usable_settings(GateSettings, contradictory) == GateSettings()


# Policy

def test_limits():
    assert check_limits(CommandScale(1.0, 2.0), GateSettings(max_speed=1.0)).level is OK
    found = check_limits(CommandScale(1.0, 2.0), GateSettings(max_speed=0.5, max_yaw_rate=2.0))
    assert found.level is WARN
    assert 'speed 1 m/s (gate: 0.5)' in found.said and 'yaw rate' not in found.said


@pytest.mark.parametrize('share, response, step', [
    (0.79, OK, OK), (0.81, WARN, WARN), (1.01, ERROR, WARN)])
def test_durations_against_the_period(share, response, step):
    durations = Durations()
    for duration in (*[0.001] * 9, share * T):
        durations.add(duration)
    timing = PolicyTiming(durations, durations, 'cpu')
    assert check_response(timing, T).level is response
    assert check_step(timing, T).level is step


# Topics

CAMERA = Endpoint('/camera', IMAGE)


@pytest.mark.parametrize('publishers, others, level, said, remedy', [
    ([CAMERA], {}, OK, "'/image': sensor_msgs/msg/Image from /camera, reliable, volatile", ''),
    ([], {}, ERROR, "nobody publishes '/image'", 'no other topic has frames'),
    ([], {'/depth/compressed': COMPRESSED, '/my/image': IMAGE}, ERROR, "nobody publishes '/image'",
     '/my/image (image_transport raw), /depth (image_transport compressed)'),
    ([Endpoint('/camera', COMPRESSED)], {'/image': COMPRESSED}, ERROR,
     "'/image' has sensor_msgs/msg/CompressedImage from /camera; the agent", 'publish Image'),
    ([Endpoint('/camera', 'std_msgs/msg/Bool')], {}, ERROR, 'std_msgs/msg/Bool', 'not an image'),
    ([CAMERA._replace(incompatible='deadline')], {}, ERROR, 'cannot receive: deadline', 'QoS'),
    ([CAMERA, Endpoint('/other', IMAGE)], {}, ERROR, 'several cameras: /camera, /other', 'one')])
def test_the_topic_of_frames(publishers, others, level, said, remedy):
    found = check_image_topic('/image', IMAGE, publishers, others)
    assert found.level is level and said in found.said and remedy in found.remedy


BASE, GATE = Endpoint('/base', STAMPED), Endpoint('/gate', STAMPED)


@pytest.mark.parametrize('publishers, listeners, base, rivals, said', [
    ([], [BASE], OK, OK, "'/cmd_vel': /base subscribes to geometry_msgs/msg/TwistStamped"),
    ([GATE], [BASE], OK, OK, "nobody but the gate publishes '/cmd_vel'"),
    ([], [], WARN, OK, "nobody subscribes to '/cmd_vel'"),
    # They only watch.
    ([], [Endpoint('/recorder', STAMPED)], WARN, OK, "nobody subscribes to '/cmd_vel'"),
    ([], [Endpoint('/base', TWIST)], ERROR, OK, '/base uses geometry_msgs/msg/Twist; the gate'),
    ([], [BASE._replace(incompatible='durability')], ERROR, OK, 'from the gate: durability'),
    ([GATE, Endpoint('/nav/planner', STAMPED)], [BASE], OK, ERROR, 'by /nav/planner, bypassing'),
    # Of another robot, or a name alike.
    ([Endpoint('/two/gate', STAMPED)], [BASE], OK, ERROR, 'by /two/gate, bypassing the gate'),
    ([GATE, GATE], [BASE], OK, ERROR, 'by 2 gates named /gate')])
def test_the_topic_of_commands(publishers, listeners, base, rivals, said):
    found = check_command_topic('/cmd_vel', STAMPED, '/gate', publishers, listeners)
    assert [one.level for one in found] == [base, rivals]
    assert any(said in one.said for one in found)


def test_another_type_of_commands_is_named_as_the_parameter_has_it():
    found, _ = check_command_topic('/cmd_vel', STAMPED, '/gate', [], [Endpoint('/base', TWIST)])
    assert found.remedy == "set command_type of gate and recorder to 'twist'"


# Frames

def frames(count=40, period=T, age=0.01, size=(120, 160), bytes_=19200, **changes):
    """Make what a camera sends that is right, but for the changes."""
    start = 10**18
    return [ArrivedFrame(start + round(i * period * 1e9), start + round((i * period + age) * 1e9),
                         i * period, size, 'mono8', '', bytes_)._replace(**changes)
            for i in range(count)]


def findings(given, policy=PREPROCESSING, end=None):
    found = check_frames(given, given[-1].at + T if end is None else end, policy, SETTINGS)
    return {one.check: one for one in found}


def test_a_good_camera():
    found = findings(frames())
    assert [one.level for one in found.values()] == [OK, OK, OK]
    assert found['rate'].said.startswith('20.00 Hz, a frame every 0.0500 s')
    assert found['image'].said == ('160 x 120 mono8; the policy takes 160 x 90 of it to 120 x 60')
    assert found['stamps'].said == 'ascending; 10.0 ms old on arrival (median)'


def test_without_frames_nothing_is_checked():
    assert [(one.check, one.level, one.said) for one in check_frames([], 0.0, None, SETTINGS)] == [
        (check, NOT_CHECKED, 'no image arrived') for check in ('rate', 'image', 'stamps')]


@pytest.mark.parametrize('off, level', [(1.09, OK), (0.91, OK), (1.12, WARN), (0.88, WARN)])
def test_a_rate_within_ten_percent(off, level):
    found = findings(frames(period=off * T))['rate']
    assert found.level is level
    if level is WARN:
        assert f'set camera_period to {off * T:.4f}' in found.remedy


def test_frames_that_get_lost_are_told_from_another_rate():
    given = [frame for i, frame in enumerate(frames(90)) if i % 5]
    assert 'frames are lost' in findings(given)['rate'].remedy
    large = [frame._replace(byte_count=900_000) for frame in given]
    assert 'shared memory' in findings(large)['rate'].remedy


@pytest.mark.parametrize('end, level', [(40 * T + 0.1, OK), (40 * T + 0.4, WARN)])
def test_a_camera_that_falls_silent(end, level):
    assert findings(frames(), end=end)['rate'].level is level


def test_two_images_are_no_rate():
    assert findings(frames(2))['rate'].level is ERROR


@pytest.mark.parametrize('size, level, said', [
    ((480, 640), OK, ''), ((360, 640), WARN, 'stretched by 0.84'),
    ((60, 80), WARN, 'adds no detail'), ((640, 640), WARN, 'stretched')])
def test_sizes(size, level, said):
    found = findings(frames(size=size))['image']
    assert found.level is level and said in found.said


def test_images_that_cannot_be_read_or_change():
    given = frames()
    damaged = [*given[:-1], given[-1]._replace(size=None, fault='image step is 1')]
    found = findings(damaged)['image']
    assert found.level is ERROR and found.said == '1 of 40 cannot be read: image step is 1'
    found = findings([*given[:-1], given[-1]._replace(encoding='rgb8')])['image']
    assert found.level is WARN and 'mono8, then 160 x 120 rgb8' in found.said
    assert findings(given, policy=None)['image'].level is OK


@pytest.mark.parametrize('age, level, said', [
    (0.0, OK, ''), (0.099, OK, ''), (0.15, WARN, '0.150 s old on arrival (median)'),
    (-0.05, WARN, '0.050 s in the future (median)'),
    (0.3, ERROR, '0.300 s old on arrival (median); the agent drops such frames'),
    (-0.2, ERROR, '0.200 s in the future (median); the agent drops'),
    (1e9, ERROR, 'they are 1e+09 s off, from another clock')])
def test_ages_of_stamps(age, level, said):
    found = findings(frames(age=age))['stamps']
    assert found.level is level and said in found.said
    assert ('delays frames' in found.remedy) is (GREATEST_AGE < age < 1.0)
    assert ("clocks of the camera's computer" in found.remedy) is (age < 0)


def test_stamps_that_are_zero_or_do_not_ascend():
    found = findings(frames(stamp_ns=0))['stamps']
    assert found.level is WARN and '40 of 40 are zero' in found.said
    given = frames()
    given[5] = given[5]._replace(stamp_ns=given[4].stamp_ns)
    found = findings(given)['stamps']
    assert found.level is WARN and '1 of 40 are not later than the one before' in found.said


# Wheels

def motions(*pairs):
    return [OdometryMotion(*pair) for pair in pairs]


def driven(*after, speed=0.05):
    """Judge a base that drove for a second, by what it did after."""
    return check_wheels(motions((0.5, 0.0), (1.5, speed), *after), 1.0, 2.0, 4.0, 0.05)


@pytest.mark.parametrize('after, level, said', [
    ([(2.3, 0.05), (2.5, 0.0), (3.9, 0.0)], OK, 'stops by itself, 0.30 s after the last command'),
    ([(2.1, 0.0), (3.9, 0.0)], OK, 'stops by itself, 0.00 s'),
    ([(2.3, 0.05), (3.9, 0.05)], WARN, 'the base still drives 1.9 s after the last command'),
    ([(2.3, 0.0), (3.9, -0.05)], WARN, 'still drives'),
    ([(4.5, 0.05)], NOT_CHECKED, 'odometry stopped together with the commands')])
def test_whether_the_base_stops_by_itself(after, level, said):
    found = driven(*after)
    assert found.level is level and said in found.said
    assert ('never run it without the gate' in found.remedy) is (level is WARN)


def test_a_base_that_does_not_move_tells_nothing():
    found = driven((3.0, 0.0), speed=0.009)
    assert found.level is WARN and found.said == 'the base did not move at 0.05 m/s'


@pytest.mark.parametrize('publishers, listeners, odometry, speed, why', [
    ([], [BASE], [(0, 0.0)], 0.05, ''),
    ([GATE], [BASE], [(0, 0.0)], 0.05, 'refused, as /gate commands the base'),
    ([], [], [(0, 0.0)], 0.05, 'refused, as nobody subscribes'),
    ([], [BASE], [], 0.05, "refused, as no odometry arrives on '/odom'"),
    ([], [BASE], [(0, 0.0)], 0.0, 'refused, as max_speed of the gate is 0'),
    ([], [BASE], [(0, 0.0), (1, 0.3)], 0.05, 'refused, as the base is already moving')])
def test_when_the_wheels_are_not_turned(publishers, listeners, odometry, speed, why):
    said = reason_not_to(publishers, listeners, motions(*odometry), '/odom', speed)
    assert said.startswith(why) and bool(said) is bool(why)


# Disk

@pytest.mark.parametrize('hours, level', [(1.1, OK), (0.9, WARN), (0.015, ERROR)])
def test_hours_of_recording(tmp_path, hours, level):
    per_second = 20 * (19200 + 100 + 300)
    free = round(hours * 3600 * per_second)
    found = check_disk(tmp_path, free, True, frames(), T)
    assert found.level is level
    assert f'{hours:.3g} hours at 0.39 MB/s (rows and raw frames)' in found.said


def test_a_disk_without_frames_and_without_rights(tmp_path):
    found = check_disk(tmp_path, 10**9, True, [], T)
    assert found.level is OK and 'rows alone, as no image arrived' in found.said
    assert check_disk(tmp_path, 10**9, False, frames(), T).level is ERROR
    assert existing(tmp_path / 'a' / 'b') == tmp_path
