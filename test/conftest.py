"""What every test may ask for, and is held to."""

import gc

from support.fixtures import one_thread  # noqa: F401
from support.markers import only_marked_tests_start_processes  # noqa: F401


# Imports make no garbage worth looking for, and nothing frees what they make.
gc.disable()


def pytest_collection_finish():
    """Collect what tests leave behind, and spare what is imported by now."""
    gc.freeze()
    gc.enable()
