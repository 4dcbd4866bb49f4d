"""Driving under the timing of a computer that is not there."""
