"""What of a run's arguments belongs into its adapter: all but what its method has no use for."""

import os
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch

from adapters.adapter import PromptAdapter
from training.config.arguments import TrainArguments, unused_arguments
from training.loop.events import TimingTotals

Scalar = str | int | float | bool | None


def hyperparameters(arguments: TrainArguments, *, sources: Sequence[PromptAdapter] = ()) -> dict[str, Scalar]:
    """The provenance's. Source adapters stand there by their digests, not by where they lay."""
    unused = unused_arguments(arguments.method)
    values = {name: _scalar(value) for name, value in asdict(arguments).items() if name not in unused}
    if "sources" in values:
        values["sources"] = " ".join(source.digest for source in sources)
    return values


def _scalar(value: Scalar | tuple[str, ...]) -> Scalar:
    return " ".join(value) if isinstance(value, tuple) else value


_PACKAGES = ("superpos", "torch", "transformers", "numpy")


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions by package, and what it ran on; nothing that names the machine or its user."""
    packages: dict[str, str | int] = {name: version(name) for name in _PACKAGES}
    return packages | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": _name(device),
    }


def software() -> dict[str, str]:
    """The versions alone, as an adapter's provenance has them."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _name(device: torch.device) -> str:
    """`cpu`, or the device with the name of its make."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run took, as `TimingTotals` has it: in a stack the seconds of training are those of all its prompts."""

    training_s: float
    evaluation_s: float
    steps: int
    rows: int
    rows_per_s: float
    """This prompt's rows by the seconds of training."""
    tokens_per_s: float
    """Text and prompt tokens of the same."""
    stack_size: int
    peak_memory_bytes: int
    """Resident memory of the process at its peak, backbone and libraries in it."""
    device_memory_bytes: int | None
    """Memory allocated on the CUDA device at its peak; None on a CPU."""


def cost_of(timing: TimingTotals, *, tokens_a_row: float, device: torch.device) -> Cost:
    """What a job took, and this process's memory.

    Args:
        tokens_a_row: of text and prompt, in the mean of the training rows
    """
    rows_per_s = timing.rows / timing.training_s if timing.training_s else 0.0
    return Cost(
        training_s=round(timing.training_s, 3),
        evaluation_s=round(timing.evaluation_s, 3),
        steps=timing.steps,
        rows=timing.rows,
        rows_per_s=round(rows_per_s, 2),
        tokens_per_s=round(rows_per_s * tokens_a_row, 1),
        stack_size=timing.stack_size,
        peak_memory_bytes=peak_memory_bytes(),
        device_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def peak_memory_bytes() -> int:
    """Resident memory of this process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
