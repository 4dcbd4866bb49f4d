"""
Imitation of an expert with on-policy correction, in the embedded simulator.

Ross, Gordon, Bagnell: A reduction of imitation learning and structured prediction to no-regret
online learning, AISTATS 2011 (DAgger): the policy drives, the expert says what it should have
done, and the policy learns from all frames so far.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stream_agent.command import Command
from stream_agent.learning.episodes import Episode, Episodes
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork, State
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment, Frame
from stream_agent.simulation.settings import Settings
import torch
from torch import nn, Tensor

USUAL_FAN_IN = 256


@dataclass(frozen=True)
class Schedule:
    """
    How long and on what a policy is trained.

    :param rounds: Times that the policy drives and then learns; the expert drives the first.
    :param environments: Courses driven side by side in a round, new ones each round.
    :param frames: Frames driven per environment and round.
    :param updates: Gradient steps after each round.
    :param last_updates: Gradient steps after the last round, more.
    :param batch: Windows in a gradient step.
    :param window: T, frames in a window.
    :param burn_in: Frames at a window's start that fill the state and bear no loss.
    :param learning_rate: At the start; falls to zero by a half cosine.
    :param updates_per_frame: Update steps for which every image is held, as on the robot.
    """

    rounds: int = 12
    environments: int = 8
    frames: int = 160
    updates: int = 60
    last_updates: int = 240
    batch: int = 16
    window: int = 24
    burn_in: int = 8
    learning_rate: float = 2e-3
    updates_per_frame: int = 1

    @property
    def all_updates(self) -> int:
        """Gradient steps of the whole training."""
        return self.rounds * self.updates + self.last_updates


class Disturbance:
    """
    Pushes the robot off its way now and then, so that the expert shows the way back.

    :param strength: Largest added yaw rate [rad/s].
    """

    def __init__(self, generator: np.random.Generator, strength: float) -> None:
        self._generator = generator
        self._strength = strength
        self._frames_left = 0
        self._yaw_rate = 0.0

    def added_to(self, command: Command) -> Command:
        """Return the command that the robot is given instead."""
        if self._frames_left == 0:
            pushes = self._generator.random() < 0.3
            self._frames_left = int(self._generator.integers(8, 25))
            self._yaw_rate = pushes * self._generator.uniform(-1, 1) * self._strength
        self._frames_left -= 1
        return Command(command.speed, command.yaw_rate + self._yaw_rate)


class Imitation:
    """
    One training: drive, learn, and again.

    :param network: Trained in place.
    :param settings: The simulator's settings; every course differs.
    :param report: Called after every gradient step with a dictionary of what to show.
    """

    def __init__(self, network: RolloutNetwork, preprocessing: Preprocessing,
                 limits: CommandLimits, settings: Settings, schedule: Schedule, seed: int,
                 report: Callable[[dict[str, Any]], None] = lambda values: None) -> None:
        self.network = network
        self.episodes = Episodes(schedule.window)
        self._preprocessing = preprocessing
        self._limits = limits
        self._settings = settings
        self._schedule = schedule
        self._report = report
        self._generator = np.random.default_rng(seed)
        self._optimiser = torch.optim.AdamW(learning_rates(network, schedule.learning_rate))
        self._falling = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimiser, schedule.all_updates)

    def run(self) -> None:
        """Train from the first round to the last."""
        for round_ in range(self._schedule.rounds):
            departures = self.collect(expert_drives=round_ == 0)
            last = round_ == self._schedule.rounds - 1
            for _ in range(self._schedule.updates + last * self._schedule.last_updates):
                loss = self.learn()
                self._report({'round': round_ + 1, 'frames': self.episodes.frames,
                              'departures': departures, 'loss': loss})

    def collect(self, expert_drives: bool) -> int:
        """
        Drive new courses and keep every frame with the expert's answer to it.

        :returns: Times that the lane was left.
        """
        environments = [self._new_environment() for _ in range(self._schedule.environments)]
        disturbances = [Disturbance(self._generator, 1.0) for _ in environments]
        episodes = [Episode() for _ in environments]
        frames = [self._place(environment) for environment in environments]
        state = self.network.initial_state(len(environments))
        departures = 0
        self.network.eval()
        for _ in range(self._schedule.frames):
            pixels = [self._preprocessing.pixels(frame.image) for frame in frames]
            with torch.inference_mode():
                output, state = self.network.hold(scale(torch.from_numpy(np.stack(pixels))),
                                                  state, self._schedule.updates_per_frame)
            for i, environment in enumerate(environments):
                reference = frames[i].reference
                episodes[i].add(pixels[i], self._limits.output(reference))
                answer = reference if expert_drives else self._limits.command(output[i].numpy())
                frames[i] = environment.step(disturbances[i].added_to(answer))
                if frames[i].departed:
                    departures += 1
                    self.episodes.add(episodes[i])
                    episodes[i], frames[i] = Episode(), self._place(environment)
                    state = without_sample(state, i)
        for episode in episodes:
            self.episodes.add(episode)
        return departures

    def _new_environment(self) -> DrivingEnvironment:
        """Make an environment on a course of its own, with delays drawn anew."""
        seed = int(self._generator.integers(FIRST_HELD_OUT_SEED))
        settings = replace(self._settings, actuator_delay=self._generator.uniform(0.0, 0.03))
        return DrivingEnvironment(settings, seed)

    def _place(self, environment: DrivingEnvironment) -> Frame:
        """Put the robot somewhere on the course, a bit off the middle."""
        environment.place(
            arc_length=self._generator.uniform(0.0, environment.course.length),
            lateral=self._generator.uniform(-0.12, 0.12),
            heading=self._generator.uniform(-0.25, 0.25),
            speed=self._settings.target_speed)
        return environment.look()

    def learn(self) -> float:
        """Take one gradient step on random windows; returns the loss."""
        pixels, targets = self.episodes.sample(self._schedule.batch, self._generator)
        self.network.train()
        frames = scale(torch.from_numpy(pixels))
        outputs, _ = self.network(frames, self.network.initial_state(len(frames)),
                                  self._schedule.updates_per_frame)
        loss = imitation_loss(outputs, torch.from_numpy(targets), self._schedule.burn_in)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        self._falling.step()
        return loss.item()


def learning_rates(network: RolloutNetwork, base: float) -> list[dict[str, Any]]:
    """
    Give every weight its rate: with Adam, a sum over many inputs moves by their number.

    Yang et al.: Tensor programs V, NeurIPS 2021: rates of matrices fall with their fan-in.

    :param base: Rate up to ``USUAL_FAN_IN`` inputs a feature.
    """
    return [{'params': [weight],
             'lr': base * min(1.0, USUAL_FAN_IN / max(1, weight[0].numel()))}
            for weight in network.parameters()]


def without_sample(state: State, index: int) -> State:
    """Return a copy in which one sample of the batch has forgotten everything."""
    values = {name: value.clone() for name, value in state.values.items()}
    for value in values.values():
        value[index] = 0
    return State(values, state.frame)


def imitation_loss(outputs: Tensor, targets: Tensor, burn_in: int) -> Tensor:
    """
    Return the mean over output frames of the single-frame loss (SR18, section "Training").

    :param outputs: (B, T, 2), -1 ... 1.
    :param targets: (B, T, 2).
    :param burn_in: Frames at the start that are left out.
    """
    return nn.functional.smooth_l1_loss(outputs[:, burn_in:], targets[:, burn_in:], beta=0.1)
