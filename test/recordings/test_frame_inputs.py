"""Every input of a contract at every frame of a recording, as the agent would have had it."""

import numpy as np
import pytest
from stream_agent.contract.contract import Contract
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.frame_inputs import wanted_inputs
from stream_agent.recordings.recording import BadRecordingError, Reading
from stream_agent.recordings.sources import open_recordings, recorded_robot
from support.recordings_files import (
    joint_state, laser_scan, MCAP, multi_array, odometry, PERIOD, picture, raw, SQLITE3, stamps,
    START, trajectory, tub, twist_stamped, write)

MS = 10**6
ODOMETRY = {'type': 'nav_msgs/msg/Odometry', 'topic': 'odom', 'fields':
            ['twist.twist.linear.x', 'twist.twist.angular.z'], 'units': ['m/s', 'rad/s'],
            'low': [-2.0, -6.0], 'high': [2.0, 6.0], 'oldest': 0.2}
IMAGE = {'type': 'sensor_msgs/msg/Image', 'topic': 'camera', 'trigger': True}
SCAN = {'type': 'sensor_msgs/msg/LaserScan', 'topic': 'scan', 'rays': 3, 'angle_min': -0.9,
        'angle_max': 0.9, 'high': [8.0], 'invalid': 8.0}
JOINTS = {'type': 'sensor_msgs/msg/JointState', 'topic': 'joint_states', 'trigger': True,
          'fields': ['position.a', 'velocity.b'], 'units': ['rad', 'rad/s'], 'low': [-3.0],
          'high': [3.0]}
BASE = {'type': 'twist_stamped', 'topic': 'cmd_vel'}
ARM = {'type': 'float64_multi_array', 'topic': 'arm/commands', 'names': ['a', 'b'],
       'quantity': 'velocity', 'units': ['rad/s'], 'lowest': [-1.0], 'highest': [1.0],
       'max_rate': [2.0]}


def contract_of(output=BASE, **inputs):
    """Return a contract of inputs by name, each a dictionary of its fields."""
    values = {f'inputs.{name}.{field}': value for name, fields in inputs.items()
              for field, value in fields.items()}
    return Contract.of_values(values | {f'output.{field}': value
                                        for field, value in output.items()})


def conversions_of(contract):
    """Return the conversions of all inputs of a contract."""
    return {name: Preprocessing((1, 6, 8)) if settings.kind == 'image' and not settings.is_depth
            else contract.conversion(name, (1, 2, 3) if settings.is_depth else (
                len(settings.fields) or settings.rays or 1,))
            for name, settings in contract.inputs.items()}


def opened(path, contract, reading=Reading()):
    conversions = conversions_of(contract)
    (recording,) = open_recordings([path], reading, wanted_inputs(
        contract, contract.trigger, conversions))
    return recording


def fault_of(path, contract, reading=Reading()):
    """Return the sentence, without the path that it begins with."""
    with pytest.raises(BadRecordingError) as error:
        list(opened(path, contract, reading).frames())
    assert str(error.value).startswith(f"'{path}': ")
    return str(error.value).removeprefix(f"'{path}': ")


def images(count=8, late=5 * MS):
    return ('/camera', [(t, raw(t, picture(i)), t + late) for i, t in enumerate(stamps(count))])


def commands(count=8):
    return ('/cmd_vel', [(t, twist_stamped(t, 0.5, i / 10)) for i, t in enumerate(stamps(count))])


def wheels(count=40, late=7 * MS, period=13 * MS):
    """Return what wheels said: message k has the speed k / 10 and the turn -k / 10."""
    return ('/odom', [(t, odometry(t, k / 10, -k / 10), t + late)
                      for k, t in enumerate(stamps(count, period))])


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
@pytest.mark.parametrize('align', ['newest', 'hold', 'interpolate'])
@pytest.mark.parametrize('late', [2 * MS, 7 * MS, 61 * MS])
def test_a_frame_has_what_had_come_when_it_came(tmp_path, storage, align, late):
    path = write(tmp_path / 'bag', images(), wheels(late=late), commands(), storage=storage)
    contract = contract_of(image=IMAGE, odometry=ODOMETRY | {'align': align})
    found = {index: frame.others['odometry'] for index, frame in opened(path, contract).frames()}
    times = np.array(stamps(40, 13 * MS))
    wanted = {}
    for index, stamp in enumerate(stamps(8)):
        come = times + late <= stamp + 5 * MS
        if align != 'newest':
            before = come & (times <= stamp)
        else:
            before = come
        if not before.any():
            continue
        k = int(np.flatnonzero(before)[-1])
        share = 0.0
        if align == 'interpolate' and k + 1 < 40 and come[k + 1]:
            share = (stamp - times[k]) / (13 * MS)
        wanted[index] = [(k + share) / 10, -(k + share) / 10]
    assert found.keys() == wanted.keys() and len(wanted) >= 6
    for index, values in wanted.items():
        np.testing.assert_allclose(found[index], values, atol=1e-9)


def test_what_is_missing_or_too_old_leaves_out_the_frame_and_is_counted(tmp_path):
    name, messages = wheels()
    gone = [each for each in messages if not 3 * PERIOD <= each[0] - START < 7 * PERIOD]
    path = write(tmp_path / 'bag', images(12), (name, gone[5:]), commands(12))
    contract = contract_of(image=IMAGE, odometry=ODOMETRY | {'oldest': 0.08})
    recording = opened(path, contract)
    for _ in range(2):  # a second pass counts anew
        kept = [index for index, _ in recording.frames()]
        # The first come before any message; the last message before the gap is of 143 ms.
        assert kept == [2, 3, 4, 8, 9, 10, 11]
        assert recording.skipped["frames without input 'odometry'"] == 5
    assert "5 frames without input 'odometry'" in recording.summary()
    assert ("(first: frame 0: input 'odometry' of topic 'odom': no message has come)"
            in recording.summary())


def test_messages_that_say_nothing_are_no_values(tmp_path):
    path = write(tmp_path / 'bag', images(), ('/odom', [
        (t, odometry(t, 0.5, 0.0, covariance=-1.0)) for t in stamps(20, 13 * MS)]), commands())
    assert fault_of(path, contract_of(image=IMAGE, odometry=ODOMETRY)) == (
        "no frame of topic '/camera' has all inputs that the policy reads (frame 0: input "
        "'odometry' of topic 'odom': no message has come; first of its messages that cannot be "
        'used: twist of nav_msgs/msg/Odometry is absent, as the first of its covariances is -1; '
        'leave it out of fields, or take a topic that has it); record them together, change the '
        'contract, or leave the recording out')


def test_a_recording_without_images_has_the_frames_of_its_trigger(tmp_path):
    scans = [(t, laser_scan(t, np.arange(1, 22) + i / 10)) for i, t in enumerate(stamps(8))]
    path = write(tmp_path / 'bag', ('/robot/scan', scans), commands())
    contract = contract_of(scan=SCAN)
    recording = opened(path, contract)
    assert (recording.topic, len(recording), recording.rate) == ('/robot/scan', 8, 20)
    for index, frame in recording.frames():
        np.testing.assert_allclose(frame.values.ranges, np.arange(1, 22) + index / 10, rtol=1e-6)
    assert index == 7 and not recording.shapes


def test_joints_are_found_by_name_whatever_their_order(tmp_path):
    times = stamps(8)
    states = [(t, joint_state(t, *((['a', 'b'], [i, 0], [0, -i]) if i % 2 else (
        ['b', 'x', 'a'], [0, 9, i], [-i, 9, 0])))) for i, t in enumerate(times)]
    states[3] = (times[3], joint_state(times[3], ['a'], [3], [0]))
    path = write(tmp_path / 'bag', ('/joint_states', states), ('/arm/commands', [
        (t, multi_array(t, [i / 10, -i / 10])) for i, t in enumerate(times)]))
    recording = opened(path, contract_of(ARM, joints=JOINTS))
    found = {index: frame.values.tolist() for index, frame in recording.frames()}
    assert found == {index: [index, -index] for index in (0, 1, 2, 4, 5, 6, 7)}
    assert recording.skipped['frames that cannot be decoded'] == 1
    assert 'b' in recording.first_fault and recording.commands.names == ('a', 'b')
    np.testing.assert_allclose(recording.commands.values[4], [0.4, -0.4])
    assert recording.summary().startswith('bag: 8 frames at 20.0 Hz (stamps: header), 8 commands '
                                          '(a, b; stamps: receive)')


@pytest.mark.parametrize('quantity, message', [
    ('velocity', lambda t, i: joint_state(t, ['x', 'b', 'a'], (), [9, -i / 10, i / 10])),
    ('position', lambda t, i: joint_state(t, ['b', 'a'], [-i / 10, i / 10])),
    ('position', lambda t, i: trajectory(t, ['b', 'a'], {'positions': [-i / 10, i / 10]},
                                         {'positions': [5, 5]})),
    ('velocity', lambda t, i: trajectory(t, ['a', 'b'], {
        'positions': [7, 7], 'velocities': [i / 10, -i / 10]})),
    ('effort', lambda t, i: joint_state(t, ['a', 'b'], [7, 7], [8, 8], [i / 10, -i / 10]))])
def test_commands_of_vectors_are_read_by_name(tmp_path, quantity, message):
    times = stamps(8)
    path = write(tmp_path / 'bag', ('/joint_states', [
        (t, joint_state(t, ['a', 'b'], [0, 0], [0, 0])) for t in times]),
        ('/arm/commands', [(t, message(t, i)) for i, t in enumerate(times)]))
    output = ARM | {'quantity': quantity, 'type': 'joint_state'}
    commands = opened(path, contract_of(output, joints=JOINTS)).commands
    np.testing.assert_allclose(commands.values, [(i / 10, -i / 10) for i in range(8)])


@pytest.mark.parametrize('message, fault', [
    (lambda t: multi_array(t, [1.0]), '1 values, where the contract names 2 elements'),
    (lambda t: joint_state(t, ['a'], (), [1]), 'b missing, it names a'),
    (lambda t: joint_state(t, ['a', 'b'], [1, 2]),
     "0 values of 'velocity' for 2 names, where the contract commands velocity"),
    (lambda t: trajectory(t, ['a', 'b']), 'a trajectory without points')])
def test_commands_that_do_not_say_what_joints_do(tmp_path, message, fault):
    times = stamps(8)
    states = ('/joint_states', [(t, joint_state(t, ['a', 'b'], [0, 0], [0, 0])) for t in times])
    path = write(tmp_path / 'bag', states, ('/arm/commands', [(t, message(t)) for t in times]))
    kind = message(0).__msgtype__
    assert fault_of(path, contract_of(ARM, joints=JOINTS)) == (
        f"topic '/arm/commands': no message is a {kind} ({fault}); record the topic again "
        'through ROS 2, or give another one by --command-topic')


@pytest.mark.parametrize('topics, fault', [
    ([images(), commands()],
     "input 'odometry': there is no topic 'odom'; record it, or change inputs.odometry in the "
     'contract, or take a policy without this input. Topics are: /camera '
     '(sensor_msgs/msg/Image), /cmd_vel (geometry_msgs/msg/TwistStamped)'),
    ([images(), commands(), ('/odom', 'sensor_msgs/msg/Imu')],
     "input 'odometry': topic '/odom' is of the type sensor_msgs/msg/Imu, and "
     'nav_msgs/msg/Odometry is what is read by the contract; change inputs.odometry in the '
     'contract, or take a policy without this input'),
    ([images(), commands(), ('/odom', 'nav_msgs/msg/Odometry')],
     "input 'odometry': topic '/odom' has no messages; leave the recording out, or change "
     'inputs.odometry in the contract, or take a policy without this input'),
    ([images(), commands(), ('/a' + wheels()[0], wheels()[1]), ('/b/odom', wheels()[1])],
     "input 'odometry': 'odom' is the end of /a/odom, /b/odom; give the whole topic, with its /"),
    ([wheels(), commands()],
     "input 'image': there is no topic 'camera'; record it, or give another by --image-topic. "
     'Topics are: /odom (nav_msgs/msg/Odometry), /cmd_vel (geometry_msgs/msg/TwistStamped)'),
    ([images(), wheels()],
     "output: there is no topic 'cmd_vel'; record it, or give another by --command-topic. Topics "
     'are: /camera (sensor_msgs/msg/Image), /odom (nav_msgs/msg/Odometry)')])
def test_a_topic_that_a_recording_lacks_is_named_with_those_that_it_has(tmp_path, topics, fault):
    path = write(tmp_path / 'bag', *topics)
    assert fault_of(path, contract_of(image=IMAGE, odometry=ODOMETRY)) == fault


def test_topics_may_be_in_a_namespace_and_images_of_the_other_transport(tmp_path):
    path = write(tmp_path / 'bag', ('/robot/camera', images()[1]), ('/robot/odom', wheels()[1]),
                 ('/robot/cmd_vel', commands()[1]))
    image = {'type': 'sensor_msgs/msg/CompressedImage', 'topic': 'camera/compressed'}
    recording = opened(path, contract_of(image=image, odometry=ODOMETRY))
    assert [index for index, _ in recording.frames()] == list(range(1, 8))
    other = opened(path, contract_of(image=image | {'topic': 'front'}, odometry=ODOMETRY),
                   Reading(image_topic='/robot/camera', command_topic='/robot/cmd_vel'))
    assert len(list(other.frames())) == 7


def test_a_tub_has_images_alone(tmp_path):
    assert fault_of(tub(tmp_path / 'tub'), contract_of(image=IMAGE, odometry=ODOMETRY)) == (
        'a DonkeyCar tub has images, angle and throttle alone, and no odometry; give a rosbag2 '
        'recording with the topics of the contract, as `ros2 run stream_agent record_bag` makes '
        'it, or take a policy of one image')
    assert 'and no commands of a vector;' in fault_of(
        tub(tmp_path / 'other'), contract_of(ARM, image=IMAGE))
    age = {'type': 'own/age', 'high': [0.5]}
    frames = list(opened(tub(tmp_path / 'third'), contract_of(image=IMAGE, age=age)).frames())
    assert len(frames) == 6 and {frame.others['age'] for _, frame in frames} == {0.0}


def test_the_age_of_a_frame_is_how_late_it_came(tmp_path):
    path = write(tmp_path / 'bag', images(late=30 * MS), commands())
    contract = contract_of(image=IMAGE, age={'type': 'own/age', 'high': [0.5]})
    assert [frame.others['age'] for _, frame in opened(path, contract).frames()] == [0.03] * 8
    by_arrival = IMAGE | {'stamp': 'arrival'}
    arrival = contract_of(image=by_arrival, age={'type': 'own/age', 'high': [0.5]})
    assert [frame.others['age'] for _, frame in opened(path, arrival).frames()] == [0.0] * 8


def test_an_input_that_no_contract_names_is_refused(tmp_path):
    contract = contract_of(image=IMAGE, odometry=ODOMETRY)
    conversions = conversions_of(contract)
    for known, said in ((None, 'none is given'),
                        (contract_of(image=IMAGE), 'its inputs are image')):
        with pytest.raises(BadRecordingError) as error:
            wanted_inputs(known, 'image', conversions)
        assert str(error.value) == (
            "input 'odometry': the contract does not say which topic of a recording gives it "
            f"({said}); give the robot's file that has it under inputs by --robot FILE")
    # Of one image, a network may call the input as it likes.
    eye = wanted_inputs(contract, 'eye', {'eye': conversions['image']})
    assert eye.inputs == {'eye': contract.inputs['image']}


def test_a_second_camera_and_a_depth_camera(tmp_path):
    times = stamps(8)
    depth = [(t, raw(t, np.full((4, 6), 1000 * i, '<u2').view(np.uint8).reshape(4, 12), '16UC1'))
             for i, t in enumerate(times)]
    for _, message in depth:
        message.width = 6
    rear = [(t, raw(t, picture(i + 20)), t + MS) for i, t in enumerate(times[::2])]
    path = write(tmp_path / 'bag', images(), ('/rear', rear), ('/depth', depth), commands())
    contract = contract_of(image=IMAGE, rear={'type': 'sensor_msgs/msg/Image'}, depth={
        'type': 'sensor_msgs/msg/Image', 'units': ['m'], 'high': [5.0]})
    found = dict(opened(path, contract).frames())
    assert sorted(found) == list(range(8))
    for index, frame in found.items():
        # It has half the rate.
        np.testing.assert_array_equal(frame.others['rear'], picture(index // 2 + 20))
        assert frame.others['depth'].shape == (4, 6) and (
            frame.others['depth'] == 1000 * index).all()
    rear[0][1].encoding = rear[1][1].encoding = 'yuv444'
    path = write(tmp_path / 'damaged', images(), ('/rear', rear), ('/depth', depth), commands())
    recording = opened(path, contract)
    assert sorted(dict(recording.frames())) == [4, 5, 6, 7]
    assert recording.skipped["frames whose input 'rear' cannot be decoded"] == 4


def test_a_robot_that_steers_by_an_angle_tells_its_wheel_base(tmp_path):
    contract, reading = recorded_robot('f1tenth', Reading())
    assert (contract.output.type, reading.wheelbase) == ('ackermann', 0.33)
    assert recorded_robot('f1tenth', Reading(wheelbase=0.5))[1].wheelbase == 0.5
    assert recorded_robot('turtlebot3', Reading())[1] == Reading()
    assert recorded_robot(None, Reading()) == (None, Reading())
    # A Twist whose angular.z is the angle of the wheels.
    path = write(tmp_path / 'bag', images(), commands())
    steered = contract_of(BASE | {'type': 'twist_steering'}, image=IMAGE)
    assert opened(path, steered).commands.steering == 'steering angle'
    found = opened(path, steered, Reading(wheelbase=0.25)).commands
    assert found.steering == 'yaw rate'
    np.testing.assert_allclose(found.values[:, 1], 0.5 * np.tan(np.arange(8) / 10) / 0.25)


@pytest.mark.parametrize('align', ['newest', 'hold', 'interpolate'])
def test_what_came_before_a_clock_was_set_back_is_forgotten(tmp_path, align):
    def set_back(name, messages, period):
        """Set the headers of the second half back by 10 s, while the recorder's clock goes on."""
        half, found = len(messages) // 2, []
        for i, (stamp, message, *_) in enumerate(messages):
            if i >= half:
                message.header.stamp.sec -= 10
            found.append((stamp, message, stamp + MS))
        return name, found

    path = write(tmp_path / 'bag', set_back(*wheels(100, period=20 * MS), 20 * MS),
                 set_back(*images(40), PERIOD), set_back(*commands(40), PERIOD))
    contract = contract_of(image=IMAGE, odometry=ODOMETRY | {'align': align})
    recording = opened(path, contract)
    found = {index: frame.others['odometry'][0] for index, frame in recording.frames()}
    assert sorted(found) == list(range(40))
    # Where no message is of a frame's time, the next one has not come yet.
    np.testing.assert_allclose([found[i] for i in range(40)],
                               [(5 * i // 2) / 10 for i in range(40)], atol=1e-9)
    assert any('set back' in note or 'by reception' in note for note in recording.notes)
