"""
Behavioural cloning: a policy learns to answer recorded frames as the driver did.

Truncated windows with the state carried over: a stream walks through an episode window by
window, and what the network remembers at the end of one is what it begins the next with.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import math
from typing import Any

import numpy as np
from stream_agent.learning import sharing
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.driving_learner import DrivingLearner
from stream_agent.learning.episodes import RecordedEpisode
from stream_agent.learning.folds import answers, determination, verdict
from stream_agent.learning.streams import Place, Streams
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.state import State
from stream_agent.theory.information import frames_unanswered
import torch
from torch import Tensor


@dataclass(frozen=True)
class CloningSchedule:
    """
    How long and on what a policy is trained.

    :param epochs: Times that as many frames are seen as there are.
    :param streams: B, episodes walked through side by side.
    :param window: T, frames in a window, through which gradients flow.
    :param learning_rate: At the start; falls to zero by a half cosine.
    :param weights: Of the errors of speed and steering.
    :param updates_per_frame: Update steps for which every image is held.
    """

    epochs: float = 20.0
    streams: int = 32
    window: int = 8
    learning_rate: float = 1e-3
    weights: tuple[float, float] = (0.1, 1.0)
    updates_per_frame: int = 1

    def steps(self, frames: int) -> int:
        """Return the gradient steps for so many frames."""
        return max(1, math.ceil(self.epochs * frames / (self.streams * self.window)))


class CloningLearner(DrivingLearner):
    """
    One training on recorded episodes.

    :param network: Trained in place.
    :param episodes: What to learn from.
    :param held_out: What to tell by how good the policy is.
    :param steering: Quantity that is learnt, as in ``Commands.steering``; empty if not known.
    :raises ValueError: If there is no episode, or windows do not fit the graph's schedule.
    """

    def __init__(self, network: RolloutNetwork, preprocessing: Preprocessing,
                 limits: CommandLimits, episodes: Sequence[RecordedEpisode],
                 schedule: CloningSchedule, augmentation: Augmentation | None, seed: int,
                 label: str = 'cloning', held_out: Sequence[RecordedEpisode] = (),
                 steering: str = '') -> None:
        check_window(network, schedule)
        if not episodes:
            raise ValueError('there is no episode to learn from; give recordings')
        self.network = network
        self.label = label
        self.preprocessing, self.limits = preprocessing, limits
        self.episodes, self.held_out = list(episodes), list(held_out)
        self.frames = sum(map(len, self.episodes))
        self.steps, self.learning_rate = schedule.steps(self.frames), schedule.learning_rate
        self.updates_per_frame = schedule.updates_per_frame
        self._schedule, self._augmentation, self._seed = schedule, augmentation, seed
        self._steering = steering
        self._share = sharing.share(schedule.streams)
        self._count = self._share.stop - self._share.start
        self.frames_per_step = self._count * schedule.window
        self._late = frames_unanswered(network.graph, network.pattern) // self.updates_per_frame
        self._streams = Streams([len(episode) for episode in self.episodes], schedule.streams,
                                schedule.window, seed)
        self._state: State | None = None

    def loss(self, step: int) -> Tensor:
        places = self._streams.advance()
        frames, targets = self._windows(places[self._share])
        outputs, state = self.network(frames, self._begin(places[self._share]),
                                      self.updates_per_frame, self.segment)
        self._state = State({name: value.detach() for name, value in state.values.items()},
                            state.frame)
        answered = self._answered(places).to(self.device)
        weights = answered[self._share] * (sharing.ranks() / answered.sum().clamp(min=1))
        return (weights * self._errors(outputs, targets)).sum()

    def _errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the single-frame loss of every frame, (B, T)."""
        each = torch.tensor(self._schedule.weights, device=outputs.device)
        return ((outputs.float() - targets) ** 2 * each).sum(-1)

    def _windows(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        """Return frames (B, T, C, H, W) and targets (B, T, 2); zero after an episode's end."""
        window = self._schedule.window
        pixels = np.zeros((len(places), window, *self.preprocessing.shape), np.uint8)
        targets = np.zeros((len(places), window, 2), np.float32)
        for i, place in enumerate(places):
            part = slice(place.first, place.first + place.length)
            pixels[i, :place.length] = self.episodes[place.episode].pixels(part)
            targets[i, :place.length] = self.episodes[place.episode].targets[part]
        frames = scale(torch.from_numpy(pixels).to(self.device))
        targets = torch.from_numpy(targets).to(self.device)
        if self._augmentation is None:
            return frames, targets
        return self._augmentation.applied(frames, targets, [
            self._augmentation.draw(self._seed, place.visit) for place in places])

    def _begin(self, places: Sequence[Place]) -> State:
        """Return what streams remember; those that begin an episode, nothing."""
        if self._state is None:
            return self.network.initial_state(self._count)
        goes_on = torch.tensor([place.walked > 0 for place in places], device=self.device)
        return State({name: torch.where(goes_on.view(-1, *[1] * (value.dim() - 1)), value, 0)
                      for name, value in self._state.values.items()}, self._state.frame)

    def _answered(self, places: Sequence[Place]) -> Tensor:
        """Mark, of all streams, the frames that exist and whose answer depends on an image."""
        window = torch.arange(self._schedule.window)
        lengths = torch.tensor([[place.length] for place in places])
        walked = torch.tensor([[place.walked] for place in places])
        return (window < lengths) & (window + walked >= self._late)

    def figures(self) -> dict[str, Any]:
        return {'epoch': self._streams.epoch}

    def begun_with(self) -> dict[str, Any]:
        return {'lengths': [len(episode) for episode in self.episodes],
                'schedule': asdict(self._schedule),
                'augmentation': self._augmentation and asdict(self._augmentation),
                'steering': self._steering}

    def provenance(self) -> dict[str, Any]:
        about = {**self.begun_with(), 'frames': self.frames}
        if self.held_out:
            about['held_out'] = sorted({episode.name for episode in self.held_out})
            about['held_out_r2'] = self.scores()
        return about

    def verdict(self, provenance: dict[str, Any]) -> str:
        return verdict(self.held_out, self.episodes, provenance.get('held_out_r2', {}))

    def scores(self) -> dict[str, float]:
        """Return R2 of speed and steering over the held-out episodes, each from its start."""
        targets = np.concatenate([episode.targets for episode in self.held_out])
        outputs = np.concatenate([answers(self.network, episode, self.updates_per_frame)
                                  for episode in self.held_out])
        return {name: round(float(value), 4) for name, value in zip(
            ('speed', 'steering'), determination(targets, outputs)) if np.isfinite(value)}

    def remembered(self) -> tuple[dict[str, Tensor], Any]:
        state = self._state or State({})
        return dict(state.values), {'frame': state.frame, **self._streams.remembered()}

    def recall(self, tensors: dict[str, Tensor], data: Any) -> None:
        self._streams.recall(data)
        self._state = State({name: value.to(self.device) for name, value in tensors.items()},
                            data['frame']) if tensors else None


class FrameLearner(CloningLearner):
    """
    The same without memory: every frame alone, drawn at random, after nothing.

    What a network without recurrence would learn: the plain frame-by-frame baseline.
    """

    def loss(self, step: int) -> Tensor:
        generator = np.random.default_rng([self._seed, step])
        lengths = np.array([len(episode) for episode in self.episodes])
        count = self._schedule.streams * self._schedule.window
        chosen = generator.integers(self.frames, size=count)[sharing.share(count)]
        ends = np.cumsum(lengths)
        numbers = np.searchsorted(ends, chosen, side='right')
        places = [(number, slice(i, i + 1)) for number, i in zip(
            numbers.tolist(), (chosen - ends[numbers] + lengths[numbers]).tolist())]
        frames = scale(torch.from_numpy(np.stack(
            [self.episodes[number].pixels(part) for number, part in places])).to(self.device))
        targets = torch.from_numpy(np.stack(
            [self.episodes[number].targets[part] for number, part in places])).to(self.device)
        if self._augmentation:
            frames, targets = self._augmentation.applied(frames, targets, [
                self._augmentation.draw(self._seed, step * count + i)
                for i in range(len(places))])
        outputs, _ = self.network(frames, self.network.initial_state(len(frames)),
                                  self.updates_per_frame)
        return self._errors(outputs, targets).mean()


def check_window(network: RolloutNetwork, schedule: CloningSchedule) -> None:
    """Refuse windows after which a graph's schedule would be out of step in another window."""
    period = network.graph.hyperperiod
    if schedule.window * schedule.updates_per_frame % period:
        raise ValueError(f'--window {schedule.window}: the graph repeats itself every {period} '
                         f'update steps; take a multiple of {period}')
