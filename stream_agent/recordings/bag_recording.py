"""The frames and commands of a rosbag2 recording, and which topics they are taken from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.contract.image_files import ImageError
from stream_agent.contract.settings import InputSettings
from stream_agent.images import stamp_of_serialized
from stream_agent.recordings.alignment import choose_stamps, TopicTimes
from stream_agent.recordings.bags import Bag, deserialized, has_header, is_known, opened
from stream_agent.recordings.command_messages import (
    COMMAND_TYPES, CommandReader, UnreadableCommandError, VECTOR_MESSAGES)
from stream_agent.recordings.frame_inputs import (
    DECODERS, IMAGE_ALONE, InputFeed, Received, WantedInputs)
from stream_agent.recordings.mcap_file import full_type, SetBack
from stream_agent.recordings.publishers import drivers_commands
from stream_agent.recordings.recording import (
    BadRecordingError, Commands, NS, Reading, Recording)
from stream_agent.recordings.storages import logs_of, METADATA, storages_at, Stream

COMPRESSED_END = '/compressed'


def choose_stream(bag: Bag, reading: Reading, what: str, fitting_types: tuple[str, ...]) -> Stream:
    """
    Find the topic and type that are asked for, or else the only ones that fit and have messages.

    :param what: 'image' or 'command'.
    :raises BadRecordingError: If there is none, or no message of it; without the file.
    """
    wanted, stated = getattr(reading, f'{what}_topic'), getattr(reading, f'{what}_type')
    option, fits = f'--{what}-topic', ' or '.join(fitting_types)
    of_topic = [stream for stream in bag.counts if stream.topic == wanted]
    if wanted and not of_topic:
        raise BadRecordingError(f"there is no topic '{wanted}'{' that is read' * bool(bag.unread)}"
                                f'; give another by {option}. Topics are: {bag.listed}')
    fitting = [stream for stream in of_topic or bag.counts if stream.type in fitting_types]
    if wanted and not fitting:
        raise BadRecordingError(f"topic '{wanted}' is of the type "
                                f'{printable(" and ".join(each.type for each in of_topic))}; give '
                                f'one by {option} that is {fits}')
    filled = [stream for stream in fitting if bag.counts[stream] + bag.stated[stream]]
    topics = {stream.topic for stream in filled or fitting}
    if len(topics) != 1:
        count, remedy = ('several topics are', f'give one by {option}') if topics else (
            'no topic is', 'record one, or leave the recording out')
        raise BadRecordingError(f'{count} of a type for {what}s, {fits}; {remedy}. Topics are: '
                                f'{bag.listed}')
    (topic,) = topics
    meant = [stream for stream in filled
             if not stated or f'/{stream.type}'.endswith(f'/{full_type(stated)}')]
    total = sum(count for stream, count in bag.counts.items() if stream.topic == topic)
    if len(meant) > 1 or (filled and not meant):
        shares = ', '.join(f'{stream.type} ({bag.counts[stream]} of {total} messages)'
                           for stream in filled)
        raise BadRecordingError(f"topic '{topic}' has the types {shares}; give one of them by "
                                f'--{what}-type')
    if not meant:
        raise BadRecordingError(f"topic '{topic}' has no messages; leave the recording out, "
                                f'or give another topic by {option}')
    (chosen,) = meant
    if bag.counts[chosen] < total:
        bag.notes.append(f"topic '{topic}': {bag.counts[chosen]} of its {total} messages are "
                         f'{chosen.type}, and read')
    return chosen


def contract_stream(bag: Bag, place: str, topic: str, types: Sequence[str], remedy: str) -> Stream:
    """
    Find the topic that a contract names: relative to any namespace, unless it begins with '/'.

    An image may have been recorded in the other of its two transports.

    :param place: What of the contract it is, for errors; ``remedy`` what else may be given.
    :raises BadRecordingError: If it is not there, or of another type; without the file.
    """
    wanted = [f'/{topic.lstrip("/")}']
    if types[0] in DECODERS:
        wanted += [wanted[0] + COMPRESSED_END, wanted[0].removesuffix(COMPRESSED_END)]
    for name in wanted:
        found = [stream for stream in bag.counts if stream.topic == name] or [
            stream for stream in bag.counts
            if stream.topic.endswith(name) and not topic.startswith('/')]
        if fitting := [stream for stream in found if stream.type in types]:
            break
    if not found:
        raise BadRecordingError(f"{place}: there is no topic '{topic}'"
                                f"{' that is read' * bool(bag.unread)}; record it, or {remedy}. "
                                f'Topics are: {bag.listed}')
    if not fitting:
        listed = printable(' and '.join(stream.type for stream in found))
        raise BadRecordingError(f"{place}: topic '{found[0].topic}' is of the type {listed}, and "
                                f'{" or ".join(types)} is what is read by the contract; {remedy}')
    if len({stream.topic for stream in fitting}) > 1:
        raise BadRecordingError(
            f"{place}: '{topic}' is the end of {', '.join(stream.topic for stream in fitting)}; "
            'give the whole topic, with its /')
    filled = [stream for stream in fitting if bag.counts[stream]]
    if not filled:
        raise BadRecordingError(f"{place}: topic '{fitting[0].topic}' has no messages; leave the "
                                f'recording out, or {remedy}')
    return filled[0]


class RecordedStreams:
    """
    The topics of a bag that are read.

    :ivar trigger: Whose messages are the frames; ``orders`` has the driver's commands.
    :ivar others: What other inputs are read from, by their names.
    :raises BadRecordingError: If one is missing; without the file.
    """

    def __init__(self, bag: Bag, reading: Reading, wanted: WantedInputs) -> None:
        self.trigger = self._of_trigger(bag, reading, wanted)
        self.orders = self._of_orders(bag, reading, wanted)
        self.others = {name: self._of_input(bag, wanted, name) for name in wanted.others}

    @property
    def all(self) -> list[Stream]:
        return list(dict.fromkeys([self.trigger, self.orders, *self.others.values()]))

    def _of_trigger(self, bag: Bag, reading: Reading, wanted: WantedInputs) -> Stream:
        is_image = wanted.kinds[wanted.trigger] == 'image'
        if is_image and (reading.image_topic or wanted.trigger not in wanted.inputs):
            return choose_stream(bag, reading, 'image', tuple(DECODERS))
        if reading.image_topic:
            raise BadRecordingError(f"--image-topic: '{wanted.trigger}' triggers the policy, and "
                                    'is not an image; change its topic in the contract')
        return self._of_input(bag, wanted, wanted.trigger)

    @staticmethod
    def _of_input(bag: Bag, wanted: WantedInputs, name: str) -> Stream:
        settings, kind = wanted.inputs[name], wanted.kinds[name]
        remedy = f'change inputs.{name} in the contract, or take a policy without this input'
        if kind == 'image' and name == wanted.trigger:
            remedy = 'give another by --image-topic'
        found = contract_stream(bag, f"input '{name}'", settings.topic,
                                tuple(DECODERS) if kind == 'image' else (settings.type,), remedy)
        if not is_known(found.type):
            raise BadRecordingError(
                f"input '{name}': messages of the type {printable(found.type)} are read only on a "
                'robot, as this type is not one of the common interfaces of ROS 2; let a node '
                'publish its numbers as std_msgs/msg/Float64MultiArray')
        return found

    @staticmethod
    def _of_orders(bag: Bag, reading: Reading, wanted: WantedInputs) -> Stream:
        output = wanted.output
        fitting = (tuple(VECTOR_MESSAGES.values()) if output and output.type in VECTOR_MESSAGES
                   else COMMAND_TYPES)
        if output is None or reading.command_topic:
            return choose_stream(bag, reading, 'command', fitting)
        return contract_stream(bag, 'output', output.topic, fitting,
                               'give another by --command-topic')


class BagRecording(Recording):
    """
    One bag, a folder or a single file.

    :param wanted: What is read beside the driver's commands.
    :ivar notes: What is odd about the files, a sentence each.
    :raises BadRecordingError: If the bag is damaged, or has no such topics.
    """

    def __init__(self, path: Path, reading: Reading, wanted: WantedInputs = IMAGE_ALONE) -> None:
        self._wanted = wanted
        with opened(path) as bag:
            self._streams = streams = RecordedStreams(bag, reading, wanted)
            bag.check_counts(streams.all)
            read = CommandReader(streams.orders.type, reading, wanted.output)
            frame_times, command_times, values, broken = read_topics(bag, streams, read)
            of_driver, notes = drivers_commands(command_times, values, reading.publishers)
            chosen = choose_stamps(frame_times, command_times.only(of_driver), reading.stamps)
        (frame_stamps, source), (stamps, stamps_from) = chosen.frames, chosen.commands
        super().__init__(path, streams.trigger.topic, frame_stamps, source,
                         Commands(stamps, values[of_driver], read.steering, stamps_from,
                                  read.names),
                         [*bag.notes, *notes, *chosen.notes])
        self.skipped['commands that cannot be read'] += broken
        self.skipped['commands of a second publisher'] += int((~of_driver).sum())

    def recorded_frames(self) -> Iterator[Callable[[], Any]]:
        return (read for read, _ in self.recorded_inputs())

    def recorded_inputs(self) -> Iterator[tuple[Callable[[], Any], Callable[[], Mapping]]]:
        wanted, streams = self._wanted, self._streams
        trigger, kind = streams.trigger, wanted.kinds[wanted.trigger]
        settings = wanted.inputs.get(wanted.trigger, InputSettings())
        by_header = has_header(trigger.type) and settings.stamp == 'header'
        feed = InputFeed(wanted)
        read_from = {stream: [name for name, one in streams.others.items() if one == stream]
                     for stream in streams.all}
        with opened(self.path) as bag:
            # With the commands, which tell where the recorder's clock was set back, as before.
            for stream, time, data in bag.messages(streams.all):
                message = Received(time, data, stream.type)
                feed.add(read_from[stream], message)
                if stream == trigger:
                    yield (partial(message.values, settings, kind),
                           feed.at(message.header_stamp if by_header else time, time, by_header))

    @property
    def remedy(self) -> str:
        if self._wanted.kinds[self._wanted.trigger] == 'image':
            return super().remedy
        return (f'record the topic with what the contract reads of it, or change inputs.'
                f'{self._wanted.trigger} there')

    def files(self) -> list[Path]:
        storages = storages_at(self.path)
        metadata = self.path / METADATA
        return [*([metadata] if metadata.is_file() else []), *storages,
                *(log for file in storages for log in logs_of(file))]


def read_topics(bag: Bag, streams: RecordedStreams, read: CommandReader
                ) -> tuple[TopicTimes, TopicTimes, np.ndarray, int]:
    """
    Read the times of all frames, whose headers come first in the bytes, and all commands.

    :returns: Times of frames, times of commands, their values (M, n), and how many commands
        cannot be read.
    :raises BadRecordingError: If none can be read, or one lacks an axis; without the file.
    """
    frames, times, values, faults = [], [], [], list[str]()
    trigger, orders = streams.trigger, streams.orders
    for stream, received, data in bag.messages(streams.all):
        if stream == trigger:
            frames.append((stamp_of_serialized(data), received))
        if stream != orders:
            continue
        try:
            message = deserialized(data, stream.type)
            values.append(read(message))
        except (ImageError, UnreadableCommandError) as error:
            faults.append(str(error))
            continue
        stamp = message.header.stamp if read.is_stamped else None
        times.append((stamp.sec * NS + stamp.nanosec if stamp else 0, received))
    if not values:
        raise BadRecordingError(f"topic '{orders.topic}': no message is a {orders.type} "
                                f'({faults[0]}); record the topic again through ROS 2, or give '
                                'another one by --command-topic')
    bag.notes += [f"the recorder's clock was set back by {back.by / NS:.2f} s: the messages after "
                  'that follow those before; set clocks before a recording'
                  for back in bag.set_backs]
    frame_times, command_times = (
        without_set_backs(TopicTimes(topic, *np.array(found, np.int64).T), bag.set_backs)
        for topic, found in ((trigger.topic, frames), (orders.topic, times)))
    if not read.is_stamped:
        command_times = command_times._replace(headers=None)
    if not has_header(trigger.type):
        frame_times = frame_times._replace(headers=None)
    return frame_times, command_times, np.array(values, np.float64), len(faults)


def without_set_backs(times: TopicTimes, set_backs: Sequence[SetBack]) -> TopicTimes:
    """Let headers that are on the recorder's clock ascend, too, where it was set back."""
    assert times.headers is not None
    headers = times.headers.copy()
    for start, by in set_backs:
        first = int(np.searchsorted(times.received, start))
        if 0 < first < len(headers) and headers[first] < headers[first - 1]:
            headers[first:] += np.where(headers[first:] > 0, by, 0)
    return times._replace(headers=headers)
