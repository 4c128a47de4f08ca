"""Runs the parts one after another, each in its own process and within the time that is left."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.common.report import ROOT
from benchmarks.common.server_process import STOP_TIMEOUT_S, stop, tail
from benchmarks.gpu.part import Setup

START_S = 20.0
"""Time that must be left for a part: to import PyTorch and load the weights alone takes some seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part: its name, its program and the most seconds that it may take from the others."""

    name: str
    module: str
    limit_s: float


PARTS = (
    Part("parity", "benchmarks.gpu.parity", 120),
    Part("tests", "benchmarks.gpu.cuda_tests", 120),
    Part("forward", "benchmarks.gpu.forward", 240),
    Part("http", "benchmarks.gpu.over_http", 120),
    Part("stack", "benchmarks.gpu.stacking", 120),
    Part("grid", "benchmarks.gpu.grid", 180),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a part, or why it has no result."""

    name: str
    status: Literal["done", "failed", "left out"]
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""
    """Why it failed or was left out."""
    log: str = ""
    """End of what a part that failed has written."""


def run_parts(
    parts: Sequence[Part], setup: Setup, *, budget_s: float, on_outcome: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the parts in order; one that fails does not stop the others.

    Args:
        parts: each ends with its limit or with the budget, whichever is first
        setup: passed to each part
        budget_s: time of all parts; a part is left out if less than `START_S` is left of it
        on_outcome: called after each part
    """
    deadline = time.monotonic() + budget_s
    outcomes = []
    for part in parts:
        left = deadline - time.monotonic()
        if left < START_S:
            outcome = Outcome(name=part.name, status="left out", reason=f"{max(0.0, left):.0f} s were left of the time")
        else:
            outcome = _run(part, setup, limit_s=min(part.limit_s, max(START_S, left - STOP_TIMEOUT_S)))
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def _run(part: Part, setup: Setup, *, limit_s: float) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        arguments = ["--out", str(result), "--cache-dir", str(setup.cache_dir), "--device", setup.device]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", part.module, *arguments, *(["--quick"] if setup.quick else [])],
                stderr=errors,
                cwd=ROOT,
                env=os.environ | environment(setup),
                start_new_session=True,
            )
            reason = ""
            try:
                code = process.wait(limit_s)
                reason = "" if code == 0 else f"it ended with status {code}: {_last_line(log)}"
            except subprocess.TimeoutExpired:
                reason = f"it was stopped after {limit_s:.3g} s"
            finally:
                stop(process)
        seconds = round(time.monotonic() - started, 1)
        if reason or not result.exists():
            reason = reason or "it ended without a result"
            return Outcome(name=part.name, status="failed", seconds=seconds, reason=reason, log=tail(log))
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "left_out" in found:
        return Outcome(name=part.name, status="left out", seconds=seconds, reason=found["left_out"])
    return Outcome(name=part.name, status="done", seconds=seconds, **found)


def environment(setup: Setup) -> dict[str, str]:
    """Return the settings by which servers and engines that a part starts run on the same device."""
    return {
        "SUPERPOS_DEVICE": setup.device,
        "SUPERPOS_PRECISION": setup.precision,
        "SUPERPOS_CACHE_DIR": str(setup.cache_dir),
        "PYTHONWARNINGS": "ignore",
    }


def _last_line(log: Path) -> str:
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
