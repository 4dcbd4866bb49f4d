"""The gate in simulated time, over real DDS: pauses, jumps and resets stop the robot (T1)."""

import time

import pytest
from rosgraph_msgs.msg import Clock
from stream_agent.command import Command, STOP
from stream_agent.nodes.messages import COMMAND_QOS, command_to_twist, ns_to_stamp

pytestmark = pytest.mark.real_time

DRIVE = Command(0.4, 0.5)
PERIOD = 0.02


class Simulation:
    """A simulated clock, and a policy whose stamps follow it."""

    def __init__(self, robot) -> None:
        self.robot = robot
        self.seconds = 100.0
        self.rate = 1.0
        self._clock = robot.peer.node.create_publisher(Clock, 'clock', COMMAND_QOS)
        robot.peer.spin_until(self._clock.get_subscription_count)

    def drive(self, seconds: float = 0.6) -> Command:
        """Let both run for some steady seconds; return the last command passed on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step(PERIOD * self.rate)
        return self.robot.commands[-1]

    def step(self, seconds: float) -> None:
        """Advance simulated time, send a policy command, and spin a little."""
        self.seconds += seconds
        stamp_ns = round(self.seconds * 1e9)
        message = Clock()
        ns_to_stamp(message.clock, stamp_ns)
        self._clock.publish(message)
        self.robot._policy.publish(command_to_twist(DRIVE, stamp_ns))
        self.robot.peer.spin(PERIOD)


@pytest.fixture
def gate(start_node):
    """Start a gate in simulated time."""
    return start_node('gate', use_sim_time=True)


def values(robot) -> dict[str, str]:
    """Return the counts of the next diagnostics."""
    return {item.key: item.value for item in robot.status().values}


def test_before_simulated_time_begins_nothing_moves(robot, gate):
    """Without /clock the ROS time stands at 0, and a stamp of 0 is as fresh as can be."""
    robot.ready()
    for _ in range(30):
        robot.policy(DRIVE, age=1e12)
    assert set(robot.commands) == {STOP}
    assert robot.status().message == 'stopped: simulated time has not advanced for 0.25 s'


def test_the_beginning_of_simulated_time_is_no_jump(robot, gate):
    simulation = Simulation(robot.ready())
    assert simulation.drive() == DRIVE
    assert values(robot)['time_jumps'] == '0'
    assert 'jumped' not in gate.output
    # The stamp is that of the simulated clock.
    assert robot.heard[-1].message.header.stamp.sec == int(simulation.seconds)


def test_a_pause_stops_the_robot_and_it_goes_on_afterwards(robot, gate):
    simulation = Simulation(robot.ready())
    assert simulation.drive() == DRIVE
    since = time.monotonic()
    simulation.rate = 0.0
    assert simulation.drive(1.0) == STOP
    assert 0.2 < robot.first_zero(since, 0.0) < 0.4
    assert ('simulated time has not advanced for 0.25 s, so the robot is stopped') in gate.output
    simulation.rate = 1.0
    assert simulation.drive() == DRIVE


@pytest.mark.parametrize('rate', [0.2, 5.0])
def test_slow_and_fast_simulations_drive(robot, gate, rate):
    simulation = Simulation(robot.ready())
    simulation.rate = rate
    assert simulation.drive(0.8) == DRIVE
    assert simulation.drive(0.8) == DRIVE
    assert values(robot)['time_jumps'] == '0'


@pytest.mark.parametrize('seconds', [-50.0, -0.3, 0.7, 1000.0])
def test_a_jump_stops_the_robot_which_then_starts_again(robot, gate, seconds):
    simulation = Simulation(robot.ready())
    assert simulation.drive() == DRIVE
    since = time.monotonic()
    simulation.step(seconds)
    assert robot.first_zero(since, 0.0) < 0.1
    assert simulation.drive() == DRIVE
    after = [command for heard, command in zip(robot.heard, robot.commands) if heard.at > since]
    # From standstill, by no more than two periods' worth a command.
    assert all(abs(command.speed - previous.speed) <= 2.5 / 15 + 1e-9
               for previous, command in zip(after[after.index(STOP):],
                                            after[after.index(STOP) + 1:]))
    assert values(robot)['time_jumps'] == '1'
    assert f'simulated time has jumped by {seconds:.3f} s, so the robot is stopped' in gate.output


def test_a_small_step_forward_is_no_jump(robot, gate):
    simulation = Simulation(robot.ready())
    assert simulation.drive() == DRIVE
    count = len(robot.heard)
    simulation.step(0.2)
    assert simulation.drive(0.3) == DRIVE
    assert set(robot.commands[count:]) == {DRIVE}
