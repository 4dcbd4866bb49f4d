"""Made-up recordings with known answers."""

import math

import numpy as np
from stream_agent.command import Command
from stream_agent.measurement.rows import FrameMatcher, HORIZON, Row

START_NS = 1_700_000_000_000_000_000
PERIOD = 1 / 30


def ns(seconds: float) -> int:
    """Return the stamp of a time in seconds since the recording's start."""
    return START_NS + round(seconds * 1e9)


def reference_at(time: float) -> float:
    """Return a yaw rate that winds like a road, with a step every 5 s."""
    return 0.4 * math.sin(0.9 * time) + (0.25 if int(time / 5) % 2 else -0.25)


class Clock:
    """A steady clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def winding_road(policies: dict[str, dict], seconds: float = 45.0, driving: str = '',
                 seed: int = 0) -> tuple[list[Row], list[int]]:
    """
    Record policies that know the reference of ``frames_late`` frames ago, on a winding road.

    :param policies: Of each: latency [s], jitter [s], noise [rad/s], frames_late, lost (share).
    :returns: The rows and the stamps of the scene changes.
    """
    random = np.random.default_rng(seed)
    clock = Clock()
    maker = FrameMatcher(policies, driving, clock=clock)
    rows = []
    for i in range(int(seconds / PERIOD)):
        clock.now = i * PERIOD
        stamp_ns = ns(i * PERIOD)
        maker.add_frame(stamp_ns, stamp_ns + 400_000)
        maker.add_reference(stamp_ns, Command(0.8, reference_at(i * PERIOD)))
        for name, policy in policies.items():
            if random.random() < policy.get('lost', 0.0):
                continue
            arrival_ns = stamp_ns + round(1e9 * (
                policy['latency'] + random.gamma(2.0, policy.get('jitter', 0.0) / 2 + 1e-12)))
            known = reference_at((i - policy.get('frames_late', 0)) * PERIOD)
            maker.add_command(name, stamp_ns, arrival_ns, arrival_ns - 150_000, Command(
                0.8 + 0.01 * random.standard_normal(),
                known + policy.get('noise', 0.0) * random.standard_normal()))
            if name == driving:
                maker.add_gated(arrival_ns + 600_000, arrival_ns + 300_000, Command(0.8, known))
        rows += maker.close()
    for _ in range(10):
        clock.now += HORIZON / 5
        rows += maker.close()
    return rows, [ns(i) for i in range(5, int(seconds), 5)]
