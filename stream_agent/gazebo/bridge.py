"""Which topics of Gazebo are which topics of ROS."""

from collections.abc import Sequence
from typing import NamedTuple

import yaml

TO_ROS, TO_GAZEBO = 'GZ_TO_ROS', 'ROS_TO_GZ'


class Topic(NamedTuple):
    """
    A topic on both sides.

    :param ros: Its name in ROS, relative to the robot's namespace but for the clock's.
    """

    ros: str
    ros_type: str
    gazebo: str
    gazebo_type: str
    direction: str = TO_ROS

    def as_data(self) -> dict[str, str]:
        """Return an entry of the file that ros_gz_bridge reads."""
        return {'ros_topic_name': self.ros, 'gz_topic_name': self.gazebo,
                'ros_type_name': self.ros_type, 'gz_type_name': self.gazebo_type,
                'direction': self.direction}


# In a bridge of their own: nothing else is to wait for an image.
OF_CAMERA = [
    Topic('image', 'sensor_msgs/msg/Image', 'image', 'gz.msgs.Image'),
    Topic('camera_info', 'sensor_msgs/msg/CameraInfo', 'camera_info', 'gz.msgs.CameraInfo'),
]
OTHERS = [
    Topic('/clock', 'rosgraph_msgs/msg/Clock', 'clock', 'gz.msgs.Clock'),
    Topic('cmd_vel', 'geometry_msgs/msg/TwistStamped', 'cmd_vel', 'gz.msgs.Twist', TO_GAZEBO),
    Topic('odom', 'nav_msgs/msg/Odometry', 'odom', 'gz.msgs.Odometry'),
    Topic('ground_truth', 'nav_msgs/msg/Odometry', 'ground_truth', 'gz.msgs.Odometry'),
    Topic('/tf', 'tf2_msgs/msg/TFMessage', 'odom_tf', 'gz.msgs.Pose_V'),
]


def bridge_file(topics: Sequence[Topic]) -> str:
    """Return the configuration of a ros_gz_bridge, as YAML."""
    return yaml.safe_dump([topic.as_data() for topic in topics], sort_keys=False)
