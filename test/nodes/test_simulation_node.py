"""The simulator as a real process over real DDS: time, phases, pacing, and its ends."""

import json
import math
import signal
import time

from geometry_msgs.msg import TwistStamped, Vector3Stamped
from nav_msgs.msg import Odometry
import numpy as np
import pytest
import rclpy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from stream_agent.command import Command
from stream_agent.nodes.listeners import foreign_listeners
from stream_agent.nodes.messages import (
    COMMAND_QOS, command_to_twist, image_to_array, stamp_to_ns, twist_to_command, WATCH_FRAME_QOS)
from stream_agent.nodes.simulation_node import SimulationNode

pytestmark = pytest.mark.real_time

AHEAD = Command(0.5, 0.0)
SMALL = {'width_px': 64, 'height_px': 48, 'probe_changes': 0, 'allow_foreign_listeners': True}


class Watcher:
    """Stands for agent, gate and recorder: hears everything and sends commands."""

    def __init__(self, peer) -> None:
        self.peer = peer
        self.images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
        self.references = peer.hear(TwistStamped, 'reference')
        self.states = peer.hear(Vector3Stamped, 'course_state')
        self.odometry = peer.hear(Odometry, 'odom')
        self.changes = peer.hear(Header, 'scene_change')
        self.clocks = peer.hear(Clock, '/clock')
        self.publisher = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
        self.answered = 0

    def send(self, command: Command, age: float = 0.0) -> None:
        """Send a command that was stamped some time ago [s]."""
        now_ns = self.peer.node.get_clock().now().nanoseconds - round(age * 1e9)
        self.publisher.publish(command_to_twist(command, now_ns))

    def ready(self) -> None:
        self.peer.spin_until(
            lambda: self.images and self.references and self.states and self.odometry
            and self.publisher.get_subscription_count())

    def answer(self) -> bool:
        """Drive like the expert; true if there was a new reference."""
        if len(self.references) == self.answered:
            return False
        self.answered = len(self.references)
        self.send(twist_to_command(self.references[-1].message))
        return True

    def drive_until(self, condition, timeout: float = 20.0) -> None:
        """Answer every reference until the condition is true."""
        self.peer.spin_until(lambda: (self.answer(), condition())[1], timeout)

    @property
    def speed(self) -> float:
        """Of the vehicle at present [m/s]."""
        return self.odometry[-1].message.twist.twist.linear.x

    @staticmethod
    def stamps(heard) -> list[int]:
        return [stamp_to_ns(one.message.header.stamp) for one in heard]


@pytest.fixture
def watcher(peer):
    return Watcher(peer)


def test_it_drives_in_real_time_and_ends_by_itself(watcher, start_node):
    simulation = start_node('simulation', duration=3.0, course_seed=3, **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: simulation.popen.poll() is not None)
    assert simulation.wait() == 0
    # Whoever drives by the reference keeps to the lane, at its speed.
    assert watcher.speed == pytest.approx(0.8, abs=0.02)
    assert abs(watcher.states[-1].message.vector.y) < 0.03
    assert watcher.states[-1].message.vector.x == pytest.approx(0.8 * 2.9, abs=0.15)
    assert watcher.states[-1].message.vector.z == 0.6
    stamps = np.array(watcher.stamps(watcher.images))
    assert np.median(np.diff(stamps)) == pytest.approx(1e9 / 30.0, rel=0.02)
    assert (np.diff(stamps) > 0).all()
    # Stamps are the time of capture, which without delay is that of publication.
    ages = [heard.ros_ns - stamp for heard, stamp in zip(watcher.images, stamps)]
    assert min(ages) > 0
    assert np.median(ages) < 5e6
    # What is said about a frame has its stamp.
    common = set(stamps) & set(watcher.stamps(watcher.references))
    assert len(common) > 0.9 * len(stamps)
    assert set(watcher.stamps(watcher.states)) == set(watcher.stamps(watcher.references))
    assert 'drove 0.1' in simulation.output
    assert ' 0 departures, 9' in simulation.output


def test_it_writes_what_became_of_a_drive_past_signs(watcher, start_node, tmp_path):
    file = tmp_path / 'drive.json'
    simulation = start_node(
        'simulation', duration=6.0, course_seed=3, rate=60.0, signs=True, look_ahead=0.4,
        target_speed=1.4, max_yaw_rate=5.0, pushes=2.5, handover=1.0, drive_file=str(file),
        **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: simulation.popen.poll() is not None, 30.0)
    assert simulation.wait() == 0
    drive = json.loads(file.read_text())
    assert len(drive['frames']['time']) == drive['published'] + drive['skipped'] == 360
    assert drive['frames']['expert'][:59] == [1] * 59 and any(drive['frames']['push'])
    assert 0 < drive['commands'] <= 360 and drive['stops'] == 0
    said = 100 * drive['score']
    assert f'in the lane and at the right speed {said:.1f} % of the time' in simulation.output


def test_what_it_publishes_is_what_its_parameters_say(watcher, start_node):
    start_node('simulation', **{**SMALL, 'width_px': 80}, coloured=True, rate=60.0,
               camera_delay=0.2, start_subscribers=9)
    watcher.ready()
    watcher.peer.spin_until(lambda: len(watcher.images) > 30)
    message = watcher.images[-1].message
    assert image_to_array(message).shape == (48, 80, 3)
    assert (message.encoding, message.header.frame_id) == ('rgb8', 'camera_optical')
    ages = [heard.ros_ns - stamp_to_ns(heard.message.header.stamp) for heard in watcher.images]
    assert np.median(ages) == pytest.approx(200e6, abs=5e6)
    assert np.median(np.diff(watcher.stamps(watcher.images))) == pytest.approx(1e9 / 60, rel=0.05)
    # Odometry knows no camera and no delay.
    odom = watcher.odometry[-1]
    assert odom.ros_ns - stamp_to_ns(odom.message.header.stamp) < 100e6
    assert (odom.message.header.frame_id, odom.message.child_frame_id) == ('odom', 'base_link')
    assert (watcher.states[-1].message.header.frame_id
            == watcher.references[-1].message.header.frame_id.replace('base_link', 'odom'))


def test_it_waits_for_all_subscribers_and_for_a_command_that_moves(watcher, start_node):
    simulation = start_node('simulation', start_subscribers=2, **SMALL)
    watcher.ready()
    for _ in range(10):
        watcher.send(AHEAD)
        watcher.peer.spin(0.02)
    assert 'driving' not in simulation.output
    watcher.peer.hear(Image, 'image', WATCH_FRAME_QOS)
    for _ in range(10):
        watcher.send(Command(0.0, 0.0))
        watcher.peer.spin(0.02)
    assert 'driving' not in simulation.output
    assert watcher.speed == 0.0
    watcher.peer.spin_until(
        lambda: (watcher.send(AHEAD), 'commands arrive: driving' in simulation.output)[1])


def test_it_starts_without_them_after_a_while_and_says_so(start_node):
    simulation = start_node('simulation', start_timeout=0.5, duration=0.3, **SMALL)
    assert simulation.wait() == 0
    assert ("after 0.5 s '/image' has 0 subscribers, and no command that moves the vehicle has "
            "come on '/cmd_vel'") in simulation.output
    assert 'drove 0.00 laps in 0.3 s: lateral RMS 0.0000 m, 0 departures' in simulation.output


def test_scene_changes_carry_the_stamp_of_the_first_changed_image(watcher, start_node):
    simulation = start_node('simulation', duration=0.2, **{**SMALL, 'probe_changes': 3})
    watcher.ready()
    watcher.drive_until(lambda: 'probing' in simulation.output)
    begun = len(watcher.images)
    watcher.drive_until(lambda: simulation.popen.poll() is not None)
    changes = [stamp_to_ns(heard.message.stamp) for heard in watcher.changes]
    assert len(changes) == 3
    pixels = {stamp: bytes(heard.message.data) for stamp, heard in
              zip(watcher.stamps(watcher.images), watcher.images)}
    stamps = sorted(stamp for stamp in watcher.stamps(watcher.images[begun + 3:])
                    if stamp <= changes[-1])
    different = [after for before, after in zip(stamps, stamps[1:])
                 if pixels[before] != pixels[after]]
    assert different == changes


def test_the_vehicle_keeps_its_last_command(watcher, start_node):
    start_node('simulation', target_speed=0.5, **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.45)
    watcher.peer.spin(1.0)
    assert watcher.speed == pytest.approx(0.5, abs=0.02)


def test_a_command_acts_when_it_arrives_and_not_with_the_next_frame(watcher, start_node):
    start_node('simulation', rate=10.0, speed_time_constant=0.0, **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.7)
    watcher.send(Command(0.0, 0.0))
    watcher.peer.spin_until(lambda: watcher.speed == 0.0)
    count = len(watcher.states)
    watcher.peer.spin_until(lambda: len(watcher.states) > count)
    start = watcher.states[-1].message.vector.x
    watcher.peer.spin(0.06)
    sent = time.monotonic()
    watcher.send(Command(0.8, 0.0))
    watcher.peer.spin_until(lambda: watcher.states[-1].message.vector.x > start)
    rolled = watcher.states[-1].message.vector.x - start
    assert rolled / 0.8 == pytest.approx(watcher.states[-1].at - sent, abs=0.015)


def test_a_base_with_a_timeout_stops(watcher, start_node):
    start_node('simulation', command_timeout=0.3, **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.45)
    watcher.peer.spin(1.2)
    assert watcher.speed < 0.01


def test_a_command_that_is_no_number_is_ignored_and_told(watcher, start_node):
    simulation = start_node('simulation', **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.4)
    watcher.send(Command(math.nan, 0.0))
    watcher.peer.spin_until(lambda: 'cmd_vel: command is (nan m/s, 0.0 rad/s); both must be '
                            'finite numbers; ignored' in simulation.output)
    watcher.drive_until(lambda: watcher.speed > 0.75)
    assert simulation.popen.poll() is None


def test_after_a_pause_frames_are_skipped_and_counted(watcher, start_node):
    simulation = start_node('simulation', **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.4)
    simulation.signal(signal.SIGSTOP)
    time.sleep(1.0)
    simulation.signal(signal.SIGCONT)
    before = len(watcher.images)
    watcher.peer.spin(0.5)
    assert len(watcher.images) - before <= 18  # no burst
    simulation.signal(signal.SIGINT)
    assert simulation.wait() == 0
    skipped = int(simulation.output.split(' skipped')[0].split()[-1])
    assert 27 <= skipped <= 36


def test_lockstep_waits_for_every_answer(watcher, start_node):
    simulation = start_node('simulation', pacing='lockstep', duration=1.0,
                            lockstep_timeout=30.0, **SMALL)
    watcher.ready()
    while watcher.speed == 0.0:
        watcher.answer()
        watcher.peer.spin(0.05)
    # Now that it drives: nothing without an answer, and one frame for each answer.
    for _ in range(3):
        watcher.peer.spin(0.3)
        count = len(watcher.images)
        # What was sent before the frame is no answer to it.
        watcher.send(AHEAD, age=5.0)
        watcher.peer.spin(0.1)
        assert len(watcher.images) == count
        assert watcher.answer()
        watcher.peer.spin(0.3)
        assert len(watcher.images) == count + 1
    start = time.monotonic()
    watcher.drive_until(lambda: simulation.popen.poll() is not None)
    # Faster than the time it simulates.
    assert time.monotonic() - start < 0.9 + 0.5
    assert '30 frames published, 0 skipped, 0 unanswered' in simulation.output


def test_lockstep_goes_on_after_its_timeout_and_says_so(watcher, start_node):
    simulation = start_node('simulation', pacing='lockstep', duration=0.1, lockstep_timeout=0.2,
                            **SMALL)
    watcher.ready()
    watcher.peer.spin_until(
        lambda: (watcher.send(AHEAD), 'driving' in simulation.output)[1])
    watcher.peer.spin_until(lambda: simulation.popen.poll() is not None)
    assert ('no command has answered a frame for 0.2 s; the vehicle keeps its last command'
            in simulation.output)


@pytest.mark.parametrize('pacing', ['realtime', 'lockstep'])
def test_simulated_time_can_be_published(watcher, start_node, pacing):
    simulation = start_node('simulation', publish_clock=True, duration=1.0, pacing=pacing,
                            camera_delay=0.05, **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: simulation.popen.poll() is not None)
    clocks = [stamp_to_ns(heard.message.clock) for heard in watcher.clocks]
    assert len(clocks) > 30
    assert np.diff(clocks) == pytest.approx(np.full(len(clocks) - 1, 1e9 / 30.0), abs=2.0)
    stamps = np.array(watcher.stamps(watcher.images))
    assert set(stamps + 50_000_000) <= set(clocks)
    assert set(watcher.stamps(watcher.odometry)) <= set(clocks)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(watcher, start_node, number):
    simulation = start_node('simulation', **SMALL)
    watcher.ready()
    watcher.drive_until(lambda: watcher.speed > 0.2)
    simulation.signal(number)
    assert simulation.wait(2.0) == 0
    assert 'laps in 0.' in simulation.output
    assert 'frames published, 0 skipped' in simulation.output


def test_the_drive_starts_a_delay_after_the_first_command(start_node, peer):
    simulation = start_node('simulation', start_delay=1.0, **SMALL)
    publisher = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    peer.spin_until(lambda: images and publisher.get_subscription_count())
    since = time.monotonic()
    while 'commands arrive' not in simulation.output:
        publisher.publish(command_to_twist(Command(0.8, 0.0), 1))
        peer.spin(0.02)
        assert time.monotonic() - since < 10.0
    assert time.monotonic() - since >= 1.0


CAREFUL = {**SMALL, 'allow_foreign_listeners': False}
FOREIGN = "'/test_peer' listens to '/cmd_vel' and might move a real robot; stop it, choose"


def test_where_a_base_listens_nothing_is_published(start_node, peer):
    peer.hear(TwistStamped, 'cmd_vel')
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    simulation = start_node('simulation', start_timeout=0.1, **CAREFUL)
    peer.spin_until(lambda: simulation.popen.poll() is not None)
    assert simulation.wait() == 1
    assert FOREIGN in simulation.output
    assert not images


def test_a_base_that_begins_to_listen_ends_the_simulation_and_ours_do_not(start_node, peer):
    recorder = rclpy.create_node('recorder')
    recorder.create_subscription(TwistStamped, 'cmd_vel', lambda _: None, 10)
    images = peer.hear(Image, 'image', WATCH_FRAME_QOS)
    simulation = start_node('simulation', **CAREFUL)
    peer.spin_until(lambda: images)
    peer.spin(0.6)
    assert simulation.popen.poll() is None
    peer.hear(TwistStamped, 'cmd_vel')
    since = time.monotonic()
    peer.spin_until(lambda: simulation.popen.poll() is not None)
    # From then on nobody has an image to answer.
    assert images[-1].at - since < 0.6
    assert simulation.wait() == 1
    assert FOREIGN in simulation.output
    recorder.destroy_node()


@pytest.mark.any_time
def test_a_second_one_of_ours_and_one_of_another_namespace_are_foreign(make_node):
    nodes = []
    simulation = make_node(SimulationNode, '-r', '__ns:=/robot')
    topic = '/robot/cmd_vel'
    for name, namespace, foreign in (
            ('recorder', '/robot', []), ('gate', '/other', ['/other/gate']),
            ('recorder', '/robot', ['/robot/recorder', '/other/gate'])):
        other = rclpy.create_node(name, namespace=namespace)
        other.create_subscription(TwistStamped, topic, lambda _: None, 10)
        nodes.append(other)
        assert sorted(foreign_listeners(simulation, topic)) == sorted(foreign)
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize('parameters, sentence', [
    ({'rate': 500.0}, 'rate is 500.0; set it to a number from 10 to 120 Hz (images per second)'),
    ({'rate': 500}, 'rate is 500.0; set it to a number from 10 to 120 Hz (images per second)'),
    ({'width_px': 160.5},
     'width_px is 160.5; set it to a whole number from 32 to 640 (columns of an image)'),
    ({'pacing': 'fast'}, "pacing is 'fast'; set it to realtime or lockstep"),
    ({'vehicle': 'boat'}, "vehicle is 'boat'; set it to differential or bicycle"),
    ({'drive_file': '/nowhere/drive.json'}, "drive_file is '/nowhere/drive.json', whose folder is "
     'missing or cannot be written to; give a file in a folder that can'),
    ({'pasing': 'lockstep'},
     "simulation: there is no parameter 'pasing'; the nearest is 'pacing'")])
@pytest.mark.any_time
def test_a_wrong_parameter_is_refused_in_a_sentence(refusal, parameters, sentence):
    assert refusal(SimulationNode, **parameters) == sentence
