"""What the doctor says of inputs and joints, from messages that are made here."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.contract.conversions import Scan, ScanInput, VectorInput
from stream_agent.contract.settings import InputSettings, JOINT_STATE, ODOMETRY, SCAN
from stream_agent.doctor.findings import Severity, table
from stream_agent.doctor.inputs import (
    ArrivedMessage, as_unused, check_clocks, check_joints, check_messages, check_rhythm,
    check_sender, check_times, check_values, DepthSeen)
from stream_agent.doctor.topics import Endpoint
from stream_agent.engine.frame_filter import FrameFilterSettings

OK, NOT_CHECKED, WARN, ERROR = Severity
FIELDS = ('twist.twist.linear.x', 'twist.twist.angular.z')
ODOM = InputSettings(type=ODOMETRY, topic='odom', fields=FIELDS, units=('m/s', 'rad/s'),
                     low=(-1.0, -2.0), high=(1.0, 2.0), rate=20.0, oldest=0.2)
READ = VectorInput(FIELDS, ('m/s', 'rad/s'), (-1.0, -2.0), (1.0, 2.0))
SCANNER = InputSettings(type=SCAN, topic='scan', rays=10, angle_min=-1.0, angle_max=1.0,
                        high=(6.0,))
NS = 10**9


def messages(count=20, period=0.05, age=0.002, values=(0.5, 0.1), fault='', start=100.0):
    stamps = [start + i * period for i in range(count)]
    return [ArrivedMessage(round(stamp * NS), round((stamp + age) * NS), stamp - start,
                           np.array(values), fault) for stamp in stamps]


def test_a_sender_that_fits_and_others():
    here = Endpoint('/base', ODOMETRY)
    assert check_sender('odometry', ODOM, '/odom', [here], {}).said == (
        f"'/odom': {ODOMETRY} from /base, reliable, volatile")
    nobody = check_sender('odometry', ODOM, '/odom', [], {'/base/odom': ODOMETRY, '/scan': SCAN})
    assert (nobody.level, nobody.said) == (ERROR, "nobody publishes '/odom'")
    assert nobody.remedy == ('start its driver, or set inputs.odometry.topic to one of that type: '
                             '/base/odom')
    assert check_sender('odometry', ODOM, '/odom', [], {}).remedy == (
        f'start its driver, no other topic has {ODOMETRY}')
    other = check_sender('odometry', ODOM, '/odom', [Endpoint('/base', SCAN)], {})
    assert other.level is ERROR and f'inputs.odometry.type is {ODOMETRY}' in other.said
    deaf = check_sender('odometry', ODOM, '/odom', [here._replace(incompatible='durability')], {})
    assert deaf.level is ERROR and 'which the agent cannot receive: durability' in deaf.said


def test_only_joints_may_have_several_senders():
    senders = [Endpoint('/a', ODOMETRY), Endpoint('/b', ODOMETRY)]
    assert check_sender('odometry', ODOM, '/odom', senders, {}).level is ERROR
    joints = replace(ODOM, type=JOINT_STATE, fields=('position.a', 'position.b'))
    senders = [one._replace(kind=JOINT_STATE) for one in senders]
    assert check_sender('joints', joints, '/joint_states', senders, {}).said == (
        f"'/joint_states': {JOINT_STATE} from /a, /b, reliable, volatile")


@pytest.mark.parametrize('arrived, end, settings, level, said', [
    (messages(), 1.0, ODOM, OK, '20.00 Hz, longest gap 0.050 s'),
    (messages(period=0.1), 2.0, ODOM, WARN, 'inputs.odometry.rate is 20 Hz'),
    (messages(period=0.1), 2.0, replace(ODOM, rate=0.0), OK, '10.00 Hz'),
    (messages(), 1.5, ODOM, WARN, 'older than 0.2 s (inputs.odometry.oldest)'),
    (messages(count=2), 0.1, ODOM, ERROR, 'only 2 messages arrived')])
def test_how_often(arrived, end, settings, level, said):
    found = check_rhythm('odometry', settings, arrived, end, None)
    assert found.level is level and said in found.said


def test_a_trigger_has_the_camera_s_period():
    found = check_rhythm('scan', SCANNER, messages(period=0.1), 2.0, 1 / 30)
    assert found.level is WARN and 'set camera_period to 0.1000 for all' in found.remedy


@pytest.mark.parametrize('age, level, said', [
    (0.002, OK, '2.0 ms old on arrival'), (0.15, WARN, '0.150 s old on arrival'),
    (-0.05, WARN, '0.050 s in the future'), (0.3, ERROR, 'takes none beyond 0.2 s'),
    (-0.3, ERROR, '0.300 s in the future (median), and the agent takes none'),
    (2e5, ERROR, 'from another clock')])
def test_stamps(age, level, said):
    found = check_times('odometry', ODOM, messages(age=age))
    assert found.level is level and said in found.said
    # Whose stamps do not count has any.
    assert check_times('odometry', replace(ODOM, stamp='arrival'), messages(age=age)).level is OK


def test_stamps_of_a_trigger_are_judged_as_the_agent_does():
    settings = FrameFilterSettings()
    late = messages(age=settings.oldest + 0.1)
    found = check_times('scan', SCANNER, late, settings)
    assert found.level is ERROR and found.said.endswith('the agent drops such frames')


def test_stamps_that_are_zero_or_go_back():
    some = [one._replace(stamp_ns=0) for one in messages(3)] + messages(5)
    found = check_times('odometry', ODOM, some)
    assert found.level is ERROR and found.said == '3 of 8 are zero, and stamps count'
    assert 'set inputs.odometry.stamp to arrival' in found.remedy
    back = check_times('odometry', ODOM, [*messages(5), *messages(5)])
    assert back.level is WARN and '1 of 10 are earlier' in back.said


def test_two_clocks():
    (found,) = check_clocks({'image': messages(), 'scan': messages(age=0.4), 'imu': []})
    assert found.level is WARN
    assert found.said == ("messages of 'scan' are 0.398 s older on arrival than those of 'image' "
                          '(medians)')
    (found,) = check_clocks({'image': messages(), 'scan': messages(age=0.05)})
    assert found.level is OK
    assert check_clocks({'image': messages()}) == []


def test_values():
    found = check_values('odometry', ODOM, messages(), READ)
    assert found.level is OK
    assert found.said == ('twist.twist.linear.x 0.5 to 0.5 m/s, twist.twist.angular.z 0.1 to 0.1 '
                          'rad/s')
    found = check_values('odometry', ODOM, [*messages(15), *messages(5, values=(1.5, -2.5))], READ)
    assert found.level is WARN
    assert found.said == (
        'twist.twist.linear.x is outside -1 to 1 m/s in 25% of the messages (0.5 to 1.5); '
        'twist.twist.angular.z is outside -2 to 2 rad/s in 25% of the messages (-2.5 to 0.1)')
    absent = [*messages(3), *messages(2, fault='x is absent; take a topic that has it')]
    found = check_values('odometry', ODOM, absent, READ)
    assert found == (ERROR, 'odometry values', '2 of 5 cannot be used: x is absent',
                     'take a topic that has it')


def scans(angle_min=-1.5, measured=2.0):
    scan = Scan(np.full(31, measured, np.float32), angle_min, 0.1, 0.1, 6.0)
    return [one._replace(values=scan) for one in messages(4)]


def test_scans():
    reads = ScanInput(10, -1.0, 1.0, 6.0, 6.0)
    found = check_values('scan', SCANNER, scans(), reads)
    assert found.level is OK and '31 rays of 0.1 to 6 m, of which 100% measure' in found.said
    assert check_values('scan', SCANNER, scans(measured=np.inf), reads).level is WARN
    assert check_values('scan', SCANNER, scans(angle_min=0.0), reads).level is ERROR


def test_depth():
    depth = InputSettings(type='sensor_msgs/msg/Image', topic='depth', high=(5.0,), units=('m',))
    seen = [one._replace(values=DepthSeen(48, 64, 0.75)) for one in messages()]
    found = check_messages('depth', depth, seen, 1.0, None, None)
    assert [one.level for one in found] == [OK] * 3
    assert found[2].said == '64 x 48, of which 75% measure something'


def test_nothing_came():
    found = check_messages('imu', ODOM, [], 1.0, READ, None)
    assert [(one.check, one.level) for one in found] == [
        (f'imu {check}', NOT_CHECKED) for check in ('rate', 'stamps', 'values')]


def test_what_is_not_read_is_no_error():
    found = check_sender('odometry', ODOM, '/odom', [], {})
    assert as_unused(found).level is WARN and as_unused(found).remedy == found.remedy
    fine = check_rhythm('odometry', ODOM, messages(), 1.0, None)
    assert as_unused(fine) == fine


@pytest.mark.parametrize('quantity, measured, level, said', [
    ('velocity', {'a': 0.1, 'b': 5.0}, OK, 'a at 0.1, b at 5'),
    ('velocity', None, WARN, "no joint states on '/joint_states'"),
    ('position', None, ERROR, ', without which the gate moves nothing'),
    ('position', {'a': 0.1}, ERROR, "'/joint_states' has no position of b; it has a"),
    ('position', {'a': 0.1, 'b': float('nan')}, ERROR, 'has no position of b'),
    ('position', {'a': 0.1, 'b': 5.0}, WARN,
     'outside of what may be commanded: b at 5 (-2 to 2)')])
def test_joints(quantity, measured, level, said):
    found = check_joints(('a', 'b'), quantity, (-1.0, -2.0), (1.0, 2.0), '/joint_states', measured)
    assert found.level is level and said in found.said


def test_the_table_has_room_for_long_names():
    found = [check_rhythm('odometry', ODOM, messages(), 1.0, None),
             check_joints(('a',), 'velocity', (-1,), (1,), '/j', {'a': 0.0})]
    first, second, *_ = table(found).splitlines()
    assert first.index('OK') == second.index('OK') == len('odometry rate ')
