#!/usr/bin/env bash
# In ahrs, DCM(rpy=[roll, pitch, yaw]) is the matrix of [yaw, pitch, roll], while the package's own
# Quaternion(rpy=...) takes them as named; the docstrings name roll, pitch and yaw in this order.
# The matrix's own to_rpy() gives neither order back.
# Guess before the run: DCM(rpy=angles) and Quaternion(rpy=angles).to_DCM() are one matrix.
# Whoever rotates an IMU's or a camera's vectors by such a matrix turns a heading into a roll;
# give the angles reversed, or go by way of Quaternion.
# Seen with ahrs 0.4.0, scipy 1.17.1, Python 3.11: a yaw of 0.3 alone is a rotation about x.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    ahrs==0.4.0 scipy==1.17.1 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

from ahrs import DCM, Quaternion
import numpy as np
from scipy.spatial.transform import Rotation

yaw_only, angles = [0., 0., 0.3], [0.1, 0.2, 0.3]


def axis(matrix):
    return (Rotation.from_matrix(np.array(matrix)).as_rotvec() / 0.3).round(6).tolist()


seen, by_quaternion = axis(DCM(rpy=yaw_only)), axis(Quaternion(rpy=yaw_only).to_DCM())
back = DCM(rpy=angles).to_rpy().round(6).tolist()
print('axis of DCM(rpy=[0, 0, 0.3]): expected', by_quaternion, '- as of Quaternion(rpy=...), seen',
      seen)
print('DCM(rpy=[0.1, 0.2, 0.3]).to_rpy():', back)
swapped = np.allclose(DCM(rpy=angles), Quaternion(rpy=angles[::-1]).to_DCM())
right = np.allclose(Quaternion(rpy=angles).to_DCM(),
                    Rotation.from_euler('xyz', angles).as_matrix())
sys.exit(not (seen == [1, 0, 0] and by_quaternion == [0, 0, 1] and swapped and right
              and not np.allclose(back, angles) and not np.allclose(back, angles[::-1])))
PYTHON
