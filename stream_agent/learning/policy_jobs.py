"""Policies to train, each a job: from a graph, and what it learns from, to the policy's file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
import os
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from stream_agent.driving.compute_model import (
    ComputeModel, EmulatedRollout, EmulatedTiming, HANDOVER, timings)
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning import distributed
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.cloning import (
    assign_folds, check_limits, CloningLearner, cut_recordings, decoded_recordings, episodes_for,
    limits_of)
from stream_agent.learning.imitation import Collector, filled, Imitation, lengthened
from stream_agent.learning.settings import (
    CloningSchedule, FrameCrop, ImitationSchedule, RecordingsChoice, SIMULATOR_CROP,
    TrainerOptions)
from stream_agent.learning.trainer import DrivingLearner, Trainer, TrainingOutcome
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.learning.worker_pool import run_side_by_side
from stream_agent.network.checkpoint import CommandScale, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import allow_transforms
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    newest_image_pattern, pattern_from_streams, sequential_pattern)
import torch

# Emulated drives are this many times as long as others: the expert drives a part of them, and a
# slow computer takes only a part of the images. All last equally long, whatever they take.
EMULATED_DRIVES = 3


@dataclass(frozen=True)
class FromExpert:
    """
    Learns in the simulator, from what the expert would do.

    :param robot: Name of the camera and vehicle simulated; empty for the usual ones.
    :param computer: Under whose timing the policy drives; None if it takes no time.
    """

    simulation: SimulationSettings = SimulationSettings()
    robot: str = ''
    computer: ComputeModel | None = None
    schedule: ImitationSchedule = ImitationSchedule()
    crop: FrameCrop = SIMULATOR_CROP

    def timing_of(self, label: str, graph: GraphSpec, pattern: dict) -> EmulatedTiming | None:
        """Return when a policy answers; None if no computer is emulated."""
        if self.computer is None:
            return None
        rollout = EmulatedRollout(label, graph, pattern, self.schedule.updates_per_frame)
        return timings([rollout], self.computer, self.simulation.period)[0]

    def learner(self, network: RolloutNetwork, label: str, seed: int, folder: Path | None
                ) -> Imitation:
        """
        Return what trains a network.

        :param folder: Of the rounds that were driven; None to keep none.
        :raises TimingError: If the network cannot run on the emulated computer.
        """
        graph, pattern, simulation = network.graph, network.pattern, self.simulation
        # A slower robot drives more frames, to come as far.
        slower = max(1.0, SimulationSettings().target_speed / simulation.target_speed)
        schedule = replace(self.schedule, frames=round(self.schedule.frames * slower))
        timing = self.timing_of(label, graph, pattern)
        emulated: dict[str, Any] = {}
        if timing:
            seconds = EMULATED_DRIVES * schedule.frames * simulation.period
            schedule = filled(replace(schedule, frames=timing.timeline.images_within(seconds)),
                              graph, pattern)
            # Answers are right for the middle of the time that they are in force.
            emulated = {'timeline': timing.timeline, 'aim': 0.5 / timing.figures.rate,
                        'handover': HANDOVER}
        else:
            schedule = lengthened(schedule, graph, pattern)
        collector = Collector(
            simulation, preprocessing_of(network, self.crop), limits_for(simulation),
            schedule.environments, schedule.frames, schedule.updates_per_frame, **emulated)
        return Imitation(network, collector, schedule, seed, label, folder, self.computer)


def preprocessing_of(network: RolloutNetwork, crop: FrameCrop) -> Preprocessing:
    """Return how images become a network's input."""
    return Preprocessing(network.shapes[network.input], crop.crop_top, crop.crop_bottom)


def limits_for(simulation: SimulationSettings) -> CommandScale:
    """
    Return the largest commands of a policy, of which it learns shares.

    The speed is a quarter above the expert's, the yaw rate what steering needs at that speed.
    """
    return CommandScale(max_speed=simulation.target_speed / 0.8,
                        max_yaw_rate=min(simulation.max_yaw_rate / 0.75,
                                         2.5 * simulation.target_speed))


@dataclass(frozen=True)
class FromRecordings:
    """Learns from recordings of a driver."""

    chosen: RecordingsChoice
    reading: Reading = Reading()
    alignment: Alignment = Alignment()
    schedule: CloningSchedule = CloningSchedule()
    augmentation: Augmentation = Augmentation()
    crop: FrameCrop = FrameCrop()

    def learner(self, network: RolloutNetwork, label: str, seed: int, folder: Path | None = None
                ) -> CloningLearner:
        """Return what trains a network, and say what the recordings hold."""
        preprocessing, chosen = preprocessing_of(network, self.crop), self.chosen
        recordings = decoded_recordings(chosen.bag, self.reading, preprocessing,
                                        chosen.cache or usual_cache())
        found = cut_recordings(recordings, self.alignment)
        for recording in recordings:
            if recording.left_out:
                print(recording.summary())
        frames = sum(len(span.frames) for _, span in found)
        print(f'{frames:,} frames with a command in {len(found)} episodes of {len(recordings)} '
              'recordings')
        least = limits_of(found)
        limits = CommandScale(chosen.max_speed or least.max_speed,
                              chosen.max_yaw_rate or least.max_yaw_rate)
        check_limits(found, limits)
        episodes, held_out = split(episodes_for(found, limits), chosen.held_out)
        return CloningLearner(
            network, preprocessing, limits, episodes, self.schedule,
            self.augmentation if chosen.augmentation else None, seed, label, held_out,
            recordings[0].commands.steering)


def usual_cache() -> Path:
    """Return where decoded frames are kept unless the user names a folder."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'stream_agent'


def split(episodes: Sequence[RecordedEpisode], share: float
          ) -> tuple[list[RecordedEpisode], list[RecordedEpisode]]:
    """
    Divide into what is learnt from and what is held out, by recordings or else by episodes.

    :raises ValueError: If there is only one episode.
    """
    if not share:
        return list(episodes), []
    names = [episode.name for episode in episodes]
    count = max(2, round(1 / share))
    if len(set(names)) < count:
        names = [f'{name} {number:06}' for number, name in enumerate(names)]
    if len(set(names)) < 2:
        raise ValueError('there is only one episode, so nothing can be held out; give more '
                         'recordings, or --held-out 0')
    folds = assign_folds(names, list(map(len, episodes)), min(count, len(set(names))))
    return ([episode for episode, fold in zip(episodes, folds) if fold],
            [episode for episode, fold in zip(episodes, folds) if not fold])


@dataclass(frozen=True)
class PolicyJob:
    """
    One policy to train.

    :param graph: File of the graph.
    :param pattern: As ``pattern_of`` takes it.
    :param output: Folder of the policies.
    :param trainer: Gradient steps and learning rate are the learner's instead.
    :param allow: Names of the transforms from outside that the graph may import.
    """

    graph: Path
    pattern: str
    label: str
    source: FromExpert | FromRecordings
    output: Path
    trainer: TrainerOptions
    allow: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the files."""
        return f'{self.graph.stem}_{self.label}'

    @property
    def folder(self) -> Path:
        """Folder of what a stopped training resumes from, apart from the policies."""
        return self.output / f'{self.name}.unfinished'


class Result(NamedTuple):
    """
    What became of a job.

    :param path: The policy's file.
    :param steps: Gradient steps of the whole training.
    :param verdict: How good the policy is; empty if that is not known.
    """

    path: Path
    outcome: TrainingOutcome
    steps: int
    verdict: str


def pattern_of(graph: GraphSpec, name: str) -> dict[tuple[str, str], int]:
    """
    Return the pattern that a name on the command line means.

    :param name: 'streaming' or 'newest-image' (edges that leave the image are R = 0),
        'sequential', or the edges that stream, as 'a->b,b->b'.
    """
    if name in ('streaming', 'newest-image'):
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, [edge.strip() for edge in name.split(',')])


def train(job: PolicyJob) -> Result:
    """Train one policy, from where an earlier training of it stopped, and write it."""
    torch.set_num_threads(1)
    torch.manual_seed(job.trainer.seed)
    allow_transforms(job.allow)
    graph = load_graph(job.graph)
    network = RolloutNetwork(graph, pattern_of(graph, job.pattern))
    output = network.graph.output
    if network.shapes[output] != (2,):
        raise ValueError(f"the output '{output}' has the shape {list(network.shapes[output])}; a "
                         'policy that drives gives [2]: speed, yaw rate')
    learner = job.source.learner(network, job.label, job.trainer.seed, job.folder)
    options = replace(job.trainer, steps=learner.steps, learning_rate=learner.learning_rate)
    outcome = Trainer(learner, options, job.folder).run()
    return write_policy(job, learner, outcome)


def write_policy(job: PolicyJob, learner: DrivingLearner, outcome: TrainingOutcome) -> Result:
    """Write the policy as it is; one that was stopped does not replace one that was finished."""
    path = job.output / f'{job.name}.safetensors'
    stopped = path.with_suffix('.stopped.safetensors')
    verdict = ''
    if distributed.rank() == 0:
        provenance = learner.provenance()
        verdict = learner.verdict(provenance)
        training = {'command': 'stream_agent train', 'date': date.today().isoformat(),
                    'seed': job.trainer.seed, **provenance,
                    **({'robot': robot} if (robot := getattr(job.source, 'robot', '')) else {}),
                    'torch': torch.__version__, 'duration_s': round(outcome.seconds)}
        if not outcome.finished:
            training['stopped'] = f'at step {outcome.step} of {learner.steps}'
        path.parent.mkdir(parents=True, exist_ok=True)
        save_policy(path if outcome.finished else stopped,
                    Policy(learner.network, learner.preprocessing, learner.limits, job.label,
                           training, learner.updates_per_frame))
        if outcome.finished:
            stopped.unlink(missing_ok=True)
    return Result(path if outcome.finished else stopped, outcome, learner.steps, verdict)


def train_all(jobs: Sequence[PolicyJob], workers: int, fresh: bool = False
              ) -> list[Result | None]:
    """
    Train the policies side by side; with torchrun, all processes train one after the other.

    :param workers: Policies to train side by side.
    :param fresh: Start anew, even if an earlier training could be resumed.
    :returns: What became of the jobs; None for those not started before a stop.
    :raises TimingError: If a policy cannot run on the emulated computer, before any is trained.
    """
    for job in jobs:
        if isinstance(job.source, FromExpert) and job.source.computer:
            allow_transforms(job.allow)
            graph = load_graph(job.graph)
            job.source.timing_of(job.label, graph, pattern_of(graph, job.pattern))
    if fresh and distributed.rank() == 0:
        remove_unfinished(jobs)
    if len(jobs) > 1 and distributed.world_size() == 1:
        return run_side_by_side(train, jobs, workers)
    results: list[Result | None] = []
    for job in jobs:
        stopped = results and not (results[-1] and results[-1].outcome.finished)
        results.append(None if stopped else train(job))
    return results


def remove_unfinished(jobs: Sequence[PolicyJob]) -> None:
    """Remove what stopped trainings would resume from."""
    for job in jobs:
        if job.folder.exists():
            shutil.rmtree(job.folder)
