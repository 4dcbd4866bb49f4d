"""Pushes come now and then, to both sides, and not for long."""

import numpy as np
from stream_agent.simulation.vehicle import VehicleDisturbance


def test_pushes_come_and_go_within_their_strength():
    disturbance = VehicleDisturbance(np.random.default_rng(0), strength=0.7)
    pushes = np.array([disturbance.advance() for _ in range(2000)])
    assert 0.15 < (pushes != 0).mean() < 0.45
    assert 0.5 < pushes.max() <= 0.7
    assert -0.7 <= pushes.min() < -0.5
    lengths = np.diff(np.flatnonzero(np.diff(pushes) != 0))
    assert lengths.min() >= 8


def test_without_strength_there_are_none():
    disturbance = VehicleDisturbance(np.random.default_rng(0), strength=0.0)
    assert {disturbance.advance() for _ in range(200)} == {0.0}
