"""What every test may ask for."""

from support.fixtures import one_thread  # noqa: F401
