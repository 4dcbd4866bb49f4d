"""The ROS nodes; besides them, only the doctor imports rclpy."""
