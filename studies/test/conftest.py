"""What every test may ask for, and is held to."""

from support.fixtures import one_thread  # noqa: F401
from support.markers import only_marked_tests_start_processes  # noqa: F401
