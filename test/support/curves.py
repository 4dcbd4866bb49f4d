"""Points on the curves of drawings."""

import numpy as np
from stream_agent.drawing.layout import Curve


def sample(points: Curve, count: int = 24) -> np.ndarray:
    """Return points on a curve, ``count`` for each of its pieces, and its end."""
    t = np.linspace(0, 1, count, endpoint=False)[:, None]
    pieces = [(1 - t) ** 3 * points[i] + 3 * (1 - t) ** 2 * t * points[i + 1]
              + 3 * (1 - t) * t ** 2 * points[i + 2] + t ** 3 * points[i + 3]
              for i in range(0, len(points) - 1, 3)]
    return np.concatenate([*pieces, points[-1:]])
