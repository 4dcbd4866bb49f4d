"""The expert as a real process over real DDS, held against the embedded simulator's own."""

import signal

from geometry_msgs.msg import TwistStamped, Vector3Stamped
import pytest
from sensor_msgs.msg import CameraInfo, Image
from stream_agent.command import Command
from stream_agent.gazebo.world_folder import write_world
from stream_agent.nodes.expert_node import ExpertNode
from stream_agent.nodes.messages import (
    COMMAND_QOS, command_to_twist, stamp_to_ns, twist_to_command, WATCH_FRAME_QOS)
from stream_agent.simulation.settings import SimulationSettings

pytestmark = pytest.mark.real_time

SEED = 3
SMALL = {'width_px': 64, 'height_px': 48}
APART = ['-r', 'ground_truth:=odom', '-r', 'reference:=judged/reference',
         '-r', 'course_state:=judged/course_state']


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp('world')
    write_world(SimulationSettings(**SMALL), SEED, folder)
    return str(folder)


def by_stamp(heard):
    return {stamp_to_ns(one.message.header.stamp): one.message for one in heard}


def test_it_says_what_the_embedded_simulator_says(start_node, peer, world):
    expert = start_node('expert', *APART, world=world)
    judged = peer.hear(TwistStamped, 'judged/reference')
    states = peer.hear(Vector3Stamped, 'judged/course_state')
    references = peer.hear(TwistStamped, 'reference')
    own_states = peer.hear(Vector3Stamped, 'course_state')
    wheels = peer.node.create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)
    infos = peer.node.create_publisher(CameraInfo, 'camera_info', 10)
    peer.node.create_subscription(
        Image, 'image', lambda msg: infos.publish(CameraInfo(header=msg.header)), WATCH_FRAME_QOS)

    def drive() -> bool:
        """Steer a little past what is right, so that errors do not stay near zero."""
        if references:
            speed, yaw_rate = twist_to_command(references[-1].message)
            now_ns = peer.node.get_clock().now().nanoseconds
            wheels.publish(command_to_twist(Command(speed, yaw_rate + 0.3), now_ns))
        return len(judged) > 70

    start_node('simulation', course_seed=SEED, probe_changes=0, allow_foreign_listeners=True,
               **SMALL)
    peer.spin_until(drive, 40.0)
    ours, theirs = by_stamp(judged), by_stamp(references)
    our_states, their_states = by_stamp(states), by_stamp(own_states)
    both = sorted(ours.keys() & theirs.keys() & our_states.keys() & their_states.keys())
    assert len(both) > 50
    assert max(abs(their_states[stamp].vector.y) for stamp in both) > 0.01
    for stamp in both:
        assert twist_to_command(ours[stamp]) == pytest.approx(
            twist_to_command(theirs[stamp]), abs=2e-3)
        assert our_states[stamp].vector.y == pytest.approx(their_states[stamp].vector.y, abs=1e-4)
        assert our_states[stamp].vector.z == their_states[stamp].vector.z
    driven = [states[stamp].vector.x for states in (our_states, their_states)
              for stamp in (both[0], both[-1])]
    assert driven[1] - driven[0] == pytest.approx(driven[3] - driven[2], abs=1e-3)
    assert driven[1] - driven[0] > 0.2
    expert.signal(signal.SIGINT)
    assert expert.wait() == 0
    assert 'laps: lateral RMS 0.' in expert.output


@pytest.mark.any_time
def test_silence_is_said_with_the_topic(make_node, world, capfd):
    expert = make_node(ExpertNode, world=world)
    assert expert._silence_timer.timer_period_ns == 5 * 10**9
    expert.on_camera_info(CameraInfo())
    expert.warn_of_silence()
    assert expert._silence_timer.is_canceled()
    said = capfd.readouterr().err
    assert "nothing has arrived on '/ground_truth' for 5 s" in said
    assert 'camera_info' not in said


@pytest.mark.parametrize('given, said', [
    ({}, 'world is not set; set it to a folder that `stream_agent world` wrote'),
    ({'world': '/nowhere'}, "world: '/nowhere/scene.yaml' cannot be read (No such file or"),
    ({'word': 'x'}, "expert: there is no parameter 'word'; the nearest is 'world'")])
@pytest.mark.any_time
def test_a_world_that_is_not_there_is_a_sentence(refusal, given, said):
    assert refusal(ExpertNode, **given).startswith(said)
