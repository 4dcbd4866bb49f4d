"""What policies learn from: the expert in the simulator, or recordings of a driver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any, NamedTuple

from stream_agent.contract.agreement import disagreements
from stream_agent.contract.contract import Contract, ContractError
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, Conversion, OutputScale, VectorInput)
from stream_agent.contract.settings import IMU, ODOMETRY
from stream_agent.driving.compute_model import (
    ComputeModel, EmulatedRollout, EmulatedTiming, HANDOVER, scaled_costs, timings)
from stream_agent.driving.observations import ObservationError, Observer, RECORDED
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.cloning import check_window, CloningLearner
from stream_agent.learning.held_out import share_in_words, split
from stream_agent.learning.imitation import Collector, filled, Imitation, lengthened
from stream_agent.learning.initial_policy import InitError, InitialPolicy
from stream_agent.learning.recognition import Recognition, SignReader, soften
from stream_agent.learning.recorded_episodes import (
    check_limits, check_scale, cut_recordings, decoded_recordings, episodes_for, largest_of,
    limits_of)
from stream_agent.learning.settings import (
    CloningSchedule, FrameCrop, ImitationSchedule, RecognitionSchedule, RecordingsChoice,
    SIMULATOR_CROP, TrainingError)
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import is_image_shape, Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.recordings.alignment import Alignment, Span
from stream_agent.recordings.cache import CachedRecording
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import find_recordings
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import SPEEDS
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import memory_edges
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.planning.candidates import Device, truncated
from stream_agent.theory.planning.planner import make_plan

# Emulated drives are this many times as long as others: the expert drives a part of them, and a
# slow computer takes only a part of the images. All last equally long, whatever they take.
EMULATED_DRIVES = 3
# Ends the names of folders from which trainings resume.
UNFINISHED = '.unfinished'


class NetworkInputs(NamedTuple):
    """
    How a network's inputs are made.

    :param trigger: The input that makes it step.
    :param conversions: Of every input, by node.
    """

    trigger: str
    conversions: Mapping[str, Conversion]

    @property
    def others(self) -> dict[str, Conversion]:
        """Return the conversions of the inputs that do not trigger."""
        return {name: one for name, one in self.conversions.items() if name != self.trigger}


@dataclass(frozen=True)
class FromExpert:
    """
    Learns in the simulator, from what the expert would do.

    :param robot: Name of the camera and vehicle simulated; empty for the usual ones.
    :param contract: What the robot's topics give; None for one image.
    :param computer: Under whose timing the policy drives; None if it takes no time.
    """

    simulation: SimulationSettings = SimulationSettings()
    robot: str = ''
    computer: ComputeModel | None = None
    schedule: ImitationSchedule = ImitationSchedule()
    crop: FrameCrop = SIMULATOR_CROP
    recognition: RecognitionSchedule = RecognitionSchedule()
    contract: Contract | None = None

    def timing_of(self, label: str, graph: GraphSpec, pattern: dict) -> EmulatedTiming | None:
        """Return when a policy answers; None if no computer is emulated."""
        if self.computer is None:
            return None
        rollout = EmulatedRollout(label, graph, pattern, self.schedule.updates_per_frame)
        return timings([rollout], self.computer, self.simulation.period)[0]

    def rollout(self, graph: GraphSpec, name: str) -> tuple[GraphSpec, Pattern]:
        """
        Return what a planner's word means on the emulated computer.

        :param name: 'planned', what ``plan`` recommends; or 'smaller', the sequential rollout of
            the shallow nodes that fit a camera period.
        :raises TrainingError: If there is no such rollout.
        """
        if self.computer is None:
            raise TrainingError(f'--pattern {name} depends on the computer; add --pass-periods or '
                                '--costs')
        if name == 'smaller' and self.computer.costs is None:
            raise TrainingError('--pattern smaller is timed by its share of the whole graph, '
                                'which only a file of costs tells; add --costs, as '
                                '`plan --save-costs` writes it')
        period = self.simulation.period
        (costs,) = scaled_costs([graph], self.computer, period)
        device = Device(costs, self.computer.execution, period)
        found = (truncated(graph, device) if name == 'smaller' else
                 make_plan(graph, costs, period, device.execution, 1).recommended)
        if found is None:
            raise TrainingError('--pattern smaller: no part of the graph fits into a camera '
                                'period, or all of it does; leave it out')
        return found.rollout.graph, found.rollout.pattern

    def check(self, label: str, network: RolloutNetwork, initial: InitialPolicy | None
              ) -> None:
        """Refuse what cannot be trained, before anything is driven."""
        if self.contract and self.contract.output.is_vector:
            output = self.contract.output
            raise ObservationError(
                f'the robot takes {output.type} for {", ".join(output.names)}, and the simulated '
                f'one is a base, which takes speed and yaw rate; {RECORDED}')
        check_output(network, self.contract)
        self.learner(network, label, 0, None, initial)

    def learner(self, network: RolloutNetwork, label: str, seed: int, folder: Path | None,
                initial: InitialPolicy | None = None) -> Imitation:
        """
        Return what trains a network.

        :param folder: Of the rounds that were driven; None to keep none.
        :param initial: Policy that the network is from; None if its weights were drawn.
        :raises TimingError: If the network cannot run on the emulated computer.
        :raises InitError: If the policy could not drive this robot as the expert does.
        :raises ObservationError: If the simulated robot lacks an input.
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
                              graph, pattern, timing.timeline)
            # Answers are right for the middle of the time that they are in force.
            emulated = {'timeline': timing.timeline, 'aim': 0.5 / timing.figures.rate,
                        'handover': HANDOVER}
        else:
            schedule = lengthened(schedule, graph, pattern)
        limits = limits_for(simulation)
        if initial:
            # Without the margins that these limits have.
            needed = 0.8 * limits.max_speed, 0.75 * limits.max_yaw_rate
            limits = initial.limits_for(needed, 'yaw rate', remedy='choose a slower --robot')
        inputs = self._inputs(network, limits, initial)
        collector = Collector(
            simulation, inputs.conversions[inputs.trigger], limits,
            schedule.environments, schedule.frames, schedule.updates_per_frame,
            pushes=schedule.pushes, others=inputs.others, **emulated)
        recognition = sign_reader = None
        if simulation.signs and not initial:
            soften(network)
            images = [one for one in inputs.conversions.values()
                      if isinstance(one, Preprocessing)]
            recognition = Recognition(
                network, simulation, images[0], self.recognition, seed,
                folder and signs_folder(folder.parent)) if images else None
            if self.recognition.sign_loss and memory_edges(graph):
                sign_reader = SignReader(network, self.recognition.sign_loss)
        return Imitation(network, collector, schedule, seed, label, folder, self.computer,
                         recognition, sign_reader)

    def _inputs(self, network: RolloutNetwork, limits: CommandScale,
                initial: InitialPolicy | None) -> NetworkInputs:
        """Return the network's inputs, once they have been tried on the simulated robot."""
        contract = self.contract
        if initial:
            policy = initial.policy
            inputs = NetworkInputs(policy.trigger, {
                name: policy.conversions[name] for name in network.graph.inputs})
            for fault in contract and disagreements(contract, *inputs, policy.limits) or ():
                raise InitError(f"--init '{initial.path}' does not fit the robot: {fault}")
        else:
            inputs = conversions_of(network, contract, self.crop)
            for name, one in inputs.conversions.items():
                if isinstance(one, VectorInput) and contract:
                    kind = contract.inputs[name].type
                    if kind not in (ODOMETRY, IMU):
                        raise ObservationError(
                            f"the input '{name}' is read of {kind}, which no simulated robot "
                            f'publishes; take {ODOMETRY} or {IMU}, or {RECORDED}')
        Observer(inputs.conversions, limits).check(self.simulation)
        return inputs


def check_output(network: RolloutNetwork, contract: Contract | None) -> None:
    """Refuse a network whose output is not what the robot obeys."""
    names = contract.output.names if contract and contract.output.is_vector else ()
    name = network.graph.output
    if network.shapes[name] != (len(names) or 2,):
        raise ValueError(f"the output '{name}' has the shape {list(network.shapes[name])}; a "
                         f'policy that drives gives [{len(names) or 2}]: '
                         + (', '.join(names) or 'speed, yaw rate'))


def signs_folder(output: Path) -> Path:
    """Return where policies that are trained into a folder share how signs are recognised."""
    return output / f'signs{UNFINISHED}'


def conversions_of(network: RolloutNetwork, contract: Contract | None, crop: FrameCrop
                   ) -> NetworkInputs:
    """
    Return how a network's inputs are made on a robot.

    :param contract: The robot's; None where images are all there is.
    :raises ContractError: If the robot has no such input, or another of that name.
    """
    contract = contract or Contract.of_values({})
    names, known, conversions = network.graph.inputs, contract.inputs, dict[str, Conversion]()
    for name in names:
        shape = network.shapes[name]
        if name in known and not known[name].is_camera:
            conversions[name] = contract.conversion(name, shape)
        elif name in known or len(names) == 1 and is_image_shape(shape):
            # A network of one image may call it as it likes, as before there were contracts.
            conversions[name] = Preprocessing(shape, crop.crop_top, crop.crop_bottom)
        else:
            raise ContractError(
                f"the graph's input '{name}' {list(shape)}: the robot has "
                f'{", ".join(known)}; give one whose contract names it (such as --robot '
                "scan_car), or add it to inputs, in the section /** of the robot's file")
    measured = [name for name, one in conversions.items()
                if not isinstance(one, (AgeInput, CommandsInput))]
    if not measured:
        raise ContractError(f"the graph's inputs {', '.join(names)} are what the agent itself "
                            'knows, and none of them makes it step; add an input of a topic')
    return NetworkInputs(contract.trigger if contract.trigger in measured else measured[0],
                         conversions)


def limits_for(simulation: SimulationSettings) -> CommandScale:
    """
    Return the largest commands of a policy, of which it learns shares.

    The speed is a quarter above the expert's, the yaw rate what steering needs at that speed.
    """
    top = max(simulation.target_speed, *SPEEDS) if simulation.signs else simulation.target_speed
    return CommandScale(max_speed=top / 0.8,
                        max_yaw_rate=min(simulation.max_yaw_rate / 0.75, 2.5 * top))


@dataclass(frozen=True)
class FromRecordings:
    """Learns from recordings of a driver."""

    chosen: RecordingsChoice
    reading: Reading = Reading()
    alignment: Alignment = Alignment()
    schedule: CloningSchedule = CloningSchedule()
    augmentation: Augmentation = Augmentation()
    crop: FrameCrop = FrameCrop()
    contract: Contract | None = None

    def check(self, label: str, network: RolloutNetwork, initial: InitialPolicy | None
              ) -> None:
        """Refuse what cannot be trained, before anything is decoded."""
        check_output(network, self.contract)
        conversions_of(network, self.contract, self.crop)
        check_window(network.graph, self.schedule)
        find_recordings(self.chosen.bag)
        check_folder('--cache', self.chosen.cache or usual_cache())

    def learner(self, network: RolloutNetwork, label: str, seed: int, folder: Path | None = None,
                initial: InitialPolicy | None = None) -> CloningLearner:
        """Return what trains a network, and say what the recordings hold."""
        inputs, chosen = self._inputs(network, initial), self.chosen
        preprocessing = inputs.conversions[inputs.trigger]
        recordings = decoded_recordings(
            chosen.bag, self.reading, preprocessing, chosen.cache or usual_cache(),
            trigger=inputs.trigger, others=inputs.others, contract=self.contract)
        found = cut_recordings(recordings, self.alignment)
        for recording in recordings:
            if recording.left_out:
                print(recording.summary())
        frames = sum(len(span.frames) for _, span in found)
        print(f'{frames:,} frames with a command in {len(found)} episodes of {len(recordings)} '
              'recordings')
        steering = recordings[0].commands.steering
        limits = self._limits(found, steering, initial)
        episodes, held_out = split(episodes_for(found, limits, inputs.conversions),
                                   chosen.held_out)
        if held_out.episodes:
            print(share_in_words(held_out, frames))
        return CloningLearner(
            network, preprocessing, limits, episodes, self.schedule,
            self.augmentation if chosen.augmentation else None, seed, label, held_out, steering,
            inputs.others)

    def _inputs(self, network: RolloutNetwork, initial: InitialPolicy | None) -> NetworkInputs:
        """Return the network's inputs: by the contract, or those of the policy to begin with."""
        if not initial:
            return conversions_of(network, self.contract, self.crop)
        policy = initial.policy
        for fault in self.contract and disagreements(
                self.contract, policy.trigger, policy.conversions, policy.limits) or ():
            raise InitError(f"--init '{initial.path}' does not fit the robot: {fault}")
        return NetworkInputs(policy.trigger, policy.conversions)

    def _limits(self, found: Sequence[tuple[CachedRecording, Span]], steering: str,
                initial: InitialPolicy | None) -> CommandScale | OutputScale:
        """Return what outputs of -1 ... 1 command: what recordings or the contract need."""
        chosen = self.chosen
        if self.contract and self.contract.output.is_vector:
            scale = initial.policy.limits if initial else self.contract.output_scale()
            assert isinstance(scale, OutputScale)  # or the policy to begin with does not fit
            check_scale(found, scale)
            return scale
        if initial:
            return initial.limits_for(largest_of(found), steering, chosen.max_speed,
                                      chosen.max_yaw_rate)
        least = limits_of(found)
        limits = CommandScale(chosen.max_speed or least.max_speed,
                              chosen.max_yaw_rate or least.max_yaw_rate)
        check_limits(found, limits)
        return limits


def usual_cache() -> Path:
    """Return where decoded frames are kept unless the user names a folder."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'stream_agent'


def check_folder(option: str, folder: Path, needed: int = 0) -> None:
    """
    Refuse a folder that cannot be written to, before work is done for what it will hold.

    :param needed: Bytes that will be written there at least.
    :raises TrainingError: With the option to change.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise TrainingError(f"{option} '{folder}': nothing can be written to '{there}' "
                            f'({error.strerror}); give another folder') from None
    free = shutil.disk_usage(there).free
    if needed > free:
        raise TrainingError(f"{option} '{folder}': at least {needed / 1e6:,.3g} MB will be "
                            f'written, and {free / 1e6:,.3g} MB are free; make room, or give '
                            'another folder')
