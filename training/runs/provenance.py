"""Provenance of a run: its hyperparameters and environment, the command that repeats it, and its cost."""

import os
import platform
import re
import resource
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch

from backbone import Precision
from training.config.arguments import ARGUMENTS, TrainArguments, default_of, option_of, unused_arguments
from training.config.presets import DEFAULT_MIN_STEPS, DEFAULT_PATIENCE, LENGTHS, NO_PATIENCE
from training.data.folds import Fold
from training.data.splits import Split
from training.loop.events import TimingTotals
from training.methods.prior import Source

Scalar = str | int | float | bool | None


def hyperparameters(
    arguments: TrainArguments, *, precision: Precision = "fp32", sources: Sequence[Source] = ()
) -> dict[str, Scalar]:
    """Return the hyperparameters of an adapter's provenance; sources are named by their digests."""
    unused = unused_arguments(arguments.method, arguments.readout)
    values = {name: _scalar(value) for name, value in asdict(arguments).items() if name not in unused}
    if "sources" in values:
        values["sources"] = " ".join(source.digest for source in sources)
    return values | {"precision": precision}


def _scalar(value: Scalar | tuple[str, ...]) -> Scalar:
    return " ".join(value) if isinstance(value, tuple) else value


_PACKAGES = ("superpos", "torch", "transformers", "numpy")


def environment(device: torch.device) -> dict[str, str | int]:
    """Return package versions and the platform; nothing that identifies the machine or its user."""
    packages: dict[str, str | int] = {name: version(name) for name in _PACKAGES}
    return packages | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": _name(device),
    }


def software() -> dict[str, str]:
    """Return the package versions for an adapter's provenance."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _name(device: torch.device) -> str:
    """Return `cpu`, or the device with its model name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a run. Seconds of training are those of the whole stack, as in `TimingTotals`."""

    training_s: float
    evaluation_s: float
    steps: int
    rows: int
    rows_per_s: float
    """Rows of this prompt per second of training."""
    tokens_per_s: float
    """Text and prompt tokens of this prompt per second of training."""
    stack_size: int
    peak_memory_bytes: int
    """Peak resident memory of the process, including backbone and libraries."""
    device_memory_bytes: int | None
    """Peak memory allocated on the CUDA device; None on a CPU."""


def cost_of(timing: TimingTotals, *, tokens_per_row: float, device: torch.device) -> Cost:
    """Return the cost of a job, with this process's memory.

    Args:
        tokens_per_row: mean tokens of text and prompt per training row
    """
    rows_per_s = timing.rows / timing.training_s if timing.training_s else 0.0
    return Cost(
        training_s=round(timing.training_s, 3),
        evaluation_s=round(timing.evaluation_s, 3),
        steps=timing.steps,
        rows=timing.rows,
        rows_per_s=round(rows_per_s, 2),
        tokens_per_s=round(rows_per_s * tokens_per_row, 1),
        stack_size=timing.stack_size,
        peak_memory_bytes=peak_memory_bytes(),
        device_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


_COMMIT = re.compile(r"[0-9a-f]{40}")
"""The revision of a backbone from the Hub. A backbone from a directory has no revision to name."""


def train_command(
    arguments: TrainArguments,
    *,
    split: Split,
    fold: Fold | None = None,
    limit: int | None,
    shots: int | None = None,
    precision: Precision = "fp32",
    backbone: str,
    revision: str,
    task_file: str = "task.yaml",
) -> str:
    """Return `superpos train` with all options that differ from their defaults; rate, readout and precision always.

    The readout's default depends on the task (`training.config.recipes.recommended`).
    """
    unused = unused_arguments(arguments.method, arguments.readout)  # the command rejects them
    options: dict[str, object] = {
        option_of(name): getattr(arguments, name)
        for name in ARGUMENTS
        if name not in unused
        and (
            name in ("lr", "readout")
            or getattr(arguments, name) != default_of(name, arguments.method, arguments.readout)
        )
    }
    if "patience" not in unused:
        options.pop(option_of("patience"), None)
        if arguments.patience != DEFAULT_PATIENCE:
            options[option_of("patience")] = arguments.patience or NO_PATIENCE
    if "min_steps" not in unused:
        is_length_given = not options.keys().isdisjoint(map(option_of, LENGTHS))
        options.pop(option_of("min_steps"), None)
        if arguments.min_steps != (0 if is_length_given else DEFAULT_MIN_STEPS):
            options[option_of("min_steps")] = arguments.min_steps
    options |= {"--split": split} if split != "honest" else {}
    options |= {} if fold is None else {"--folds": fold.of}
    options |= {} if limit is None else {"--limit": limit}
    options |= {} if shots is None else {"--shots": shots}
    options |= {"--precision": precision}
    options |= {} if backbone == "embedded" else {"--backbone": backbone}
    options |= {"--revision": revision} if _COMMIT.fullmatch(revision) else {}
    words = ["superpos", "train", task_file]
    for option, value in options.items():
        words += _words(option, value)
    return shlex.join(words)


def _words(option: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [word for item in value for word in (option, str(item))]
    return [option, _number(value) if isinstance(value, float) else str(value)]


def _number(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
