"""Adds up what a job takes: its steps and rows, the seconds of its stack's steps, those of its own evaluations."""

import time
from dataclasses import replace
from types import TracebackType

from training.loop.events import TimingTotals


class Timer:
    """Runs while its `with` block does; several blocks add up."""

    def __init__(self) -> None:
        self._before_s = 0.0
        self._started_s: float | None = None

    @property
    def seconds(self) -> float:
        """All so far, those of a block that is not over among them."""
        return self._before_s + (0.0 if self._started_s is None else time.monotonic() - self._started_s)

    def __enter__(self) -> None:
        assert self._started_s is None, "a stopwatch is started once at a time"
        self._started_s = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._before_s, self._started_s = self.seconds, None


class Timing:
    """One job's."""

    def __init__(self, training: Timer) -> None:
        """Nothing yet.

        Args:
            training: runs while the stack takes a step, and at no other time
        """
        self._training = training
        self.evaluating = Timer()
        """To run while the job's prompt is scored."""
        self._before = TimingTotals(steps=0, rows=0, training_s=0.0, evaluation_s=0.0, stack_size=1)
        self._at_stack_step = self._before
        self.steps = self._rows = 0
        self._began_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since the job began, whatever passed."""
        return time.monotonic() - self._began_s

    def restore(self, totals: TimingTotals, *, elapsed_s: float) -> None:
        """Go on from what was spent until a checkpoint was taken."""
        self._began_s = time.monotonic() - elapsed_s
        self._before = self._at_stack_step = totals
        self.steps, self._rows = totals.steps, totals.rows

    @property
    def training_s(self) -> float:
        """Of the stack's steps, this instant."""
        return self._before.training_s + self._training.seconds

    def step(self, *, rows: int) -> None:
        """The job has taken a step with so many rows."""
        self.steps += 1
        self._rows += rows

    def end_step(self, *, stack_size: int = 1) -> None:
        """The stack's step is over for all its jobs; one that leaves has no part in later ones."""
        size = max(self._at_stack_step.stack_size, stack_size)
        self._at_stack_step = replace(self._before, training_s=self.training_s, stack_size=size)

    def totals(self) -> TimingTotals:
        """All so far."""
        evaluation_s = self._before.evaluation_s + self.evaluating.seconds
        return replace(self._at_stack_step, steps=self.steps, rows=self._rows, evaluation_s=evaluation_s)
