"""Which topics feed a network's inputs, and which actuators obey its output; no torch, no ROS."""
