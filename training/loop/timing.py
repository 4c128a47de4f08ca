"""Measures the cost of a job: steps, rows, and the time in the stack's steps and in the job's own evaluations."""

import time
from dataclasses import replace
from types import TracebackType

from training.loop.events import TimingTotals


class Timer:
    """A stopwatch for `with` blocks; the times of several blocks add up."""

    def __init__(self) -> None:
        self._before_s = 0.0
        self._started_s: float | None = None

    @property
    def seconds(self) -> float:
        """The total so far, including a block that is still running."""
        return self._before_s + (0.0 if self._started_s is None else time.monotonic() - self._started_s)

    def __enter__(self) -> None:
        assert self._started_s is None, "a timer runs once at a time"
        self._started_s = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._before_s, self._started_s = self.seconds, None


class Timing:
    """The timing of one job."""

    def __init__(self, training: Timer) -> None:
        """Start at zero.

        Args:
            training: a timer that runs exactly while the stack takes a step
        """
        self._training = training
        self.evaluating = Timer()
        """Runs while the job's prompt is scored."""
        self._before = TimingTotals(steps=0, rows=0, training_s=0.0, evaluation_s=0.0, stack_size=1)
        self._at_stack_step = self._before
        self.steps = self._rows = 0
        self._began_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Wall time since the job began."""
        return time.monotonic() - self._began_s

    def restore(self, totals: TimingTotals, *, elapsed_s: float) -> None:
        """Continue from the totals of a checkpoint."""
        self._began_s = time.monotonic() - elapsed_s
        self._before = self._at_stack_step = totals
        self.steps, self._rows = totals.steps, totals.rows

    @property
    def training_s(self) -> float:
        """Time in the stack's steps up to now."""
        return self._before.training_s + self._training.seconds

    def step(self, *, rows: int) -> None:
        """Count an optimiser step and its rows."""
        self.steps += 1
        self._rows += rows

    def end_step(self, *, stack_size: int = 1) -> None:
        """Close a step of the stack; a job that has left it is not charged for later steps."""
        size = max(self._at_stack_step.stack_size, stack_size)
        self._at_stack_step = replace(self._before, training_s=self.training_s, stack_size=size)

    def totals(self) -> TimingTotals:
        """Return the cost so far."""
        evaluation_s = self._before.evaluation_s + self.evaluating.seconds
        return replace(self._at_stack_step, steps=self.steps, rows=self._rows, evaluation_s=evaluation_s)
