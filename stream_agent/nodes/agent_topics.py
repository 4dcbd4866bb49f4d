"""Which topics feed an agent's network, as the contract says, and how its output is sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
import math
from statistics import median
import time
from typing import Any, NamedTuple, TYPE_CHECKING

from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from stream_agent.command import STOP
from stream_agent.contract.agreement import disagreements, kind_of, sources
from stream_agent.contract.alignment import Absence, InputBuffer
from stream_agent.contract.conversions import Conversion, ConversionError, OutputScale
from stream_agent.contract.messages import check_fields, MissingValue, read_values, stamp_of
from stream_agent.contract.settings import COMPRESSED, InputSettings
from stream_agent.engine.frame_filter import (
    Changes, FrameFilterSettings, moves, RATE_TOLERANCE)
from stream_agent.images import (
    compressed_to_array, depth_to_array, image_to_array, ImageError, SerializedCompressedImage,
    SerializedImage)
from stream_agent.measurement.durations import Rate
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.policy_parts import most_commands
from stream_agent.nodes.messages import (
    as_callback, foreign_sender, image_source, ImageSource, make_stop_request, message_class,
    received_ns, SerializedJointState, SerializedTwist, stamp_to_ns, why_no_messages)
from stream_agent.nodes.process import hand_over

if TYPE_CHECKING:
    from stream_agent.nodes.agent_node import AgentNode

NS = 10**9
#: A message that cannot be read, or lacks what the network reads.
UNREADABLE = ImageError, MissingValue, ConversionError
# How many messages may wait while the network steps: of the newest only those of other
# publishers on the same topic are needed.
NEWEST_WAITING, ALL_WAITING = 5, 100
# Messages whose median age tells whether two clocks agree, and by how much those may differ [s].
AGES, CLOCKS_DIFFER = 30, 0.1
# By so much a stamp may be ahead of the clock here [s].
AHEAD = 0.005
# For so long after activation [s] inputs may be missing for a moment, and nothing is said.
START = 3.0


class ReadMessage(NamedTuple):
    """
    What a message says to a network; images have a type of their own.

    :param data: Its bytes from behind the stamp on.
    """

    stamp_ns: int
    frame_id: str
    values: Any
    data: memoryview


def read_message(kind: type, settings: InputSettings, triggers: bool, data: bytes) -> ReadMessage:
    """
    Read a serialized message.

    :param triggers: Whether it makes the network step: then its time is the header's stamp, which
        its command carries, and otherwise that of what it says, as of a scan's last ray.
    :raises ImageError: If the bytes are not such a message.
    :raises MissingValue: If it lacks what the input names.
    """
    try:
        message = deserialize_message(data, kind)
    except Exception as error:
        raise ImageError(f'a message of {len(data)} bytes is not a {settings.type} ({error}); '
                         'look what sends it') from None
    header, stamp_ns = getattr(message, 'header', None), 0
    if header and settings.stamp == 'header':
        stamp_ns = stamp_to_ns(header.stamp) if triggers else stamp_of(settings, message)
    return ReadMessage(stamp_ns, header.frame_id if header else '',
                       read_values(settings, message), memoryview(data)[12 if header else 4:])


def source_of(name: str, settings: InputSettings, conversion: Any, triggers: bool) -> ImageSource:
    """
    Return how the messages of an input are received and read.

    :param name: In the contract.
    :param triggers: Whether they make the network step.
    :raises ValueError: If their type is not installed, or lacks what is to be read.
    """
    topic = settings.topic or name
    if kind_of(conversion) in ('image', 'depth'):
        kind, reader, pixels = (
            (CompressedImage, SerializedCompressedImage, compressed_to_array)
            if settings.type == COMPRESSED else
            (Image, SerializedImage, depth_to_array if kind_of(conversion) == 'depth'
             else image_to_array))
        return ImageSource(kind, topic, reader.read if settings.stamp == 'header' else
                           lambda data: reader.read(data)._replace(stamp_ns=0), pixels)
    try:
        kind = message_class(settings.type)
        check_fields(settings, kind())
    except ValueError as error:
        raise ValueError(f'inputs.{name}: {error}') from None
    return ImageSource(kind, topic, partial(read_message, kind, settings, triggers),
                       lambda message: message.values)


class OtherInput:
    """
    An input that does not make the network step: a buffer of what its topic sends.

    :param name: Of the network's input node.
    :param source: Its name in the contract.
    :param shape: Of the input node.
    """

    def __init__(self, agent: AgentNode, name: str, source: str, conversion: Conversion,
                 shape: tuple[int, ...]) -> None:
        self.name, self.given_as = name, source
        self.settings = agent.contract.inputs[source]
        self._agent, self._conversion, self._shape = agent, conversion, shape
        self.source = source_of(source, self.settings, conversion, triggers=False)
        self._buffer = InputBuffer(self.settings)
        self._taken: Any = None
        self._ages: deque[float] = deque(maxlen=AGES)
        self.rate, self.unreadable = Rate(), 0

    def subscribe(self) -> None:
        """Begin to listen."""
        waiting = NEWEST_WAITING if self.settings.align == 'newest' else ALL_WAITING
        self.sub = self._agent.create_subscription(
            self.source.kind, self.source.topic, as_callback(self.on_message),
            QoSProfile(depth=waiting, reliability=ReliabilityPolicy.BEST_EFFORT), raw=True)

    def on_message(self, data: bytes, info: dict[str, Any]) -> None:
        """Keep a serialized message until the network steps; what cannot be read is counted."""
        arrival_ns = received_ns(self._agent, info)
        try:
            message = self.source.read(data)
            self._buffer.add(message.stamp_ns, arrival_ns, message.values if isinstance(
                message, ReadMessage) else message)
        except UNREADABLE as error:
            self._refuse(error, f'input {self.name} unreadable')
            return
        self._ages.append((arrival_ns - message.stamp_ns) / NS)
        self.rate.add()

    def _refuse(self, error: Exception, reason: str) -> None:
        """Count a message that cannot be read, and have it said."""
        self.unreadable += 1
        self._agent.frame_filter.reasons[reason] = (
            f"the input '{self.name}' on '{self.sub.topic_name}': {error}")

    def at(self, stamp_ns: int, now_ns: int) -> np.ndarray | Absence:
        """
        Return what the network reads for a frame.

        :param stamp_ns: Of the frame.
        :param now_ns: When the work on it begins.
        """
        # What has arrived while the network was stepped; it never ends where it comes faster.
        for _ in range(ALL_WAITING):
            if not hand_over(self.sub):
                break
        found = self._buffer.at(stamp_ns, now_ns)
        if not isinstance(found, Absence) and found is not self._taken:
            try:
                frame = self._conversion(self.source.pixels(found) if isinstance(
                    found, (SerializedImage, SerializedCompressedImage)) else found)
            except UNREADABLE as error:
                self._refuse(error, f'unreadable {self.name}')
                return Absence('unreadable', None, self.settings.oldest)
            self._taken, self._frame = found, frame.reshape(self._shape)
        return found if isinstance(found, Absence) else self._frame

    @property
    def age(self) -> float:
        """How old its messages are when they arrive [s]: the median of the last; or NaN."""
        return median(self._ages) if self._ages and self.settings.stamp == 'header' else math.nan

    def clock_fault(self, usual: float) -> str:
        """
        Say how far its sender's clock is off; '' if it is not.

        :param usual: The median age of the messages that make the network step [s], or NaN.
        """
        off = len(self._ages) == AGES and (
            self.age < -AHEAD or abs(self.age - usual) > CLOCKS_DIFFER)
        return f"messages on '{self.sub.topic_name}' arrive {self.age:.3g} s after their stamp" + (
            f', and those that trigger {usual:.3g} s' * (usual == usual)) + (
            '; set the clocks of all computers alike (chronyc tracking says how far one is off), '
            f'or inputs.{self.given_as}.stamp to arrival') if off else ''

    def explain(self, absence: Absence) -> str:
        """Say why frames have no command, and what to do."""
        topic = self.sub.topic_name
        why = '' if self.rate.now() else '; ' + why_no_messages(
            self._agent, self.sub, f"what sends '{topic}'", f'inputs.{self.given_as}.type',
            f'{self.source.topic}:=TOPIC')
        return f"no command, as of the input '{self.name}' on '{topic}' {absence}{why}"


class AgentInputs:
    """
    All inputs of a policy: the message that makes its network step, and the others as they are.

    :ivar trigger: How the former is received and read.
    :ivar alone: Whether there are no others.
    :ivar noun: What it is, for messages; and ``sender`` who usually sends it.
    :ivar remedy: What to set where its type is another one.
    :ivar commands: The policy's last published outputs, the newest first, for itself to read.
    :ivar absent: Why frames since the last look had no command, by input.
    :raises ValueError: If policy and contract do not agree, or a topic cannot be read.
    """

    def __init__(self, agent: AgentNode) -> None:
        policy, contract = agent.policy, agent.contract
        if faults := [*disagreements(contract, policy.trigger, policy.conversions,
                                     policy.limits)]:
            raise ValueError('\n'.join(faults))
        named = sources(contract, policy.trigger, policy.conversions)
        settings = contract.inputs[named[policy.trigger]]
        self._agent, self._trigger = agent, policy.trigger
        self._by_arrival, self._kind = settings.stamp == 'arrival', kind_of(policy.preprocessing)
        self.noun, self.sender, self.remedy = 'image', 'camera driver', 'image_transport'
        if contract.given:
            self.remedy = f'inputs.{named[policy.trigger]}.type'
            self.trigger = source_of(named[policy.trigger], settings, policy.preprocessing,
                                     triggers=True)
        else:
            self.trigger = image_source(agent.get_parameter('image_transport').value)
        if self._kind not in ('image', 'depth'):
            self.noun, self.sender = 'message', f"sender of '{self.trigger.topic}'"
        period = agent.frame_filter.settings.camera_period
        if settings.rate and abs(settings.rate * period - 1) > RATE_TOLERANCE:
            agent.get_logger().warning(
                f'inputs.{named[policy.trigger]}.rate is {settings.rate:g} Hz, and camera_period '
                f'{period:.3g} s; set camera_period to {1 / settings.rate:.4g}')
        shapes = policy.network.shapes
        self._own = {name: (conversion, shapes[name])
                     for name, conversion in policy.others.items() if is_own(conversion)}
        self.others = [OtherInput(agent, name, named[name], conversion, shapes[name])
                       for name, conversion in policy.others.items() if not is_own(conversion)]
        self.alone = not policy.others
        self.commands: deque[np.ndarray] = deque(maxlen=most_commands(policy.others))
        self.absent: dict[str, Absence] = {}
        self._lacking = False
        for kind, topic, remedy in ((self.trigger.kind, self.trigger.topic, self.remedy), *(
                (one.source.kind, one.source.topic, f'inputs.{one.given_as}.type')
                for one in self.others)):
            if contract.given and (fault := foreign_sender(
                    agent, agent.resolve_topic_name(topic), kind, remedy)):
                raise ValueError(fault)

    def watched(self, settings: FrameFilterSettings) -> FrameFilterSettings:
        """
        Return settings by which messages that stay what they are stop the robot, or do not.

        Pictures and scans are never twice the same; of joints that stand still, messages are.
        """
        is_picture = self._kind in ('image', 'depth', 'scan')
        return settings if is_picture else replace(settings, frozen_after=0.0)

    def subscribe(self) -> None:
        """Listen to the inputs that do not trigger; before the one that does is subscribed to."""
        for one in self.others:
            one.subscribe()

    def close(self) -> None:
        """Leave the topics."""
        for one in self.others:
            self._agent.destroy_subscription(one.sub)

    def stamp_instead(self, now_ns: int) -> int:
        """Return the time of a message that triggers and has no stamp."""
        if not self._by_arrival:
            self._agent.get_logger().warning(
                f'{self.noun} without a stamp; taking the time of its arrival. Let the '
                f'{self.sender} set header.stamp', once=True)
        return now_ns

    def forget(self) -> None:
        """Begin a new sequence of frames: the policy has commanded nothing yet."""
        self.commands.clear()

    def note(self, output: np.ndarray | None) -> None:
        """Note an output that was published; None for a stop that holds what is there."""
        if output is not None:
            self.commands.appendleft(output)

    def complete(self, frame: np.ndarray, stamp_ns: int) -> dict[str, np.ndarray] | None:
        """
        Return all that the network reads for a frame; None if something is missing, which counts.

        :param frame: What the triggering input reads.
        """
        now_ns = self._agent.get_clock().now().nanoseconds
        frames, absent = {self._trigger: frame}, {}
        for one in self.others:
            found = one.at(stamp_ns, now_ns)
            if isinstance(found, Absence):
                absent[one.name] = found
            else:
                frames[one.name] = found
        self._lacking = bool(absent)
        if absent:
            (name, first), *_ = absent.items()
            self._agent.frame_filter.lose(f'{first.reason} {name}')
            self.absent |= absent
            return None
        for name, (conversion, shape) in self._own.items():
            frames[name] = conversion(
                tuple(self.commands) if kind_of(conversion) == 'commands'
                else (now_ns - stamp_ns) / NS).reshape(shape)
        return frames

    def warnings(self, usual: float) -> dict[str, str]:
        """
        Return what is wrong, in words, by its name; asked once a second.

        :param usual: The median age of the messages that trigger when they arrive [s], or NaN.
        """
        found = {f'clock of {one.name}': text for one in self.others
                 if (text := one.clock_fault(usual))}
        # At the start, what is there by now was only discovered late.
        if not self._lacking and time.monotonic() - self._agent.active_since < START:
            self.absent.clear()
        for one in self.others:
            absence = self.absent.get(one.name)
            if absence and absence.reason != 'unreadable':  # which is among the reasons
                found[f'{absence.reason} {one.name}'] = one.explain(absence)
        self.absent.clear()
        return found

    def values(self) -> dict[str, str]:
        """Return what diagnostics tell of each."""
        return {f'input {one.name} {key}': value for one in self.others for key, value in (
            ('age', f'{one.age:.4f}'), ('rate', f'{one.rate.now():.0f}'),
            ('unreadable', str(one.unreadable)))}


def is_own(conversion: Any) -> bool:
    """Return whether an input is what the agent itself knows, and has no topic."""
    return kind_of(conversion) in ('commands', 'age')


class Output(NamedTuple):
    """
    How what a network puts out is sent to the gate.

    :param kind: The class of the message.
    :param write: Makes a serialized message of a policy command and a stamp [ns].
    :param write_frozen: The same while the picture stands still.
    :param moves: Tells whether a command moves the robot; called once a frame.
    :param at_rest: The output that asks for a stop; None where a stop holds a position.
    """

    kind: type
    write: Callable[[Any, int], bytes]
    write_frozen: Callable[[Any, int], bytes]
    moves: Callable[[Any], bool]
    at_rest: np.ndarray | None


def make_output(limits: CommandScale | OutputScale, field: str) -> Output:
    """
    Return how the commands of a policy are sent: of a base, or by name of any actuators.

    :param field: Of these 'position', 'velocity' or 'effort'.
    """
    if not isinstance(limits, OutputScale):
        write = SerializedTwist(TwistStamped).write
        return Output(TwistStamped, write, lambda command, stamp_ns: write(
            STOP if moves(command) else command, stamp_ns), moves, np.zeros(2, np.float32))
    spans = [high - low for low, high in zip(limits.low, limits.high)]
    return Output(
        JointState, SerializedJointState(limits.names, field).write,
        lambda _, stamp_ns: serialize_message(make_stop_request(stamp_ns, JointState)),
        moves if field == 'velocity' else Changes(spans), None if field == 'position' else
        np.array(limits.output((0.0,) * len(spans)), np.float32))
