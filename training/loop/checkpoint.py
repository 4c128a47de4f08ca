"""Checkpoints: files in the run folders from which a stack resumes as if it had never stopped.

The file `checkpoint-<steps of the stack>.safetensors` is one generation of a job. A generation is written for all jobs
before the previous one is removed, so at any time there is one that all jobs have. The resumed stack packs the same
rows together and reproduces every sum to the last digit.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from training.loop.prompt_run import PromptRun
from training.loop.prompt_run_state import PromptRunState, read_state

EVERY_S = 30.0
"""Interval between two generations without an evaluation."""
_MAX_SHARE = 0.05
"""The share of the time that writing may take; evaluations in quicker succession write no generation."""
_PREFIX, _SUFFIX = "checkpoint-", ".safetensors"


class Checkpoints:
    """The generations of a stack. Without folders, nothing is read or written."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        every_s: float = EVERY_S,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up checkpointing.

        Args:
            folders: one run folder per job, in the order of the jobs
            every_s: seconds between generations; 0 writes one after each step
            on_written: called after each generation; its time counts as writing
        """
        self._folders, self._every_s, self._on_written = folders, every_s, on_written
        self._step = 0
        self._left: set[int] = set()
        self._num_evaluations = 0
        self._written_s = self._cost_s = 0.0

    def restore(self, runs: Sequence[PromptRun]) -> None:
        """Restore each run from its folder; a run without a checkpoint stays at its beginning.

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
        """Write the first generation, once all untrained prompts are scored, unless one was restored."""
        self._num_evaluations = _num_evaluations(runs)
        if not all(generations(folder) for folder in self._folders):
            self._write(runs)
        self._written_s = time.monotonic()

    def stepped(self, runs: Sequence[PromptRun]) -> None:
        """Count a step of the stack and write a generation if one is due."""
        self._step += 1
        if not self._folders:
            return
        # a job that leaves may be finished and cleaned up: the others must never resume from a step before it left
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
            # its last generation is from when it left the stack
            if index in self._left:
                continue
            old += [path for number, path in generations(folder).items() if number != self._step]
            run.state().write(folder / f"{_PREFIX}{self._step:09d}{_SUFFIX}")
            if run.stop is not None:
                self._left.add(index)
        for path in old:
            path.unlink()
        self._on_written()
        self._written_s = time.monotonic()
        self._cost_s = self._written_s - started_s


def generations(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a run folder, by the step of the stack that they were written after."""
    paths = folder.glob(f"{_PREFIX}*{_SUFFIX}")
    return {int(path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)): path for path in paths}


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for path in folder.glob(f"{_PREFIX}*"):
        path.unlink()


def _common(found: Sequence[Mapping[int, Path]], newest: Sequence[PromptRunState | None]) -> int | None:
    """Return the newest generation that all jobs have; a job that left the stack counts for all later ones."""
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
