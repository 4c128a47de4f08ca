"""Checkpoints: what a stack needs to go on as if it had never stopped, in a file in each job's run folder.

A file is a generation of its job: `checkpoint-<steps of the stack>.safetensors`. One is written for all jobs before
the one before it is removed, so that however a process ends there is one that all have: rows are packed again as they
would have been, and sums come out to the last digit.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.loop.prompt_run import PromptRun
from training.loop.prompt_run_state import PromptRunState, read_state

EVERY_S = 30.0
"""Between two generations while nothing is evaluated."""
_MAX_SHARE = 0.05
"""Of the time, for writing: after an evaluation that comes sooner, none is written."""
_PREFIX, _SUFFIX = "checkpoint-", ".safetensors"


class Checkpoints:
    """Writes and reads the generations of a stack. Without folders it does nothing."""

    def __init__(self, folders: Sequence[Path] = (), *, every_s: float = EVERY_S) -> None:
        """Keep a stack's checkpoints.

        Args:
            folders: a run folder for each job, in their order
            every_s: seconds between generations; 0: one after each step
        """
        self._folders, self._every_s = folders, every_s
        self._step = 0
        self._left: set[int] = set()
        self._num_evaluations = 0
        self._written_s = self._cost_s = 0.0

    def restore(self, runs: Sequence[PromptRun]) -> None:
        """Put each run where its folder's checkpoint has it; one without a checkpoint stays at its beginning.

        Raises:
            InvalidCheckpoint: a file cannot be read
        """
        found = [generations(folder) for folder in self._folders]
        newest = [read_state(numbers[max(numbers)]) if numbers else None for numbers in found]
        common = _common(found, newest)
        for index, (numbers, state) in enumerate(zip(found, newest, strict=True)):
            if state is None:
                continue
            chosen = common if common in numbers else max(numbers)
            restored = state if chosen == max(numbers) else read_state(numbers[chosen])
            runs[index].restore(restored)
            self._step = max(self._step, chosen)
            if restored.stop is not None:
                self._left.add(index)

    def begun(self, runs: Sequence[PromptRun]) -> None:
        """Every untrained prompt is scored: write the first generation where none was restored."""
        self._num_evaluations = _num_evaluations(runs)
        if not all(generations(folder) for folder in self._folders):
            self._write(runs)
        self._written_s = time.monotonic()

    def stepped(self, runs: Sequence[PromptRun]) -> None:
        """A step of the stack is done: write a generation where one is due."""
        self._step += 1
        if not self._folders:
            return
        # one that has left may be finished and forgotten: the others must not come by that step again without it
        has_one_left = any(run.stop is not None and i not in self._left for i, run in enumerate(runs))
        if has_one_left or self._is_due(_num_evaluations(runs)):
            self._num_evaluations = _num_evaluations(runs)
            self._write(runs)

    def _is_due(self, num_evaluations: int) -> bool:
        since_s = time.monotonic() - self._written_s
        if since_s >= self._every_s:
            return True
        return num_evaluations > self._num_evaluations and self._cost_s <= _MAX_SHARE * since_s

    def _write(self, runs: Sequence[PromptRun]) -> None:
        started_s = time.monotonic()
        old = []
        for index, (run, folder) in enumerate(zip(runs, self._folders, strict=True)):
            if index in self._left:
                continue  # as it was when it left the stack
            old += [path for number, path in generations(folder).items() if number != self._step]
            run.state().write(folder / f"{_PREFIX}{self._step:09d}{_SUFFIX}")
            if run.stop is not None:
                self._left.add(index)
        for path in old:
            path.unlink()
        self._written_s = time.monotonic()
        self._cost_s = self._written_s - started_s


def generations(folder: Path) -> dict[int, Path]:
    """The checkpoints in a run folder by the step of the stack that they were written after."""
    paths = folder.glob(f"{_PREFIX}*{_SUFFIX}")
    return {int(path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)): path for path in paths}


def remove_checkpoints(folder: Path) -> None:
    """The run is over: its checkpoints are of no more use."""
    for path in folder.glob(f"{_PREFIX}*"):
        path.unlink()


def _common(found: Sequence[Mapping[int, Path]], newest: Sequence[PromptRunState | None]) -> int | None:
    """The newest generation that all jobs have; one that left the stack has all after its last."""
    has_left = [state is not None and state.stop is not None for state in newest]
    return max(
        (
            number
            for number in {number for numbers in found for number in numbers}
            if all(
                number in numbers or (left and max(numbers) <= number)
                for numbers, left in zip(found, has_left, strict=True)
            )
        ),
        default=None,
    )


def _num_evaluations(runs: Sequence[PromptRun]) -> int:
    return sum(len(run.history) for run in runs)
