"""What every test may ask for, and is held to."""

import gc

from support.fixtures import one_thread  # noqa: F401
from support.markers import only_marked_tests_start_processes  # noqa: F401


def pytest_collection_finish():
    """Spare the garbage collector what is imported by now, which nothing will free."""
    gc.collect()
    gc.freeze()
