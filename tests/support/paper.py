"""What tests of the paper's grids build with: a small grid on a task that a prompt learns in seconds."""

from dataclasses import replace
from pathlib import Path

from support.training import easy_task
from training.paper.grid import Budget, Cell, Grid
from training.paper.runner import GridEvents
from training.paper.variants import Variant, variant
from training.task.task_file import TaskFile

BUDGET = Budget(batch_size=12, max_steps=6, eval_every=3, max_selection=8, max_report=20)


def small(name: str) -> Variant:
    """A variant of the paper, small enough for a tiny backbone."""
    whole = variant(name)
    return replace(whole, arguments=replace(whole.arguments, num_virtual_tokens=4, num_sampled_tokens=16))


def small_grid(*, seeds: tuple[int, ...] = (0, 1), budget: Budget = BUDGET) -> Grid:
    """Two methods on two tasks."""
    return Grid(variants=(small("superpos"), small("simple-lr0.3")), tasks=("a", "b"), seeds=seeds, budget=budget)


def two_tasks(folder: Path) -> dict[str, TaskFile]:
    """Tasks of the same rows, one of them measured by two metrics."""
    task = easy_task(folder)
    return {"a": task, "b": task.model_copy(update={"metrics": ("f1", "accuracy")})}


class Heard:
    """What a grid told on its way."""

    def __init__(self, *, interrupt_at: tuple[str, int] | None = None) -> None:
        """Hear a grid; at this step of this cell, press Ctrl-C."""
        self.steps: list[tuple[str, int]] = []
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self._interrupt_at = interrupt_at

    def events(self) -> GridEvents:
        def step(cell: Cell, step: int) -> None:
            self.steps.append((str(cell), step))
            if (str(cell), step) == self._interrupt_at:
                raise KeyboardInterrupt

        return GridEvents(
            on_step=lambda cell, event: step(cell, event.step),
            on_done=lambda cell, _: self.done.append(str(cell)),
            on_failed=lambda cell, reason: self.failed.update({str(cell): reason}),
        )
