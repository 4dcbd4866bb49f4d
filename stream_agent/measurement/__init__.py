"""Measurement: durations, rates, and the comparison of policies on the same frames."""
