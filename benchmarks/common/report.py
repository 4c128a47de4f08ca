"""Report of a benchmark: the machine, and the last line of output, one JSON object."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from sizing.processes import processor

ROOT = Path(__file__).parents[2]


def machine() -> dict[str, str | int]:
    """Return the origin of figures: commit (with `+changes` if the tree differs), device, CPU threads, versions."""
    return {
        "commit": commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def print_result(benchmark: str, figures: Mapping[str, float], *, detail: Mapping[str, object] | None = None) -> None:
    """Print the result as one line of JSON, which must be the last; the arguments are those of `benchmark_result`."""
    print(json.dumps(benchmark_result(benchmark, figures, detail or {}), allow_nan=False), flush=True)


def benchmark_result(benchmark: str, figures: Mapping[str, float], detail: Mapping[str, object]) -> dict[str, object]:
    """Return a benchmark's result, as it is printed.

    Args:
        benchmark: the module's name
        figures: figures that are comparable between runs, flat, each name with its unit at the end
        detail: details that explain the figures (arguments, samples, spread)
    """
    return {"benchmark": benchmark, "figures": dict(figures), "machine": machine(), "detail": dict(detail)}


def commit() -> str:
    """Return the checked-out commit, or `unknown` outside of a repository."""
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*arguments: str) -> str:
    """Return git's output about this repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
