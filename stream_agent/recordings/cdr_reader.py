"""
Messages with empty sequences of eight-byte numbers, as ROS 2 writes them to recordings.

Such are a JointState without efforts or a JointTrajectory without velocities, as most drivers
send them. ROS 2 counts bytes as if it aligned behind the length of an empty sequence, and leaves
what it does not need at the end, filled with anything; some versions of Fast CDR do align there.
The library that reads recordings refuses both.
"""

import struct
from typing import Any

import numpy as np

SIZES = {'bool': '?', 'byte': 'B', 'octet': 'B', 'char': 'B', 'int8': 'b', 'uint8': 'B',
         'int16': 'h', 'uint16': 'H', 'int32': 'i', 'uint32': 'I', 'int64': 'q', 'uint64': 'Q',
         'float32': 'f', 'float64': 'd'}
# The end of a message may be filled up to the next multiple of four.
MOST_LEFT = 3


class CdrError(ValueError):
    """Bytes that are not such a message."""


class CdrReader:
    """
    Reads one message.

    :param data: CDR with its first four bytes.
    :param types: The store of types of the package rosbags.
    :param aligned: Whether eight-byte numbers are aligned even where there are none.
    """

    def __init__(self, data: bytes, types: Any, aligned: bool = False) -> None:
        self._data, self._types, self._aligned = data, types, aligned
        self._order = '<' if data[1] & 1 else '>'
        self._at = 4
        # Where it would be if it aligned behind every length, as the number of bytes is counted.
        self._counted = 4

    def message(self, message_type: str) -> Any:
        """
        Return the whole message.

        :raises CdrError: If the bytes are not one of that type.
        """
        try:
            found = self._message(message_type)
        except (struct.error, ValueError, MemoryError) as error:
            raise CdrError(str(error)) from None
        if not 0 <= len(self._data) - self._counted <= MOST_LEFT:
            raise CdrError(f'{len(self._data)} bytes, where {self._counted} are expected')
        return found

    def _message(self, message_type: str) -> Any:
        _, fields = self._types.fielddefs[message_type]
        return self._types.types[message_type](*(self._field(about) for _, about in fields))

    def _field(self, about: Any) -> Any:
        kind, of = about[0].name, about[1]
        if kind == 'NAME':
            return self._message(of)
        if kind == 'BASE':
            return self._string() if of[0] == 'string' else self._numbers(of[0], 1).tolist()[0]
        element, count = of[0], of[1]
        if kind == 'SEQUENCE':
            count = int(self._numbers('uint32', 1)[0])
        if element[0].name == 'BASE' and element[1][0] in SIZES:
            return self._numbers(element[1][0], count)
        if count > len(self._data):
            raise CdrError(f'a sequence of {count}')
        return [self._field(element) for _ in range(count)]

    def _numbers(self, name: str, count: int) -> np.ndarray:
        """Return numbers from the next place that is aligned to them."""
        dtype = np.dtype(self._order + SIZES[name])
        if count or self._aligned:
            self._at += -(self._at - 4) % dtype.itemsize
        self._counted += -(self._counted - 4) % dtype.itemsize + count * dtype.itemsize
        end = self._at + count * dtype.itemsize
        if end > len(self._data) and count:
            raise CdrError(f'{count} numbers beyond the end')
        found = np.frombuffer(self._data, dtype, count, self._at) if count else np.zeros(0, dtype)
        self._at = end
        return found.astype(dtype.newbyteorder('='))

    def _string(self) -> str:
        count = int(self._numbers('uint32', 1)[0])
        end = self._at + count
        if end > len(self._data):
            raise CdrError(f'a text of {count} bytes')
        text = bytes(self._data[self._at:end - 1]).decode()
        self._at, self._counted = end, self._counted + count
        return text


def read_cdr(data: bytes, message_type: str, types: Any) -> Any:
    """
    Return a message of its bytes, in either way of writing.

    :raises CdrError: If the bytes are not one of that type.
    """
    try:
        return CdrReader(data, types).message(message_type)
    except CdrError:
        return CdrReader(data, types, aligned=True).message(message_type)
