"""Bags and tubs, written by the library and by hand, to be read again."""

import json

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
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


def write(path, *topics, storage=MCAP, late=0):
    """
    Write a bag.

    :param topics: Each a name and its messages, as (stamp, message); or a name and a type.
    :param late: Nanoseconds from a stamp to the reception.
    """
    with Writer(path, version=9, storage_plugin=storage) as writer:
        messages = []
        for name, stamped in topics:
            kind = stamped if isinstance(stamped, str) else stamped[0][1].__msgtype__
            connection = writer.add_connection(name, kind, typestore=types())
            messages += [] if stamped is kind else [
                (stamp + late, connection, message) for stamp, message in stamped]
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
