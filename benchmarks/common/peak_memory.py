"""The most memory that was resident in this process since a point in time, from Linux' `/proc`."""

from pathlib import Path

_RESET_PEAK = "5"
"""Written to `/proc/self/clear_refs`, it sets `VmHWM` to the memory that is resident now."""


def reset_peak() -> int:
    """Begin to measure; returns the bytes that are resident now."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    return peak_bytes()


def peak_bytes() -> int:
    """Return the most bytes that were resident since `reset_peak`, or since the start of the process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1_024
    raise OSError("/proc/self/status has no VmHWM, expected Linux")
