#!/usr/bin/env bash
# mcap-ros2-support reads messages in DDS's newer encoding (XCDR2: a double is aligned to 4 bytes)
# as if they were in the older one, although their first bytes name it: a moving robot's speeds are
# read as 5e-315. Where shifted lengths do not fit, it raises struct.error; rosbags refuses all.
# Guess before the run: the encapsulation header is followed, or refused, as by rosbags.
# Whoever records a DDS topic from outside ROS (Cyclone's Python writes either encoding) into MCAP
# trains on zero commands; check that a message begins with 00 00 or 00 01.
# Seen with mcap-ros2-support 0.6.0, rosbags 0.11.9, cyclonedds 11.0.1, Python 3.11: (1.5, -0.25)
# in XCDR1, (5.3e-315, 3.4e-313) in XCDR2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    mcap==1.6.0 mcap-ros2-support==0.6.0 rosbags==0.11.9 cyclonedds==11.0.1 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
from dataclasses import dataclass
import sys

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64, sequence, uint32, uint8
from mcap.records import Schema
from mcap_ros2.decoder import DecoderFactory
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

NAME = 'robot/msg/Command'
FIELDS = 'uint32 number\nfloat64 speed\nfloat64 yaw_rate\nuint8[] signature\n'


@dataclass
class Command(IdlStruct, typename='robot::msg::dds_::Command_'):
    number: uint32
    speed: float64
    yaw_rate: float64
    signature: sequence[uint8]


store = get_typestore(Stores.EMPTY)
store.register(get_types_from_msg(FIELDS, NAME))
schema = Schema(id=1, name=NAME, encoding='ros2msg', data=FIELDS.encode())
decode = DecoderFactory().decoder_for('cdr', schema)
command, seen, refused = Command(7, 1.5, -0.25, [0] * 16), [], []
for second in (False, True):
    data = command.serialize(use_version_2=second)
    assert Command.deserialize(data) == command
    read = decode(data)
    seen.append((read.speed, read.yaw_rate))
    try:
        store.deserialize_cdr(data, NAME)
        refused.append('')
    except Exception as error:
        refused.append(str(error))
    print(f'{data[:2].hex()}: (speed, yaw rate) expected (1.5, -0.25), seen', seen[-1],
          '- by rosbags:', refused[-1] or 'read')
sys.exit(not (seen[0] == (1.5, -0.25) and all(0 < value < 1e-300 for value in seen[1])
              and not refused[0] and 'encapsulation' in refused[1]))
PYTHON
