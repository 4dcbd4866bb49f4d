"""Reflex and recognition in one drive: who has both when a pass takes several camera periods."""
