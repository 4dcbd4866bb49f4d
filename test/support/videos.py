"""Videos for the camera node, as no test machine has a camera."""

from pathlib import Path

import cv2
import numpy as np

RATE = 20.0


def write_video(path: Path, width: int, height: int, count: int) -> str:
    """
    Write a video that becomes brighter and is red on its left side.

    :param count: Of its frames.
    :returns: Its path.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), RATE, (width, height))
    for i in range(count):
        picture = np.full((height, width, 3), 4 * i + 60, np.uint8)
        picture[:, :width // 2, :2] = 20
        writer.write(picture)
    writer.release()
    return str(path)
