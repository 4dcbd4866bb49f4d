"""Intervals of drivers, in words."""

import numpy as np
from stream_agent.driving.evaluation import rms_ratio, written


def test_a_dash_stands_for_what_is_not_known():
    ours, theirs = np.array([1.0, 4.0, 2.0]), np.array([4.0, 9.0, 9.0])
    whole, single = rms_ratio(ours, theirs), rms_ratio(ours[:1], theirs[:1])
    assert written(whole) == f'{whole.estimate:.2f} ({whole.low:.2f} to {whole.high:.2f})'
    assert written(single) == '0.50 (-)'
    assert written((np.nan, np.nan, np.nan)) == '- (-)'
