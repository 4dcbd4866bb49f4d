#!/usr/bin/env bash
# PyAV rounds the times of encoded frames to multiples of 1 / rate, although each frame brings its
# own time base and Matroska and MP4 keep milliseconds; two frames may get one time. No warning.
# Guess before the run: a frame's `pts` and `time_base` are what the file holds.
# Whoever records a jittering camera with its stamps pairs frames with commands up to half a period
# off; set stream.codec_context.time_base to the frames' own.
# Seen with av 18.1.0 (libx264), Python 3.11: at rate=10, 95 ms is read as 100, 520 and 560 as 500
# and 600, 1100 and 1105 both as 1100.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    av==18.1.0 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
from fractions import Fraction
import sys

import av
import numpy as np

STAMPS_MS = [0, 95, 210, 290, 405, 520, 560, 700, 1100, 1105]


def recorded(path, time_base=None):
    with av.open(path, 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        if time_base:
            stream.codec_context.time_base = time_base
        for stamp in STAMPS_MS:
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format='rgb24')
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(path) as container:
        return [round(frame.pts * frame.time_base * 1000) for frame in container.decode(video=0)]


seen = [recorded('drive.mp4'), recorded('drive.mkv')]
kept = recorded('drive.mp4', Fraction(1, 1000))
print('expected [ms]:               ', STAMPS_MS)
print('seen in MP4:                 ', seen[0])
print('seen in Matroska:            ', seen[1])
print('with the codec\'s time base:  ', kept)
sys.exit(seen != [[0, 100, 200, 300, 400, 500, 600, 700, 1100, 1100]] * 2 or kept != STAMPS_MS)
PYTHON
