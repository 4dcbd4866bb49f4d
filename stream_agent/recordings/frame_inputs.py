"""
The inputs of a network at every frame of a recording, as they were on the robot.

Messages are fed to the buffers that the agent has, by the times at which they were received, so
that a frame gets what the agent would have given it; nothing is aligned by another rule.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

from stream_agent.contract.agreement import kind_of, sources
from stream_agent.contract.alignment import Absence, InputBuffer
from stream_agent.contract.contract import Contract
from stream_agent.contract.messages import read_values, stamp_of
from stream_agent.contract.settings import InputSettings, OutputSettings
from stream_agent.images import compressed_to_array, image_to_array, stamp_of_serialized
from stream_agent.recordings.bags import deserialized, has_header
from stream_agent.recordings.recording import BadRecordingError, LackingFrameError, NS

DECODERS = {'sensor_msgs/msg/Image': image_to_array,
            'sensor_msgs/msg/CompressedImage': compressed_to_array}
#: Kinds of conversions whose values the agent itself knows, and no topic gives.
OWN_KINDS = ('commands', 'age')


@dataclass(frozen=True)
class WantedInputs:
    """
    What of a recording a network reads.

    :param trigger: Name of the input whose messages are the frames.
    :param kinds: Of the conversions of all inputs, by their names; 'image' of images.
    :param inputs: Where a contract says that they come from; what it leaves open is missing.
    :param output: Who obeyed the driver; None for a base of which no contract says more.
    """

    trigger: str
    kinds: Mapping[str, str]
    inputs: Mapping[str, InputSettings] = field(default_factory=dict)
    output: OutputSettings | None = None

    @property
    def others(self) -> dict[str, InputSettings]:
        """The inputs that topics give, but for the trigger."""
        return {name: settings for name, settings in self.inputs.items() if name != self.trigger}

    @property
    def image_alone(self) -> bool:
        """Whether a recording without topics, such as a tub, has all of it."""
        return self.kinds[self.trigger] == 'image' and not self.others and (
            self.output is None or not self.output.is_vector)

    @property
    def ages(self) -> list[str]:
        """The inputs that are the age of the frame."""
        return [name for name, kind in self.kinds.items() if kind == 'age']


IMAGE_ALONE = WantedInputs('image', {'image': 'image'})


def wanted_inputs(contract: Contract | None, trigger: str, conversions: Mapping[str, Any]
                  ) -> WantedInputs:
    """
    Return what of recordings a network reads.

    :param contract: None for one image and a base, of which the recording has one topic each.
    :param conversions: Of all inputs, by their names.
    :raises BadRecordingError: If the contract does not say where one of them comes from.
    """
    kinds = {name: kind_of(conversion) for name, conversion in conversions.items()}
    given: Mapping[str, InputSettings] = {}
    named, output = dict(zip(kinds, kinds)), None
    if contract and contract.given:
        given, output = contract.inputs, contract.output
        named = sources(contract, trigger, conversions)
    inputs = {}
    for name, kind in kinds.items():
        if kind in OWN_KINDS:
            continue
        if named[name] in given:
            inputs[name] = given[named[name]]
        elif kind != 'image' or name != trigger or given:
            known = f"its inputs are {', '.join(given)}" if given else 'none is given'
            raise BadRecordingError(
                f"input '{name}': the contract does not say which topic of a recording gives it "
                f"({known}); give the robot's file that has it under inputs by --robot FILE")
    return WantedInputs(trigger, kinds, inputs, output)


def all_inputs(contract: Contract, full_name: Callable[[str], str]) -> WantedInputs:
    """
    Return all inputs that a contract takes from topics, whatever network reads them.

    :param full_name: Returns the name under which a topic is recorded.
    """
    inputs = {name: replace(settings, topic=full_name(settings.topic))
              for name, settings in contract.inputs.items() if not settings.is_own}
    kinds = {name: 'depth' if settings.is_depth else settings.kind
             for name, settings in contract.inputs.items()}
    return WantedInputs(contract.trigger, kinds, inputs,
                        contract.output if contract.given else None)


class Received(NamedTuple):
    """
    A message of a recording.

    :param time: When it was recorded [ns].
    """

    time: int
    data: bytes
    type: str

    @property
    def header_stamp(self) -> int:
        """The stamp of its header [ns]; when it was recorded if its type has none."""
        return stamp_of_serialized(self.data) if has_header(self.type) else self.time

    def values(self, settings: InputSettings, kind: str) -> Any:
        """
        Return the values of an input, as its conversion takes them.

        :param kind: Of the conversion.
        :raises MissingValue: If the message does not have them.
        :raises ImageError: If it is damaged.
        """
        message = deserialized(self.data, self.type)
        # Of images, either transport may have been recorded.
        return DECODERS[self.type](message) if kind == 'image' else read_values(settings, message)


class InputFeed:
    """
    What goes with the frames of a recording, from the messages in the order of reception.

    :ivar faults: Messages that cannot be used, by input.
    :ivar first_faults: Of each of them the first, in words.
    """

    def __init__(self, wanted: WantedInputs) -> None:
        self._wanted = wanted
        self._buffers = {name: InputBuffer(settings) for name, settings in wanted.others.items()}
        self.faults: Counter[str] = Counter()
        self.first_faults: dict[str, str] = {}

    def add(self, names: Iterable[str], message: Received) -> None:
        """Take a message for some inputs."""
        for name in names:
            try:
                self._add(name, message)
            except ValueError as fault:
                self.faults[name] += 1
                self.first_faults.setdefault(name, str(fault))

    def _add(self, name: str, message: Received) -> None:
        settings, kind = self._wanted.inputs[name], self._wanted.kinds[name]
        values: Any
        if kind in ('image', 'depth'):
            # Decoded only for frames that take it, and once for all of them.
            stamp, values = message.header_stamp, cache(partial(message.values, settings, kind))
        else:
            found = deserialized(message.data, message.type)
            stamp = stamp_of(settings, found) if settings.stamp == 'header' else message.time
            values = read_values(settings, found)
        self._buffers[name].add(stamp, message.time, values)

    def at(self, stamp: int, received: int, is_stamped: bool) -> Callable[[], dict[str, Any]]:
        """
        Return what gives the inputs that go with a frame.

        :param is_stamped: Whether the stamp is that of a header.
        """
        found = {name: buffer.at(stamp, received) for name, buffer in self._buffers.items()}
        age = (received - stamp) / NS if is_stamped and stamp > 0 else 0.0
        return partial(self._given, found, age)

    def _given(self, found: Mapping[str, Any], age: float) -> dict[str, Any]:
        values = dict.fromkeys(self._wanted.ages, age)
        for name, value in found.items():
            if isinstance(value, Absence):
                raise LackingFrameError(f"frames without input '{name}'", self._why(name, value))
            try:
                values[name] = value() if callable(value) else value
            except ValueError as fault:
                raise LackingFrameError(f"frames whose input '{name}' cannot be decoded",
                                        f"input '{name}': {fault}") from fault
        return values

    def _why(self, name: str, absence: Absence) -> str:
        """Say why an input is absent."""
        said = f"input '{name}' of topic '{self._wanted.inputs[name].topic}': {absence}"
        if fault := self.first_faults.get(name):
            said += f'; first of its messages that cannot be used: {fault}'
        return said
