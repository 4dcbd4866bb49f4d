"""Fixtures that the tests of the package and those of the studies share."""

import pytest


@pytest.fixture(scope='module')
def one_thread():
    """Work on one thread: operations this small wait for a second one longer than they take."""
    import torch  # the gate's tests know none
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
