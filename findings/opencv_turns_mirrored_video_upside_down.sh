#!/usr/bin/env bash
# A video whose display matrix mirrors it left to right, as `ffmpeg -display_hflip` writes it, is
# turned by 180 degrees by OpenCV and decord: upside down. PyAV leaves it unmirrored, and calls its
# rotation -180.
# Guess before the run: a reader applies the matrix or leaves it alone; no picture is upside down.
# Whoever trains on frames by one reader and drives by another has the road on top of the picture,
# or left and right exchanged, without an error; record video without a matrix.
# Seen with opencv-python-headless 5.0.0.93, decord 0.6.0, av 18.1.0, Python 3.11: a bright corner
# that belongs at the top right is bottom right (OpenCV, decord) or top left (PyAV).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    av==18.1.0 opencv-python-headless==5.0.0.93 decord==0.6.0 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import struct
import sys

import av
import cv2
import decord
import numpy as np

WIDTH, HEIGHT, ONE = 320, 240, 1 << 16


def record(path, matrix):
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:HEIGHT // 2, :WIDTH // 2] = 255
    with av.open(path, 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(stream.encode())
    with open(path, 'r+b') as file:
        data = file.read()
        # The matrix is 40 bytes into a track header of version 0, after its type.
        start = data.index(b'tkhd') + 4 + 40
        assert struct.unpack_from('>9i', data, start) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
        file.seek(start)
        file.write(struct.pack('>9i', *matrix))


def bright(picture):
    corners = {'top left': (5, 5), 'top right': (5, -5), 'bottom left': (-5, 5),
               'bottom right': (-5, -5)}
    return next(name for name, place in corners.items() if picture[place].mean() > 200)


def readers(path):
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        pyav = frame.to_ndarray(format='rgb24')
    opencv = cv2.VideoCapture(path).read()[1]
    return frame.rotation, [bright(picture) for picture in (
        opencv, decord.VideoReader(path)[0].asnumpy(), pyav)]


record('plain.mp4', (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30))
record('mirrored.mp4', (-ONE, 0, 0, 0, ONE, 0, WIDTH * ONE, 0, 1 << 30))
(_, plain), (rotation, mirrored) = readers('plain.mp4'), readers('mirrored.mp4')
print('bright corner by OpenCV, decord, PyAV')
print('plain:             ', plain)
print("mirrored, expected:", ['top right'] * 3)
print('mirrored, seen:    ', mirrored, '- rotation by PyAV:', rotation)
sys.exit(rotation != -180 or plain != ['top left'] * 3
         or mirrored != ['bottom right', 'bottom right', 'top left'])
PYTHON
