"""A grid as a value: which variants train on which tasks under which seeds, on how many rows and steps.

Its cells come seed by seed: a grid that is interrupted after its first seed is a whole table with one seed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from training.config.arguments import TrainArguments
from training.config.choices import OWN_MODEL
from training.data.splits import Split
from training.errors import InvalidArguments
from training.paper.results import run_path
from training.paper.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much training and scoring a cell gets. Defaults are the paper's, which does not state a batch size."""

    epochs: int = 80
    batch_size: int = 32
    max_steps: int | None = None
    eval_every: int | None = None
    """Steps between evaluations; None: once an epoch."""
    limit: int | None = None
    """Training rows at most; None: all, or as many as `max_steps` can see."""
    max_selection: int | None = None
    max_report: int | None = None

    @property
    def max_train_rows(self) -> int | None:
        """Number of training rows to read; rows that no step reaches are not tokenised."""
        if self.limit is not None or self.max_steps is None:
            return self.limit
        return self.max_steps * self.batch_size


FULL = Budget()
QUICK = Budget(batch_size=16, max_steps=100, eval_every=50, max_selection=200, max_report=400)
"""For two cores: minutes a stack instead of days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a grid."""

    variant: Variant
    task: str
    seed: int

    @property
    def path(self) -> Path:
        """Name of its run folder in the grid's folder."""
        return run_path(task=self.task, variant=self.variant.name, seed=self.seed)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Variants × tasks × seeds.

    Raises:
        InvalidArguments: there is nothing to run, or a name occurs twice
    """

    variants: tuple[Variant, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    split: Split = "honest"
    budget: Budget = FULL

    def __post_init__(self) -> None:
        axes: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("methods", tuple(variant.name for variant in self.variants)),
            ("tasks", self.tasks),
            ("seeds", self.seeds),
        )
        for name, values in axes:
            if not values:
                raise InvalidArguments(f"a grid without {name}, expected one at least")
            if len(set(values)) < len(values):
                raise InvalidArguments(f"{name}: {', '.join(map(str, values))}: one of them occurs twice")

    def cells(self) -> tuple[Cell, ...]:
        """Every run, in the order in which they are made."""
        return tuple(
            Cell(variant=variant, task=task, seed=seed)
            for seed in self.seeds
            for task in self.tasks
            for variant in self.variants
        )

    def arguments(self, cell: Cell) -> TrainArguments:
        """A cell's, under the grid's budget."""
        budget = self.budget
        return replace(
            cell.variant.arguments,
            seed=cell.seed,
            epochs=budget.epochs,
            batch_size=budget.batch_size,
            max_steps=budget.max_steps,
            eval_every=budget.eval_every,
        )


def stacks(cells: Iterable[Cell], *, max_slots: int) -> list[tuple[Cell, ...]]:
    """Group cells of one task and seed, which share their rows, into stacks of limited size.

    Fine-tuning and its relatives run alone, since each has its own network and would only delay the others.
    """
    together = []
    for _, group in groupby(cells, key=lambda cell: (cell.seed, cell.task)):
        members = tuple(group)
        stacked = [cell for cell in members if cell.variant.arguments.method not in OWN_MODEL]
        together += [tuple(stacked[start : start + max_slots]) for start in range(0, len(stacked), max_slots)]
        together += [(cell,) for cell in members if cell not in stacked]
    return together
