"""
Behavioural cloning: a policy learns to answer recorded frames as the driver did.

Truncated BPTT with the state carried over: a stream walks through an episode window by window,
and the network starts every window with the state in which the window before ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
import hashlib
from typing import Any

import numpy as np
from stream_agent.contract.conversions import CommandsInput, Conversion, OutputScale
from stream_agent.driving.observations import as_frames
from stream_agent.learning import distributed
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.held_out import HeldOut, verdict_on
from stream_agent.learning.settings import CloningSchedule
from stream_agent.learning.trainer import DrivingLearner
from stream_agent.learning.window_sampler import RecordedEpisode, WindowSampler, WindowSlice
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.policy_parts import commands_inputs, trigger_of
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import graph_to_data, GraphSpec
from stream_agent.theory.information import frames_unanswered
from stream_agent.theory.patterns import streaming_edges
import torch
from torch import Tensor


class CloningLearner(DrivingLearner):
    """
    One training on recorded episodes.

    :param network: Trained in place.
    :param preprocessing: Conversion of the input that triggers, as in a ``Policy``.
    :param augmentation: None for none; only of images whose policy has no other input.
    :param held_out: What shows how good the policy is.
    :param steering: Quantity that is learned, as in ``Commands.steering``; empty if unknown.
    :param others: Conversions of the inputs that do not trigger.
    :raises ValueError: If there is no episode, or windows do not fit the graph's schedule.
    """

    def __init__(self, network: RolloutNetwork, preprocessing: Conversion,
                 limits: CommandScale | OutputScale, episodes: Sequence[RecordedEpisode],
                 schedule: CloningSchedule, augmentation: Augmentation | None, seed: int,
                 label: str = 'cloning', held_out: HeldOut = HeldOut(),
                 steering: str = '', others: Mapping[str, Conversion] = {}) -> None:
        check_window(network.graph, schedule)
        if not episodes:
            raise ValueError('there is no episode to learn from; give recordings')
        self.network = network
        self.label = label
        self.preprocessing, self.limits, self.others = preprocessing, limits, others
        self.episodes, self.held_out = list(episodes), held_out
        self.frames = sum(map(len, self.episodes))
        self.steps, self.learning_rate = schedule.steps(self.frames), schedule.learning_rate
        self.updates_per_frame = schedule.updates_per_frame
        self._schedule, self._seed = schedule, seed
        conversions = {trigger_of(network.graph, others): preprocessing, **others}
        self._images = [name for name, one in conversions.items()
                        if isinstance(one, Preprocessing)]
        base_alone = len(conversions) == 1 and isinstance(limits, CommandScale)
        self._augmentation = (augmentation and self._images and augmentation.of_images(base_alone)
                              ) or None
        self._weights = (schedule.weights if isinstance(limits, CommandScale) else
                         schedule.equal_weights(len(limits.names)))
        self._steering = steering
        self._share = distributed.local_slice(schedule.streams)
        self._count = self._share.stop - self._share.start
        self.frames_per_step = self._count * schedule.window
        self._late = frames_unanswered(network.graph, network.pattern) // self.updates_per_frame
        self._sampler = WindowSampler(list(map(len, self.episodes)), schedule.streams,
                                      schedule.window, seed)
        self._state: State | None = None

    def loss(self, step: int) -> Tensor:
        slices = self._sampler.advance()
        frames, targets = self._windows(slices[self._share])
        outputs, state = self.network(frames, self._initial_state(slices[self._share]),
                                      self.updates_per_frame, self.segment)
        self._state = State({name: value.detach() for name, value in state.values.items()},
                            state.frame)
        # Of all streams: the frames that exist, and whose answer depends on an image.
        window = torch.arange(self._schedule.window)
        lengths, walked = torch.tensor([(one.length, one.walked) for one in slices]).T[..., None]
        answered = ((window < lengths) & (window + walked >= self._late)).to(self.device)
        weights = answered[self._share] * (distributed.world_size() / answered.sum().clamp(min=1))
        return (weights * self._errors(outputs, targets)).sum()

    def _errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the single-frame loss of every frame, (B, T)."""
        each = torch.tensor(self._weights, device=outputs.device)
        return ((outputs.float() - targets) ** 2 * each).sum(-1)

    def _windows(self, slices: Sequence[WindowSlice]) -> tuple[dict[str, Tensor], Tensor]:
        """Return frames (B, T, ...) and targets (B, T, outputs); zero after an episode's end."""
        size = len(slices), self._schedule.window
        windows = {name: np.zeros((*size, *source.shape[1:]), source.dtype)
                   for name, source in self.episodes[0].sources.items()}
        targets = np.zeros((*size, self.episodes[0].targets.shape[1]), np.float32)
        for i, one in enumerate(slices):
            episode, part = self.episodes[one.episode], slice(one.first, one.first + one.length)
            for name, values in episode.observations(part).items():
                windows[name][i, :one.length] = values
            targets[i, :one.length] = episode.targets[part]
        return self._augmented(windows, targets, [one.visit for one in slices])

    def _augmented(self, windows: Mapping[str, np.ndarray], targets: np.ndarray,
                   visits: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return frames and targets on the device, changed as every sample's visit draws."""
        frames = as_frames(windows, self.network.shapes, 2, self.device)
        commands = torch.from_numpy(targets).to(self.device)
        if self._augmentation is None:
            return frames, commands
        draws = [self._augmentation.draw(self._seed, visit) for visit in visits]
        for name in self._images:
            frames[name], commands = self._augmentation.applied(frames[name], commands, draws)
        return frames, commands

    def _initial_state(self, slices: Sequence[WindowSlice]) -> State:
        """Return the state in which streams start a window; zero at an episode's start."""
        if self._state is None:
            return self.network.initial_state(self._count)
        continues = torch.tensor([one.walked > 0 for one in slices], device=self.device)
        return State({name: torch.where(continues.view(-1, *[1] * (value.dim() - 1)), value, 0)
                      for name, value in self._state.values.items()}, self._state.frame)

    def figures(self) -> dict[str, Any]:
        return {'epoch': self._sampler.epoch}

    def initial_settings(self) -> dict[str, Any]:
        # Recordings of the same names and lengths may be others.
        commands = hashlib.sha256(b''.join(
            episode.targets.tobytes() for episode in self.episodes)).hexdigest()
        return {'graph': graph_to_data(self.network.graph),
                'pattern': streaming_edges(self.network.pattern),
                'preprocessing': dict(vars(self.preprocessing)), 'limits': asdict(self.limits),
                'other inputs': {
                    name: dict(vars(one)) for name, one in self.others.items()} or None,
                'recordings': sorted({episode.name for episode in self.episodes}),
                'set of commands': commands, **self._about()}

    def _about(self) -> dict[str, Any]:
        return {'lengths': list(map(len, self.episodes)), 'schedule': asdict(self._schedule),
                'augmentation': self._augmentation and asdict(self._augmentation),
                'steering': self._steering}

    def provenance(self) -> dict[str, Any]:
        about = {**self._about(), 'frames': self.frames,
                 'recordings': sorted({episode.name for episode in self.episodes})}
        if self.held_out.episodes:
            about['held_out'] = sorted({episode.name for episode in self.held_out.episodes})
            about['held_out_frames'] = self.held_out.frames
            about['held_out_r2'] = self.scores()
        return about

    def verdict(self, provenance: dict[str, Any]) -> str:
        scores = provenance.get('held_out_r2')
        return '' if scores is None else verdict_on(
            scores, self.held_out, getattr(self.limits, 'names', ()))

    def scores(self) -> dict[str, float]:
        """Return R2 of every output over the held-out episodes, each from its start."""
        targets = np.concatenate([episode.targets for episode in self.held_out.episodes])
        own = commands_inputs(self.others)
        outputs = np.concatenate([predict(self.network, episode, self.updates_per_frame, own=own)
                                  for episode in self.held_out.episodes])
        names = (('speed', 'steering') if isinstance(self.limits, CommandScale)
                 else self.limits.names)
        return {name: round(float(value), 4) for name, value in zip(
            names, r2_score(targets, outputs)) if np.isfinite(value)}

    def state_dict(self) -> tuple[dict[str, Tensor], Any]:
        state = self._state or State({})
        return dict(state.values), {'frame': state.frame, **self._sampler.state_dict()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], data: Any) -> None:
        self._sampler.load_state_dict(data)
        self._state = State({name: value.to(self.device) for name, value in tensors.items()},
                            data['frame']) if tensors else None


def check_window(graph: GraphSpec, schedule: CloningSchedule) -> None:
    """Refuse windows that do not fit the graph's schedule."""
    period = graph.hyperperiod
    if schedule.window * schedule.updates_per_frame % period:
        raise ValueError(f'--window {schedule.window}: the graph repeats itself every {period} '
                         f'update steps; use a multiple of {period}')


def predict(network: RolloutNetwork, episode: RecordedEpisode, updates_per_frame: int = 1,
            chunk: int = 256, own: Mapping[str, CommandsInput] = {},
            known: Sequence[int] | None = None) -> np.ndarray:
    """
    Let a network answer an episode from its first frame on, as on the robot.

    :param chunk: Frames that are computed together.
    :param own: Inputs that are the last commands of the network itself, not the driver's.
    :param known: How many frames are answered when work on each begins; None for all before it.
    :returns: (n, outputs), -1 ... 1.
    """
    device = next(network.parameters()).device
    network.eval()
    found, state = list[np.ndarray](), network.initial_state()
    # What does not depend on what is measured is no command.
    late = frames_unanswered(network.graph, network.pattern) // updates_per_frame
    with torch.inference_mode():
        for first in range(0, len(episode), chunk := 1 if own else chunk):
            observations = episode.observations(slice(first, first + chunk))
            for name, conversion in own.items():
                last = found[late:first if known is None else known[first]]
                observations[name] = conversion(last[::-1])[None]
            frames = as_frames(observations, network.shapes, 1, device)
            output, state = network({name: values.unsqueeze(0) for name, values in
                                     frames.items()}, state, updates_per_frame)
            found.extend(output.squeeze(0).float().cpu().numpy())
    return np.stack(found)


def r2_score(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """
    Return R2 of every output: 1 minus the errors' share of the variance.

    :param targets: (N, outputs).
    :returns: (outputs,); NaN where the targets do not vary by more than they are rounded.
    """
    # In float32, the mean of equal values is another one.
    targets = targets.astype(np.float64)
    deviations = ((targets - targets.mean(0)) ** 2).sum(0)
    errors = ((targets - outputs) ** 2).sum(0)
    return np.where(deviations > 0, 1 - errors / np.where(deviations > 0, deviations, 1), np.nan)
