"""What a robot's contract means for the processes that ``run`` and the launch files start."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any, NamedTuple

from stream_agent.contract.contract import Contract
from stream_agent.contract.settings import COMPRESSED, IMAGE
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.share import InstallationError, policy_file
from stream_agent.simulation.settings import TOPICS
from stream_agent.theory.checks import GraphError

#: What the simulator hears.
HEARD, HEARD_TYPE = 'cmd_vel', 'twist_stamped'


class NoSuchRobotError(ValueError):
    """A robot that cannot be simulated; the message says why, and what can."""


class Simulated(NamedTuple):
    """
    What differs where a simulator stands for the robot, which sends raw images and hears twists.

    :param seen: Parameters of whoever takes the inputs, and of whoever takes all of it.
    :param heard: Parameters of whoever takes the output.
    :param topics: The robot's topics by those of the simulator.
    """

    seen: dict[str, str]
    heard: dict[str, str]
    topics: dict[str, str]

    @property
    def remappings(self) -> list[str]:
        """The arguments of a simulator that has the topics of the robot."""
        return [word for usual, topic in self.topics.items() if topic != usual
                for word in ('-r', f'{usual}:={topic}')]


def simulated(contract: Contract) -> Simulated:
    """
    Return what differs where a simulator stands for the robot.

    :raises NoSuchRobotError: If it has other actuators than a base.
    """
    if contract.output.is_vector:
        raise NoSuchRobotError(
            f"{contract.place('output.type')}output.type is {contract.output.type}, and a "
            'simulator here drives a base; take a robot with a base, or learn from recordings')
    if not contract.given:
        # The topics of such a file are for launch files, which remap.
        return Simulated({'image_transport': 'raw'}, {'command_type': HEARD_TYPE}, {})
    seen: dict[str, str] = {}
    topics = {HEARD: contract.output.topic}
    for name, settings in contract.inputs.items():
        topic, kind = settings.topic, settings.type
        if kind == COMPRESSED:
            topic, kind = topic.removesuffix('/compressed'), IMAGE
            seen |= {f'inputs.{name}.type': kind, f'inputs.{name}.topic': topic}
        if kind in TOPICS and not settings.is_depth:
            # Of two cameras the simulator has the one that triggers, or the first.
            usual = topics.setdefault(TOPICS[kind], topic)
            if settings.trigger and usual != topic:
                topics[TOPICS[kind]] = topic
    return Simulated(seen, {'output.type': HEARD_TYPE} if contract.output.type != HEARD_TYPE
                     else {}, topics)


def trigger_of_policy(checkpoint: str | Path, contract: Contract) -> str:
    """
    Return which of a contract's inputs makes a policy step, without torch.

    :returns: '' for the contract's own trigger: also of a policy that cannot be read, of which
        the agent says what is wrong with it.
    """
    try:
        header = read_metadata(policy_file(checkpoint))
        graph = graph_from_data(json.loads(header['graph']))
        others = json.loads(header.get('inputs', '{}'))
    except (OSError, ValueError, LookupError, TypeError, GraphError, InstallationError):
        return ''
    triggers = [name for name in graph.inputs if name not in others]
    return triggers[0] if len(triggers) == 1 and triggers[0] in contract.inputs else ''


def read_metadata(path: Path) -> Mapping[str, Any]:
    """Return what a policy's file says of it; ValueError or LookupError if it is none."""
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if length > path.stat().st_size - 8:
            raise ValueError('it ends within its header')
        return json.loads(file.read(length))['__metadata__']
