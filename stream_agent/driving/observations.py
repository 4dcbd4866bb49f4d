"""What a vehicle in the simulator senses and knows of itself, as a network's inputs take it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from stream_agent.command import Command
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, Conversion, ConversionError, OutputScale, ScanInput, VectorInput)
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.policy_parts import most_commands
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.simulation.environment import DrivingEnvironment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
import torch
from torch import Tensor

#: By input node: (C, H, W) uint8 of an image, float32 of anything else.
Observation = dict[str, np.ndarray]
Reader = Callable[[SimulatedFrame, Sequence[Command], float], np.ndarray]
RECORDED = 'learn from recordings (--bag)'


class ObservationError(ValueError):
    """An input that the simulated robot does not have; the message says what to do."""


class Observer:
    """
    Makes a network's inputs of what a vehicle senses.

    :param conversions: By input node.
    :param limits: Of the network's outputs, in whose units it is told its own commands.
    :ivar known_commands: How many of its last commands the vehicle has to remember.
    :ivar sees: Whether images are needed.
    :raises ObservationError: If no simulated robot has such an input.
    """

    def __init__(self, conversions: Mapping[str, Conversion],
                 limits: CommandScale | OutputScale) -> None:
        if not isinstance(limits, CommandScale):
            raise ObservationError(
                f'the policy commands {", ".join(limits.names)}, and the simulated robot is a '
                f'base, which takes speed and yaw rate; {RECORDED}')
        cameras = [name for name, one in conversions.items() if isinstance(one, Preprocessing)]
        if len(cameras) > 1:
            raise ObservationError(f'the inputs {", ".join(cameras)} are images, and the '
                                   f'simulated robot has one camera; {RECORDED}')
        self.sees = bool(cameras)
        self.known_commands = most_commands(conversions)
        self._limits = limits
        self._readers = {name: self._reader(name, one) for name, one in conversions.items()}

    def __call__(self, frame: SimulatedFrame, known: Sequence[Command], start: float
                 ) -> Observation:
        """
        Return a frame's inputs.

        :param known: The vehicle's last commands that are out, the newest first.
        :param start: When the work on the frame begins [s], by the environment's clock.
        :raises ObservationError: If the robot lacks an input.
        """
        return {name: read(frame, known, start) for name, read in self._readers.items()}

    def check(self, settings: SimulationSettings) -> None:
        """
        Try the inputs on a simulated robot at rest.

        :raises ObservationError: If it lacks one.
        """
        environment = DrivingEnvironment(settings, 0, camera=self.sees)
        self(environment.reset(), (), 0.0)

    def _reader(self, name: str, conversion: Any) -> Reader:
        """Return what reads an input."""
        match conversion:
            case Preprocessing():
                return lambda frame, known, start: conversion.pixels(frame.image)
            case ScanInput():
                return partial(read_scan, name, conversion)
            case VectorInput():
                return partial(read_fields, name, conversion)
            case CommandsInput():
                scale_of = self._limits.output
                return lambda frame, known, start: conversion(
                    [scale_of(each) for each in known[:conversion.count]])
            case AgeInput():
                return lambda frame, known, start: conversion(start - frame.time)
        raise ObservationError(f"the input '{name}' is of the kind {conversion.kind}, which the "
                               f'simulated robot does not measure; {RECORDED}')


def read_scan(name: str, conversion: ScanInput, frame: SimulatedFrame,
              known: Sequence[Command], start: float) -> np.ndarray:
    """Return a laser scan as an input takes it."""
    if frame.scan is None:
        raise ObservationError(
            f"the input '{name}' is a laser scan, and the simulated robot has no scanner; give "
            'one that has (--robot scan_car), or scan_rays in the section /**/simulation of '
            'its file')
    try:
        return conversion(frame.scan)
    except ConversionError as error:
        raise ObservationError(f"the input '{name}' does not fit the scanner of the simulated "
                               f'robot: {error}') from None


def read_fields(name: str, conversion: VectorInput, frame: SimulatedFrame,
                known: Sequence[Command], start: float) -> np.ndarray:
    """Return measured numbers as an input takes them."""
    measured = {field: value for fields in frame.sensed.values()
                for field, value in fields.items()}
    try:
        return conversion(np.array([measured[field] for field in conversion.fields]))
    except KeyError as error:
        raise ObservationError(
            f"the input '{name}' takes {error.args[0]}, and the simulated robot measures "
            + '; '.join(f'{", ".join(fields)} ({kind})' for kind, fields in frame.sensed.items())
            + f'; name those in the contract, or {RECORDED}') from None


def as_frames(observations: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]],
              axes: int, device: torch.device | str) -> dict[str, Tensor]:
    """
    Return observations as a network takes them, on its device: uint8 as -0.5 ... 0.5.

    :param observations: Of several vehicles, or windows of such.
    :param shapes: Of the network's nodes; a conversion gives a row of numbers for any of them.
    :param axes: How many axes come before those of a single observation.
    """
    frames = {}
    for name, values in observations.items():
        given = torch.from_numpy(values).to(device).reshape(*values.shape[:axes], *shapes[name])
        frames[name] = scale(given) if given.dtype == torch.uint8 else given
    return frames


def stacked(observations: Sequence[Observation]) -> Observation:
    """Return observations side by side, along a new first axis."""
    return {name: np.stack([each[name] for each in observations]) for name in observations[0]}
