#!/usr/bin/env bash
# pypcd4's PointCloud.from_msg ignores `row_step` and `is_bigendian`: padding after the rows of an
# organised cloud becomes points at the origin that push others out of place, and numbers of a
# big-endian sender become denormals near zero. Nothing is raised.
# Guess before the run: a PointCloud2 is read by the fields that describe its bytes.
# Whoever measures the distance ahead in such a cloud sees an obstacle at distance 0; copy rows
# without padding, in the machine's byte order, first.
# Seen with pypcd4 1.5.1, Python 3.11: 6 points of 4, and 1.0 as 4.6e-41.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    pypcd4==1.5.1 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys
from types import SimpleNamespace

import numpy as np
from pypcd4 import PointCloud

points = np.arange(1, 13, dtype='<f4').reshape(2, 2, 3)
fields = [SimpleNamespace(name=name, offset=4 * at, datatype=7, count=1)
          for at, name in enumerate('xyz')]


def message(data, row_step, is_bigendian):
    stamp = SimpleNamespace(sec=0, nanosec=0)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id='lidar', stamp=stamp), height=2, width=2, fields=fields,
        point_step=12, row_step=row_step, is_bigendian=is_bigendian, data=data, is_dense=True)


padded = np.zeros((2, 36), np.uint8)
padded[:, :24] = points.view(np.uint8).reshape(2, 24)
seen = {'plain': message(points.tobytes(), 24, False),
        'rows of 36 bytes': message(padded.tobytes(), 36, False),
        'big-endian': message(points.astype('>f4').tobytes(), 24, True)}
seen = {name: PointCloud.from_msg(each).numpy() for name, each in seen.items()}
plain, rows, swapped = seen.values()
print('expected:', points.reshape(-1, 3).tolist())
for name, read in seen.items():
    print(f'{name}, seen:', read.tolist())
sys.exit(not (np.array_equal(plain, points.reshape(-1, 3)) and len(rows) == 6
              and not rows[2].any() and not rows[5].any() and np.array_equal(rows[:2], points[0])
              and np.array_equal(rows[3:5], points[1]) and (np.abs(swapped) < 1e-30).all()))
PYTHON
