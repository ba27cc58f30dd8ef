"""Memory of short-lived tensors on Linux."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
LARGEST_HEAP_BLOCK = 32 << 20  # bytes; the most that glibc accepts
RETAINED = 512 << 20  # freed bytes that the process may retain


def keep_freed_memory() -> bool:
    """Let glibc retain freed memory: returning it costs a page fault per 4 KiB at the next use.

    Tensors of a few megabytes come and go thousands of times in a training.

    Returns:
        Whether the settings took effect; False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if not hasattr(library, "mallopt"):
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK), (M_TRIM_THRESHOLD, RETAINED), (M_TOP_PAD, RETAINED // 8))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
