"""A policy at speed, as a process to be killed: policy commands at 50 Hz, stamped now."""

import sys
import time

from geometry_msgs.msg import TwistStamped
import rclpy
from stream_agent.command import Command
from stream_agent.nodes.messages import COMMAND_QOS, command_to_twist

rclpy.init()
node = rclpy.create_node('policy_source')
publisher = node.create_publisher(TwistStamped, 'policy_command', COMMAND_QOS)
command = Command(*map(float, sys.argv[1:]))
while True:
    publisher.publish(command_to_twist(command, node.get_clock().now().nanoseconds))
    time.sleep(0.02)
