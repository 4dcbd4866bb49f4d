"""What is wrong or odd about recordings, before hours are spent on learning from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stream_agent.doctor.findings import Finding, from_sentence, ok, split_remedy, warning
from stream_agent.recordings.alignment import Alignment, check_rates
from stream_agent.recordings.inspection import oddities
from stream_agent.recordings.recording import BadRecordingError, Reading, Recording
from stream_agent.recordings.sources import find_recordings, open_recordings

CHECK = 'recording'


def check_recordings(paths: Sequence[Path], reading: Reading = Reading(),
                     alignment: Alignment = Alignment()) -> list[Finding]:
    """
    Read recordings and decode all frames.

    :param paths: Bags, tubs, or folders of them.
    """
    if reading.steering_axis is None:
        # Which axis of a joystick steers hardly matters to what is found.
        reading = replace(reading, steering_axis=0)
    try:
        single = find_recordings(paths)
    except BadRecordingError as fault:
        return [from_sentence(CHECK, fault)]
    found: list[Finding] = []
    usable: list[Recording] = []
    for path in single:
        try:
            (recording,) = open_recordings([path], reading)
            found += of_one(recording, alignment)
            usable.append(recording)
        except BadRecordingError as fault:
            found.append(from_sentence(CHECK, fault))
    try:
        if usable:
            check_rates(usable, alignment)
    except BadRecordingError as fault:
        found.append(from_sentence(CHECK, fault))
    return found


def of_one(recording: Recording, alignment: Alignment) -> Iterator[Finding]:
    """Yield what there is, and what is odd about it."""
    for _ in recording.images():
        pass
    yield ok(CHECK, recording.summary())
    for sentence in oddities(recording, alignment):
        said, remedy = split_remedy(sentence)
        yield warning(CHECK, said, remedy or 'find out whether it matters')
