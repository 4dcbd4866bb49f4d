"""Recordings of driving: rosbag2 and DonkeyCar tubs in, episodes of frames and commands out."""
