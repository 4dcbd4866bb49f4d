#!/usr/bin/env bash
# pytransform3d interpolates between two quaternions the long way round where their signs differ,
# and numpy-quaternion's mean rotation is then 180 degrees off; scipy's Slerp and mean, and
# numpy-quaternion's own slerp, are right. q and -q are one rotation, and drivers give either.
# Guess before the run: half way from 0 to 20 degrees is 10 degrees, whoever computes it.
# Whoever interpolates recorded poses to the times of frames has a robot that faces backwards in
# single frames, without an error; use scipy, or pass shortest_path=True.
# Seen with pytransform3d 3.17.0, numpy-quaternion 2024.0.13, scipy 1.17.1, Python 3.11: yaw of 190
# degrees by pytransform3d and by numpy-quaternion's mean, 10 by the others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    pytransform3d==3.17.0 scipy==1.17.1 numpy-quaternion==2024.0.13 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from pytransform3d.rotations import quaternion_slerp
import quaternion
from scipy.spatial.transform import Rotation, Slerp

XYZW, WXYZ = [1, 2, 3, 0], [3, 0, 1, 2]


def turned(degrees, sign):
    half = np.radians(degrees) / 2
    return sign * np.array([np.cos(half), 0, 0, np.sin(half)])


def yaw(wxyz):
    return round(np.degrees(2 * np.arctan2(wxyz[3], wxyz[0])) % 360, 6)


ends = np.array([turned(0, 1), turned(20, -1)])
both = quaternion.from_float_array(ends)
rotations = Rotation.from_quat(ends[:, XYZW])
middle = {
    'scipy, Slerp': Slerp([0, 1], rotations)(0.5).as_quat()[WXYZ],
    'scipy, mean': rotations.mean().as_quat()[WXYZ],
    'numpy-quaternion, slerp': quaternion.slerp(*both, 0, 1, 0.5).components,
    'pytransform3d, shortest_path=True': quaternion_slerp(*ends, 0.5, shortest_path=True),
    'numpy-quaternion, mean': quaternion.mean_rotor_in_chordal_metric(both).components,
    'pytransform3d': quaternion_slerp(*ends, 0.5),
}
seen = {name: yaw(value) for name, value in middle.items()}
print('yaw between 0 and 20 degrees, expected: 10')
for name, value in seen.items():
    print(f'{name}: {value}')
sys.exit(list(seen.values()) != [10, 10, 10, 10, 190, 190])
PYTHON
