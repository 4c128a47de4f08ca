"""Memory and processor time of a process, from the operating system."""

import os
import platform
import subprocess
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except FileNotFoundError:  # not Linux
        command = ["ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, check=True).stdout) * 1_024


def main_thread_s(pid: int) -> float | None:
    """Return the processor time of a process's first thread; None where the system does not report it."""
    try:
        nanoseconds = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]
    except FileNotFoundError:
        return None
    return int(nanoseconds) / 1e9


def processor() -> str:
    """Return the kernel's name of the processor, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
