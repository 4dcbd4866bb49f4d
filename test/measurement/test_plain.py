import json

import numpy as np
from stream_agent.measurement.bootstrap import Interval
from stream_agent.measurement.summary import plain


def test_what_is_no_number_becomes_null():
    data = {'ratio': Interval(1.0, np.nan, float('inf')), 'rows': np.array([[1.5, np.nan]]),
            'count': np.int64(3), 'more': (np.float32(0.5), None, 'text', True)}
    assert json.loads(json.dumps(plain(data), allow_nan=False)) == {
        'ratio': {'estimate': 1.0, 'low': None, 'high': None}, 'rows': [[1.5, None]], 'count': 3,
        'more': [0.5, None, 'text', True]}
