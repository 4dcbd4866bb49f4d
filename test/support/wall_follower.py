"""A driver that knows nothing but a laser scan, for the simulator's and for its node's tests."""

import numpy as np
from stream_agent.command import Command
from stream_agent.contract.conversions import Scan


def follow(scan: Scan) -> Command:
    """Steer to the middle between the walls ahead, at 0.8 m/s."""
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    seen = np.isfinite(scan.ranges)
    x, y = scan.ranges[seen] * (np.cos(angles[seen]), np.sin(angles[seen]))
    ahead = (x > 0.2) & (x < 0.5)
    sides = [ahead & (angles[seen] * side > 0.0) for side in (1.0, -1.0)]
    middle_x, middle_y = (np.mean([values[side].mean() for side in sides if side.any()])
                          for values in (x, y))
    # The circle through the axle and that point.
    return Command(0.8, 0.8 * 2.0 * middle_y / ((middle_x + 0.1) ** 2 + middle_y ** 2))
