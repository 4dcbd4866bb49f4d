"""What drives in the study: one network or copies of it, told of delays or corrected for them."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from stream_agent.command import Command
from stream_agent.driving.compute_model import Taken, Timeline, Work
from stream_agent.driving.drivers import CommandRows, NetworkDriver
from stream_agent.learning.imitation import Collector
from stream_agent.learning.window_sampler import Episode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import DifferentialDrive
from studies.reflex.schemes import ReflexScheme

COMMANDS = CommandRows(count=8)
# The age that is written as white [s], and the rows that show it, above the commands.
LONGEST_AGE = 0.25
AGE_ROWS = slice(-4, -2)
# Commands that are remembered: more than a delay has.
REMEMBERED = 64
# Of the forecast [s].
LONGEST_STEP = 0.02
# Delays of training with random ones are drawn for so many frames, and repeat.
DRAWN = 500


@dataclass(frozen=True)
class Forecast:
    """
    Rolls a vehicle's pose forward over the delay of an answer, by the commands already given.

    Tang et al.: VLASH: real-time VLAs via future-state-aware asynchronous inference, 2025. There
    the forecast is an input; here its effect on pure pursuit is added to the answer, which then
    needs to say nothing of it: to first order, a vehicle that has turned and moved aside steers
    back as if the lane had.

    :param limits: Of the network's outputs.
    """

    settings: SimulationSettings
    limits: CommandScale

    def moved(self, times: Sequence[float], commands: np.ndarray, start: float, end: float
              ) -> np.ndarray:
        """
        Return where vehicles are at the end, as seen from where they were at the start.

        :param times: From when on commands act [s], ascending.
        :param commands: Speeds [m/s] and yaw rates [rad/s], (commands, vehicles, 2).
        :returns: To the left [m], and turned to the left [rad], (vehicles, 2).
        """
        lags = self.settings.speed_time_constant, self.settings.turn_time_constant
        vehicle = DifferentialDrive()
        most = np.array([vehicle.max_speed, vehicle.max_yaw_rate])
        commands = np.clip(commands, -most, most)
        # What is before the image counts for the lags alone.
        instants = sorted({*np.arange(start, end, LONGEST_STEP), end,
                           *(time for time in times if time < end)})
        speed, turn = commands[0].T
        left, turned = np.zeros_like(speed), np.zeros_like(turn)
        for begin, stop in pairwise(instants):
            command = commands[max(0, bisect_right(times, begin) - 1)]
            speed, rolled = lagged(speed, command[:, 0], lags[0], stop - begin)
            turn, yawed = lagged(turn, command[:, 1], lags[1], stop - begin)
            if begin >= start:
                left = left + rolled * (turned + 0.5 * yawed)
                turned = turned + yawed
        return np.stack([left, turned], axis=1)

    def correction(self, moved: np.ndarray, speeds: np.ndarray) -> np.ndarray:
        """
        Return what is added to the network's outputs, (vehicles, 2).

        :param speeds: At which the vehicles steer back [m/s].
        """
        ahead = self.settings.look_ahead
        yaw_rates = -2.0 * speeds / ahead * (moved[:, 1] + moved[:, 0] / ahead)
        bound = self.limits.max_yaw_rate
        return np.stack([np.zeros_like(yaw_rates), np.clip(yaw_rates / bound, -1, 1)], axis=1)


def lagged(value: np.ndarray, target: np.ndarray, time_constant: float, duration: float
           ) -> tuple[np.ndarray, np.ndarray]:
    """
    Solve a first-order lag under a constant target exactly.

    :returns: The value at the end, and its integral over the duration [s].
    """
    decay = np.exp(-duration / time_constant) if time_constant else 0.0
    return (target + (value - target) * decay,
            target * duration + (value - target) * time_constant * (1.0 - decay))


class ReflexDriver(NetworkDriver):
    """
    Drives as a scheme says.

    :param timeline: That the emulated computer follows.
    """

    def __init__(self, scheme: ReflexScheme, network: RolloutNetwork,
                 preprocessing: Preprocessing, limits: CommandScale, count: int,
                 settings: SimulationSettings, timeline: Timeline) -> None:
        super().__init__(network, preprocessing, limits, count,
                         scheme.candidate.updates_per_frame,
                         COMMANDS if 'commands' in scheme.inputs else None)
        self._inputs = scheme.inputs
        self._taken = iter(timeline)
        self._now: Taken | None = None
        self._period = settings.period
        # One that takes its turn is ``_state``, which the base class advances.
        self._waiting = deque(network.initial_state(count) for _ in range(scheme.copies - 1))
        self._forecast = Forecast(settings, limits) if 'forecast' in scheme.inputs else None
        if self._forecast:
            self.known_commands = REMEMBERED
        self._given: deque[tuple[float, np.ndarray]] = deque([], REMEMBERED)

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        self._now = next(self._taken)
        if self._forecast:
            self.added = self._corrections(self._forecast, known)
        found = super().commands(frames, known, start)
        self._given.append((self._now.answer, np.array(found)))
        self._waiting.append(self._state)
        self._state = self._waiting.popleft()
        return found

    def written(self, pixels: np.ndarray, commands: Sequence[Command]) -> np.ndarray:
        pixels = super().written(pixels, commands)
        if 'age' not in self._inputs or self._now is None:
            return pixels
        now, half = self._now, pixels.shape[2] // 2
        ages = np.array([now.start - now.image * self._period, now.answer - now.start])
        levels = np.clip(np.rint(255 * ages / LONGEST_AGE), 0, 255).astype(np.uint8)
        pixels[:, AGE_ROWS, :2 * half] = np.repeat(levels, half)
        return pixels

    def _corrections(self, forecast: Forecast, known: Sequence[Sequence[Command]]
                     ) -> np.ndarray:
        """Return what the commands on their way add to the outputs of every vehicle."""
        assert self._now is not None
        if not self._given:
            return np.zeros((len(known), 2))
        times = [time for time, _ in self._given]
        commands = np.array([given for _, given in self._given])
        out = sum(time <= self._now.start for time in times)
        for i, sent in enumerate(known):
            # Those that are out are known as they were sent: the expert may have replaced them.
            for back, command in enumerate(sent[:out]):
                commands[out - 1 - back, i] = command
        moved = forecast.moved(times, commands, self._now.image * self._period, self._now.answer)
        return forecast.correction(moved, commands[-1, :, 0])

    def forget(self, index: int) -> None:
        super().forget(index)
        for _ in range(len(self._waiting)):
            self._waiting.append(self._state)
            self._state = self._waiting.popleft()
            super().forget(index)
        # What was given before says nothing of where the vehicle is now.
        for _, commands in self._given:
            commands[index] = 0.0


@dataclass(frozen=True)
class ReflexCollector(Collector):
    """
    Collects as a scheme drives.

    :param scheme: With the timing that it is trained for.
    """

    scheme: ReflexScheme | None = None

    def collect(self, network: RolloutNetwork, expert_drives: bool,
                generator: np.random.Generator) -> tuple[list[Episode], int]:
        scheme = self.scheme
        assert scheme is not None and self.timeline is not None
        if scheme.spread:
            drawn = random_delays(self.timeline, scheme.spread, generator)
            return replace(self, timeline=drawn, scheme=replace(scheme, spread=0.0)).collect(
                network, expert_drives, generator)
        episodes, departures = super().collect(network, expert_drives, generator)
        # Every copy sees and remembers its own images.
        return [Episode({name: values[i::scheme.copies] for name, values in
                         episode.observations.items()}, episode.targets[i::scheme.copies])
                for episode in episodes for i in range(scheme.copies)], departures

    def driver(self, network: RolloutNetwork) -> NetworkDriver:
        assert self.scheme is not None and self.timeline is not None
        return ReflexDriver(self.scheme, network, self.preprocessing, self.limits,
                            self.environments, self.settings, self.timeline)


def random_delays(timeline: Timeline, spread: float, generator: np.random.Generator) -> Timeline:
    """Return a timeline whose work takes longer or shorter by a random factor for every frame."""
    work = [timeline.work[i % len(timeline.work)] for i in range(DRAWN)]
    factors = generator.uniform(1 - spread, 1 + spread, DRAWN)
    return replace(timeline, work=tuple(
        Work(factor * one.response, factor * one.busy) for one, factor in zip(work, factors)))
