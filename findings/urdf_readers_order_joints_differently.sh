#!/usr/bin/env bash
# One URDF, three readers, three robots: a vector of joint angles goes to the joints in the file's
# order in yourdfpy and from the base to the tip in urchin, and pytransform3d clips an angle at its
# limit and leaves a joint that mimics another at rest. None of them says so.
# Guess before the run: a URDF says which joint is which, so one vector is one pose.
# Whoever trains on a recording's vector with one reader and drives by another moves the wrong
# joints; pass angles by name, and check the limits yourself.
# Seen with yourdfpy 0.0.60, urchin 0.0.30, pytransform3d 3.17.0, Python 3.11: for (0.1, 0.2, 0.3)
# the elbow is at 0.3 or 0.2; a wrist at 1.5 is at 1.0 and its gripper at 0 for pytransform3d.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    yourdfpy==0.0.60 urchin==0.0.30 pytransform3d==3.17.0 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import logging
import sys

import numpy as np
from pytransform3d.urdf import UrdfTransformManager
import urchin
import yourdfpy

logging.disable()
JOINT = '''<joint name="{}" type="{}"><parent link="{}"/><child link="{}"/><axis xyz="0 0 1"/>
<limit lower="-1" upper="1" effort="1" velocity="1"/>{}</joint>'''
MIMIC = '<mimic joint="wrist" multiplier="0.5"/>'
URDF = ('<robot name="arm">' + ''.join(f'<link name="{name}"/>' for name in 'abcde')
        + JOINT.format('wrist', 'revolute', 'c', 'd', '')
        + JOINT.format('shoulder', 'revolute', 'a', 'b', '')
        + JOINT.format('elbow', 'revolute', 'b', 'c', '')
        + JOINT.format('gripper', 'prismatic', 'd', 'e', MIMIC) + '</robot>')
with open('arm.urdf', 'w') as file:
    file.write(URDF)


def angle(matrix):
    return round(float(np.arctan2(matrix[1, 0], matrix[0, 0])), 6)


def by_yourdfpy(angles):
    arm = yourdfpy.URDF.load('arm.urdf')
    arm.update_cfg(angles)
    return arm.get_transform


def by_urchin(angles):
    poses = urchin.URDF.load('arm.urdf').link_fk(cfg=angles, use_names=True)
    return lambda child, parent: np.linalg.inv(poses[parent]) @ poses[child]


def by_pytransform3d(angles):
    arm = UrdfTransformManager()
    arm.load_urdf(URDF)
    for name, value in angles.items():
        arm.set_joint(name, value)
    return arm.get_transform


def elbow(transform):
    return angle(transform('c', 'b'))


def wrist_and_gripper(transform):
    return angle(transform('d', 'c')), round(float(transform('e', 'd')[2, 3]), 6)


vector, named = [0.1, 0.2, 0.3], {'wrist': 1.5, 'shoulder': 0., 'elbow': 0.}
elbows = [elbow(read(vector)) for read in (by_yourdfpy, by_urchin)]
wrists = [wrist_and_gripper(read(named)) for read in (by_yourdfpy, by_urchin, by_pytransform3d)]
print('elbow of the vector (0.1, 0.2, 0.3), expected one value: yourdfpy, urchin', elbows)
print('(wrist, gripper) of wrist = 1.5, expected one pair: yourdfpy, urchin, pytransform3d',
      wrists)
sys.exit((elbows, wrists) != ([0.3, 0.2], [(1.5, 0.75), (1.5, 0.75), (1.0, 0.0)]))
PYTHON
