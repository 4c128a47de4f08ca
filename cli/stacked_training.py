"""Prompts that train together: a folder for each, one display for all, and what they came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.display import TrainingDisplay
from cli.metrics_table import MetricsTable
from cli.output import err, out, show

if TYPE_CHECKING:
    from backbone import Backbone
    from training.arguments import TrainArguments
    from training.folds import Fold
    from training.metrics import Scoring
    from training.run import RunReport
    from training.run_folder import RunFolder
    from training.splits import Split
    from training.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One prompt to train, and the fold that it is reported on where there are folds."""

    arguments: "TrainArguments"
    fold: "Fold | None" = None


def folders(stack: Sequence[PlannedRun], out_folder: Path | None, name: str) -> list["RunFolder"]:
    """A folder for each run: the one that is named, or within it where there are several."""
    from training.run_folder import RunFolder, fresh_folder

    if len(stack) == 1:
        return [RunFolder(out_folder or fresh_folder(Path("runs"), f"{name}-seed{stack[0].arguments.seed}"))]
    above = out_folder or fresh_folder(Path("runs"), f"{name}-{len(stack)}-runs")
    return [RunFolder(above / run_name(planned, stack)) for planned in stack]


def run_name(planned: PlannedRun, stack: Sequence[PlannedRun]) -> str:
    """What tells a run from the others of its stack; nothing where it is alone."""
    parts = []
    if len({other.arguments.lr for other in stack}) > 1:
        parts.append(f"lr{planned.arguments.lr:g}")
    if len({other.arguments.seed for other in stack}) > 1:
        parts.append(f"seed{planned.arguments.seed}")
    if planned.fold is not None:
        parts.append(f"fold{planned.fold.number}")
    return "-".join(parts)


def train_together(
    backbone: "Backbone",
    task: "TaskFile",
    runs: Sequence[tuple[PlannedRun, "RunFolder"]],
    *,
    split: "Split",
    limit: int | None,
) -> list["RunReport"]:
    """Train runs of one task in one stack, shown as they go; raises as `training.run.run_training`."""
    from training.loop import train_stack
    from training.run import RunOptions, finish, prepare

    display = TrainingDisplay(err, task.metric)
    stack = [planned for planned, _ in runs]
    prepared = []
    for planned, folder in runs:
        shown = display.slot(run_name(planned, stack))
        prepared.append(
            prepare(
                backbone,
                RunOptions(
                    task=task,
                    arguments=planned.arguments,
                    folder=folder,
                    split=split,
                    fold=planned.fold,
                    limit=limit,
                    stack_size=len(stack),
                    on_step=shown.step,
                    on_evaluation=shown.evaluation,
                ),
            )
        )
    with display.live():
        results = train_stack(backbone, [preparation.slot for preparation in prepared])
    with err.status("scoring the report rows"):
        return [finish(backbone, preparation, result) for preparation, result in zip(prepared, results, strict=True)]


def print_reports(reports: Sequence["RunReport"], task: "TaskFile") -> "RunReport":
    """Print what the runs came to; the one that its selection rows say is best comes back."""
    best = max(reports, key=lambda report: (report.result.best.score, -report.result.best.loss))
    table = MetricsTable(f"{task.name}, report rows, split {best.split}", task.scoring)
    if len(reports) == 1:
        table.add("untrained", best.untrained)
        table.add(f"epoch {best.result.best_epoch}", best.trained)
    else:
        for report in reports:
            table.add(f"{report.folder.name}, epoch {report.result.best_epoch}", report.trained)
        _add_means(table, reports, task.scoring)
    show(table.finished())
    for report in reports:
        _warn(report)
    if best.num_truncated:
        err.print(f"{best.num_truncated} training rows were cut to {task.spec.max_tokens} tokens", style="yellow")
    out.print(f"{best.folder / 'adapter'} {best.adapter.digest}", markup=False)
    return best


def _add_means(table: MetricsTable, reports: Sequence["RunReport"], scoring: "Scoring") -> None:
    """Mean and standard deviation over the seeds of each rate, or over the folds of each seed."""
    rates: dict[object, list[RunReport]] = {}
    for report in reports:
        rates.setdefault(report.adapter.manifest.provenance.hyperparameters["lr"], []).append(report)
    table.add_section()
    if reports[0].fold is not None:
        _add_folds(table, reports, scoring)
        return
    for rate, of_rate in rates.items():
        if len(of_rate) > 1:
            table.add_mean(f"lr {rate}: {len(of_rate)} seeds", [report.trained for report in of_rate])


def _add_folds(table: MetricsTable, reports: Sequence["RunReport"], scoring: "Scoring") -> None:
    from training.out_of_fold import out_of_fold

    alike: dict[str, list[RunReport]] = {}
    for report in reports:
        provenance = report.adapter.manifest.provenance
        alike.setdefault(f"lr {provenance.hyperparameters['lr']}, seed {provenance.seed}", []).append(report)
    for name, of_seed in alike.items():
        table.add_mean(f"{name}: mean of {len(of_seed)} folds", [report.trained for report in of_seed])
        table.add(f"{name}: all rows, out of fold", out_of_fold(of_seed, scoring))


def _warn(report: "RunReport") -> None:
    """What its reader must know of a run."""
    if report.result.stop in ("interrupted", "diverged"):
        err.print(
            f"{report.folder}: the run was stopped ({report.result.stop}): kept the best epoch so far", style="yellow"
        )
    if report.trained.collapsed:
        err.print(f"{report.folder}: every row got the same answer: the run collapsed", style="yellow")
