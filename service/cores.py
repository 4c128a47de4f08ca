"""The cores that a process may use, by its affinity and the CPU quota of its container, and how threads share them."""

import math
import os
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_SWITCH_INTERVAL_S = 0.0002
SPINS = "3000"
"""`GOMP_SPINCOUNT` of a server, about 30 µs."""


def num_cores() -> int:
    """Return the number of cores that this process may use, at least 1; a quota of 1.5 cores counts as 2."""
    # `os.cpu_count` counts the host's; joblib knows quotas, but takes longer to import than to do the rest
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def use_threads(count: int | None) -> None:
    """Compute on `count` threads; with None on PyTorch's choice, but on no more than `num_cores`.

    PyTorch counts the host's cores, and threads beyond a container's quota wait for one another.
    """
    import torch  # noqa: PLC0415 - the process that supervises workers needs no torch

    torch.set_num_threads(count or min(torch.get_num_threads(), num_cores()))


def spin_briefly() -> None:
    """Let waiting threads of a forward spin for about 30 µs before they sleep, unless the environment says otherwise.

    libgomp's default, some milliseconds, is slow where other processes use the same cores; without spinning, a single
    text takes 1.4 times as long on idle cores (docs/operations.md). The setting holds here and in child processes.
    libgomp reads it once: call this before torch is imported.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def switch_often() -> None:
    """Shorten a thread's wait for the GIL while another one runs Python code; each tensor operation releases it.

    Python's 5 ms are longer than most operations of a forward, and of the loading of weights.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def cpu_quota(cgroup: Path = _CGROUP) -> float | None:
    """Return the cores that this container's quota allows on average, None without a quota.

    Args:
        cgroup: where the control groups of the container are mounted, of version 2 or 1
    """
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # not Linux, no quota (`max`), or no such group
        return None
