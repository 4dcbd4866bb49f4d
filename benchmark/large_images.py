"""
How many large images arrive, and when, with Fast DDS as it is and with config/fastdds.xml.

Two processes on one machine; the one that publishes has the profile, or has it not.
"""

import os
from pathlib import Path
import subprocess
import sys
import time

from harness import parse, run_benchmark, show
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from stream_agent.nodes.messages import array_to_image, stamp_to_ns

PROFILE = Path(__file__).parents[1] / 'config' / 'fastdds.xml'
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
RATE = 30.0
QOS = {'best effort': QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
       'reliable': QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)}
SIZES = {'160x120 mono8': (120, 160), '640x480 rgb8': (480, 640, 3),
         '1280x720 rgb8': (720, 1280, 3)}
LONGEST_WAIT = 20.0


def publish(size: str, quality: str, count: int) -> None:
    """Be the camera: send so many images once somebody listens."""
    rclpy.init()
    node = rclpy.create_node('large_images_camera')
    publisher = node.create_publisher(Image, 'large_image', QOS[quality])
    end = time.monotonic() + LONGEST_WAIT
    while not publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.05)
    # The other side has to have met us, too.
    time.sleep(0.5)
    pixels = np.zeros(SIZES[size], np.uint8)
    due = time.monotonic()
    for _ in range(count):
        time.sleep(max(0.0, due - time.monotonic()))
        publisher.publish(array_to_image(pixels, time.time_ns(), 'camera'))
        due += 1 / RATE
    time.sleep(0.5)
    rclpy.shutdown()


def measure(size: str, quality: str, count: int, profile: bool) -> dict[str, float]:
    """
    Listen to the camera.

    :returns: Share of images that came, and their ages on arrival [ms].
    """
    node = rclpy.create_node('large_images')
    ages = []
    node.create_subscription(
        Image, 'large_image',
        lambda msg: ages.append((time.time_ns() - stamp_to_ns(msg.header.stamp)) / 1e6),
        QOS[quality])
    environment = {name: value for name, value in os.environ.items() if name != PROFILES}
    camera = subprocess.Popen(
        [sys.executable, __file__, size, quality, str(count)],
        env={**environment, PROFILES: str(PROFILE)} if profile else environment)
    while camera.poll() is None:
        rclpy.spin_once(node, timeout_sec=0.05)
    node.destroy_node()
    p50, p99 = np.percentile(ages or [np.nan], [50, 99])
    return {'arrived': len(ages) / count, 'p50': p50, 'p99': p99}


def main() -> None:
    """Measure all sizes, reliable or not, with the profile or without it."""
    arguments = parse(__doc__)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    rclpy.init()
    figures, lines = {}, [f'{"":<44} arrived{"p50":>9}{"p99":>9} ms']
    for size in list(SIZES)[1:2] if arguments.quick else SIZES:
        for quality in QOS:
            for profile in (False, True):
                name = f'{size}, {quality}, {"fastdds.xml" if profile else "as it is"}'
                found = figures[name] = measure(size, quality, 60 if arguments.quick else 300,
                                                profile)
                lines.append(f'{name:<44} {found["arrived"]:7.1%}{found["p50"]:9.2f}'
                             f'{found["p99"]:9.2f}')
    rclpy.shutdown()
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    if sys.argv[1:2] and sys.argv[1] in SIZES:
        publish(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        run_benchmark(main)
