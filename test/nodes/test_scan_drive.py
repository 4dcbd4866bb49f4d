"""A drive by a laser scan through simulator, agent, gate and recorder, each a process."""

import re
import signal

import numpy as np
import pytest
from stream_agent.engine.engine import Engine
from stream_agent.measurement.recording import read_description, read_rows
from stream_agent.network.checkpoint import load_driving_policy
from support.jobs import ROOT, save_scanning

pytestmark = pytest.mark.real_time

CAR = str(ROOT / 'config' / 'robots' / 'scan_car.yaml')
FILES = ('--params-file', str(ROOT / 'config' / 'robot.yaml'), '--params-file', CAR)


@pytest.mark.parametrize('others', [{}, {'odometry': [2], 'age': [1]}],
                         ids=['scan alone', 'with odometry and age'])
def test_a_scan_drives_the_car(start_node, tmp_path, others):
    """Random weights are enough: every scan is answered, guarded, and recorded as a frame."""
    policy = save_scanning(tmp_path, **others)
    recorder = start_node('recorder', *FILES, output=str(tmp_path), trigger='scan')
    gate = start_node('gate', *FILES)
    agent = start_node('agent', *FILES, checkpoint=str(policy), device='cpu', autostart=True,
                       threads=1)
    simulation = start_node('simulation', '--params-file', str(ROOT / 'config/simulation.yaml'),
                            '--params-file', CAR, duration=2.0, course_seed=1000000,
                            start_subscribers=2, probe_changes=0,
                            start_timeout=40.0, allow_foreign_listeners=True)
    assert simulation.wait(90.0) == 0, simulation.output + agent.output
    assert 'start_timeout is over' not in simulation.output, (
        simulation.output + agent.output + gate.output + recorder.output)
    for process in (agent, gate):
        process.signal(signal.SIGINT)
        assert process.wait(10.0) == 0, process.output
    recorder.signal(signal.SIGINT)
    assert recorder.wait(30.0) == 0, recorder.output

    folder = (tmp_path / 'latest').resolve()
    rows = [row for row in read_rows(folder) if row.arrival_ns]
    assert len(rows) > 55 and all(row.frame_arrival_ns for row in rows)
    # A reference comes with the same stamp, so that the frames are those of the simulator.
    assert sum(not np.isnan(row.reference[0]) for row in rows) > 55
    assert sum(row.gated_arrival_ns is not None for row in rows) > 50
    limits = load_driving_policy(policy).limits
    assert all(abs(row.command[0]) <= limits.max_speed for row in rows)
    # The first frames may come while inputs have not all been heard; then none is missing.
    said = read_description(folder)['diagnostics']['agent: frames']
    assert int(said['accepted frames']) > 30
    missing = sum(int(count) for key, count in said.items()
                  if re.match('dropped (missing|old)', key))
    assert missing <= 3, said
    assert re.search(r'^lost +[0-5] \(', recorder.output, re.MULTILINE), recorder.output


def test_the_commands_are_those_of_the_policy(tmp_path):
    """What the test saves is a policy whose answer depends on the scan."""
    policy = load_driving_policy(save_scanning(tmp_path))
    with_wall, without = (Engine(policy.network, 'cpu', backend='eager').respond(
        np.full(60, value, np.float32)) for value in (-0.8, 1.0))
    assert not np.allclose(with_wall, without, atol=0.05)
