"""
The contract: one section of a robot's file, which agent, gate, recorder and tools all read.

In a parameter file it stands under ``/**`` as ``inputs`` and ``output``, so that every process
has it as parameters, such as ``inputs.odometry.topic``; names of inputs are those of the graph's
input nodes. Robots' files without it mean one image and a base, by the parameters of before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_agent.bounded_settings import BoundedSettings, choice, free_text, quantity, several
from stream_agent.contract.conversions import Conversion, OutputScale

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
SCAN, ODOMETRY = 'sensor_msgs/msg/LaserScan', 'nav_msgs/msg/Odometry'
IMU, JOINT_STATE = 'sensor_msgs/msg/Imu', 'sensor_msgs/msg/JointState'
# What the agent itself knows: its last commands, and how old the triggering message is.
OWN_COMMANDS, OWN_AGE = 'own/commands', 'own/age'
#: How the base obeys speed and yaw rate; these are as ``command_type`` was before.
BASE_TYPES = ('twist_stamped', 'twist', 'ackermann', 'twist_steering')
#: How any actuators obey a vector.
VECTOR_TYPES = ('float64_multi_array', 'joint_trajectory', 'joint_state')


class ContractError(ValueError):
    """A contract that cannot hold; the message says place, fault and remedy."""


@dataclass(frozen=True)
class InputSettings(BoundedSettings):
    """Where an input comes from, and what its numbers mean."""

    type: str = free_text(IMAGE, 'type of its messages, as `ros2 topic info` says it; '
                          'own/commands or own/age for what the agent itself knows', 'TYPE')
    topic: str = free_text('', 'its topic, relative to the namespace; empty: the name of the '
                           'input', 'TOPIC')
    trigger: bool = choice(False, 'a message of it makes the network step')
    fields: tuple[str, ...] = several((), 'numbers that are read of a message')
    units: tuple[str, ...] = several((), 'their units')
    low: tuple[float, ...] = ()   # becomes -1; declared by the helper that owns this file
    high: tuple[float, ...] = ()
    align: str = choice('newest', 'which message goes with the trigger: the newest one, the '
                        "newest one that is not later than the trigger's stamp, or a line "
                        'between the two around it', ('newest', 'hold', 'interpolate'))
    oldest: float = quantity(0.5, 's', 0.0, 3600.0, 'age against the trigger up to which it counts')
    stamp: str = choice('header', 'what its time is', ('header', 'arrival'))
    rate: float = quantity(0.0, 'Hz', 0.0, 1e4, 'messages a second; 0: unknown')
    rays: int = quantity(0, '', 0, 100_000, 'rays that the network sees of a scan')
    angle_min: float = quantity(-3.1416, 'rad', -6.3, 6.3, 'of the first of them')
    angle_max: float = quantity(3.1416, 'rad', -6.3, 6.3, 'of the last of them')
    invalid: float = quantity(-1.0, 'm', -1.0, 1e4, 'what a faulty range or depth counts as; -1: '
                              'the greatest')
    count: int = quantity(1, '', 1, 1000, 'of own/commands: how many of the last')


@dataclass(frozen=True)
class OutputSettings(BoundedSettings):
    """Who obeys, and within which limits."""

    type: str = choice('twist_stamped', 'message of the commands', BASE_TYPES + VECTOR_TYPES)
    topic: str = free_text('cmd_vel', 'its topic', 'TOPIC')
    # Of vector types; one value stands for all of them.
    names: tuple[str, ...] = several((), 'joints or whatever obeys, in the order of the output')
    quantity: str = choice('velocity', 'what is commanded', ('position', 'velocity', 'effort'))
    units: tuple[str, ...] = several((), 'their units')
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    max_rate: tuple[float, ...] = ()          # greatest change in a second
    max_acceleration: tuple[float, ...] = ()  # greatest change of that in a second; empty: none
    measured_topic: str = free_text('joint_states', 'sensor_msgs/JointState with the present '
                                    'positions, without which nothing that holds a position '
                                    'moves', 'TOPIC')
    horizon: float = quantity(0.05, 's', 0.001, 10.0, 'time_from_start of a joint_trajectory')

    @property
    def stop(self) -> str:
        """What a stop is: 'hold' the last position, or 'zero' velocity or effort."""
        return 'hold' if self.quantity == 'position' and self.type in VECTOR_TYPES else 'zero'


@dataclass(frozen=True)
class Contract:
    """
    What a robot gives and takes.

    :param given: Whether a file says it; else it is the contract of before.
    """

    inputs: Mapping[str, InputSettings]
    output: OutputSettings
    given: bool = True

    @classmethod
    def of_values(cls, values: Mapping[str, Any], places: Mapping[str, str] = {}) -> 'Contract':
        """
        Make a contract of parameters by their names, such as 'inputs.odometry.topic'.

        Where none begins with 'inputs.' or 'output.', it is made of the parameters of before:
        image_transport, command_type.

        :param places: FILE:LINE of each, for errors.
        :raises ContractError: If a name is unknown, a value not allowed, or two contradict.
        """
        raise NotImplementedError

    @property
    def trigger(self) -> str:
        """Return the name of the input that usually makes the network step."""
        raise NotImplementedError

    def conversion(self, name: str, shape: Sequence[int]) -> Conversion:
        """Return what makes the numbers of an input node (not for images)."""
        raise NotImplementedError

    def output_scale(self) -> OutputScale:
        """Return what a network's outputs mean, for vector types."""
        raise NotImplementedError
