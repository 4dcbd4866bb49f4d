"""
The gate's rules in their full length, over real DDS; each test prints what it measured.

Minutes long, so they run only where they are asked for: ``pytest -s -m soak test/nodes``.
"""

from itertools import pairwise
import math
import random
import signal
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
import pytest
from std_msgs.msg import Bool
from stream_agent.command import Command, STOP
from stream_agent.gate.limits import is_finite
from stream_agent.nodes.messages import command_to_twist, make_stop_request
from test_gate_rivals import DRIVE, POLICY_SOURCE, reset, StopInputs, until_clear, waited_for
from test_gate_time import Simulation

pytestmark = [pytest.mark.real_time, pytest.mark.soak, pytest.mark.timeout(900)]


def report(rule: str, what: str, seconds: list[float]) -> None:
    """Print what docs/safety.md quotes."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    print(f'\n{rule}: {what}, {len(seconds)} times: p50 {p50:.0f}, p99 {p99:.0f}, '
          f'worst {max(seconds) * 1e3:.0f} ms')


def reach(robot, command: Command) -> None:
    """Drive until the base is told just that; a machine that stands still takes longer."""
    end = time.monotonic() + 10.0
    while not robot.commands or robot.commands[-1] != command:
        assert time.monotonic() < end
        robot.policy(command)


def zero_after(robot, since: float) -> float:
    """Spin until the first zero after a steady moment; return how long after it that was [s]."""
    count = len(robot.heard)
    robot.peer.spin_until(lambda: STOP in robot.commands[count:], 3.0)
    return robot.heard[count + robot.commands[count:].index(STOP)].at - since


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_policy_that_dies_or_hangs(robot, start, start_node, number):
    start_node('gate')
    robot.ready()
    waited = []
    for _ in range(10):
        policy = start(POLICY_SOURCE, '0.5', '1.0')
        robot.until_driven()
        robot.peer.spin(random.uniform(0.1, 0.5))
        policy.signal(number)
        waited.append(zero_after(robot, time.monotonic()))
        policy.close()
    report('G1', f'zero after {signal.Signals(number).name} of the policy', waited)
    assert max(waited) < 0.6


def test_frames_that_stop_a_hundred_times(robot, start_node):
    start_node('gate')
    robot.ready()
    waited = []
    for _ in range(100):
        robot.drive(DRIVE, random.uniform(0.1, 0.4))
        waited.append(zero_after(robot, time.monotonic() - 0.02))
    report('G1', 'zero after the last policy command', waited)
    assert max(waited) < 0.6


def test_ages_swept_across_both_borders(robot, start_node):
    start_node('gate')
    robot.ready().drive(DRIVE)
    for age_ms in (*range(-300, -100, 5), *range(-85, 216, 5), *range(251, 500, 5)):
        for _ in range(3):
            robot.policy(DRIVE, age_ms / 1000)
        count = len(robot.heard)
        robot.policy(DRIVE, age_ms / 1000)
        moved = [command for command in robot.commands[count:] if command != STOP]
        assert bool(moved) == (-100 <= age_ms <= 250), age_ms
    print('\nG2: ages from -0.3 to 0.5 s in steps of 5 ms: none passed outside -0.1 to 0.25 s')


SPECIAL = [math.nan, math.inf, -math.inf, 1e39, -1e39, 1e308, 5e-324, -0.0, 0.0, 1e38]


def test_ten_thousand_commands_of_every_kind(robot, start_node):
    start_node('gate')
    robot.ready()
    clock = robot.peer.node.get_clock()
    random.seed(7)

    def number() -> float:
        return (random.choice(SPECIAL) if random.random() < 0.03
                else random.choice([random.uniform(-3.0, 3.0), random.gauss(0.0, 0.3)]))

    for i in range(10_000):
        command, age = Command(number(), number()), random.choice([0.0] * 9 + [0.4, -0.4])
        stamp_ns = clock.now().nanoseconds - round(age * 1e9)
        message = (make_stop_request(stamp_ns) if random.random() < 0.02
                   else command_to_twist(command, stamp_ns))
        message.header.frame_id = random.choice([message.header.frame_id] * 9 + ['\x1b[31m' * 50])
        robot._policy.publish(message)
        robot.peer.spin(0.002)
        if i % 200 == 199:
            reset(robot)
    for before, after in pairwise(robot.commands):
        assert is_finite(after)
        if after != STOP:
            assert abs(after.speed) <= 0.5 and abs(after.yaw_rate) <= 2.0
            assert abs(after.speed - before.speed) <= 2.5 / 15 + 1e-9
    reset(robot)
    robot.drive(DRIVE, 1.0)
    assert robot.commands[-1] == DRIVE
    print(f'\nG3, G4: 10000 policy commands, {len(robot.heard)} commands within all limits, and '
          'the next good one passed')


def test_a_policy_that_is_clamped_for_ten_seconds(robot, start_node):
    gate = start_node('gate')
    robot.ready().drive(Command(9.0, -9.0), 10.0)
    warned = gate.output.count('of the policy commands of the last 5 s were clamped')
    print(f'\nG6: {warned} warnings in the 5 s after the first 5 s')
    assert 4 <= warned <= 6


@pytest.mark.parametrize('speed', [0.5, 1.0])
def test_stops_that_are_asked_for(robot, start_node, speed):
    start_node('gate', max_speed=1.0)
    robot.ready()
    clock, waited = robot.peer.node.get_clock(), []
    for _ in range(30):
        robot.drive(Command(speed, 0.5), random.uniform(0.0, 0.1))
        reach(robot, Command(speed, 0.5))
        since = time.monotonic()
        robot._policy.publish(make_stop_request(clock.now().nanoseconds))
        waited.append(zero_after(robot, since))
    report('G10', f'standstill from {speed:g} m/s', waited)
    assert max(waited) < speed / 2.5 + 0.1


@pytest.mark.parametrize('topic, other', [('cmd_vel', 'gate'), ('policy_command', 'test_peer')])
def test_rivals_are_named(robot, start_node, another, topic, other):
    gate = start_node('gate')
    robot.ready().drive(DRIVE)
    until_clear(robot)
    waited = []
    for i in range(20):
        robot.diagnostics.clear()
        since = time.monotonic()
        rival = another(f'a_rival_{i}', TwistStamped, topic)
        names = ' and '.join(sorted([f'/a_rival_{i}', f'/{other}']))
        waited_for(robot, gate, f"'/{topic}' is published by {names}: stop all but ")
        waited.append(time.monotonic() - since)
        rival.destroy()
        until_clear(robot)
    report('G11', f'error about a second publisher of {topic}', waited)
    assert max(waited) < 1.0


def test_a_second_source_is_stopped(robot, start_node, another):
    start_node('gate')
    robot.ready()
    clock, waited = robot.peer.node.get_clock(), []
    for i in range(20):
        rival = another(f'rival_{i}', TwistStamped, 'policy_command')
        robot.peer.spin_until(rival.get_subscription_count)
        reset(robot)
        robot.drive(DRIVE, random.uniform(0.0, 0.1))
        reach(robot, DRIVE)
        since, count = time.monotonic(), len(robot.heard)
        while STOP not in robot.commands[count:]:
            rival.publish(command_to_twist(Command(-0.8, 0.0), clock.now().nanoseconds))
            robot.policy(DRIVE)
        waited.append(robot.heard[count + robot.commands[count:].index(STOP)].at - since)
        rival.destroy()
    report('G11', 'zero after the first command of a second source', waited)
    assert min(command.speed for command in robot.commands) >= 0.0
    assert max(waited) < 0.2


@pytest.mark.parametrize('says, bound', [(True, 0.25), (None, 0.75)])
def test_any_stop_input(robot, start_node, another, says, bound):
    start_node('gate', stop_input=True)
    robot.ready()
    publishers = {name: another(name, Bool, 'stop') for name in ('button', 'bumper', 'scanner')}
    inputs, waited = StopInputs(robot, publishers), []
    for i in range(15):
        while inputs.drive(0.5) != DRIVE:
            pass
        name = list(publishers)[i % 3]
        inputs.says[name] = says
        since, count = time.monotonic(), len(robot.heard)
        assert inputs.drive(1.0) == STOP
        waited.append(robot.heard[count + robot.commands[count:].index(STOP)].at - since)
        inputs.says[name] = False
    report('G12', f"zero after one of three {'says stop' if says else 'is silent'}", waited)
    assert max(waited) < bound


def test_jumps_and_pauses_of_simulated_time(robot, start_node):
    start_node('gate', use_sim_time=True)
    simulation, jumps, pauses = Simulation(robot.ready()), [], []
    for i in range(20):
        assert simulation.drive(0.8) == DRIVE
        since, count = time.monotonic(), len(robot.heard)
        simulation.step((-1) ** i * random.uniform(0.6, 50.0))
        jumps.append(robot.heard[count + robot.commands[count:].index(STOP)].at - since)
        simulation.drive(0.8)
        since, simulation.rate = time.monotonic(), 0.0
        count = len(robot.heard)
        assert simulation.drive(0.6) == STOP
        pauses.append(robot.heard[count + robot.commands[count:].index(STOP)].at - since)
        simulation.rate = 1.0
    report('T1', 'zero after a jump of simulated time', jumps)
    report('T1', 'zero after a pause of simulated time', pauses)
    assert max(jumps) < 0.1 and max(pauses) < 0.45
