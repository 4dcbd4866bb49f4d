#!/usr/bin/env bash
# PyAV converts RGB frames by BT.601 even where the stream that they are encoded for is tagged
# BT.709, and writes the tag. Readers then decode by BT.709: other colours than were recorded.
# Guess before the run: `encode` converts to the stream's own colour space, or raises.
# Whoever records a camera as tagged video and trains on it sees other colours than in live frames,
# green 40 levels darker; reformat each frame first:
# frame.reformat(format='yuv420p', dst_colorspace=1).
# Seen with av 18.1.0, OpenCV 5.0.0, Python 3.11: green (0, 255, 0) comes back as (0, 215, 0),
# untagged as (0, 254, 0).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    av==18.1.0 opencv-python-headless==5.0.0.93 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import av
import cv2
import numpy as np

GREEN = np.full((240, 320, 3), (0, 255, 0), np.uint8)


def record(path, colorspace=None, reformat=False):
    with av.open(path, 'w') as container:
        stream = container.add_stream('libx264', rate=10, options={'crf': '1'})
        stream.width, stream.height, stream.pix_fmt = 320, 240, 'yuv420p'
        if colorspace:
            stream.codec_context.colorspace = colorspace
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(GREEN, format='rgb24')
            if reformat:
                frame = frame.reformat(format='yuv420p', dst_colorspace=colorspace)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(path):
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        pixel = frame.to_ndarray(format='rgb24')[120, 160].tolist()
    bgr = cv2.VideoCapture(path).read()[1]
    return int(frame.colorspace), pixel, bgr[120, 160, ::-1].tolist()


seen = {}
for name, options in (('untagged', {}), ('BT.709', {'colorspace': 1}),
                      ('BT.709, reformatted', {'colorspace': 1, 'reformat': True})):
    record('green.mp4', **options)
    seen[name] = read('green.mp4')
    tag, pyav, opencv = seen[name]
    print(f'{name}: expected (0, 255, 0); seen {pyav} by PyAV, {opencv} by OpenCV, tag {tag}')
(_, *plain), (tag, *tagged), (_, *right) = seen.values()
sys.exit(not (tag == 1 and all(pixel[1] > 250 for pixel in plain + right)
              and all(205 < pixel[1] < 225 for pixel in tagged)))
PYTHON
