"""The recorder as a process, on real DDS: what it measures of policies whose answers are known."""

from inspect import signature
import json
import math
import os
import re
import resource
import shlex
import signal
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped, Vector3Stamped
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from stream_agent.command import Command
from stream_agent.images import stamp_of_serialized
from stream_agent.measurement.recording import read_changes, read_description, read_rows
from stream_agent.measurement.report import main as make_report
from stream_agent.measurement.rows import AT_ARRIVAL, WHEN_TAKEN
from stream_agent.nodes.messages import (
    array_to_image, COMMAND_QOS, command_to_twist, FRAME_QOS, ns_to_stamp)
from stream_agent.nodes.recorder_node import parse_policies, RecorderNode

pytestmark = pytest.mark.real_time

PERIOD = 1 / 30
LATE = 0.012
REPORT_AGAIN = 'python -m stream_agent.measurement.report'
PIXELS = np.zeros((120, 160), np.uint8)
TURN, SLOWER = Command(0.5, 0.25), Command(0.4, 0.2)


class Stage:
    """Everything that the recorder watches, played by the test."""

    def __init__(self, peer):
        self.peer, node = peer, peer.node
        self.image = node.create_publisher(Image, 'image', FRAME_QOS)
        self.change = node.create_publisher(Header, 'scene_change', COMMAND_QOS)
        self.course = node.create_publisher(Vector3Stamped, 'course_state', COMMAND_QOS)
        self.diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.reference, self.agent, self.baseline, self.gate = (
            node.create_publisher(TwistStamped, topic, COMMAND_QOS) for topic in (
                'reference', 'policy_command', 'baseline/policy_command', 'cmd_vel'))
        self.stamps, self.published = [], []

    def wait_for_recorder(self):
        publishers = (self.image, self.change, self.course, self.diagnostics, self.reference,
                      self.agent, self.baseline, self.gate)
        self.peer.spin_until(lambda: all(p.get_subscription_count() for p in publishers))
        # This end knows the recorder now; until the recorder knows this end takes a moment.
        self.peer.spin(0.5)

    def now_ns(self):
        return self.peer.node.get_clock().now().nanoseconds

    def play(self, frames, baseline_answers=lambda i: True):
        """Publish frames in real time; the baseline answers 12 ms after the agent."""
        for i in range(frames):
            begin = time.monotonic()
            stamp_ns = self.now_ns()
            self.stamps.append(stamp_ns)
            self.image.publish(array_to_image(PIXELS, stamp_ns, 'camera'))
            self.reference.publish(command_to_twist(TURN, stamp_ns))
            state = Vector3Stamped()
            ns_to_stamp(state.header.stamp, stamp_ns)
            state.vector.y = -0.02
            self.course.publish(state)
            sent = time.perf_counter()
            self.agent.publish(command_to_twist(TURN, stamp_ns))
            self.published.append(time.perf_counter() - sent)
            self.gate.publish(command_to_twist(SLOWER, self.now_ns()))
            time.sleep(LATE)
            if baseline_answers(i):
                self.baseline.publish(command_to_twist(SLOWER, stamp_ns))
            time.sleep(max(0.0, begin + PERIOD - time.monotonic()))


@pytest.fixture
def stage(peer):
    return Stage(peer)


def folder_of(output):
    return (output / 'latest').resolve()


def finish(process, timeout=15.0, code=0):
    """Stop the recorder as a launch does; return what it said."""
    process.signal(signal.SIGINT)
    assert process.wait(timeout) == code, process.output
    return process.output


def test_known_latencies_and_losses_come_out(stage, start_node, tmp_path):
    recorder = start_node('recorder', output=str(tmp_path))
    stage.wait_for_recorder()
    stage.play(30, baseline_answers=lambda i: i == 0)
    # One frame that is stamped an hour ahead must cost no other.
    ahead = stage.now_ns() + 3600 * 10**9
    stage.image.publish(array_to_image(PIXELS, ahead, 'camera'))
    stage.change.publish(Header(stamp=ns_to_stamp(Header().stamp, stage.stamps[-1])))
    stage.diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(
        name='agent: frames', hardware_id='/',
        values=[KeyValue(key='pattern', value='streaming')])]))
    stage.play(60, baseline_answers=lambda i: i % 10 != 5)
    time.sleep(0.3)
    said = finish(recorder)

    folder = folder_of(tmp_path)
    everything = read_rows(folder)
    assert [row.arrival_ns for row in everything if row.stamp_ns == ahead] == [None, None]
    assert len(everything) == 2 * 91
    rows = {name: [row for row in everything if row.policy == name and row.stamp_ns != ahead]
            for name in ('agent', 'baseline')}
    assert [row.stamp_ns for row in rows['agent']] == stage.stamps
    assert all(row.reference == TURN and row.arrival_ns and row.frame_arrival_ns
               for row in rows['agent'])
    lost = [i for i, row in enumerate(rows['baseline']) if row.arrival_ns is None]
    assert lost == [*range(1, 30), *range(35, 90, 10)]
    assert {row.lateral_error for row in rows['agent']} == {-0.02}
    agent = np.array([row.latency for row in rows['agent']])
    baseline = np.array([row.latency for row in rows['baseline']])
    assert 0 < np.median(agent) < 0.005
    assert np.nanmedian(baseline) == pytest.approx(LATE, abs=0.004)
    # Each policy command of the driving agent went through the gate, which slowed it down.
    assert all(row.gated_arrival_ns > row.stamp_ns and row.gated == SLOWER
               for row in rows['agent'])
    assert {row.gated_arrival_ns for row in rows['baseline']} == {None}
    assert read_changes(folder) == [stage.stamps[29]]
    assert read_description(folder)['diagnostics'] == {'agent: frames': {'pattern': 'streaming'}}
    assert re.search(r'^lost +0 \(0.00 %\) +35 \(38.89 %\)$', said, re.MULTILINE)
    assert re.search(r'agent \(streaming\) answered 1\d\.\d ms earlier than baseline', said)
    assert '1 frame left out: stamped over 2 s from when the others come;' in said
    assert f'report: {folder / "report.html"}' in said
    assert f'if the report is stopped, `{REPORT_AGAIN} {folder}` makes it' in said
    page = (folder / 'report.html').read_text()
    middleware = rclpy.get_rmw_implementation_identifier()
    assert f'middleware {middleware} · arrivals measured {AT_ARRIVAL} · ' in page
    assert (folder / 'report.html').stat().st_size > 50_000


def test_killed_at_any_moment_what_was_written_is_readable(stage, start_node, tmp_path, capsys):
    """Rows are of true stamps and whole, whatever happens (C2)."""
    recorder = start_node('recorder', output=str(tmp_path))
    stage.wait_for_recorder()
    stage.play(90)
    recorder.signal(signal.SIGKILL)
    recorder.wait()
    rows = read_rows(folder_of(tmp_path))
    # What is missing waited for late commands, for the writer, or for the timer between them.
    assert len(rows) >= 2 * (90 - 2.0 / PERIOD)
    assert [row.stamp_ns for row in rows[::2]] == stage.stamps[:len(rows) // 2]
    assert make_report([str(folder_of(tmp_path))]) == 0
    assert 'earlier than baseline' in capsys.readouterr().out


def full_pipe(pipe):
    """Make a pipe that is full, so that a write to it never returns; return its open end."""
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(end, bytes(4096))
    return end


def on_a_dead_disk(start, output):
    """Start a recorder that writes into the ``full_pipe`` called pipe first."""
    return start('-c', f"""
import sys
from stream_agent.measurement import recording
from stream_agent.nodes import recorder_node
recording.HEADERS = {{{str(output / 'pipe')!r}: 'header', **recording.HEADERS}}
sys.exit(recorder_node.main(sys.argv[1:]))
""", '--ros-args', '-p', f'output:={output}', '-p', 'queue_size:=20')


def test_a_dead_disk_neither_stops_the_recorder_nor_keeps_it(stage, start, tmp_path):
    end = full_pipe(tmp_path / 'pipe')
    recorder = on_a_dead_disk(start, tmp_path)
    stage.wait_for_recorder()
    stage.play(45)
    begin = time.monotonic()
    said = finish(recorder, code=1)
    assert time.monotonic() - begin < 8.0
    assert re.search(r"recording '.*' is not complete, 90 rows are missing: the disk did not "
                     'answer within 3 s', said)
    assert f'no report is written; of what there is, `{REPORT_AGAIN} {tmp_path}' in said
    os.close(end)
    # Whoever publishes does not notice (C1): a command is sent as soon as with a healthy disk.
    assert np.median(stage.published) < 2e-3 and max(stage.published) < PERIOD


def test_a_full_disk_is_said_and_leaves_what_was_written(stage, start_node, tmp_path, capsys):
    recorder = start_node('recorder', output=str(tmp_path))
    stage.wait_for_recorder()
    resource.prlimit(recorder.popen.pid, resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    stage.play(60)
    stage.peer.spin_until(lambda: 'rows cannot be written' in recorder.output)
    said = finish(recorder, code=1)
    folder = folder_of(tmp_path)
    rows = read_rows(folder)
    assert f"rows cannot be written: '{folder}': File too large; make room, it is tried" in said
    assert (f"recording '{folder}' is not complete, {120 - len(rows)} rows are missing: "
            f"'{folder}': File too large") in said
    assert f'no report is written; of what there is, `{REPORT_AGAIN} {folder}` makes one' in said
    assert len(rows) > 20 and (folder / 'rows.csv').stat().st_size == 4000
    assert [row.stamp_ns for row in rows[::2]] == stage.stamps[:(len(rows) + 1) // 2]
    assert make_report([str(folder)]) == 0
    assert f'{120 - len(rows)} rows are missing, as the disk' in capsys.readouterr().out


def test_killed_in_its_report_it_has_lost_nothing(stage, start, tmp_path):
    """A machine on which the report would take an hour (C6)."""
    recorder = start('-c', """
import sys, time
from stream_agent.measurement import report
from stream_agent.nodes import recorder_node
report.write_report = lambda *_: time.sleep(3600)
sys.exit(recorder_node.main(sys.argv[1:]))
""", '--ros-args', '-p', f'output:={tmp_path}')
    stage.wait_for_recorder()
    stage.play(25)
    time.sleep(0.1)
    recorder.signal(signal.SIGINT)
    stage.peer.spin_until(lambda: 'earlier than baseline' in recorder.output, 20.0)
    recorder.signal(signal.SIGKILL)
    recorder.wait()
    folder = folder_of(tmp_path)
    assert f'if the report is stopped, `{REPORT_AGAIN} {folder}` makes it' in recorder.output
    assert [row.stamp_ns for row in read_rows(folder)[::2]] == stage.stamps
    assert read_description(folder)['dropped'] == 0
    again = start(*shlex.split(re.search('`python (.*)` makes it', recorder.output)[1]))
    assert again.wait(20.0) == 0, again.output
    assert (folder / 'report.html').exists()


def test_silence_is_explained_and_no_error(peer, start_node, tmp_path):
    recorder = start_node('recorder', '-r', 'image:=front/image_raw', output=str(tmp_path),
                          new_folder=False)
    peer.spin_until(lambda: f"recording agent, baseline to '{tmp_path}'" in recorder.output)
    said = finish(recorder)
    assert f'report: {tmp_path}/report.html' in said
    assert ("No message on '/front/image_raw'; check that the camera or simulation runs, and the "
            'remapping.') in said
    assert ("Policy 'agent' answered no frame on the topic 'policy_command'; check that its agent "
            'is active and its log is free of errors.') in said
    # Nobody has started a baseline, so that none is missed.
    assert "Policy 'baseline'" not in said


@pytest.mark.any_time
def test_only_a_baseline_by_default_that_nobody_starts_is_not_missed(peer, recorder):
    asked = recorder(policies=['agent=policy_command', 'baseline=second/policy_command'])
    assert asked.absent() == []
    node = recorder()
    assert node.absent() == ['baseline']
    peer.node.create_publisher(TwistStamped, 'baseline/policy_command', 1)
    peer.spin_until(lambda: node.absent() == [])


@pytest.mark.parametrize('parameters, sentence', [
    ({'policies': ['agent']}, "policies: 'agent' is not of the form 'name=topic'; "
                              "write for example 'agent=policy_command'"),
    ({'driving': 'pilot'}, "driving: no policy named 'pilot'; policies are agent, baseline"),
    ({'output': '/proc/results'}, "output '/proc/results': no folder can be made there "
                                  '(No such file or directory); choose one that can be written')])
@pytest.mark.any_time
def test_wrong_parameters_are_refused_in_a_sentence(refusal, parameters, sentence):
    assert refusal(RecorderNode, **parameters) == sentence


@pytest.mark.parametrize('given, sentence', [
    (['a=x', 'a=y'], "policies: 'a' is given twice; give every policy its own name"),
    (['=x'], "policies: '=x' is not of the form 'name=topic'; "
             "write for example 'agent=policy_command'"),
    (['a\x1b[2J\n=x'], "policies: 'a\ufffd[2J' is too long or has characters that cannot be "
     'printed; give a plain name'),
    (['a' * 201 + '=x'], f"policies: '{'a' * 199}…' is too long or has characters that cannot be "
     'printed; give a plain name'),
    ([], "policies is empty; write for example 'agent=policy_command'")])
@pytest.mark.any_time
def test_policies_that_cannot_be_read(given, sentence):
    with pytest.raises(ValueError) as error:
        parse_policies(given)
    assert str(error.value) == sentence


class RecorderOfTaken(RecorderNode):
    """A recorder on middleware that stamps messages when they are taken, as Cyclone DDS does."""

    def create_subscription(self, kind, topic, callback, *args, **kwargs):
        if 'info' in signature(callback).parameters:
            told = callback

            def callback(message, info):
                told(message, {**info, 'received_timestamp': time.time_ns()})

        return super().create_subscription(kind, topic, callback, *args, **kwargs)


@pytest.fixture
def recorder(peer, tmp_path):
    """Make a recorder in this process, so that the test decides when it is spun."""
    made = []

    def make(kind=RecorderNode, **parameters):
        made.append(kind(parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {'output': str(tmp_path), **parameters}.items()]))
        return made[-1]

    yield make
    for node in made:
        node._writer.close(5.0)
        node.destroy_node()


def test_its_own_queueing_is_no_latency(peer, stage, recorder):
    """The recorder sleeps for 0.3 s after the command came in."""
    node = recorder()
    stage.wait_for_recorder()
    stage.play(1)
    time.sleep(0.3)
    end = time.monotonic() + 1.0
    while time.monotonic() < end and not node._heard >= {'image', 'cmd_vel', 'reference'}:
        rclpy.spin_once(node, timeout_sec=0.1)
    for _ in range(10):
        rclpy.spin_once(node, timeout_sec=0.0)
    agent, baseline = node._rows.finish()
    assert 0 < agent.latency < 0.1 < 0.3
    assert LATE < baseline.latency < 0.1


@pytest.mark.parametrize('kind, arrivals', [
    (RecorderNode, AT_ARRIVAL), (RecorderOfTaken, WHEN_TAKEN)])
def test_it_pauses_only_where_that_is_nobodys_latency(peer, stage, recorder, kind, arrivals):
    """A command right after its frame: 0.6 of a camera period of 0.1 s would be its latency."""
    node = recorder(kind, camera_period=0.1)
    stage.wait_for_recorder()
    for _ in range(20):
        rclpy.spin_once(node, timeout_sec=0.05)
    assert node._conditions['arrivals'] == arrivals
    assert f'/{node.get_name()}/arrival_probe' not in dict(node.get_topic_names_and_types())
    handled = []
    for _ in range(5):
        stage.image.publish(array_to_image(PIXELS, stamp_ns := stage.now_ns(), 'camera'))
        stage.agent.publish(command_to_twist(TURN, stamp_ns))
        begin = time.monotonic()
        for _ in range(4):
            rclpy.spin_once(node, timeout_sec=0.01)
        handled.append(time.monotonic() - begin)
    rows = [row for row in node._rows.finish() if row.policy == 'agent' and row.arrival_ns]
    assert len(rows) == 5
    assert (min(handled) > 0.06) == (arrivals == AT_ARRIVAL)
    assert np.median([row.latency for row in rows]) < 0.02


def test_in_simulated_time_arrivals_are_too(peer, stage, recorder):
    node = recorder(use_sim_time=True)
    clock = peer.node.create_publisher(Clock, '/clock', 10)
    stage.wait_for_recorder()
    peer.spin_until(clock.get_subscription_count)
    message = Clock()
    ns_to_stamp(message.clock, 100 * 10**9)
    end = time.monotonic() + 5.0
    while node.get_clock().now().nanoseconds != 100 * 10**9 and time.monotonic() < end:
        clock.publish(message)
        rclpy.spin_once(node, timeout_sec=0.05)
    stamp_ns = 99_990_000_000
    stage.image.publish(array_to_image(PIXELS, stamp_ns, 'camera'))
    stage.agent.publish(command_to_twist(TURN, stamp_ns))
    for _ in range(10):
        rclpy.spin_once(node, timeout_sec=0.05)
    (row,) = node._rows.finish()
    assert row.latency == pytest.approx(0.01)
    assert row.frame_arrival_ns == 100 * 10**9


@pytest.mark.parametrize('stamp_ns', [0, 1, 1_700_000_000_123_456_789, 2**31 * 10**9 - 1])
def test_the_stamp_is_read_from_the_serialized_image(stamp_ns):
    data = serialize_message(array_to_image(PIXELS, stamp_ns, 'camera_optical'))
    assert stamp_of_serialized(data) == stamp_ns


def test_big_endian_senders_are_understood():
    data = bytes([0, 0, 0, 0]) + (7).to_bytes(4, 'big') + (5).to_bytes(4, 'big')
    assert stamp_of_serialized(data) == 7 * 10**9 + 5


def test_parameters_are_described(recorder):
    node = recorder(policies=json.loads('["a=x"]'), driving='')
    for name in ('policies', 'driving', 'camera_period', 'image_transport', 'output',
                 'queue_size'):
        assert node.describe_parameter(name).description
    assert node.silent() == [
        "No message on '/image'; check that the camera or simulation runs, and the remapping.",
        "No message on '/reference'; check that something publishes it; without it errors "
        'are unknown.']


# Commands of any actuators, and frames that are no images

ARM = os.path.join(os.path.dirname(__file__), '..', '..', 'config', 'robots', 'six_joint_arm.yaml')
JOINTS = [f'joint_{i}' for i in range(1, 7)]


def joints_message(stamp_ns, **fields):
    msg = JointState(name=JOINTS, **fields)
    ns_to_stamp(msg.header.stamp, stamp_ns)
    return msg


def test_an_arm_s_frames_and_commands_are_recorded_by_name(peer, start_node, tmp_path):
    recorder = start_node('recorder', '--params-file', ARM, output=str(tmp_path))
    node = peer.node
    states, commands, reference = (node.create_publisher(JointState, topic, COMMAND_QOS)
                                   for topic in ('joint_states', 'policy_command', 'reference'))
    gate = node.create_publisher(Float64MultiArray, 'velocity_controller/commands', COMMAND_QOS)
    peer.spin_until(lambda: all(publisher.get_subscription_count() for publisher in (
        states, commands, reference, gate)), 20.0)
    peer.spin(0.5)
    wanted = [0.1 * i for i in range(6)]
    for i in range(50):
        stamp_ns = node.get_clock().now().nanoseconds
        states.publish(joints_message(stamp_ns, position=[0.01 * i] * 6, velocity=[0.0] * 6))
        reference.publish(joints_message(stamp_ns, velocity=wanted))
        # In another order, as names count; of one frame without a joint.
        answer = joints_message(stamp_ns, velocity=wanted)
        answer.name, answer.velocity = answer.name[::-1], list(answer.velocity[::-1])
        if i == 20:
            answer.name, answer.velocity = answer.name[1:], answer.velocity[1:]
        commands.publish(answer)
        gate.publish(Float64MultiArray(data=[0.5 * value for value in wanted]))
        peer.spin(0.02)
    stop = joints_message(node.get_clock().now().nanoseconds)
    stop.header.frame_id = 'stop'
    commands.publish(stop)
    time.sleep(0.3)
    said = finish(recorder)
    rows = [row for row in read_rows(folder_of(tmp_path)) if row.policy == 'agent']
    assert len(rows) == 50
    assert all(row.reference == pytest.approx(wanted) and row.arrival_ns and row.frame_arrival_ns
               and row.gated == pytest.approx([0.5 * value for value in wanted]) for row in rows)
    assert all(row.command == pytest.approx(wanted) for i, row in enumerate(rows) if i != 20)
    assert rows[20].command == pytest.approx([*wanted[:5], math.nan], nan_ok=True)
    assert read_description(folder_of(tmp_path))['outputs'] == dict.fromkeys(JOINTS, 'rad/s')
    assert re.search(r'^error in effect joint_6 \[rad/s\] +0.0', said, re.MULTILINE)
    assert 'yaw' not in said and 'speed' not in said


def test_a_scan_may_be_the_frame(refusal, make_node, tmp_path):
    car = ARM.replace('six_joint_arm', 'scan_car')
    node = make_node(RecorderNode, '--params-file', car, output=str(tmp_path), trigger='scan')
    assert any(sentence == "No message on '/scan'; check that its driver or the simulation runs, "
               'and the topic of the contract.' for sentence in node.silent())
    node._writer.close(5.0)
    assert refusal(RecorderNode, '--params-file', car, output=str(tmp_path), trigger='scam') == (
        "trigger: 'scam' is no input with a topic; did you mean 'scan'?")
    assert "trigger: 'age' is no input with a topic" in refusal(
        RecorderNode, '--params-file', car, output=str(tmp_path), trigger='age')


def test_frames_without_a_header_are_refused(refusal, tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    inputs: {goal: {type: '
                    'geometry_msgs/msg/Twist, topic: goal, fields: [linear.x], units: [m/s], '
                    'low: [-1.0], high: [1.0], stamp: arrival, trigger: true}}\n'
                    '    output: {type: twist, topic: cmd_vel}\n')
    said = refusal(RecorderNode, '--params-file', str(file), output=str(tmp_path))
    assert "'goal' triggers by geometry_msgs/msg/Twist, whose messages have no header" in said
    assert 'record:=false' in said
    assert [*tmp_path.iterdir()] == [file]
