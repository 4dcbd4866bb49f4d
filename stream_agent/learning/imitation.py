"""
Imitation of an expert with on-policy correction, in the embedded simulator.

Ross, Gordon, Bagnell: A reduction of imitation learning and structured prediction to no-regret
online learning, AISTATS 2011 (DAgger): the policy drives, the expert says what it should have
done, and the policy learns from all frames so far.
"""

from collections import deque
from collections.abc import Mapping
import copy
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from stream_agent.command import Command
from stream_agent.contract.conversions import Conversion
from stream_agent.driving.compute_model import ComputeModel, immediate, Timeline
from stream_agent.driving.drivers import CommandRows, NetworkDriver
from stream_agent.driving.observations import as_frames, Observation
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch
from stream_agent.learning import distributed
from stream_agent.learning.recognition import Recognition, SignReader
from stream_agent.learning.resume import pack, ResumeError, unpack, write_whole
from stream_agent.learning.settings import ImitationSchedule
from stream_agent.learning.trainer import DrivingLearner
from stream_agent.learning.window_sampler import (
    Episode, Episodes, pack_episodes, unpack_episodes)
from stream_agent.network.checkpoint import CommandScale, trigger_of
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.drive_log import DriveLog
from stream_agent.simulation.environment import DrivingEnvironment, Moment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance
from stream_agent.theory.graph import graph_to_data, GraphSpec
from stream_agent.theory.information import frames_unanswered, information_ages
from stream_agent.theory.patterns import Pattern, streaming_edges
import torch
from torch import nn, Tensor


class EpisodeLog(DriveLog):
    """
    Pairs what a network saw with what the expert commands while its answer acts.

    An answer that is out after its image belongs to where the vehicle is by then: between two
    images, the expert's commands are interpolated.

    :param driver: Whose input is learned from.
    :param index: Of the vehicle in the driver's batch.
    :param aim: As for ``Collector``.
    :param finished: Gets the episodes that departures end.
    """

    def __init__(self, driver: NetworkDriver, index: int, limits: CommandScale, aim: float,
                 finished: list[Episode]) -> None:
        self.episode = Episode()
        self._driver, self._index = driver, index
        self._limits, self._aim = limits, aim
        self._finished = finished
        # Images whose answers are not out yet, with the times [s] for which these are meant.
        self._waiting: deque[tuple[float, Observation, np.ndarray]] = deque()
        self._last: Moment | None = None

    def before(self, now: Moment, answer: float | None) -> None:
        if answer is not None:
            self._waiting.append((answer + self._aim, self._driver.observations[self._index],
                                  self._driver.added[self._index]))
        while self._waiting and self._waiting[0][0] <= now.time + 1e-9:
            meant_for, observation, added = self._waiting.popleft()
            last = self._last or now
            passed = now.time - last.time
            share = min(1.0, (now.time - meant_for) / passed) if passed else 0.0
            wanted = self._limits.output(Command(*(
                share * a + (1 - share) * b for a, b in zip(last.reference, now.reference))))
            self.episode.add(observation, (wanted[0] - added[0], wanted[1] - added[1]))
        self._last = now

    def after(self, now: Moment, answered: bool, by_expert: bool) -> None:
        if now.departed:
            self._finished.append(self.episode)
            self.episode, self._last = Episode(), None
            self._waiting.clear()


@dataclass(frozen=True)
class Collector:
    """
    Drives courses side by side, new ones every time.

    :param environments: Courses driven at the same time.
    :param frames: Frames taken on each.
    :param updates_per_frame: Update steps for which every image is held.
    :param timeline: When images are taken and answered; every image, immediately, if None.
    :param aim: Seconds after an answer is out at which it should be right, such as half the time
        that it will be in force.
    :param handover: Seconds that the expert drives after a start, until a late network knows
        where it is.
    :param most_delay: Longest delay of the actuators [s]; each course draws one, from 0 on.
    :param command_rows: How the network is told its last commands; not at all if None.
    :param pushes: Largest yaw rate by which vehicles are pushed off their way [rad/s].
    :param others: Conversions of the inputs that do not trigger, by node, as in a ``Policy``.
    """

    settings: SimulationSettings
    preprocessing: Conversion
    limits: CommandScale
    environments: int
    frames: int
    updates_per_frame: int = 1
    timeline: Timeline | None = None
    aim: float = 0.0
    handover: float = 0.0
    most_delay: float = 0.03
    command_rows: CommandRows | None = None
    pushes: float = 1.0
    others: Mapping[str, Conversion] = field(default_factory=dict)

    def collect(self, network: RolloutNetwork, expert_drives: bool,
                generator: np.random.Generator) -> tuple[list[Episode], int]:
        """
        Drive new courses and keep every frame taken, with the expert's answer to it.

        :param network: Put into evaluation mode.
        :param generator: Of courses, places and disturbances, and of nothing else.
        :returns: What was driven, and how many times the lane was left.
        """
        count, finished = self.environments, list[Episode]()
        driver = self.driver(network)
        environments = [self._new_environment(generator, driver.sees) for _ in range(count)]
        batch = VehicleBatch(
            driver, environments, EmulatedClock(self.timeline or immediate(self.settings.period)),
            math.inf if expert_drives else self.handover)
        logs = [EpisodeLog(driver, i, self.limits, self.aim, finished) for i in range(count)]
        for i, environment in enumerate(environments):
            batch.place(i, **self._place(environment, generator))
        batch.drive(logs, lambda: batch.taken < self.frames,
                    lambda i: self._place(environments[i], generator),
                    [VehicleDisturbance(generator, self.pushes) for _ in environments])
        return finished + [log.episode for log in logs], len(finished)

    def driver(self, network: RolloutNetwork) -> NetworkDriver:
        """Return what drives a round."""
        return NetworkDriver(network, self.preprocessing, self.limits, self.environments,
                             self.updates_per_frame, self.command_rows, self.others)

    def _new_environment(self, generator: np.random.Generator, camera: bool
                         ) -> DrivingEnvironment:
        """Make an environment on a course of its own, with delays drawn anew."""
        seed = int(generator.integers(FIRST_HELD_OUT_SEED))
        settings = replace(self.settings, actuator_delay=generator.uniform(0.0, self.most_delay))
        return DrivingEnvironment(settings, seed, compiled=True, camera=camera)

    def _place(self, environment: DrivingEnvironment, generator: np.random.Generator
               ) -> dict[str, float]:
        """Draw a place anywhere on the course, a bit off the middle."""
        return {'arc_length': generator.uniform(0.0, environment.course.length),
                'lateral': generator.uniform(-0.12, 0.12),
                'heading': generator.uniform(-0.25, 0.25),
                'speed': self.settings.target_speed}


def lengthened(schedule: ImitationSchedule, graph: GraphSpec, pattern: Pattern
               ) -> ImitationSchedule:
    """
    Return a schedule whose windows have as many answers as they have for any other rollout.

    Outputs that depend on no image yet bear no loss (SR18, section "Training": all rollouts see
    the same number of loss frames).
    """
    late = frames_unanswered(graph, pattern) // schedule.updates_per_frame
    return replace(schedule, burn_in=schedule.burn_in + late, window=schedule.window + late)


def filled(schedule: ImitationSchedule, graph: GraphSpec, pattern: Pattern, timeline: Timeline
           ) -> ImitationSchedule:
    """
    Return a schedule in which the oldest information has reached the memory before any loss.

    With ``loss_time``, windows are of as much road whatever the rate: a dozen frames are a second
    of road for one that answers rarely, and a fifth of that for another. Otherwise the memory of
    layers that take turns has one step in a round. Only frames that are taken
    count, so neither late answers nor dropped images make windows longer.
    """
    updates = schedule.updates_per_frame
    burn_in = (information_ages(graph, pattern).oldest // updates
               + schedule.burn_in * max(1, graph.hyperperiod // updates))
    window = burn_in + schedule.window - schedule.burn_in
    if schedule.loss_time:
        burn_in = max(burn_in, timeline.images_within(schedule.loss_time))
        window = burn_in + timeline.images_within(schedule.loss_time)
    return replace(schedule, burn_in=burn_in, window=window,
                   frames=max(schedule.frames, 2 * window))


USUAL_FAN_IN = 256


class Imitation(DrivingLearner):
    """
    One training, whose rounds are a drive and gradient steps each.

    Process 0 drives and sends the others what was driven; with a folder, every round is kept
    there, so that a resumed training does not drive it again.

    :param network: Trained in place.
    :param folder: Of the rounds; None to keep none.
    :param compute_model: Source of the collector's timeline; None if nothing is emulated.
    :param recognition: Trains layers that recognise signs before any drive; None for none.
    :param sign_reader: Trained with the network to tell which speed is commanded; None for none.
    """

    def __init__(self, network: RolloutNetwork, collector: Collector, schedule: ImitationSchedule,
                 seed: int, label: str = 'imitation', folder: Path | None = None,
                 compute_model: ComputeModel | None = None,
                 recognition: Recognition | None = None,
                 sign_reader: SignReader | None = None) -> None:
        self.network = network
        self._recognition = recognition
        needed = recognition is not None and recognition.needed
        self._recognised = None if needed else math.nan
        self._sign_reader = sign_reader
        self.label = label
        self.preprocessing, self.limits = collector.preprocessing, collector.limits
        self.others = collector.others
        self.steps, self.learning_rate = schedule.all_updates, schedule.learning_rate
        self.updates_per_frame, self.warm_up = schedule.updates_per_frame, schedule.warm_up
        share = distributed.local_slice(schedule.batch)
        self.frames_per_step = (share.stop - share.start) * schedule.window
        self.episodes = Episodes(schedule.window)
        self._schedule, self._seed, self._folder = schedule, seed, folder
        self._collector, self._compute_model = collector, compute_model
        self._departures: list[int] = []

    def prepare(self, step: int) -> bool:
        if self._recognised is None and not self._learn_to_recognise():
            return False
        while (round_ := len(self._departures)) < self._schedule.rounds_before(step):
            data = None
            if distributed.rank() == 0:
                # A simulator gives one frame at a time, for which no GPU is needed.
                network = copy.deepcopy(self.network).cpu()
                data = pack_episodes(*self._collector.collect(
                    network, round_ == 0, np.random.default_rng([self._seed, 0, round_])))
                if self._folder:
                    write_whole(self._path(round_), data)
            self._keep(distributed.broadcast_bytes(data))
        return True

    def _learn_to_recognise(self) -> bool:
        """Train the layers that recognise signs; returns False if that was stopped."""
        assert self._recognition is not None  # or there is nothing left to learn
        packed = None
        if distributed.rank() == 0:
            print(f'{self.label}: learns to recognise signs')
            share = self._recognition.learn(self.stopped)
            packed = pack(self.network.state_dict(), {'share': share})
        # The weights of process 0 are those of all.
        packed = distributed.broadcast_bytes(packed)
        assert packed is not None  # process 0 has them
        tensors, told = unpack(packed)
        self.network.load_state_dict(tensors)
        self._recognised = told['share']
        return self._recognised is not None

    def _keep(self, data: bytes | None) -> None:
        """Learn from a round's episodes from now on."""
        assert data is not None  # process 0 has them
        episodes, departures = unpack_episodes(
            data, trigger_of(self.network.graph, self.others))
        for episode in episodes:
            self.episodes.add(episode)
        self._departures.append(departures)

    def _path(self, round_: int) -> Path:
        assert self._folder is not None  # with one only are rounds kept
        return self._folder / f'{self.label}.round{round_ + 1}.safetensors'

    def loss(self, step: int) -> Tensor:
        schedule = self._schedule
        own = distributed.local_slice(schedule.batch)
        observations, wanted = self.episodes.sample(
            schedule.batch, np.random.default_rng([self._seed, 1, step]))
        targets = torch.from_numpy(wanted[own]).to(self.device)
        frames = as_frames({name: values[own] for name, values in observations.items()},
                           self.network.shapes, 2, self.device)
        state = self.network.initial_state(len(targets))
        if self._sign_reader is None:
            outputs, _ = self.network(frames, state, schedule.updates_per_frame, self.segment)
            return imitation_loss(outputs.float(), targets, schedule.burn_in)
        window = self.network.window(frames, state, schedule.updates_per_frame)
        outputs = window.values(self.network.graph.output)
        return (imitation_loss(outputs.float(), targets, schedule.burn_in)
                + self._sign_reader.loss(window, self._collector.limits, targets,
                                         schedule.burn_in))

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """
        Give every weight its rate: with Adam, a sum over many inputs moves by their number.

        Yang et al.: Tensor programs V, NeurIPS 2021: rates of matrices fall with their fan-in.

        :param rate: Of weights with up to ``USUAL_FAN_IN`` inputs a feature.
        """
        groups: dict[float, list[Tensor]] = {}
        reader = self._sign_reader.parameters() if self._sign_reader else ()
        for weight in chain(self.network.parameters(), reader):
            if not weight.requires_grad:
                continue
            fan_in = weight[0].numel() if weight.dim() else 1
            own = rate * min(1.0, USUAL_FAN_IN / max(1, fan_in))
            groups.setdefault(own, []).append(weight)
        return [{'params': weights, 'lr': own} for own, weights in groups.items()]

    def figures(self) -> dict[str, Any]:
        return {'round': len(self._departures), 'frames': self.episodes.frames,
                'departures': self._departures[-1]}

    def provenance(self) -> dict[str, Any]:
        collector = self._collector
        about = {'schedule': asdict(self._schedule), 'frames': self.episodes.frames,
                 'steering': 'yaw rate'}
        if self._recognised is not None and math.isfinite(self._recognised):
            about['signs_recognised'] = round(self._recognised, 3)
        if self._compute_model and collector.timeline:
            about['emulated'] = {'computer': str(self._compute_model), 'aim': collector.aim,
                                 'handover': collector.handover, **asdict(collector.timeline)}
        return about

    def initial_settings(self) -> dict[str, Any]:
        simulator = asdict(self._collector)
        simulator['settings'] = self._collector.settings.as_compared()
        # Trainings from before there were other inputs say nothing of them.
        if not self.others:
            del simulator['others']
        # The computer comes first: what follows from it is not an option.
        return {'computer': self._compute_model and str(self._compute_model),
                **asdict(self._schedule), 'graph': graph_to_data(self.network.graph),
                'pattern': streaming_edges(self.network.pattern),
                'recognition': self._recognition and asdict(self._recognition.schedule),
                'simulator': simulator}

    def state_dict(self) -> tuple[dict[str, Tensor], Any]:
        # The rounds themselves are in the folder.
        return (self._sign_reader.state_dict() if self._sign_reader else {},
                {'rounds': len(self._departures), 'recognised': self._recognised})

    def load_state_dict(self, tensors: Mapping[str, Tensor], data: Any) -> None:
        if self._sign_reader:
            self._sign_reader.load_state_dict(dict(tensors))
        self._recognised = data['recognised']
        for round_ in range(data['rounds']):
            path = self._path(round_)
            packed = distributed.broadcast_file(path)
            try:
                if packed is None:
                    raise ValueError('the file is missing')
                self._keep(packed)
            except (KeyError, SafetensorError, TypeError, ValueError) as error:
                raise ResumeError(f'{path}: the episodes of a round cannot be read ({error}); to '
                                  'start anew, add --fresh') from None


def imitation_loss(outputs: Tensor, targets: Tensor, burn_in: int) -> Tensor:
    """
    Return the mean over output frames of the single-frame loss (SR18, section "Training").

    :param outputs: (B, T, 2), -1 ... 1, as targets are.
    :param burn_in: Frames at the start that are left out.
    """
    return nn.functional.smooth_l1_loss(outputs[:, burn_in:], targets[:, burn_in:], beta=0.1)
