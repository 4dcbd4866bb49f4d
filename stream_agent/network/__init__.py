"""Networks that advance by one frame, and their files; torch, no ROS."""
