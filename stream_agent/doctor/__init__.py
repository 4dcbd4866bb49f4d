"""The doctor: what is wrong with a robot's setup before its first drive, and how to fix it."""
