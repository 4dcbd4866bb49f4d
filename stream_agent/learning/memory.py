"""Memory that a training gives back is memory that it asks for again a moment later."""

import ctypes
import sys

# Of <malloc.h>: what is freed at the end of the heap goes back to the system above this size;
# what is larger than this is mapped anew each time.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MOST_TRIMMED = 2**31 - 1
# More than this the C library refuses.
MOST_MAPPED = 32 * 2**20


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
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, MOST_MAPPED)
                                        and mallopt(TRIM_THRESHOLD, MOST_TRIMMED))
