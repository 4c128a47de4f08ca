"""Giving freed memory back to the system, where the C library keeps it."""

import ctypes
import sys


def release_free_pages() -> None:
    """Hand pages that nothing uses back to the system (glibc's `malloc_trim`); elsewhere nothing is done.

    Loading an adapter frees some 100 KB and leaves 3 KB that stay, scattered over it. Without this the process grows by
    49 KB an adapter (benchmarks/adapters.py), with it by 36; the adapter itself needs 24.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
    if trim is not None:
        trim(0)
