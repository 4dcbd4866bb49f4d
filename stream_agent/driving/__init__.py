"""Vehicles driven in batches, under the timing of a computer that is emulated."""
