"""What a run costs: seconds of training and of scoring, rows and tokens a second, memory at its peak."""

import resource
import sys
from dataclasses import dataclass

import torch

from training.scoring.evaluation import TokenizedRows
from training.stack.events import EvalEvent, RestoreEvent, StepEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run took. In a stack the seconds are those of all its prompts: they pass at once."""

    training_s: float
    evaluation_s: float
    """Spent on the selection rows."""
    steps: int
    rows: int
    """Rows trained on, each counted as often as it was seen."""
    rows_per_s: float
    """Of training alone."""
    tokens_per_s: float
    """Text and prompt tokens a second, of training alone."""
    stack_size: int
    """Prompts that trained at once."""
    peak_memory_bytes: int
    """Resident memory of the process at its peak, backbone and libraries in it."""
    device_memory_bytes: int | None
    """Memory allocated on the CUDA device at its peak; None on a CPU."""


class CostMeter:
    """Adds up a slot's events as they pass."""

    def __init__(self, rows: TokenizedRows, *, num_virtual_tokens: int, stack_size: int) -> None:
        lengths = [len(ids) for ids in rows.token_ids]
        self._tokens_a_row = sum(lengths) / len(lengths) + num_virtual_tokens
        self._stack_size = stack_size
        self._steps = self._rows = 0
        self._evaluation_s = self._last_s = 0.0

    def restore(self, event: RestoreEvent) -> None:
        """The run goes on from a checkpoint: what came before it counts."""
        self._steps, self._rows = event.step, event.rows
        self._evaluation_s, self._last_s = event.evaluation_s, event.elapsed_s

    def step(self, event: StepEvent) -> None:
        """A step is done."""
        self._steps += 1
        self._rows += event.rows
        self._last_s = event.elapsed_s

    def evaluation(self, event: EvalEvent) -> None:
        """What passed since the last step was an evaluation."""
        self._evaluation_s += max(0.0, event.elapsed_s - self._last_s)
        self._last_s = event.elapsed_s

    def cost(self, device: torch.device) -> Cost:
        """The sum so far."""
        training_s = max(0.0, self._last_s - self._evaluation_s)
        rows_per_s = self._rows / training_s if training_s else 0.0
        return Cost(
            training_s=round(training_s, 3),
            evaluation_s=round(self._evaluation_s, 3),
            steps=self._steps,
            rows=self._rows,
            rows_per_s=round(rows_per_s, 2),
            tokens_per_s=round(rows_per_s * self._tokens_a_row, 1),
            stack_size=self._stack_size,
            peak_memory_bytes=peak_memory_bytes(),
            device_memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        )


def peak_memory_bytes() -> int:
    """Resident memory of this process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
