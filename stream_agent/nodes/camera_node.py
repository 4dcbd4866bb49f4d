"""A camera or a video as a ROS node, read with OpenCV: for machines without a camera driver."""

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
import sys
import threading
import time

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from stream_agent.bounded_settings import choice, free_text, quantity
from stream_agent.nodes import process
from stream_agent.nodes.messages import array_to_image, FRAME_QOS
from stream_agent.nodes.parameters import declare_settings, refuse_unknown

# Longer than any exposure; a camera that was unplugged delivers nothing.
SILENCE = 5.0
DEVICES = Path('/dev')
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp')


class ImageFolder:
    """
    Plays the images of a folder, by their names in the order of the numbers in them.

    It has the methods of a cv2.VideoCapture that are used here.
    """

    def __init__(self, folder: Path) -> None:
        self._files = sorted(
            (file for file in folder.iterdir() if file.suffix.lower() in IMAGES),
            key=lambda file: [int(part) if part.isdecimal() else part
                              for part in re.split('([0-9]+)', file.name)])
        self._next = 0

    def isOpened(self) -> bool:  # noqa: N802
        """Return whether there is an image."""
        return bool(self._files)

    def grab(self) -> bool:
        """Go to the next image; false behind the last one."""
        self._next += 1
        return self._next <= len(self._files)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Return whether the image can be read, and its pixels as BGR."""
        pixels = cv2.imread(str(self._files[self._next - 1]))
        return pixels is not None, pixels

    def get(self, _: int) -> float:
        """Return no rate, as no file has one."""
        return 0.0

    def set(self, *_: float) -> None:
        """Begin with the first image again."""
        self._next = 0

    def release(self) -> None:
        """Close nothing."""


def number_of(source: str) -> str:
    """Return the number of the camera that a source means, such as /dev/video0; empty if none."""
    if source.isdecimal():
        return source
    # What udev calls a camera by its place or kind is a link to its device.
    found = re.fullmatch(rf'{DEVICES}/video([0-9]+)', os.path.realpath(Path(source).expanduser()))
    return found[1] if found else ''


def open_camera(number: str) -> cv2.VideoCapture:
    """
    Open a camera.

    :raises ValueError: If it is missing, is another user's, or gives no image.
    """
    device = DEVICES / f'video{number}'
    if sys.platform == 'linux' and not device.exists():
        there: Sequence[str] = sorted(map(str, DEVICES.glob('video*')))
        raise ValueError(f"source: camera {number} cannot be opened: there is no '{device}'; "
                         + (f"give one of {', '.join(there)}" if there else
                            'plug a camera in, or give the path of a video'))
    if sys.platform == 'linux' and not os.access(device, os.R_OK | os.W_OK):
        raise ValueError(f"source: camera {number} cannot be opened: '{device}' is not yours; add "
                         'yourself to its group by `sudo usermod -aG video $USER`, and log in '
                         'again')
    capture = cv2.VideoCapture(int(number))
    if not capture.isOpened():
        raise ValueError(f"source: camera {number} gives no images, although '{device}' is "
                         f'there; end what uses it (`fuser {device}` names it), or give another: '
                         'many cameras have a second device without images')
    return capture


def open_video(source: str) -> cv2.VideoCapture | ImageFolder:
    """
    Open a video, a folder of images, or a stream of the network.

    :raises ValueError: If there is none, or it cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        folder = ImageFolder(path)
        if not folder.isOpened():
            raise ValueError(f"source: the folder '{source}' has no images ({', '.join(IMAGES)}); "
                             'give one that has, a video, or the number of a camera')
        return folder
    stream = '://' in source
    if not stream and not path.is_file():
        raise ValueError(f"source: there is no video '{source}'; give its path, or the number of "
                         'a camera')
    capture = cv2.VideoCapture(source if stream else str(path))
    if stream and not capture.isOpened():
        raise ValueError(f"source: the stream '{source}' cannot be opened; try the address by "
                         f'`ffplay {source}`')
    if not capture.isOpened():
        raise ValueError(f"source: '{source}' is not a video that OpenCV can read; give one that "
                         '`ffplay` plays, or convert it by `ffmpeg -i FILE video.mp4`')
    return capture


@dataclass(frozen=True)
class CameraSettings:
    """Which camera or video is published, and how."""

    source: str = free_text('0', 'number or device of the camera, or the path of a video or of a '
                            'folder of images, or the address of a stream')
    width: int = quantity(0, '', 0, 8192, 'columns to ask the camera for; 0: as it is')
    height: int = quantity(0, '', 0, 8192, 'rows to ask the camera for; 0: as it is')
    rate: float = quantity(0.0, 'Hz', 0.0, 1000.0, 'images a second to ask the camera for, or '
                           'to play a video at; 0: as it is')
    repeat: bool = choice(False, 'start a video again at its end')
    frame_id: str = free_text('camera_optical', 'frame_id of the images')


class CameraNode(Node):
    """
    Publishes what a camera sees, or plays a video at its frame rate.

    Publishes ``image`` (sensor_msgs/Image, rgb8), stamped when an image is available and before
    it is decoded; stamps ascend even if the clock is set back.

    :raises ValueError: If the source cannot be opened, or a parameter is unknown.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('camera', **kwargs)
        declare_settings(self, CameraSettings)
        refuse_unknown(self)
        self._source = str(self.get_parameter('source').value)
        self._rate = self.get_parameter('rate').value
        self._number = number_of(self._source)
        self._is_video = not self._number and '://' not in self._source
        #: Set to 1 if the source gives no image.
        self.exit_code = 0
        self._capture = self._open()
        self._image_pub = self.create_publisher(Image, 'image', FRAME_QOS)
        self._last_ns = 0
        self._count = 0
        self._last_at = time.monotonic()
        self._leave = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self) -> cv2.VideoCapture | ImageFolder:
        """Open the camera or video."""
        # What it complains about is said here, in a sentence.
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = open_camera(self._number) if self._number else open_video(self._source)
        if self._number:
            for name, value in ((cv2.CAP_PROP_FRAME_WIDTH, self.get_parameter('width').value),
                                (cv2.CAP_PROP_FRAME_HEIGHT, self.get_parameter('height').value),
                                (cv2.CAP_PROP_FPS, self._rate)):
                if value:
                    capture.set(name, value)
        return capture

    @property
    def finished(self) -> bool:
        """
        Whether there are no more images.

        :raises Exception: What has ended the thread that publishes them.
        """
        if self._error:
            raise self._error
        if not self._is_video and time.monotonic() - self._last_at > SILENCE:
            self._give_up(f"the camera '{self._source}' has delivered no image for {SILENCE:g} s; "
                          'check its cable, and that no other program uses it')
        return bool(self.exit_code) or not self._thread.is_alive()

    def _give_up(self, why: str) -> None:
        """End with a sentence, which is said once."""
        if not self.exit_code:
            self.exit_code = 1
            self.get_logger().fatal(why)

    def _run(self) -> None:
        """Publish images until there are no more."""
        try:
            self._play() if self._is_video else self._watch()
        except Exception as error:
            self._error = error

    def _watch(self) -> None:
        """Publish what the camera delivers."""
        while not self._leave.is_set():
            if self._capture.grab():
                self._publish()
            else:
                time.sleep(0.01)

    def _play(self) -> None:
        """Publish the images of a video when they are due, once there is a subscriber."""
        while not self._image_pub.get_subscription_count():
            if self._leave.wait(0.05):
                return
        period = 1.0 / (self._rate or self._capture.get(cv2.CAP_PROP_FPS) or 30.0)
        due = time.monotonic()
        while not self._leave.is_set():
            if not self._capture.grab():
                if not self._count:
                    self._give_up(f"source: no image of '{self._source}' can be read; give "
                                  'another video')
                    return
                if not self.get_parameter('repeat').value:
                    self.get_logger().info(f"'{self._source}' is over; repeat:=true plays it "
                                           'again')
                    return
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                continue
            if self._leave.wait(max(0.0, due - time.monotonic())):
                return
            self._publish()
            # After a stall a camera resumes at its rate and does not catch up.
            due = max(due + period, time.monotonic())

    def _publish(self) -> None:
        """Stamp the image that has been grabbed, decode it, and publish it."""
        stamp_ns = max(self.get_clock().now().nanoseconds, self._last_ns + 1)
        decoded, pixels = self._capture.retrieve()
        if not decoded or pixels is None:
            return
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        self._image_pub.publish(
            array_to_image(pixels, stamp_ns, self.get_parameter('frame_id').value))
        self._last_ns, self._last_at = stamp_ns, time.monotonic()
        self._count += 1

    def stop(self) -> None:
        """Release the camera, and log how many images were published."""
        self._leave.set()
        self._thread.join(1.0)
        self._capture.release()
        self.get_logger().info(f'{self._count} images published')


def main(args: list[str] | None = None) -> int:
    """Publish until SIGINT, SIGTERM or the end of the video."""
    process.use_large_shared_memory()
    return process.run(CameraNode, args, (CameraSettings,))
