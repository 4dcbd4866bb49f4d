"""A window of frames, computed all at once wherever the graph allows."""
