"""Drives in the embedded simulator, and how they went."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math

import numpy as np
from stream_agent.command import Command
from stream_agent.contract.conversions import Conversion
from stream_agent.driving.compute_model import immediate, Timeline
from stream_agent.driving.drivers import CommandRows, Driver, NetworkDriver
from stream_agent.driving.observations import Observer
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch, WallClock
from stream_agent.engine.engine import Engine
from stream_agent.network.checkpoint import CommandScale, Policy
from stream_agent.network.preprocessing import scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.drive_log import Drive, RoadTask
from stream_agent.simulation.environment import DrivingEnvironment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance


class PolicyDriver(Driver):
    """Drives one vehicle by the engine that steps the network on a robot."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._limits = policy, policy.base_limits
        self._observe = Observer(policy.conversions, self._limits)
        self.known_commands, self.sees = self._observe.known_commands, self._observe.sees
        self._engine = Engine(policy.network)
        self._engine.warm_up()

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        shapes = self._policy.network.shapes
        inputs = {name: scale(value) if value.dtype == np.uint8 else value.reshape(shapes[name])
                  for name, value in self._observe(frames[0], known[0], start).items()}
        for _ in range(self._policy.updates_per_frame - 1):
            self._engine.step(inputs)
        return [self._limits.command(self._engine.respond(inputs))]

    def forget(self, index: int) -> None:
        self._engine.reset()

    def settle(self) -> None:
        self._engine.settle()


def drive(environment: DrivingEnvironment, driver: Driver, laps: float, real_time: bool = False
          ) -> Drive:
    """
    Drive until the laps are done, or a third longer than the expert's speed needs for them.

    :param real_time: Commands act as long after their image as they took to compute, and images
        that come meanwhile go unanswered; otherwise the simulator waits for every command.
    """
    settings, course = environment.settings, environment.course
    result = (RoadTask if settings.signs else Drive)(course.lane_width)
    most_images = math.ceil(4 / 3 * laps * course.length / settings.target_speed * settings.rate)
    clock = WallClock(settings.period) if real_time else EmulatedClock(immediate(settings.period))
    batch = VehicleBatch(driver, [environment], clock)
    batch.drive([result], lambda: environment.now.laps < laps and batch.image < most_images,
                lambda _: {'speed': settings.target_speed})
    return result


@dataclass(frozen=True)
class Trial:
    """
    The test drives that every network is given alike.

    :param seeds: Of the courses; each has pushes of its own, the same for every network.
    :param duration: Of the drive on each course [s].
    :param pushes: Largest yaw rate that is added occasionally [rad/s].
    :param handover: Seconds that the expert drives at the start and after a departure, until a
        late network knows where it is; they do not count.
    :raises ValueError: If the expert drives all the time.
    """

    settings: SimulationSettings
    seeds: tuple[int, ...]
    duration: float = 20.0
    pushes: float = 0.0
    handover: float = 1.0

    def __post_init__(self) -> None:
        if self.handover >= self.duration:
            raise ValueError(f'the expert drives {self.handover:g} s of {self.duration:g} s, and '
                             'nothing is left to the policy; let it drive longer')


def drive_together(network: RolloutNetwork, preprocessing: Conversion, limits: CommandScale,
                   timeline: Timeline, trial: Trial, updates_per_frame: int = 1,
                   command_rows: CommandRows | None = None,
                   others: Mapping[str, Conversion] = {}) -> list[Drive]:
    """
    Drive all courses of a trial side by side; images that are not taken are unanswered.

    :param others: Conversions of further inputs, as for ``NetworkDriver``.
    """
    driver = NetworkDriver(network, preprocessing, limits, len(trial.seeds), updates_per_frame,
                           command_rows, others)
    return drive_trial(driver, timeline, trial)


def drive_trial(driver: Driver, timeline: Timeline, trial: Trial,
                log: Callable[[float], Drive] | None = None) -> list[Drive]:
    """
    Drive all courses of a trial side by side, with any driver.

    :param driver: Of as many vehicles as there are courses.
    :param log: Makes a drive's log, given the lane's width; ``Drive`` or ``RoadTask`` if None.
    """
    settings = trial.settings
    environments = [DrivingEnvironment(settings, seed, compiled=True, camera=driver.sees)
                    for seed in trial.seeds]
    log = log or (RoadTask if settings.signs else Drive)
    drives = [log(environment.course.lane_width) for environment in environments]
    batch = VehicleBatch(driver, environments, EmulatedClock(timeline), trial.handover)
    for i, environment in enumerate(environments):
        batch.place(i, speed=environment.now.reference.speed)
    batch.drive(drives, lambda: batch.image < round(trial.duration * settings.rate),
                lambda i: {'speed': environments[i].now.reference.speed},
                [VehicleDisturbance(np.random.default_rng(seed), trial.pushes)
                 for seed in trial.seeds])
    return drives
