"""A session waits, probes, drives and ends as its schedule says."""

import math

import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.command import Command, STOP
from stream_agent.driving.compute_model import immediate
from stream_agent.driving.drivers import Driver
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch
from stream_agent.simulation.drive_log import RoadTask
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.session import Phase, Session, SessionSchedule
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance

AHEAD = Command(0.8, 0.0)


def make(schedule, **settings):
    settings = {'width_px': 64, 'height_px': 48, 'speed_time_constant': 0.0, **settings}
    return Session(DrivingEnvironment(SimulationSettings(**settings), 0), schedule)


def test_the_vehicle_is_at_rest_until_the_session_begins():
    session = make(SessionSchedule(probe_changes=0))
    for _ in range(5):
        session.send(AHEAD)
        frame, changed = session.advance()
        assert frame.progress == 0.0 and not changed
    assert session.phase is Phase.WAITING
    assert session.summary == 'no drive'
    session.begin()
    session.send(AHEAD)
    assert session.advance()[0].progress == pytest.approx(0.8 / 30.0, rel=1e-3)


@pytest.mark.parametrize('camera_delay', [0.0, 0.02, 0.1])
def test_a_change_is_told_with_the_first_image_that_shows_it(camera_delay):
    session = make(SessionSchedule(probe_changes=4), camera_delay=camera_delay)
    session.begin()
    shots = []
    while session.phase is Phase.PROBING:
        session.send(AHEAD)
        shots.append(session.advance())
    # The last image of a delayed camera may come when the drive has started.
    images = [frame.image for frame, _ in shots]
    told = [i for i, (_, changed) in enumerate(shots) if changed]
    different = [i for i in range(6, len(shots) - 1)
                 if not np.array_equal(images[i], images[i - 1])]
    assert told == different
    assert len(told) == 4
    assert all(15 <= gap <= 20 for gap in np.diff(told))
    assert len({image.tobytes() for image in images[6:-1]}) == 3


def test_the_drive_takes_its_duration_and_is_summed_up():
    session = make(SessionSchedule(duration=2.0, probe_changes=1))
    session.begin()
    while session.phase is not Phase.OVER:
        frame, _ = session.advance()
        session.send(frame.now.reference)
    length = session.environment.course.length
    laps, seconds = frame.progress / length, 2.0
    assert 0.05 < laps < 1.6 / length
    assert session.summary.startswith(f'drove {laps:.2f} laps in {seconds:.1f} s: lateral RMS 0.0')
    assert session.summary.endswith(' m, 0 departures')


def test_a_vehicle_that_leaves_the_lane_is_put_back():
    session = make(SessionSchedule(probe_changes=0))
    session.begin()
    errors = []
    for _ in range(60):
        session.send(Command(0.8, 0.9))
        errors.append(abs(session.advance()[0].lateral_error))
    assert session.departures > 0
    assert max(errors) < 0.35
    assert f'{session.departures} departures' in session.summary


def test_after_the_probes_the_drive_starts_in_the_middle_with_all_noise():
    session = make(SessionSchedule(probe_changes=1))
    session.begin()
    while session.phase is Phase.PROBING:
        session.advance()
    first, second = (session.advance()[0] for _ in range(2))
    assert first.lateral_error == second.lateral_error == pytest.approx(0.0, abs=1e-6)
    assert not np.array_equal(first.image, second.image)


@pytest.mark.parametrize('timeout, metres', [(0.0, 0.8 * 1.0), (0.25, 0.8 * 0.25)])
def test_a_vehicle_without_commands_stops_after_the_timeout_if_there_is_one(timeout, metres):
    session = make(SessionSchedule(probe_changes=0, command_timeout=timeout))
    session.begin()
    session.send(AHEAD)
    start = session.environment.look().pose
    for _ in range(30):
        pose = session.advance()[0].pose
    assert math.hypot(pose.x - start.x, pose.y - start.y) == pytest.approx(metres)


def test_skipped_frames_count_as_time():
    session = make(SessionSchedule(probe_changes=0, command_timeout=0.05))
    session.begin()
    session.send(AHEAD)
    for _ in range(10):
        session.skip()
    frame, _ = session.advance()
    assert frame.now.time == pytest.approx(11 / 30.0)
    assert frame.progress == pytest.approx(0.8 * 0.05, abs=1e-3)


@pytest.mark.parametrize('schedule, message', [
    ({'pacing': 'fast'}, "pacing is 'fast'; set it to realtime or lockstep"),
    ({'duration': -1.0},
     'duration is -1.0; set it to a number from 0 to 1e+06 s (of the drive; 0: until stopped)'),
    ({'probe_changes': 1.5},
     'probe_changes is 1.5; set it to a whole number from 0 to 1000 (sudden changes of the '
     'scene before the drive, seen by a vehicle that is held still; 0: none)'),
])
def test_a_wrong_schedule_is_refused(schedule, message):
    with pytest.raises(SettingsError) as caught:
        SessionSchedule(**schedule)
    assert str(caught.value) == message


def driven_by_the_expert(pushes):
    """Return lateral errors, and how much more to the left the expert turned than the course."""
    session = make(SessionSchedule(duration=8.0, probe_changes=0, pushes=pushes, course_seed=0))
    session.begin()
    course = session.environment.course
    errors, turns = [], []
    while session.phase is not Phase.OVER:
        now = session.advance()[0].now
        session.send(now.reference)
        ahead = int((now.progress + 0.25) / course.spacing) % len(course.points)
        errors.append(now.lateral_error)
        turns.append(now.reference.yaw_rate - now.reference.speed * course.curvatures[ahead])
    assert session.departures == 0
    return np.array(errors), np.array(turns)


def test_a_driver_who_is_pushed_shows_the_way_back():
    quiet, _ = driven_by_the_expert(0.0)
    pushed, turns = driven_by_the_expert(1.0)
    assert np.abs(quiet).max() < 0.02
    assert 0.05 < np.abs(pushed).max() < 0.3
    assert np.corrcoef(pushed, turns)[0, 1] < -0.5


def test_a_vehicle_that_is_told_to_stop_is_not_pushed():
    session = make(SessionSchedule(duration=3.0, probe_changes=0, pushes=3.0))
    session.begin()
    for _ in range(60):
        frame, _ = session.advance()
        session.send(STOP)
    assert frame.now.yaw_rate == 0.0


class LateDriver(Driver):
    """Commands what was right a while ago, so that it leaves the lane now and then."""

    def __init__(self):
        self.seen = []

    def answer(self, frame):
        self.seen.append(frame.reference)
        return self.seen[-12:][0]

    def commands(self, frames, known, start):
        return [self.answer(frame) for frame in frames]

    def forget(self, index):
        self.seen.clear()


ROAD = {'signs': True, 'rate': 60.0, 'target_speed': 1.4, 'look_ahead': 0.4, 'max_yaw_rate': 5.0,
        'turn_time_constant': 0.08, 'randomized': False}
SCHEDULE = SessionSchedule(duration=40.0, probe_changes=0, pushes=3.0, handover=1.0,
                           course_seed=3, drive_file='set')


def on_the_road():
    return Session(DrivingEnvironment(SimulationSettings(width_px=32, height_px=24, **ROAD),
                                      SCHEDULE.course_seed), SCHEDULE)


def driven_to_the_end(session, driver):
    # The wait does not count.
    for _ in range(7):
        session.advance()
    session.begin()
    frame = session.environment.look()
    while session.phase is not Phase.OVER:
        departures = session.departures
        session.send(driver.answer(frame))
        frame, _ = session.advance()
        if session.departures > departures:
            driver.forget(0)
            frame = session.environment.look()
    return session


def test_a_session_scores_as_the_test_drives_do():
    session = driven_to_the_end(on_the_road(), LateDriver())
    environment = DrivingEnvironment(session.environment.settings, SCHEDULE.course_seed)
    batch = VehicleBatch(LateDriver(), [environment], EmulatedClock(immediate(1 / 60)),
                         SCHEDULE.handover)

    def start(_):
        return {'speed': environment.now.reference.speed}

    batch.place(0, **start(0))
    task = RoadTask(environment.course.lane_width)
    batch.drive([task], lambda: batch.image < 2400, start,
                [VehicleDisturbance(np.random.default_rng(SCHEDULE.course_seed), 3.0)])
    assert session.departures == task.departures > 2
    assert session.task.right == task.right and 0.1 < task.score < 0.9
    assert session.task.obeyed == task.obeyed and len(task.obeyed) > 5
    assert session.lateral_rms == pytest.approx(task.lateral_rms)
    assert session.summary.endswith(
        f'{task.departures} departures, in the lane and at the right speed '
        f'{100 * task.score:.1f} % of the time, {sum(task.obeyed)} of {len(task.obeyed)} signs '
        'obeyed')


def test_a_record_has_the_figures_every_frame_and_the_signs_that_were_passed():
    session = driven_to_the_end(on_the_road(), LateDriver())
    record, frames = session.record(), session.record()['frames']
    assert {len(column) for column in frames.values()} == {2400}
    right = [right for right, judged in zip(frames['right'], frames['judged']) if judged]
    assert right == session.task.right
    assert record['score'] == session.task.score
    assert (record['commands'], record['stops']) == (2400, 0)
    assert sum(frames['expert'][:61]) == 60
    signs = session.environment.scene.signs
    assert [sign['along'] for sign in record['signs']] == [
        5.0 * number for number in range(frames['sign'][-1] + 1)]
    for along, commanded in zip(frames['along'], frames['commanded']):
        assert commanded == signs.command(along).speed
    for plate in record['plates']:
        gap = np.hypot(*(np.array(record['course']) - (plate['x'], plate['y'])).T).min()
        assert gap == pytest.approx(0.5 * record['lane_width'] + 0.1 + 0.225, abs=0.01)


def test_without_signs_there_is_no_score():
    session = make(SessionSchedule(duration=1.0, probe_changes=0))
    session.begin()
    while session.phase is not Phase.OVER:
        session.advance()
    record = session.record()
    assert record['score'] is None and record['signs'] == record['plates'] == []
    assert record['lateral_rms'] == 0.0
