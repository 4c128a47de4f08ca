"""Memory of a process: what it may still use, the return of what it no longer uses, the collector, bounds of caches."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def available_bytes(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int | None:
    """Return the bytes that this process may still use without swapping, None where the system does not say.

    Pages of files that can be read again count as free.

    Args:
        cgroup: where the control groups of the container are mounted, of version 2 or 1
        meminfo: the kernel's account of the machine's memory
    """
    found = [free for free in (_machine(meminfo), _container(cgroup)) if free is not None]
    return min(found, default=None)


def release_freed() -> None:
    """Return freed memory to the system, which C's allocator keeps if it is between blocks in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)


@contextmanager
def without_collections() -> Iterator[None]:
    """Run a block without the garbage collector, which would look at a growing half million of objects again and again.

    For the imports and the start of a server, which leave little garbage. Afterwards it runs again if it did before.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def bound_kernel_caches() -> None:
    """Bound oneDNN's caches, here and in child processes, unless the user has. Call it before the first forward pass.

    A forward pass uses about thirteen shapes in all of its layers, so 128 entries hold the shapes of ten lengths. On
    batches of mixed lengths that cost nothing measurable; 32 entries did (docs/decisions.md).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "128")


def _machine(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):  # not Linux
        return None


def _container(cgroup: Path) -> int | None:
    version_2 = (cgroup / "memory.max").exists()
    folder = cgroup if version_2 else cgroup / "memory"
    limit, used = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        files = int(counts["inactive_file" if version_2 else "total_inactive_file"])
        return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()) + files)
    except (OSError, ValueError, KeyError):  # not Linux, no limit (`max`), or no such group
        return None
