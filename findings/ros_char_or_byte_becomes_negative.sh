#!/usr/bin/env bash
# A byte above 127 is negative in one of the two libraries that read ROS 2 bags without ROS:
# mcap-ros2-support reads `char` as signed, rosbags reads `byte` so. In ROS 2 both are unsigned:
# its adapter translates them to uint8 and octet.
# Guess before the run: a byte has one value, whoever reads it.
# Whoever reads a pedal or a mode from a std_msgs/Char or std_msgs/Byte has the wrong sign for half
# of its range with one of them; take the value modulo 256.
# Seen with mcap-ros2-support 0.6.0, rosbags 0.11.9, ros-rosidl-adapter 4.9.5, Python 3.11: 200 is
# -56 as a char by mcap-ros2-support and as a byte by rosbags.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# The adapter's dependencies are for what is not used here, and one has no wheel.
if ! "$folder/venv/bin/pip" install --quiet --only-binary :all: mcap-ros2-support==0.6.0 \
        mcap==1.6.0 rosbags==0.11.9 numpy==2.4.6 ||
    ! "$folder/venv/bin/pip" install --quiet --only-binary :all: --no-deps \
        ros-rosidl-adapter==4.9.5; then
    echo 'installation failed' >&2
    exit 3
fi
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys
import types

from mcap.records import Schema
from mcap_ros2.decoder import DecoderFactory
from rosbags.typesys import get_typestore, Stores

# Its templates, which need this module, are not used here.
sys.modules['em'] = types.SimpleNamespace(Interpreter=object)
from rosidl_adapter.msg import MSG_TYPE_TO_IDL  # noqa: E402

store = get_typestore(Stores.ROS2_JAZZY)
data = b'\0\1\0\0' + bytes([200])
seen = {}
for kind, name in (('char', 'std_msgs/msg/Char'), ('byte', 'std_msgs/msg/Byte'),
                   ('uint8', 'std_msgs/msg/UInt8')):
    schema = Schema(id=1, name=name, encoding='ros2msg', data=f'{kind} data\n'.encode())
    seen[kind] = (DecoderFactory().decoder_for('cdr', schema)(data).data,
                  int(store.deserialize_cdr(data, name).data))
    print(f'{kind}, {MSG_TYPE_TO_IDL[kind]} in ROS: expected 200 twice; seen by '
          f'mcap-ros2-support, rosbags: {seen[kind]}')
sys.exit(seen != {'char': (-56, 200), 'byte': (200, -56), 'uint8': (200, 200)}
         or (MSG_TYPE_TO_IDL['char'], MSG_TYPE_TO_IDL['byte']) != ('uint8', 'octet'))
PYTHON
