"""Memory that a training gives back is memory that it asks for again a moment later."""

import ctypes
import sys

# Of <malloc.h>: above what size free memory at the heap's end goes back to the system, -1 for
# never; and how many pieces, large ones, may be mapped anew each time.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER, NONE = -1, 0


def keep_freed_memory() -> bool:
    """
    Let the process keep the memory that tensors free, for the next gradient step.

    The system clears every page that it hands out, and a window of large feature maps is tens of
    thousands of pages.

    :returns: Whether the C library, glibc, could be told so.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, NONE)
                                        and mallopt(TRIM_THRESHOLD, NEVER))
