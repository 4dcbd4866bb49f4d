"""What is wrong with a robot's set-up, judged from what was observed; without ROS or torch."""
