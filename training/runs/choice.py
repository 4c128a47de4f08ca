"""Choice among the runs of a task: the best by the selection rows, the cheaper one of equals."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.atomic_files import atomic_write
from adapters.files import read_folder, write_folder
from training.config.recipes import cost_rank
from training.data.few_rows import MIN_SELECTION_ROWS
from training.runs.layout import ADAPTER, CHOICE
from training.runs.run_result import RunResult


@dataclass(frozen=True, slots=True)
class Candidate:
    """Runs that differ only in their seed or fold."""

    runs: tuple[RunResult, ...]

    @property
    def score(self) -> float:
        """The mean score on the selection rows."""
        return statistics.fmean(run.selection.score for run in self.runs)

    @property
    def loss(self) -> float:
        """The mean loss on the selection rows, in nats."""
        return statistics.fmean(run.selection.loss for run in self.runs)

    @property
    def is_folded(self) -> bool:
        """Whether it is a head that is scored out of fold on few rows."""
        return any(run.fitted_rows is not None for run in self.runs)

    @property
    def is_unsure(self) -> bool:
        """Whether its score is of a handful of selection rows."""
        return not self.is_folded and any(run.num_selection < MIN_SELECTION_ROWS for run in self.runs)

    @property
    def best(self) -> RunResult:
        """The run with the best score on its selection rows; of equals, that of the lower loss."""
        return max(self.runs, key=lambda run: (run.selection.score, -run.selection.loss))

    @property
    def cost(self) -> tuple[int, int]:
        """The rank of its settings by `cost_rank`."""
        return cost_rank(self.runs[0].method, self.runs[0].readout)

    def __str__(self) -> str:
        run = self.runs[0]
        rate = "" if run.method == "head" else f", lr {run.lr:g}"
        return f"{run.method}, {run.readout}{rate}"


def candidates(runs: Sequence[RunResult]) -> list[Candidate]:
    """Return the runs of a task by settings, the best on the selection rows first.

    The mean over seeds decides, since the selection rows of two seeds differ. Of equal scores the cheaper candidate is
    first, then that of the lower loss. Report rows decide nothing. Heads that are fitted to few rows compete by their
    out-of-fold scores, and precede candidates with a score of a handful of selection rows.
    """
    groups: dict[tuple[object, ...], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.method, run.readout, run.lr), []).append(run)
    found = [Candidate(tuple(group)) for group in groups.values()]
    is_any_folded = any(candidate.is_folded for candidate in found)

    def rank(candidate: Candidate) -> tuple[object, ...]:
        return is_any_folded and candidate.is_unsure, -candidate.score, candidate.cost, candidate.loss

    return sorted(found, key=rank)


def choice_told(ranked: Sequence[Candidate], *, metric: str) -> str:
    """Return in one sentence which candidate is chosen and why.

    Args:
        ranked: two or more, from `candidates`
        metric: the name of the task's score
    """
    first, second, *_ = ranked
    over = f", mean of {len(first.runs)} runs" if len(first.runs) > 1 else ""
    is_any_folded = any(candidate.is_folded for candidate in ranked)
    rows = "the selection rows" + (", heads out of fold on all rows" if is_any_folded else "")
    if all(candidate.is_folded for candidate in ranked):
        rows = "all rows, out of fold"
    measured = f"{first} has the best {metric.replace('_', ' ')} on {rows} ({first.score:.4f}{over}"
    if first.score == second.score and first.is_unsure == second.is_unsure:
        reason = "has the lower loss" if first.cost == second.cost else "is cheaper to train and serve"
        return f"{measured}, as {second}) and {reason}"
    few = ""
    if is_any_folded and second.is_unsure:
        few = f" on {second.runs[0].num_selection} selection rows, too few to decide"
    return f"{measured}; next {second}: {second.score:.4f}{few})"


def write_choice(folder: Path, ranked: Sequence[Candidate], *, metric: str) -> None:
    """Write the ranking as `choice.json`, and copy the chosen adapter to `adapter` next to it."""
    best = ranked[0].best
    value = {
        "chosen": str(best.folder.relative_to(folder)),
        "adapter": best.digest,
        "reason": choice_told(ranked, metric=metric),
        "candidates": [
            {
                "method": candidate.runs[0].method,
                "readout": candidate.runs[0].readout,
                "lr": None if candidate.runs[0].method == "head" else candidate.runs[0].lr,
                "selection_score": round(candidate.score, 6),
                "selection_loss": round(candidate.loss, 6),
                "runs": [str(run.folder.relative_to(folder)) for run in candidate.runs],
            }
            for candidate in ranked
        ],
    }
    write_folder(folder / ADAPTER, read_folder(best.folder / ADAPTER))
    atomic_write({folder / CHOICE: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()})
