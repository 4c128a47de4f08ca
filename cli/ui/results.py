"""Tables of trained prompts: each run, means over seeds or folds, and the best run of each task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from cli.console import err, out, print_table
from cli.ui.metrics_table import MetricsTable

if TYPE_CHECKING:
    from training.runs.plan import RunPlan
    from training.runs.run_result import RunResult
    from training.task.task_file import TaskFile


def print_results(plans: Sequence["RunPlan"]) -> list[tuple["TaskFile", "RunResult"]]:
    """Print the results of the finished runs, and return the best run of each task by its selection rows."""
    from training.runs.layout import RESULT
    from training.runs.run_result import read_run_result

    of_task: dict[str, tuple[TaskFile, list[RunResult]]] = {}
    for plan in plans:
        outcomes = of_task.setdefault(plan.task.name, (plan.task, []))[1]
        if (plan.folder / RESULT).exists():
            outcomes.append(read_run_result(plan.folder))
    known = [(task, outcomes) for task, outcomes in of_task.values() if outcomes]
    if len(of_task) > 1 and known:
        print_table(_tasks_table(known))
    best = []
    for task, outcomes in known:
        if len(of_task) == 1:
            print_table(_task_table(task, outcomes))
        for note in _incomplete(outcomes):
            err.print(note, style="yellow")
        best.append((task, max(outcomes, key=lambda outcome: (outcome.selection.score, -outcome.selection.loss))))
        for outcome in outcomes:
            _warn(outcome, task)
    for _, outcome in best:
        if outcome.calibration is not None:
            out.print(outcome.calibration)
        if outcome.digest is None:
            err.print(f"{outcome.folder}: its method produces no adapter, only metrics")
        else:
            out.print(f"{outcome.folder / 'adapter'} {outcome.digest}")
    return best


def _task_table(task: "TaskFile", outcomes: Sequence["RunResult"]) -> Table:
    table = MetricsTable(f"{task.name}, report rows, split {outcomes[0].split}", task.scoring)
    if len(outcomes) == 1:
        table.add("untrained", outcomes[0].untrained)
        table.add(f"epoch {outcomes[0].best_epoch}", outcomes[0].trained, outcomes[0].intervals or None)
        return table.finished()
    for outcome in outcomes:
        table.add(f"{outcome.folder.name}, epoch {outcome.best_epoch}", outcome.trained)
    table.add_section()
    if outcomes[0].split == "kfold":
        _add_folds(table, outcomes, task)
    else:
        for rate, of_rate in _by_rate(outcomes).items():
            if len(of_rate) > 1:
                table.add_mean(f"lr {rate}: {len(of_rate)} seeds", [outcome.trained for outcome in of_rate])
    return table.finished()


def _add_folds(table: MetricsTable, outcomes: Sequence["RunResult"], task: "TaskFile") -> None:
    """Add mean and deviation over the folds of each seed, and all rows taken together if no fold is missing."""
    from training.runs.run_result import missing_folds, out_of_fold

    for name, of_seed in _by_rate_and_seed(outcomes).items():
        missing = missing_folds(of_seed)
        count = f"{len(of_seed)} of {len(of_seed) + len(missing)}" if missing else f"{len(of_seed)}"
        table.add_mean(f"{name}: mean of {count} folds", [outcome.trained for outcome in of_seed])
        if not missing:
            table.add(f"{name}: all rows, out of fold", out_of_fold(of_seed, task))


def _incomplete(outcomes: Sequence["RunResult"]) -> list[str]:
    """Name the missing folds of each cross-validation."""
    from training.runs.run_result import missing_folds

    return [
        f"{name}: no result of fold {', '.join(map(str, missing))}, so no out-of-fold result for all rows"
        for name, of_seed in _by_rate_and_seed(outcomes).items()
        if (missing := missing_folds(of_seed))
    ]


def _by_rate_and_seed(outcomes: Sequence["RunResult"]) -> dict[str, list["RunResult"]]:
    alike: dict[str, list[RunResult]] = {}
    for outcome in outcomes:
        alike.setdefault(f"lr {outcome.lr}, seed {outcome.seed}", []).append(outcome)
    return alike


def _tasks_table(known: Sequence[tuple["TaskFile", Sequence["RunResult"]]]) -> Table:
    """Make a table with one line per task and rate: only scores are comparable between tasks."""
    import statistics

    table = Table("task", "lr", "prompts", "score", "best constant answer", "untrained", "loss (nats)")
    for task, outcomes in known:
        for rate, of_rate in _by_rate(outcomes).items():
            scores, losses = ([o.trained.score for o in of_rate], [o.trained.loss for o in of_rate])
            spread = f" ± {statistics.pstdev(scores):.4f}" if len(scores) > 1 else ""
            table.add_row(
                task.name,
                f"{rate:g}",
                str(len(of_rate)),
                f"{statistics.fmean(scores):.4f}{spread}",
                f"{of_rate[0].trained.constant_score:.4f}",
                f"{statistics.fmean(o.untrained.score for o in of_rate):.4f}",
                f"{statistics.fmean(losses):.4f}",
            )
    return table


def _by_rate(outcomes: Sequence["RunResult"]) -> dict[float, list["RunResult"]]:
    rates: dict[float, list[RunResult]] = {}
    for outcome in outcomes:
        rates.setdefault(outcome.lr, []).append(outcome)
    return rates


def _warn(outcome: "RunResult", task: "TaskFile") -> None:
    """Print warnings about a run."""
    if outcome.stop in ("interrupted", "diverged"):
        err.print(f"{outcome.folder}: stopped early ({outcome.stop}); the best epoch so far was kept", style="yellow")
    if outcome.trained.collapsed:
        err.print(f"{outcome.folder}: the run collapsed: every row got the same answer", style="yellow")
    for note in outcome.calibration_notes:
        err.print(f"{outcome.folder}: {note}", style="dim")
    if outcome.num_truncated:
        err.print(
            f"{outcome.folder}: {outcome.num_truncated} training rows were truncated to {task.spec.max_tokens} tokens",
            style="yellow",
        )
