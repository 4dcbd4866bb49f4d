"""The shipped policy drives the simulator through the gate, and the gate outlives it."""

from pathlib import Path
import signal
import time

from nav_msgs.msg import Odometry
import pytest

pytestmark = pytest.mark.real_time

POLICY = Path(__file__).parents[2] / 'config' / 'policies' / 'lane_streaming.safetensors'


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_dies_or_hangs_at_speed_is_stopped(peer, robot, start_node, number):
    odometry = peer.hear(Odometry, 'odom')
    start_node('gate', max_speed=1.0)
    start_node('simulation', probe_changes=0, start_subscribers=1, allow_foreign_listeners=True)
    agent = start_node('agent', checkpoint=str(POLICY), backend='packed', autostart=True)
    # The simulation may know the gate, and drive, seconds before this end hears it.
    peer.spin_until(lambda: robot.heard and odometry
                    and odometry[-1].message.twist.twist.linear.x > 0.7, 30.0)
    agent.signal(number)
    assert robot.first_zero(time.monotonic()) < 0.6
    peer.spin(0.5)
    assert abs(odometry[-1].message.twist.twist.linear.x) < 0.05
