"""What a run costs: seconds of training and of scoring, rows and tokens a second, memory at its peak."""

import resource
import sys
from dataclasses import dataclass

import torch

from training.stack.events import Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run took, as `Spent` has it: in a stack the seconds of training are those of all its prompts."""

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


def cost_of(spent: Spent, *, tokens_a_row: float, device: torch.device) -> Cost:
    """What a slot took, and this process's memory.

    Args:
        tokens_a_row: of text and prompt, in the mean of the training rows
    """
    rows_per_s = spent.rows / spent.training_s if spent.training_s else 0.0
    return Cost(
        training_s=round(spent.training_s, 3),
        evaluation_s=round(spent.evaluation_s, 3),
        steps=spent.steps,
        rows=spent.rows,
        rows_per_s=round(rows_per_s, 2),
        tokens_per_s=round(rows_per_s * tokens_a_row, 1),
        stack_size=spent.stack_size,
        peak_memory_bytes=peak_memory_bytes(),
        device_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def peak_memory_bytes() -> int:
    """Resident memory of this process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
