"""Tables of trained prompts: each run, means over seeds or folds, and the best run of each task."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from adapters.baselines import LEARNED, TITLES, BaselineName, is_unbeaten, verdict
from cli.console import err, out, print_table
from cli.ui.metrics_table import MetricsTable

if TYPE_CHECKING:
    from adapters.baselines import Baseline
    from training.runs.plan import RunPlan
    from training.runs.run_result import RunResult
    from training.task.task_file import TaskFile


def print_results(plans: Sequence["RunPlan"]) -> list[tuple["TaskFile", "RunResult"]]:
    """Print the results of the finished runs, and return the best run of each task by its selection rows."""
    from training.runs.choice import candidates

    known = _by_task(plans)
    is_single = len({plan.task.name for plan in plans}) == 1
    if not is_single and known:
        print_table(_tasks_table(known))
    best = []
    for task, outcomes in known:
        if is_single:
            print_table(_task_table(task, outcomes))
        for note in _incomplete(outcomes):
            err.print(note, style="yellow")
        best.append((task, candidates(outcomes)[0].best))
        for outcome in outcomes:
            _warn(outcome, task)
    for (task, outcomes), (_, outcome) in zip(known, best, strict=True):
        baselines = _baselines_of_best(task, outcomes)
        if told := verdict(baselines):
            name = "" if len(plans) == 1 else f"{outcome.folder if outcome.fold is None else task.name}: "
            out.print(f"{name}{told}", style="yellow" if is_unbeaten(baselines) else None)
        if outcome.calibration is not None:
            out.print(outcome.calibration)
        if outcome.digest is None:
            err.print(f"{outcome.folder}: its method produces no adapter, only metrics")
        else:
            out.print(f"{outcome.folder / 'adapter'} {outcome.digest}")
    return best


def _by_task(plans: Sequence["RunPlan"]) -> list[tuple["TaskFile", list["RunResult"]]]:
    """Return each task with the results of its finished runs; without tasks that have none."""
    from training.runs.layout import RESULT
    from training.runs.run_result import read_run_result

    of_task: dict[str, tuple[TaskFile, list[RunResult]]] = {}
    for plan in plans:
        outcomes = of_task.setdefault(plan.task.name, (plan.task, []))[1]
        if (plan.folder / RESULT).exists():
            outcomes.append(read_run_result(plan.folder))
    return [(task, outcomes) for task, outcomes in of_task.values() if outcomes]


def _task_table(task: "TaskFile", outcomes: Sequence["RunResult"]) -> Table:
    table = MetricsTable(f"{task.name}, report rows, split {outcomes[0].split}", task.scoring)
    if len(outcomes) == 1:
        table.add("untrained", outcomes[0].untrained)
        table.add(_best_of(outcomes[0]), outcomes[0].trained, outcomes[0].intervals or None)
        table.add_baselines(outcomes[0].baselines)
        return table.finished()
    for outcome in outcomes:
        table.add(f"{outcome.folder.name}, {_best_of(outcome)}", outcome.trained)
    table.add_section()
    if outcomes[0].split == "kfold":
        _add_folds(table, outcomes, task)
    else:
        for name, alike in _by_settings(outcomes).items():
            if len(alike) > 1:
                table.add_mean(f"{name}: {len(alike)} seeds", [outcome.trained for outcome in alike])
    table.add_baselines(_baselines_of_best(task, outcomes))
    return table.finished()


def _best_of(outcome: "RunResult") -> str:
    """Return which of a run's evaluations was the best; a head has one for each fit."""
    return f"{'fit' if outcome.method == 'head' else 'epoch'} {outcome.best_epoch}"


def _baselines_of_best(task: "TaskFile", outcomes: Sequence["RunResult"]) -> Sequence["Baseline"]:
    """Return the baselines on the rows of the best run; of a cross-validation, on all rows, if no fold is missing."""
    from training.runs.choice import candidates
    from training.runs.cross_validation import missing_folds, out_of_fold_baselines

    best = candidates(outcomes)[0]
    if best.best.fold is None:
        return best.best.baselines
    folds = [run for run in best.runs if run.seed == best.best.seed]
    return [] if missing_folds(folds) else out_of_fold_baselines(folds, task)


def keep_chosen(plans: Sequence["RunPlan"], above: Path) -> None:
    """Print which settings of each task the selection rows chose, and write the best run into the folder of the runs.

    Tasks that were trained with one setting are left out, with any number of seeds.
    """
    from training.runs.choice import candidates, choice_told, write_choice

    known = _by_task(plans)
    for task, outcomes in known:
        ranked = candidates(outcomes)
        if len(ranked) == 1:
            continue
        folder = above if len({plan.task.name for plan in plans}) == 1 else above / task.name
        out.print(f"{task.name}: {choice_told(ranked, metric=task.metric)}")
        if ranked[0].best.digest is not None:
            write_choice(folder, ranked, metric=task.metric)
            out.print(f"chosen adapter: {folder / 'adapter'}")


def _add_folds(table: MetricsTable, outcomes: Sequence["RunResult"], task: "TaskFile") -> None:
    """Add mean and deviation over the folds of each seed, and all rows taken together if no fold is missing."""
    from training.runs.cross_validation import missing_folds, out_of_fold

    for name, of_seed in _by_settings(outcomes, seeds_apart=True).items():
        missing = missing_folds(of_seed)
        count = f"{len(of_seed)} of {len(of_seed) + len(missing)}" if missing else f"{len(of_seed)}"
        table.add_mean(f"{name}: mean of {count} folds", [outcome.trained for outcome in of_seed])
        if not missing:
            table.add(f"{name}: all rows, out of fold", out_of_fold(of_seed, task))


def _incomplete(outcomes: Sequence["RunResult"]) -> list[str]:
    """Name the missing folds of each cross-validation."""
    from training.runs.cross_validation import missing_folds

    return [
        f"{name}: no result of fold {', '.join(map(str, missing))}, so no out-of-fold result for all rows"
        for name, of_seed in _by_settings(outcomes, seeds_apart=True).items()
        if (missing := missing_folds(of_seed))
    ]


def _by_settings(outcomes: Sequence["RunResult"], *, seeds_apart: bool = False) -> dict[str, list["RunResult"]]:
    """Group runs that differ in their fold alone, or also in their seed, under names of what else differs."""
    methods, readouts = ({getattr(each, name) for each in outcomes} for name in ("method", "readout"))
    alike: dict[str, list[RunResult]] = {}
    for outcome in outcomes:
        parts = [outcome.method] if len(methods) > 1 else []
        parts += [outcome.readout] if len(readouts) > 1 else []
        parts += [f"lr {outcome.lr}"] if outcome.method != "head" or not parts else []
        parts += [f"seed {outcome.seed}"] if seeds_apart else []
        alike.setdefault(", ".join(parts), []).append(outcome)
    return alike


def _tasks_table(known: Sequence[tuple["TaskFile", Sequence["RunResult"]]]) -> Table:
    """Make a table with one line per task and settings: only scores are comparable between tasks."""
    import statistics

    names: list[BaselineName] = [
        name for name in LEARNED if any(_baseline(o, name) for _, found in known for o in found)
    ]
    titles = [TITLES[name] for name in names]
    table = Table("task", "settings", "runs", "score", "best constant answer", "untrained", *titles, "loss (nats)")
    for task, outcomes in known:
        for name, alike in _by_settings(outcomes).items():
            scores, losses = ([o.trained.score for o in alike], [o.trained.loss for o in alike])
            spread = f" ± {statistics.pstdev(scores):.4f}" if len(scores) > 1 else ""
            table.add_row(
                task.name,
                name,
                str(len(alike)),
                f"{statistics.fmean(scores):.4f}{spread}",
                f"{alike[0].trained.constant_score:.4f}",
                f"{statistics.fmean(o.untrained.score for o in alike):.4f}",
                *(_mean([b.figures["score"] for o in alike if (b := _baseline(o, name))]) for name in names),
                f"{statistics.fmean(losses):.4f}",
            )
    return table


def _baseline(outcome: "RunResult", name: str) -> "Baseline | None":
    return next((baseline for baseline in outcome.baselines if baseline.name == name), None)


def _mean(values: Sequence[float]) -> str:
    """Return a mean as a cell; empty without values."""
    import statistics

    return f"{statistics.fmean(values):.4f}" if values else ""


def _warn(outcome: "RunResult", task: "TaskFile") -> None:
    """Print warnings about a run."""
    if outcome.stop in ("interrupted", "diverged"):
        err.print(f"{outcome.folder}: stopped early ({outcome.stop}); the best epoch so far was kept", style="yellow")
    if outcome.is_collapsed:
        err.print(f"{outcome.folder}: the run collapsed: every row got the same answer", style="yellow")
    for note in outcome.calibration_notes:
        err.print(f"{outcome.folder}: {note}", style="dim")
    if outcome.num_truncated:
        err.print(
            f"{outcome.folder}: {outcome.num_truncated} training rows were truncated to {task.spec.max_tokens} tokens",
            style="yellow",
        )
