"""Everything between a policy command and the wheels; pure Python, no torch, no ROS."""
