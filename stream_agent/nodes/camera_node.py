"""A camera or a video as a ROS node, read with OpenCV: for machines without a camera driver."""

from dataclasses import dataclass
from pathlib import Path
import threading
import time

import cv2
from rclpy.node import Node
from sensor_msgs.msg import Image
from stream_agent.bounded_settings import choice, free_text, quantity
from stream_agent.nodes import process
from stream_agent.nodes.messages import array_to_image, FRAME_QOS
from stream_agent.nodes.parameters import declare_settings, refuse_unknown

# Longer than any exposure; a camera that was unplugged delivers nothing.
SILENCE = 5.0


@dataclass(frozen=True)
class CameraSettings:
    """Which camera or video is published, and how."""

    source: str = free_text('0', 'number of the camera, or the path of a video')
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
        self._is_video = not self._source.isdecimal()
        self._capture = self._open()
        self._image_pub = self.create_publisher(Image, 'image', FRAME_QOS)
        self._last_ns = 0
        self._count = 0
        self._last_at = time.monotonic()
        self._leave = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self) -> cv2.VideoCapture:
        """Open the camera or video."""
        if self._is_video and not Path(self._source).expanduser().is_file():
            raise ValueError(f"source: there is no video '{self._source}'; give its path, or the "
                             'number of a camera')
        capture = (cv2.VideoCapture(str(Path(self._source).expanduser())) if self._is_video
                   else cv2.VideoCapture(int(self._source)))
        if not capture.isOpened():
            raise ValueError(
                f"source: '{self._source}' is not a video that OpenCV can read"
                if self._is_video else
                f'source: camera {self._source} cannot be opened; check that it is plugged in '
                '(`ls /dev/video*`), that no other program uses it, and that you may use it')
        if not self._is_video:
            for name, value in ((cv2.CAP_PROP_FRAME_WIDTH, self.get_parameter('width').value),
                                (cv2.CAP_PROP_FRAME_HEIGHT, self.get_parameter('height').value),
                                (cv2.CAP_PROP_FPS, self._rate)):
                if value:
                    capture.set(name, value)
        return capture

    @property
    def finished(self) -> bool:
        """
        Whether the video is over.

        :raises RuntimeError: If the camera has stopped delivering images.
        """
        if self._error:
            raise self._error
        if not self._is_video and time.monotonic() - self._last_at > SILENCE:
            raise RuntimeError(f'camera {self._source} has delivered no image for {SILENCE:g} s')
        return not self._thread.is_alive()

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
                if not self.get_parameter('repeat').value or not self._count:
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
        if not decoded:
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
