"""
Small sound files of the formats that are read, with switches for what may be unusual about them.

Written from the formats' own descriptions (MCAP, rosbag2, DonkeyCar, NumPy, safetensors), not with
the libraries or the code that reads them. The picture of frame i has the brightness 10 i, and the
command that belongs to it turns by 0.01 (i + 1).
"""

from collections.abc import Callable
import functools
import io
import json
from pathlib import Path
import sqlite3
import struct
from typing import Any, NamedTuple
import zlib

import numpy as np
from PIL import Image

FRAMES = 24
PERIOD_NS = 50_000_000
START_NS = 1_700_000_000_000_000_000
IMAGES, COMMANDS = '/camera/image_raw/compressed', '/cmd_vel'
REPOSITORY = Path(__file__).resolve().parents[2]
# What may come of a file: all of it is used; less is used, and how much is said; it is refused.
READ, COUNTED, REFUSED = ('read',), ('counted',), ('refused',)
SAID, ANY = COUNTED + REFUSED, READ + COUNTED + REFUSED
LFS = (b'version https://git-lfs.github.com/spec/v1\n'
       b'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n'
       b'size 12345\n')
HTML = (b'<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>'
        b'<body>The page was not found.</body></html>\n')


class OddFile(NamedTuple):
    """A file or folder that something is odd about, and what is right."""

    format: str
    fault: str
    path: Path                        # what a reader is given
    value: dict                       # frame to its command, None if lost; or name to value
    verdicts: tuple[str, ...] = ANY   # those that are right
    least: int = 0                    # entries of ``value`` that no reader has a reason to miss


class Message(NamedTuple):
    """A message of a drive; ``form`` names the type and how it is filled in."""

    topic: str
    log: int                          # reception [ns]
    header: int                       # its header's stamp [ns]
    index: int                        # of the frame
    form: str
    turn: float | None = None         # yaw rate, where it is not the frame's
    damage: Callable[[bytes], bytes] = bytes


@functools.lru_cache(maxsize=None)
def picture(index: int, form: str = 'JPEG', mode: str = 'RGB', size=(32, 24)) -> bytes:
    """Return a frame's picture as a file."""
    file = io.BytesIO()
    Image.new(mode, size, (10 * index,) * 3 if mode == 'RGB' else 10 * index).save(file, form)
    return file.getvalue()


def cdr(layout: str, *values, order: str = '<') -> bytes:
    """Return fields as CDR: s a string, b bytes, else struct's letters."""
    data = b''
    for letter, value in zip(layout, values, strict=True):
        size = 4 if letter in 'sb' else struct.calcsize(letter)
        data += bytes(-len(data) % size)
        if letter == 's':
            data += struct.pack(order + 'I', len(value) + 1) + value.encode() + b'\0'
        elif letter == 'b':
            data += struct.pack(order + 'I', len(value)) + value
        else:
            data += struct.pack(order + letter, value)
    return (b'\0\1\0\0' if order == '<' else b'\0\0\0\0') + data


TWIST = 'geometry_msgs/msg/Twist'
TYPES = {'jpeg': 'sensor_msgs/msg/CompressedImage', 'stamped': TWIST + 'Stamped', 'twist': TWIST}
HEADER = 'std_msgs/Header header\n'
DEFINITIONS = {
    TYPES['jpeg']: HEADER + 'string format\nuint8[] data\n',
    'sensor_msgs/msg/Image': HEADER + 'uint32 height\nuint32 width\nstring encoding\n'
    'uint8 is_bigendian\nuint32 step\nuint8[] data\n',
    TWIST: 'Vector3 linear\nVector3 angular\n', TYPES['stamped']: HEADER + 'Twist twist\n'}
PARTS = {'Header': 'std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n',
         'Time': 'builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n',
         'Twist': 'geometry_msgs/Twist\nVector3 linear\nVector3 angular\n',
         'Vector3': 'geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n'}


def definition(kind: str) -> bytes:
    """Return a type's text as MCAP files have it."""
    names = {'T': ('Vector3',), 'S': ('Header', 'Time', 'Twist', 'Vector3')}.get(
        'T' if kind == TWIST else 'S' if kind == TYPES['stamped'] else '', ('Header', 'Time'))
    return ('=' * 80 + '\nMSG: ').join([DEFINITIONS[kind], *(PARTS[n] for n in names)]).encode()


def type_of(message: Message) -> str:
    """Return the type's name of a message."""
    form = 'jpeg' if message.form in ('png', 'grey', 'small') else message.form.removesuffix('_be')
    return TYPES.get(form, 'sensor_msgs/msg/Image')


def encoded(m: Message) -> bytes:
    """Return a message as CDR; forms that end in _be are big-endian."""
    order = '>' if m.form.endswith('_be') else '<'
    form = m.form.removesuffix('_be')
    stamp = divmod(m.header, 10 ** 9)
    if 'CompressedImage' in type_of(m):
        data = {'png': picture(m.index, 'PNG'), 'grey': picture(m.index, mode='L'),
                'small': picture(m.index, size=(16, 12))}.get(form) or picture(m.index)
        return m.damage(cdr('iIssb', *stamp, 'camera', form if form == 'png' else 'jpeg', data,
                            order=order))
    if 'Twist' in type_of(m):
        turn = 0.01 * (m.index + 1) if m.turn is None else m.turn
        speed = 0.5 + 0.01 * m.index if m.turn is None else m.turn
        fields = (speed, 0.0, 0.0, 0.0, 0.0, turn)
        return m.damage(cdr('dddddd', *fields, order=order) if form == 'twist' else
                        cdr('iIsdddddd', *stamp, 'base', *fields, order=order))
    depth = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, '16UC1': 2, 'nv16': 2}.get(form, 1)
    return m.damage(cdr('iIsIIsBIb', *stamp, 'camera', 24, 32, form, 0, 32 * depth,
                        bytes([10 * m.index]) * (24 * 32 * depth), order=order))


def drive(image: str = 'jpeg', command: str = 'stamped') -> list[Message]:
    """Return a drive: each frame 2 ms after its command, both received 1 ms after their stamp."""
    messages = []
    for i in range(FRAMES):
        at = START_NS + i * PERIOD_NS
        messages += [Message(COMMANDS, at - 1_000_000, at - 2_000_000, i, command),
                     Message(IMAGES, at + 1_000_000, at, i, image)]
    return messages


def record(code: int, layout: str, *values) -> bytes:
    """Return a record of an MCAP file: s a string, b bytes, r the rest, else struct's letters."""
    data = b''
    for letter, value in zip(layout, values, strict=True):
        if letter in 'sb':
            value = value.encode() if isinstance(value, str) else value
            data += struct.pack('<I', len(value))
        data += value if letter in 'sbr' else struct.pack('<' + letter, value)
    return struct.pack('<BQ', code, len(data)) + data


def compressed(data: bytes, how: str) -> bytes:
    """Return data compressed by zstd, lz4, or not at all; the modules are the readers' own."""
    if how == 'zstd':
        from backports import zstd
        return zstd.compress(data)
    if how == 'lz4':
        import lz4.frame
        return lz4.frame.compress(data)
    return data


def mcap(messages: list[Message], chunk: int = 8, compression: str = '', profile: str = 'ros2',
         summary: bool = True, channels: bool = True, index: bool = True, end: bool = True,
         claim: int | None = None, encoding: str = 'cdr', beside: bytes = b'',
         also: tuple = (), each: str = '') -> tuple[bytes, list[int]]:
    """
    Return an MCAP file and where its chunks end; ``chunk`` 0 writes messages without chunks.

    :param claim: Size that the second chunk claims to have when it is unpacked.
    :param beside: Records of other channels.
    :param also: Topics and types without a message.
    """
    topics = list(dict.fromkeys([*((m.topic, type_of(m)) for m in messages), *also]))
    schemas = b''
    for i, (topic, kind) in enumerate(topics, 1):
        schemas += record(3, 'Hssb', i, kind, 'ros2msg', definition(kind))
        schemas += record(4, 'HHssb', i, i, topic, encoding, b'')
    data = b'\x89MCAP0\r\n' + record(1, 'ss', profile, 'odd_files')
    data += b'' if chunk else schemas + beside
    ends, chunk_records = [], b''
    for start in range(0, len(messages), chunk or len(messages) or 1):
        group = messages[start:start + (chunk or len(messages))]
        inside = b'' if start or not chunk else schemas + beside
        offsets: dict[int, bytes] = {}
        for number, m in enumerate(group):
            channel = 1 + topics.index((m.topic, type_of(m)))
            offsets[channel] = offsets.get(channel, b'') + struct.pack('<QQ', m.log, len(inside))
            inside += record(5, 'HIQQr', channel, number, m.log, m.log,
                             compressed(encoded(m), each))
        if not chunk:
            data += inside
            continue
        times, packed = [m.log for m in group], compressed(inside, compression)
        where, claimed = len(data), claim if claim and start else len(inside)
        data += record(6, 'QQQIsQr', min(times), max(times), claimed, zlib.crc32(inside),
                       compression, len(packed), packed)
        ends.append(len(data))
        at, indexes = len(data), b''
        for channel, entries in offsets.items():
            indexes += struct.pack('<HQ', channel, len(data)) if index else b''
            data += record(7, 'Hb', channel, entries) if index else b''
        chunk_records += record(8, 'QQQQbQsQQ', min(times), max(times), where, ends[-1] - where,
                                indexes, len(data) - at, compression, len(packed), claimed)
    if not end:
        return data, ends
    data += record(15, 'I', 0)
    start = len(data) if summary else 0
    if summary:
        times = [m.log for m in messages] or [0]
        counts = b''.join(struct.pack('<HQ', i, sum((m.topic, type_of(m)) == t for m in messages))
                          for i, t in enumerate(topics, 1))
        data += (schemas if channels else b'') + (chunk_records if index else b'') + record(
            11, 'QHIIIIQQb', len(messages), len(topics), len(topics), 0, 0, len(ends), min(times),
            max(times), counts)
    return data + record(2, 'QQI', start, 0, 0) + b'\x89MCAP0\r\n', ends


def db3(path: Path, messages: list[Message], **changes) -> None:
    """Write SQLite storage; ``changes`` maps a column to what its values become."""
    with sqlite3.connect(path) as base:
        base.executescript("""
            PRAGMA synchronous = OFF;
            CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
            CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
                serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL,
                type_description_hash TEXT NOT NULL);
            CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,
                timestamp INTEGER NOT NULL, data BLOB NOT NULL);
            CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL,
                encoding TEXT NOT NULL, encoded_message_definition TEXT NOT NULL,
                type_description_hash TEXT NOT NULL);
            CREATE INDEX timestamp_idx ON messages (timestamp ASC);
            INSERT INTO schema VALUES (4, 'jazzy');""")
        topics = list(dict.fromkeys((m.topic, type_of(m)) for m in messages))
        base.executemany("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '', '')",
                         [(i, *topic) for i, topic in enumerate(topics, 1)])
        base.executemany("INSERT INTO message_definitions VALUES (NULL, ?, 'ros2msg', ?, '')",
                         {(kind, definition(kind).decode()) for _, kind in topics})
        base.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', [
            (i, 1 + topics.index((m.topic, type_of(m))),
             changes.get('timestamp', int)(m.log), changes.get('data', bytes)(encoded(m)))
            for i, m in enumerate(messages, 1)])
    base.close()


def metadata(files: dict[str, list[Message]], storage: str, **changes) -> bytes:
    """Return metadata.yaml of a recording of these files, as JSON, which is YAML."""
    messages = sum(files.values(), [])
    topics = list(dict.fromkeys((m.topic, type_of(m)) for m in messages))
    start = min((m.log for m in messages), default=0)

    def span(group: list[Message]) -> dict:
        times = [m.log for m in group] or [0]
        return {'starting_time': {'nanoseconds_since_epoch': min(times)},
                'duration': {'nanoseconds': max(times) - start}, 'message_count': len(group)}
    return json.dumps({'rosbag2_bagfile_information': {
        'version': 9, 'storage_identifier': storage, **span(messages),
        'topics_with_message_count': [
            {'topic_metadata': {'name': name, 'type': kind, 'serialization_format': 'cdr',
                                'offered_qos_profiles': [], 'type_description_hash': ''},
             'message_count': sum((m.topic, type_of(m)) == (name, kind) for m in messages)}
            for name, kind in topics],
        'compression_format': '', 'compression_mode': '', 'relative_file_paths': list(files),
        'files': [{'path': path, **span(group)} for path, group in files.items()],
        'custom_data': None, 'ros_distro': 'jazzy', **changes}}, indent=1).encode()


def bag(folder: Path, messages: list[Message] | None = None, storage: str = 'mcap',
        changes: dict | None = None, split: int | None = None, **options) -> Path:
    """Write a recording: a folder of metadata.yaml and one file, or two from a message on."""
    messages = drive() if messages is None else messages
    folder.mkdir(parents=True)
    groups = [messages] if split is None else [messages[:split], messages[split:]]
    files = {f'drive_{i}.' + ('mcap' if storage == 'mcap' else 'db3'): group
             for i, group in enumerate(groups)}
    for name, group in files.items():
        if storage == 'mcap':
            (folder / name).write_bytes(mcap(group, **options)[0])
        else:
            db3(folder / name, group, **options)
    (folder / 'metadata.yaml').write_bytes(metadata(files, storage, **(changes or {})))
    return folder


def tub(folder: Path, records: list[Any] | None = None, manifest: dict | None = None,
        end: str = '\n') -> Path:
    """Write a DonkeyCar tub of version 2."""
    (folder / 'images').mkdir(parents=True)
    records = tub_records() if records is None else records
    lines = [line if isinstance(line, str) else json.dumps(line) for line in records]
    for i in range(min(len(records), FRAMES)):
        (folder / f'images/{i}_cam_image_array_.jpg').write_bytes(picture(i))
    (folder / 'catalog_0.catalog').write_bytes((end.join(lines) + end).encode())
    (folder / 'catalog_0.catalog_manifest').write_text(json.dumps({
        'created_at': 1.7e9, 'line_lengths': [len(line) + 1 for line in lines],
        'path': 'catalog_0.catalog', 'start_index': 0}) + end)
    rows = [['cam/image_array', 'user/angle', 'user/throttle', 'user/mode'],
            ['image_array', 'float', 'float', 'str'], {},
            {'created_at': 1.7e9, 'sessions': {'all_full_ids': ['23-11-14_0'], 'last_id': 0,
                                               'last_full_id': '23-11-14_0'}},
            {'paths': ['catalog_0.catalog'], 'current_index': FRAMES, 'max_len': 1000,
             'deleted_indexes': [], **(manifest or {})}]
    (folder / 'manifest.json').write_bytes(''.join(json.dumps(r) + end for r in rows).encode())
    return folder


def tub_records() -> list[dict]:
    """Return a tub's records; angles are positive to the right."""
    return [{'_index': i, '_session_id': '23-11-14_0',
             '_timestamp_ms': (START_NS + i * PERIOD_NS) // 10 ** 6,
             'cam/image_array': f'{i}_cam_image_array_.jpg', 'user/angle': -0.01 * (i + 1),
             'user/mode': 'user', 'user/throttle': 0.3 + 0.01 * i} for i in range(FRAMES)]


def old_tub(folder: Path) -> Path:
    """Write a DonkeyCar tub of version 1."""
    folder.mkdir(parents=True)
    for i, r in enumerate(tub_records()):
        (folder / f'{i}_cam-image_array_.jpg').write_bytes(picture(i))
        (folder / f'record_{i}.json').write_text(json.dumps({
            'cam/image_array': f'{i}_cam-image_array_.jpg', 'user/angle': r['user/angle'],
            'user/throttle': r['user/throttle'], 'user/mode': 'user',
            'milliseconds': i * PERIOD_NS // 10 ** 6}))
    (folder / 'meta.json').write_text(json.dumps({
        'inputs': ['cam/image_array', 'user/angle', 'user/throttle', 'user/mode', 'milliseconds'],
        'types': ['image_array', 'float', 'float', 'str', 'int'], 'start': 1.7e9}))
    return folder


def archive_arrays() -> dict[str, np.ndarray]:
    """Return the arrays of an archive as docs/recordings.md describes them."""
    files = [picture(i) for i in range(FRAMES)]
    index = np.arange(FRAMES)
    return {'jpeg': np.frombuffer(b''.join(files), np.uint8),
            'offsets': np.cumsum([0, *map(len, files)]).astype(np.int64),
            'steering': -0.01 * (index + 1.0), 'throttle': 0.3 + 0.01 * index,
            'timestamp_ms': (START_NS + index * PERIOD_NS) // 10 ** 6,
            'seq_id': np.zeros(FRAMES, int)}


def policy_parts() -> tuple[dict, bytes]:
    """Return header and weights of a shipped policy, as safetensors has them."""
    data = (REPOSITORY / 'config/policies/lane_streaming.safetensors').read_bytes()
    size, = struct.unpack('<Q', data[:8])
    return json.loads(data[8:8 + size]), data[8 + size:]


def policy(header: dict, weights: bytes) -> bytes:
    """Return a safetensors file."""
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + weights
