#!/usr/bin/env bash
# rosbags-image ignores `step`: an image whose rows are padded, as drivers with aligned rows send
# them, comes out sheared: each row is shifted further, and the last rows are missing. Shape and
# type are right and nothing is raised.
# Guess before the run: rows begin where `step` says, as with cv_bridge.
# Whoever trains on such pictures, of 638 columns in rows of 640 bytes for example, sees lanes that
# lean; cut the padding off first: data.reshape(height, step)[:, :width * channels].
# Seen with rosbags-image 0.10.4, rosbags 0.11.9, Python 3.11: the vertical line of a picture
# is in columns 3, 5, none, 1, 3, 5 of its rows in place of 3 in all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    rosbags==0.11.9 rosbags-image==0.10.4 opencv-python-headless==5.0.0.93 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import get_typestore, Stores

types = get_typestore(Stores.ROS2_JAZZY).types
header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](0, 0), 'camera')
height, width, step = 6, 6, 8
rows = np.zeros((height, step), np.uint8)
rows[:, 3] = 255
message = types['sensor_msgs/msg/Image'](header, height, width, 'mono8', 0, step, rows.ravel())

picture = message_to_cvimage(message)
lines = [np.flatnonzero(row).tolist() for row in picture]
print('columns of the line in each row')
print('expected:', [[3]] * height)
print('seen:    ', lines)
sys.exit(picture.shape != (height, width) or lines != [[3], [5], [], [1], [3], [5]])
PYTHON
