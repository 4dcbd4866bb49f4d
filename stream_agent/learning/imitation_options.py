"""The command line of learning in the simulator."""

import argparse
from dataclasses import replace
from pathlib import Path

from stream_agent.cli.arguments import add_robot, not_negative, positive, robot_settings
from stream_agent.driving.compute_model import EmulatedRollout, timings
from stream_agent.driving.options import add_computer, computer_of, HANDOVER
from stream_agent.learning.collecting import Collector
from stream_agent.learning.imitation import filled, Imitation, ImitationSchedule, lengthened
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.settings import SimulationSettings

# Times as long as other drives: the expert has the wheel for a part of them, and a slow computer
# takes a part of the images. All drive as long, whatever they take.
EMULATED_DRIVES = 3


def add_imitation(parser: argparse.ArgumentParser) -> None:
    """Take how long a policy is trained, by default as the shipped ones, and on what computer."""
    default = ImitationSchedule()
    group = parser.add_argument_group('learning in the simulator')
    group.add_argument('--rounds', type=positive, default=default.rounds,
                       help='times that the policy drives and learns')
    group.add_argument('--updates', type=not_negative, default=default.updates,
                       help='gradient steps a round')
    group.add_argument('--last-updates', type=not_negative, default=default.last_updates,
                       help='gradient steps after the last round, more')
    add_robot(group)
    add_computer(parser, 'drives in the simulator as if every node took its time, and learns what '
                 'the expert commands by then; to drive under the same timing, give the same '
                 'options to `evaluate`')


def make_learner(arguments: argparse.Namespace, network: RolloutNetwork, label: str,
                 folder: Path) -> Imitation:
    """
    Return what the command line asks for.

    :raises ValueError: If the network cannot run on the computer to emulate, or there is no such
        robot.
    """
    graph, pattern = network.graph, network.pattern
    settings, computer = robot_settings(arguments.robot), computer_of(arguments)
    schedule = replace(ImitationSchedule(), frames=frames(settings), **{
        name: getattr(arguments, name) for name in (
            'rounds', 'updates', 'last_updates', 'updates_per_frame')})
    emulated = {}
    if computer:
        (timing,) = timings([EmulatedRollout(label, graph, pattern, schedule.updates_per_frame)],
                            computer,
                            settings.period)
        seconds = EMULATED_DRIVES * schedule.frames * settings.period
        schedule = filled(replace(schedule, frames=timing.timeline.images_within(seconds)),
                          graph, pattern)
        emulated = {'timeline': timing.timeline, 'aim': timing.aim, 'handover': HANDOVER}
    else:
        schedule = lengthened(schedule, graph, pattern)
    collector = Collector(settings, Preprocessing(network.shapes[network.input], crop_top=0.25),
                          limits(settings), schedule.environments, schedule.frames,
                          schedule.updates_per_frame, **emulated)
    return Imitation(network, collector, schedule, arguments.seed, label, folder, computer)


def limits(settings: SimulationSettings) -> CommandScale:
    """
    Return the largest commands of a policy: a quarter more speed than the expert's.

    The yaw rate is what steering needs at that speed; commands are learnt as shares of these.
    """
    return CommandScale(max_speed=settings.target_speed / 0.8,
                        max_yaw_rate=min(settings.max_yaw_rate / 0.75,
                                         2.5 * settings.target_speed))


def frames(settings: SimulationSettings) -> int:
    """Return how many frames a robot drives at a time, more where it is slower, to come as far."""
    return round(ImitationSchedule().frames
                 * max(1.0, SimulationSettings().target_speed / settings.target_speed))
