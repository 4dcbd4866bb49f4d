"""Writes messages as a recording while they come, and keeps nobody waiting."""

from collections.abc import Mapping
from pathlib import Path
import queue
import threading

from stream_agent.recordings.bags import types
from stream_agent.recordings.writing import new_bag

MOST_WAITING = 256 * 2**20


class LiveBag:
    """
    A recording that is written by a thread of its own.

    What comes while too much waits for the disk is dropped and counted.

    :param path: Folder, which must not exist.
    :param topics: Types of the messages, by topic.
    :param most_waiting: Bytes that may wait for the disk.
    """

    def __init__(self, path: Path, topics: Mapping[str, str], most_waiting: int = MOST_WAITING
                 ) -> None:
        self.path = path
        self.counts = dict.fromkeys(topics, 0)
        self.dropped = 0
        #: What ended the writing early.
        self.error: Exception | None = None
        self._topics = dict(topics)
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, topic: str, received_ns: int, data: bytes) -> None:
        """
        Hand over a message.

        :param data: As serialised by the middleware (CDR).
        """
        with self._lock:
            if self.error or self._waiting + len(data) > self._most_waiting:
                self.dropped += 1
                return
            self._waiting += len(data)
        self._queue.put((topic, received_ns, data))

    def close(self, timeout: float) -> bool:
        """
        Write what waits, and complete the recording.

        :param timeout: Seconds that this may take.
        :returns: Whether the recording is complete; else it lies beside its path, unfinished.
        """
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive() and self.error is None

    def _run(self) -> None:
        try:
            with new_bag(self.path) as writer:
                connections = {topic: writer.add_connection(topic, kind, typestore=types())
                               for topic, kind in self._topics.items()}
                while (item := self._queue.get()) is not None:
                    topic, received_ns, data = item
                    writer.write(connections[topic], received_ns, data)
                    with self._lock:
                        self.counts[topic] += 1
                        self._waiting -= len(data)
        except Exception as error:
            # A full disk, most of all; whoever drives is not to notice.
            self.error = error
