"""A sweep from its plan to its report, shown as it goes: in this process, or on a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from backbone import Backbone
from cli.console import err, out, print_table
from cli.ui.metrics_table import MetricsTable
from cli.ui.sweep import SweepDisplay, trials_table
from training.config.arguments import TrainArguments
from training.data.splits import Split
from training.runs.folder import next_free_folder
from training.runs.run import RunReport
from training.runs.task_rows import TaskRows
from training.sweeping.folder import SweepFolder
from training.sweeping.outcome import write_outcome
from training.sweeping.stacks import SweepTask
from training.sweeping.sweep import EndedTrial, Sweep, SweepPlan, described, report_best, sweep_here
from training.task.task_file import TaskFile

INTERRUPTED = 130
"""The status of a command that Ctrl-C ended, as shells have it."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where stacks train, if not here."""

    address: str
    load: Callable[[], Backbone]
    """Runs on a worker."""
    device: str
    threads: int | None


def run_sweep(
    plan: SweepPlan,
    task: TaskFile,
    backbone: Backbone,
    out_folder: Path | None,
    *,
    split: Split,
    limit: int | None,
    resume: bool,
    plain: bool,
    workers: Workers | None,
    command: Callable[[TrainArguments], str],
) -> Path:
    """Sweep and report; the best trial's run folder comes back."""
    plan.space.check(plan.fixed, vocab_size=backbone.weights.embedding.shape[0])
    rows = TaskRows(backbone, task).divided(split=split, seed=plan.fixed.seed, limit=limit)
    subject = SweepTask(task, rows, split, limit)
    folder = out_folder or _default_folder(f"{task.name}-sweep", resume=resume)
    display = SweepDisplay(err, plan.metric, trials=plan.trials, plain=plain)
    with _opened(plan, subject, folder, backbone, display, resume=resume) as sweep:
        try:
            with display.live(sweep):
                _train(sweep, backbone, workers)
        except KeyboardInterrupt:
            write_outcome(sweep, sweep.ended(), command=None)
            print_table(trials_table(sweep, sweep.ended()))
            err.print(f"stopped; the same command with --out {folder} --resume goes on", style="yellow", markup=False)
            raise typer.Exit(INTERRUPTED) from None
        ended = sweep.ended()
        best = ended[0]
        with err.status("scoring the report rows"):
            report = report_best(backbone, sweep, best)
        again = command(best.arguments)
        write_outcome(sweep, ended, command=again)
        print_table(trials_table(sweep, ended))
        _print_report(report, task, best)
        out.print(again, markup=False)
        run = sweep.folder.trial(best.number)
        out.print(f"{run / 'adapter'}", markup=False)
        return run


@contextmanager
def _opened(
    plan: SweepPlan, subject: SweepTask, folder: Path, backbone: Backbone, display: SweepDisplay, *, resume: bool
) -> Iterator[Sweep]:
    fingerprint = backbone.identity.fingerprint
    files = SweepFolder(folder, described(plan, subject, fingerprint=fingerprint), resume=resume)
    try:
        sweep = Sweep(plan, subject, files, on_evaluation=display.evaluation, on_end=display.ended)
        try:
            yield sweep
        finally:
            sweep.close()
    finally:
        files.close()


def _train(sweep: Sweep, backbone: Backbone, workers: Workers | None) -> None:
    if workers is None:
        sweep_here(backbone, sweep)
        return
    from training.sweeping.on_ray import cluster, sweep_on_ray

    with cluster(workers.address):
        sweep_on_ray(
            sweep,
            workers.load,
            backbone.identity.fingerprint,
            threads=workers.threads or 1,
            gpus=int(workers.device.startswith("cuda")),
        )


def _default_folder(name: str, *, resume: bool) -> Path:
    return Path("runs") / name if resume else next_free_folder(Path("runs"), name)


def _print_report(report: RunReport | None, task: TaskFile, best: EndedTrial) -> None:
    if report is None:
        err.print(f"trial {best.number} is the best still; its report rows were scored before", style="dim")
        return
    table = MetricsTable(f"{task.name}, report rows, split {report.plan.split}", task.scoring)
    table.add("untrained", report.untrained)
    table.add(f"trial {best.number}, epoch {best.best_epoch}", report.trained)
    print_table(table.finished())
