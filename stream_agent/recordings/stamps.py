"""Which of a message's two times counts: its header's, or the one at which it was recorded."""

from typing import NamedTuple

import numpy as np
from stream_agent.recordings.recording import BadRecordingError, NS

# Where headers and the recorder's clock differ by more, they are different clocks.
OTHER_CLOCK_NS = 5 * NS


class Times(NamedTuple):
    """
    The times of a topic's messages, in the order of the recording.

    :param topic: For messages.
    :param headers: (N,) int64 [ns]; None for a type without header.
    :param received: (N,) int64 [ns].
    """

    topic: str
    headers: np.ndarray | None
    received: np.ndarray

    @property
    def has_headers(self) -> bool:
        """Tell whether every header says a time."""
        return self.headers is not None and bool((self.headers > 0).all())

    @property
    def on_other_clock(self) -> bool:
        """Tell whether the headers' clock is not the recorder's."""
        return abs(float(np.median(self.headers - self.received))) > OTHER_CLOCK_NS


class Stamps(NamedTuple):
    """Stamps [ns], and where they are from: 'header' or 'receive'."""

    ns: np.ndarray
    source: str


def choose_stamps(images: Times, commands: Times, wanted: str) -> tuple[Stamps, Stamps]:
    """
    Choose the stamps of both topics.

    :param wanted: 'header', 'receive', or 'auto': headers where they are set, but both of the
        recorder's clock if only one topic has headers, and these are on another clock.
    :raises BadRecordingError: If headers are wanted that are not set; without the file.
    """
    topics = (images, commands)
    if wanted == 'header':
        for times in topics:
            if times.headers is not None and not times.has_headers:
                raise BadRecordingError(f"topic '{times.topic}': headers without a stamp; give "
                                        '--stamps receive')
    by_header = [wanted != 'receive' and times.has_headers for times in topics]
    if wanted == 'auto' and sum(by_header) == 1 and topics[by_header.index(True)].on_other_clock:
        by_header = [False, False]
    return tuple(Stamps(times.headers, 'header') if header else Stamps(times.received, 'receive')
                 for times, header in zip(topics, by_header))
