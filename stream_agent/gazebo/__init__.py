"""The course and the robot of the embedded simulator, written for Gazebo."""
