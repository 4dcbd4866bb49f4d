"""Processes that compute one network together, and what they send each other."""
