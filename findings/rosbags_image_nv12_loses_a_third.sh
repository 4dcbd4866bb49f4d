#!/usr/bin/env bash
# rosbags-image turns an NV12 picture into one of two thirds of its height: it reads `height` rows
# of the 1.5 x height that NV12 has, and takes the lowest third of the *luma* for the colours. Its
# table lists nv12 and nv21; heights that 3 divides, such as 480, 720 and 1080, raise nothing.
# Guess before the run: a 1280 x 720 NV12 message gives 720 rows in its colours.
# Whoever decodes a camera's NV12 topic trains on pictures that lack a third of the view, in false
# colours; convert by cv2.COLOR_YUV2RGB_NV12 from data.reshape(height * 3 // 2, step).
# Seen with rosbags-image 0.10.4, rosbags 0.11.9, OpenCV 5.0.0, Python 3.11: a red picture of
# 12 rows becomes a green one of 8.
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

import cv2
import numpy as np
from rosbags.image import message_to_cvimage
from rosbags.typesys import get_typestore, Stores

types = get_typestore(Stores.ROS2_JAZZY).types
header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](0, 0), 'camera')
height, width = 12, 16
luma = np.full((height, width), 81, np.uint8)
colour = np.tile(np.array([90, 240], np.uint8), (height // 2, width // 2))
data = np.concatenate([luma, colour])
message = types['sensor_msgs/msg/Image'](header, height, width, 'nv12', 0, width, data.ravel())

right = cv2.cvtColor(data, cv2.COLOR_YUV2RGB_NV12)
picture = message_to_cvimage(message, 'rgb8')
print('expected:', right.shape, 'of', right[0, 0].tolist())
print('seen:    ', picture.shape, 'of', picture[0, 0].tolist())
red, green, _ = picture[0, 0].tolist()
sys.exit(right.shape != (12, 16, 3) or picture.shape != (8, 16, 3) or red > 50 or green < 100)
PYTHON
