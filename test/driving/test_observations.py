"""What a simulated robot senses and knows, as the numbers that a network's inputs take."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, DepthInput, OutputScale, ScanInput, VectorInput)
from stream_agent.driving.compute_model import Timeline, Work
from stream_agent.driving.drivers import Driver
from stream_agent.driving.observations import as_frames, ObservationError, Observer
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.simulation.drive_log import Drive
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
import torch

SETTINGS = SimulationSettings(width_px=32, height_px=24, scan_rays=127, scan_noise=0.0,
                              scan_dropout=0.0)
LIMITS = CommandScale(2.0, 4.0)
IMAGE = Preprocessing((1, 12, 16))
SCAN = ScanInput(60, -1.5, 1.5, 6.0, 6.0)
MOTION = VectorInput(('twist.twist.linear.x', 'angular_velocity.z'), ('m/s', 'rad/s'),
                     (-2.0, -6.0), (2.0, 6.0))
KNOWN = [Command(1.0, -2.0), Command(0.5, 4.0)]


@pytest.fixture
def frame():
    environment = DrivingEnvironment(SETTINGS, 3)
    for _ in range(10):
        frame = environment.step(Command(0.8, 0.6))
    return frame


def observed(frame, known=KNOWN, start=0.0, **conversions):
    return Observer(conversions, LIMITS)(frame, known, start)


def test_an_image_stays_bytes_and_all_else_is_what_the_robot_would_make_of_the_message(frame):
    found = observed(frame, image=IMAGE, scan=SCAN, motion=MOTION)
    assert found['image'].dtype == np.uint8
    np.testing.assert_array_equal(found['image'], IMAGE.pixels(frame.image))
    np.testing.assert_array_equal(found['scan'], SCAN(frame.scan))
    speed, turn = (fields[name] for fields, name in zip(frame.sensed.values(), MOTION.fields))
    np.testing.assert_allclose(found['motion'], [speed / 2, turn / 6], rtol=1e-6)
    assert 0.3 < found['motion'][0] < 0.5 and found['motion'].dtype == np.float32


def test_the_commands_are_outputs_the_newest_first_and_zero_before_the_first(frame):
    found = observed(frame, last=CommandsInput(3, 2))
    np.testing.assert_allclose(found['last'], [0.5, -0.5, 0.25, 1.0, 0.0, 0.0])
    assert not observed(frame, [], last=CommandsInput(3, 2))['last'].any()
    np.testing.assert_allclose(observed(frame, last=CommandsInput(1, 2))['last'], [0.5, -0.5])


def test_the_age_is_from_the_capture_to_the_start_of_the_work(frame):
    found = observed(frame, start=frame.time + 0.05, age=AgeInput(0.2))
    np.testing.assert_allclose(found['age'], [-0.5], atol=1e-6)


def test_a_driver_without_images_needs_no_camera():
    assert Observer({'image': IMAGE, 'scan': SCAN}, LIMITS).sees
    blind = Observer({'scan': SCAN, 'last': CommandsInput(5, 2)}, LIMITS)
    assert (blind.sees, blind.known_commands) == (False, 5)
    environment = DrivingEnvironment(SETTINGS, 0, camera=False)
    assert environment.reset().image is None
    blind.check(SETTINGS)


@pytest.mark.parametrize('conversions, limits, settings, said', [
    ({'scan': SCAN}, LIMITS, SimulationSettings(),
     "the input 'scan' is a laser scan, and the simulated robot has no scanner; give one that has "
     '(--robot scan_car), or scan_rays in the section /**/simulation of its file'),
    ({'scan': replace(SCAN, angle_max=2.5)}, LIMITS, SETTINGS,
     "the input 'scan' does not fit the scanner of the simulated robot: "),
    ({'joints': VectorInput(('position.hip',), ('rad',), (-1.0,), (1.0,))}, LIMITS, SETTINGS,
     "the input 'joints' takes position.hip, and the simulated robot measures "
     'twist.twist.linear.x, twist.twist.angular.z (nav_msgs/msg/Odometry); angular_velocity.z, '
     'linear_acceleration.x, linear_acceleration.y (sensor_msgs/msg/Imu); name those in the '
     'contract, or learn from recordings (--bag)'),
    ({'near': DepthInput((1, 4, 4), 0.0, 5.0, 5.0)}, LIMITS, SETTINGS,
     "the input 'near' is of the kind depth, which the simulated robot does not measure; learn "
     'from recordings (--bag)'),
    ({'left': IMAGE, 'right': IMAGE}, LIMITS, SETTINGS,
     'the inputs left, right are images, and the simulated robot has one camera; learn from '
     'recordings (--bag)'),
    ({'scan': SCAN}, OutputScale(('hip', 'knee'), ('rad',) * 2, (-1.0,) * 2, (1.0,) * 2), SETTINGS,
     'the policy commands hip, knee, and the simulated robot is a base, which takes speed and '
     'yaw rate; learn from recordings (--bag)')])
def test_what_the_simulated_robot_lacks_is_refused(conversions, limits, settings, said):
    with pytest.raises(ObservationError) as error:
        Observer(conversions, limits).check(settings)
    assert str(error.value).startswith(said)


def test_frames_have_the_shapes_of_the_nodes_and_bytes_become_halves():
    observations = {'image': np.full((2, 3, 1, 12, 16), 255, np.uint8),
                    'scan': np.arange(360, dtype=np.float32).reshape(2, 3, 60)}
    frames = as_frames(observations, {'image': (1, 12, 16), 'scan': (1, 4, 15)}, 2, 'cpu')
    assert frames['scan'].shape == (2, 3, 1, 4, 15)
    assert frames['scan'][1, 2, 0, 3, 14] == 359.0
    assert torch.equal(frames['image'], torch.full((2, 3, 1, 12, 16), 0.5))


class Told(Driver):
    """Drives straight on, and keeps what it is told."""

    known_commands = 3
    sees = False

    def __init__(self):
        self.said = []

    def commands(self, frames, known, start):
        self.said.append((start - frames[0].time, list(known[0])))
        return [Command(0.1 * len(self.said), 0.0)]


def test_under_an_emulated_computer_it_knows_what_is_out_as_the_work_begins():
    period, driver = SETTINGS.period, Told()
    environment = DrivingEnvironment(SETTINGS, 0, camera=False)
    batch = VehicleBatch(driver, [environment], EmulatedClock(
        Timeline((Work(3.4 * period, 1.6 * period),), period)))
    batch.drive([Drive(1.0)], lambda: batch.image < 12, lambda _: {})
    starts = [1.6 * i for i in range(8)]
    # It takes the newest image as it is free: 0, 1, 3, 4, 6, 8, 9, 11.
    assert [age / period for age, _ in driver.said] == pytest.approx(
        [start - int(start + 1e-6) for start in starts], abs=1e-6)
    # An answer is out 3.4 periods after the work on its image began.
    out = [[0.1 * (j + 1) for j, begun in reversed(list(enumerate(starts)))
            if begun + 3.4 <= start][:3] for start in starts]
    assert [[command.speed for command in known] for _, known in driver.said] == [
        pytest.approx(one) for one in out]
    assert list(map(len, out)) == [0, 0, 0, 1, 2, 3, 3, 3]
