"""A robot for the doctor, as a process: camera, base and others, right but for what is asked."""

import json
import sys
import time

import cv2
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Imu, JointState, LaserScan
from std_msgs.msg import Float64MultiArray
from stream_agent.nodes.messages import array_to_image, COMMAND_QOS, FRAME_QOS, ns_to_stamp

PERIOD = 0.05
# After which a base stops that stops by itself.
PATIENCE = 0.3

wrong = json.loads(sys.argv[1])
time.sleep(wrong.get('late', 0.0))
rclpy.init()
executor = SingleThreadedExecutor()


def make(name):
    node = rclpy.create_node(name)
    executor.add_node(node)
    return node


camera, base = make('camera'), make('base')
compressed = wrong.get('compressed', False)
frames = camera.create_publisher(
    CompressedImage if compressed else type(array_to_image(np.zeros((1, 1), np.uint8), 0, '')),
    wrong.get('image_topic', 'image'), FRAME_QOS)
commands = {'speed': 0.0, 'at': 0.0}


def on_command(msg):
    twist = getattr(msg, 'twist', msg)
    commands.update(speed=twist.linear.x, at=time.monotonic())


durability = DurabilityPolicy[wrong.get('durability', 'VOLATILE')]
base.create_subscription(Twist if wrong.get('twist') else TwistStamped, 'cmd_vel', on_command,
                         QoSProfile(depth=10, durability=durability))
odometry = base.create_publisher(Odometry, 'odom', 10)
if wrong.get('rival'):
    make('teleop').create_publisher(TwistStamped, 'cmd_vel', COMMAND_QOS)


def on(topic, kind):
    return base.create_publisher(kind, topic, 10) if topic in wrong else None


# Further senders, each with what it sends wrongly: {"scan": {"angle_max": 1.0}}.
scanner, gyro, arm = on('scan', LaserScan), on('imu', Imu), on('joint_states', JointState)
if arm:
    base.create_subscription(Float64MultiArray, 'velocity_controller/commands',
                             lambda _: None, 10)


def send_others(stamp_ns):
    """Send what else there is."""
    if scanner:
        scan = {'angle_min': -2.1, 'angle_max': 2.1, 'rays': 85, 'lag': 0.0, **wrong['scan']}
        step = (scan['angle_max'] - scan['angle_min']) / (scan['rays'] - 1)
        msg = LaserScan(angle_min=scan['angle_min'], angle_max=scan['angle_max'],
                        angle_increment=step, range_min=0.05, range_max=6.0,
                        ranges=[2.0] * scan['rays'])
        ns_to_stamp(msg.header.stamp, stamp_ns - round(scan['lag'] * 1e9))
        scanner.publish(msg)
    if gyro:
        msg = Imu()
        msg.angular_velocity_covariance[0] = wrong['imu'].get('covariance', 0.0)
        msg.linear_acceleration.x = wrong['imu'].get('acceleration', 0.0)
        if wrong['imu'].get('stamped', True):
            ns_to_stamp(msg.header.stamp, stamp_ns)
        gyro.publish(msg)
    if arm:
        names = [f'joint_{i}' for i in range(1, 1 + wrong['joint_states'].get('count', 6))]
        msg = JointState(name=names, position=[0.1] * len(names), velocity=[0.0] * len(names))
        ns_to_stamp(msg.header.stamp, stamp_ns)
        arm.publish(msg)


def image(stamp_ns):
    """Make the next frame."""
    pixels = np.zeros(wrong.get('size', (120, 160)), np.uint8)
    msg = array_to_image(pixels, stamp_ns, 'camera')
    if compressed:
        data = cv2.imencode('.jpg', pixels)[1].tobytes()
        msg = CompressedImage(header=msg.header, format='jpeg', data=data)
    if wrong.get('damaged'):
        msg.data = msg.data[:-2]
    return msg


due = time.monotonic()
while True:
    stamp_ns = camera.get_clock().now().nanoseconds - round(wrong.get('age', 0.002) * 1e9)
    frames.publish(image(0 if wrong.get('zero') else stamp_ns))
    if not wrong.get('drives_on') and time.monotonic() - commands['at'] > PATIENCE:
        commands['speed'] = 0.0
    motion = Odometry()
    ns_to_stamp(motion.header.stamp, stamp_ns)
    motion.twist.twist.linear.x = commands['speed']
    odometry.publish(motion)
    send_others(stamp_ns)
    due += wrong.get('period', PERIOD)
    while (left := due - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)
