"""Bags and tubs, written by the library and by hand, to be read again."""

import json
import struct
import zlib

from backports import zstd
import cv2
import lz4.frame
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from stream_agent.recordings.bags import types

START = 1_700_000_000_000_000_000
PERIOD = 50_000_000
MCAP, SQLITE3 = StoragePlugin.MCAP, StoragePlugin.SQLITE3


def make(name, *values):
    return types().types[name](*values)


def header(stamp):
    time = make('builtin_interfaces/msg/Time', *divmod(stamp, 10**9))
    return make('std_msgs/msg/Header', time, 'somewhere')


def picture(number, shape=(12, 16, 3)):
    """Return a picture that tells its number."""
    pixels = np.full(shape, 10, np.uint8)
    pixels[:6] = 10 * number % 250
    return pixels


def raw(stamp, pixels, encoding='rgb8', step=0):
    rows = pixels.reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, max(0, step - rows.shape[1]))))
    return make('sensor_msgs/msg/Image', header(stamp), *pixels.shape[:2], encoding, 0,
                rows.shape[1], rows.ravel())


def jpeg(pixels, extension='.png'):
    return cv2.imencode(extension, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1]


def compressed(stamp, pixels):
    return make('sensor_msgs/msg/CompressedImage', header(stamp), 'png', jpeg(pixels).ravel())


def vector(x=0.0, y=0.0, z=0.0):
    return make('geometry_msgs/msg/Vector3', x, y, z)


def twist(stamp, speed, steering):
    return make('geometry_msgs/msg/Twist', vector(speed), vector(z=steering))


def twist_stamped(stamp, speed, steering):
    return make('geometry_msgs/msg/TwistStamped', header(stamp), twist(stamp, speed, steering))


def ackermann(stamp, speed, steering):
    return make('ackermann_msgs/msg/AckermannDrive', steering, 0.0, speed, 0.0, 0.0)


def ackermann_stamped(stamp, speed, steering):
    return make('ackermann_msgs/msg/AckermannDriveStamped', header(stamp),
                ackermann(stamp, speed, steering))


def joy(stamp, speed, steering):
    return make('sensor_msgs/msg/Joy', header(stamp),
                np.array([steering, 0.5, speed], np.float32), np.zeros(2, np.int32))


def odometry(stamp, speed, turn, covariance=0.0):
    """Return what wheels say; a first covariance of -1 says that there is no twist."""
    point, quaternion, pose, with_pose, twist_with = (
        f'geometry_msgs/msg/{name}' for name in (
            'Point', 'Quaternion', 'Pose', 'PoseWithCovariance', 'TwistWithCovariance'))
    covariances = np.zeros(36)
    covariances[0] = covariance
    return make('nav_msgs/msg/Odometry', header(stamp), 'base_link',
                make(with_pose, make(pose, make(point, 0.0, 0.0, 0.0),
                                     make(quaternion, 0.0, 0.0, 0.0, 1.0)), np.zeros(36)),
                make(twist_with, twist(stamp, speed, turn), covariances))


def laser_scan(stamp, ranges, angle_min=-1.0, angle_max=1.0):
    step = (angle_max - angle_min) / (len(ranges) - 1)
    return make('sensor_msgs/msg/LaserScan', header(stamp), angle_min, angle_max, step, 0.0, 0.0,
                0.1, 10.0, np.array(ranges, np.float32), np.zeros(0, np.float32))


def joint_state(stamp, names, position=(), velocity=(), effort=()):
    return make('sensor_msgs/msg/JointState', header(stamp), list(names),
                *(np.array(each, float) for each in (position, velocity, effort)))


def multi_array(stamp, values):
    layout = make('std_msgs/msg/MultiArrayLayout', [], 0)
    return make('std_msgs/msg/Float64MultiArray', layout, np.array(values, float))


def trajectory(stamp, names, *points):
    """Return a trajectory that starts now; points are dictionaries of positions and so on."""
    none = np.zeros(0)
    fields, soon = ('positions', 'velocities', 'accelerations', 'effort'), make(
        'builtin_interfaces/msg/Duration', 0, 50_000_000)
    return make('trajectory_msgs/msg/JointTrajectory', header(0), list(names), [
        make('trajectory_msgs/msg/JointTrajectoryPoint', *[
            np.array(point.get(field, none), float) for field in fields], soon)
        for point in points])


def write(path, *topics, storage=MCAP, late=0, compression='none'):
    """
    Write a bag.

    :param topics: Each a name and its messages, as (stamp, message) or (stamp, message, when it
        was received); or a name and a type.
    :param late: Nanoseconds from a stamp to the reception.
    :param compression: What is compressed by zstd: 'file', 'message', or 'storage', its chunks.
    """
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        messages = []
        for name, stamped in topics:
            kind = stamped if isinstance(stamped, str) else stamped[0][1].__msgtype__
            connection = writer.add_connection(name, kind, typestore=types())
            messages += [] if stamped is kind else [
                (received[0] if received else stamp + late, connection, message)
                for stamp, message, *received in stamped]
        for received, connection, message in sorted(messages, key=lambda each: each[0]):
            data = message if isinstance(message, bytes) else types().serialize_cdr(
                message, message.__msgtype__)
            writer.write(connection, received, data)
    return path


def stamps(count, period=PERIOD):
    return [START + i * period for i in range(count)]


def drive(path, count=8, image=raw, command=twist_stamped, period=PERIOD, **options):
    """Write a bag in which frame i shows number i, and command i is (0.5, i / 10)."""
    times = stamps(count, period)
    return write(path, ('/camera', [(t, image(t, picture(i))) for i, t in enumerate(times)]),
                 ('/cmd_vel', [(t, command(t, 0.5, i / 10)) for i, t in enumerate(times)]),
                 **options)


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack('<I', len(data)) + data


def record(kind, content):
    return struct.pack('<BQ', kind, len(content)) + content


def chunk(records, compression='', size=None, checksum=None):
    """Make the record of a chunk, which may claim another size or checksum than it has."""
    packed = {'': bytes, 'zstd': zstd.compress, 'lz4': lz4.frame.compress}[compression](records)
    checksum = zlib.crc32(records) if checksum is None else checksum
    return record(6, struct.pack('<QQQI', 0, 0, len(records) if size is None else size, checksum)
                  + text(compression) + struct.pack('<Q', len(packed)) + packed)


def streams(count=8):
    """Return the messages of ``drive`` as (topic, type, time, bytes), by time."""
    return [(topic, message.__msgtype__, stamp, bytes(types().serialize_cdr(
        message, message.__msgtype__))) for i, stamp in enumerate(stamps(count))
        for topic, message in (('/camera', raw(stamp, picture(i))),
                               ('/cmd_vel', twist_stamped(stamp, 0.5, i / 10)))]


def mcap(path, messages, profile='ros2', per_chunk=4, compression='', summary='channels',
         encoding='cdr', schema_encoding='ros2msg', finished=True):
    """
    Write an MCAP file by its specification, with what that leaves open left open.

    :param messages: As of ``streams``, in the order of the file.
    :param per_chunk: Messages of a chunk; 0 for none of chunks.
    :param summary: Repeats 'channels' and counts, or only 'counts'; or there is 'none'.
    """
    about, known, counts = b'', {}, {}
    parts, body = [], b''
    for topic, kind, stamp, data in messages:
        if (topic, kind) not in known:
            number = known[topic, kind] = len(known) + 1
            new = record(3, struct.pack('<H', number) + text(kind) + text(schema_encoding) + text(
                'definition')) + record(4, struct.pack('<HH', number, number) + text(topic)
                                        + text(encoding) + text(b''))
            about, body = about + new, body + new
        number = known[topic, kind]
        counts[number] = counts.get(number, 0) + 1
        body += record(5, struct.pack('<HIQQ', number, 0, stamp, stamp) + data)
        if per_chunk and sum(counts.values()) % per_chunk == 0:
            parts, body = [*parts, chunk(body, compression)], b''
    if body:
        parts.append(chunk(body, compression) if per_chunk else body)
    magic = b'\x89MCAP0\r\n'
    file = magic + record(1, text(profile) + text('by hand')) + b''.join(parts)
    if finished:
        file += record(15, bytes(4))
        start = len(file) if summary != 'none' else 0
        file += about * (summary == 'channels')
        if start:
            file += record(11, struct.pack(
                '<QHIIIIQQ', len(messages), len(known), len(known), 0, 0, 0, 0, 0)
                + text(b''.join(struct.pack('<HQ', *each) for each in counts.items())))
        file += record(2, struct.pack('<QQI', start, 0, 0)) + magic
    path.write_bytes(file)
    return path


def tub(path, count=6, deleted=(), **changes):
    """Write a tub of version 2; ``changes`` replace values of record 2."""
    (path / 'images').mkdir(parents=True)
    records = []
    for i in range(count):
        name = f'{i}_cam_image_array_.jpg'
        (path / 'images' / name).write_bytes(jpeg(picture(i), '.jpg').tobytes())
        records.append({'_index': i, '_session_id': 'a', '_timestamp_ms': START // 10**6 + 50 * i,
                        'cam/image_array': name, 'user/angle': i / 10, 'user/throttle': 0.4,
                        'user/mode': 'user'} | (changes if i == 2 else {}))
    half = count // 2
    for number, part in enumerate((records[:half], records[half:])):
        (path / f'catalog_{number}.catalog').write_text(
            ''.join(json.dumps(record) + '\n' for record in part))
    lines = [['cam/image_array', 'user/angle', 'user/throttle', 'user/mode'],
             ['image_array', 'float', 'float', 'str'], {}, {'created_at': 1.0},
             {'paths': ['catalog_0.catalog', 'catalog_1.catalog'], 'current_index': count,
              'max_len': half, 'deleted_indexes': list(deleted)}]
    (path / 'manifest.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return path
