#!/usr/bin/env bash
# A DecoderFactory of mcap-ros2-support or mcap-protobuf-support that has read one file decodes the
# next one by the *first* file's definitions: it keeps them by schema id, and in every
# file the first id is 1. Nothing is raised where the bytes fit: speed and yaw rate change places.
# Guess before the run: a factory is for any number of files, since each reader hands it schemas.
# Whoever loops over the recordings of two firmwares with one factory trains on swapped commands;
# make a factory for each file.
# Seen with mcap 1.6.0, mcap-ros2-support 0.6.0, mcap-protobuf-support 0.6.0, protobuf 7.36.0,
# Python 3.11: the second file's speed 1.5 and yaw rate -0.25 are read as -0.25 and 1.5 by both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: mcap==1.6.0 mcap-ros2-support==0.6.0 \
    mcap-protobuf-support==0.6.0 protobuf==7.36.0 || { echo 'installation failed' >&2; exit 3; }
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import struct
import sys

from google.protobuf import descriptor_pb2
from mcap.reader import make_reader
from mcap.writer import Writer
from mcap_protobuf.decoder import DecoderFactory as ProtobufFactory
from mcap_ros2.decoder import DecoderFactory as Ros2Factory


def ros2(*fields):
    values = {'speed': 1.5, 'yaw_rate': -0.25}
    definition = ''.join(f'float64 {name}\n' for name in fields)
    data = b'\0\1\0\0' + struct.pack('<2d', *(values[name] for name in fields))
    return 'robot/msg/Command', 'ros2msg', 'cdr', definition.encode(), data


def protobuf(*fields):
    _, _, _, _, data = ros2(*fields)
    file = descriptor_pb2.FileDescriptorProto(name='command.proto', package='robot')
    message = file.message_type.add(name='Command')
    for number, name in enumerate(fields, 1):
        message.field.add(name=name, number=number, type=1, label=1)
    data = b'\x09' + data[4:12] + b'\x11' + data[12:]
    files = descriptor_pb2.FileDescriptorSet(file=[file])
    return 'robot.Command', 'protobuf', 'protobuf', files.SerializeToString(), data


def write(path, name, schema_encoding, encoding, definition, data):
    with open(path, 'wb') as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema(name, schema_encoding, definition)
        writer.add_message(writer.register_channel('/cmd', encoding, schema), 0, data, 0)
        writer.finish()


def read(path, factory):
    with open(path, 'rb') as file:
        message = next(make_reader(file, decoder_factories=[factory]).iter_decoded_messages())[3]
        return message.speed, message.yaw_rate


results = []
for make, Factory in ((ros2, Ros2Factory), (protobuf, ProtobufFactory)):
    write('first.mcap', *make('speed', 'yaw_rate'))
    write('second.mcap', *make('yaw_rate', 'speed'))
    shared = Factory()
    read('first.mcap', shared)
    results.append((read('second.mcap', Factory()), read('second.mcap', shared)))
    print(f'{make.__name__}, (speed, yaw rate) of the second file: expected {results[-1][0]}, '
          f'as a new factory reads it; seen by the first file\'s factory {results[-1][1]}')
sys.exit(results != [((1.5, -0.25), (-0.25, 1.5))] * 2)
PYTHON
