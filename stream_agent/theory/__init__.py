"""Rollouts of graphs: patterns, windows, tableaus and response cones; no torch, no ROS."""
