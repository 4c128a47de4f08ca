"""`superpos sweep`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adapters.baselines import is_unbeaten, verdict
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import err, out, print_table
from cli.options import KeyOption, require_package, with_training_arguments
from cli.targets.publish import check_target, publish_trained
from cli.task_files import read_task_file
from cli.ui.metrics_table import MetricsTable
from cli.ui.sweep import SweepDisplay, trials_table

if TYPE_CHECKING:
    from backbone import Backbone
    from training.config.arguments import TrainArguments
    from training.runs.run import RunReport
    from training.sweeping.launch import RayWorkers
    from training.sweeping.stacks import SweepTask
    from training.sweeping.sweep import EndedTrial, SweepPlan
    from training.task.task_file import TaskFile

_SEARCH, _RUN = "Search", "Run"
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as in shells."""


_CHOSEN = ("readout", "readout_init", "schedule")
_RANGED = ("readout_lr", "readout_weight_decay", "readout_dropout", "label_smoothing", "warmup", "token_dropout")
"""Training arguments whose options take several values here, and those that take ranges too."""


@with_training_arguments(
    only=("epochs", "num_virtual_tokens", "max_steps", "eval_every", "seed", *_CHOSEN, *_RANGED),
    several=_CHOSEN,
    ranges=_RANGED,
)
@backbone_options("device", "threads")
def sweep(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Template, labels and rows of the task.")],
    *,
    explicit: dict[str, Any],
    trials: Annotated[int, typer.Option(min=1, help="Runs to try, including pruned ones.", rich_help_panel=_RUN)] = 24,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Runs that train in one packed batch.", rich_help_panel=_RUN)
    ] = 8,
    method: Annotated[
        str, typer.Option(help="superpos, simple, residual, dpt: one, or several with commas.", rich_help_panel=_SEARCH)
    ] = "superpos",
    lr: Annotated[
        str,
        typer.Option(help="A range low:high, sampled log-uniformly, or values.", rich_help_panel=_SEARCH),
    ] = "0.001:1.0",
    m: Annotated[
        str, typer.Option("--m", help="superpos: number of token embeddings superposed.", rich_help_panel=_SEARCH)
    ] = "128",
    basis: Annotated[str, typer.Option(help="superpos: per_token, shared.", rich_help_panel=_SEARCH)] = "per_token",
    weight_decay: Annotated[
        str | None, typer.Option(help="As --lr. (default: the method's)", rich_help_panel=_SEARCH)
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Rows per step.", rich_help_panel=_SEARCH)] = "32",
    metric: Annotated[
        str, typer.Option(help="Metric of the selection rows to compare by: score, loss, or one of the task's.")
    ] = "score",
    pruner: Annotated[
        Literal["median", "halving", "hyperband", "none"],
        typer.Option(help="The Optuna pruner that ends unpromising runs early.", rich_help_panel=_SEARCH),
    ] = "median",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of training rows, drawn by the seed.")
    ] = None,
    split: Annotated[
        Literal["honest", "paper"],
        typer.Option(help="honest: select on held-out training rows; paper: select on the reported rows."),
    ] = "honest",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The sweep's folder. (default: runs/<task>-sweep)")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the sweep in the folder; --trials may be higher.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Train on the Ray cluster at this address, or 'local'.", rich_help_panel=_RUN),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines for a log instead of a progress bar.")] = False,
    publish: Annotated[
        str | None, typer.Option(help="Publish the best run to a server, a SQLite registry or Redis.")
    ] = None,
    key: KeyOption = None,
    backbone: BackboneOptions,
) -> None:
    """Search for the best learning rates, readout, method and prompt size with Optuna.

    Stacks of trials train in one packed batch. Each trial has its own run folder. Only the best trial is scored on the
    report rows, once. Without --readout, all trials have the readout that training would choose for the task. After
    Ctrl-C or a kill, --resume continues without repeating finished trials. --ray distributes the stacks over a cluster.

    \b
        superpos sweep examples/tasks/tickets.yaml --trials 16 --epochs 5
        superpos sweep sst2.yaml --method superpos,simple --lr 0.001:1.0 --m 8,32,128 --publish http://127.0.0.1:8080
        superpos sweep trec.yaml --readout auto --readout-lr 0.001:0.1 --readout-dropout 0.0,0.1,0.3
        superpos sweep sst2.yaml --trials 100 --ray 10.0.0.7:6379 --out runs/sst2-sweep --resume
    """
    from training.config.arguments import TrainArguments
    from training.runs.provenance import train_command
    from training.sweeping import dimensions

    require_package("optuna", "sweep", command="sweep")
    if ray is not None:
        require_package("ray", "ray", command="sweep --ray")
    from training.sweeping.launch import RayWorkers, read_sweep_task
    from training.sweeping.space import SearchSpace
    from training.sweeping.sweep import SweepPlan

    task = read_task_file(task_file)
    searched = {name: explicit.pop(name) for name in (*_CHOSEN, *_RANGED) if name in explicit}
    readouts = dimensions.readouts(searched.pop("readout", None), task.spec)
    chosen: dict[str, Any] = {name: dimensions.values(text, name) for name, text in searched.items()}
    plan = SweepPlan(
        space=SearchSpace(
            methods=dimensions.methods(method),
            readouts=readouts,
            lr=dimensions.numbers(lr, "lr"),
            weight_decay=None if weight_decay is None else dimensions.numbers(weight_decay, "weight_decay"),
            batch_size=dimensions.counts(batch_size, "batch_size"),
            num_sampled_tokens=dimensions.counts(m, "m"),
            basis=dimensions.bases(basis),
            **chosen,
        ),
        fixed=TrainArguments(**explicit),
        trials=trials,
        parallel=parallel,
        metric=metric,
        pruner=pruner,
    )
    if publish is not None:
        check_target(publish, key)
    # with --ray this process only tokenises and scores one prompt: the devices are the workers'
    loaded = load_backbone(replace(backbone, device="cpu") if ray else backbone)
    sweep_task = read_sweep_task(loaded, task, plan, split=split, limit=limit)
    for note in sweep_task.rows.notes:
        err.print(note, style="yellow")
    best = _run(
        plan,
        sweep_task,
        loaded,
        out_folder or _default_folder(f"{task.name}-sweep", resume=resume),
        resume=resume,
        plain=plain,
        workers=RayWorkers(ray, partial(load_backbone, backbone), backbone.device, backbone.threads) if ray else None,
        command=partial(
            train_command,
            split=split,
            limit=limit,
            backbone=backbone.backbone,
            revision=backbone.revision or "",
            task_file=str(task_file),
        ),
    )
    if publish is not None:
        publish_trained([(task.name, best)], publish, key)


def _run(
    plan: "SweepPlan",
    task: "SweepTask",
    backbone: "Backbone",
    folder: Path,
    *,
    resume: bool,
    plain: bool,
    workers: "RayWorkers | None",
    command: Callable[["TrainArguments"], str],
) -> Path:
    """Sweep, report the best trial, and return its run folder."""
    from training.sweeping.launch import open_sweep, train_sweep
    from training.sweeping.report import write_sweep_report
    from training.sweeping.sweep import report_best

    display = SweepDisplay(err, plan.metric, trials=plan.trials, plain=plain)
    with open_sweep(
        plan,
        task,
        folder,
        fingerprint=backbone.identity.fingerprint,
        resume=resume,
        on_evaluation=display.evaluation,
        on_end=display.ended,
    ) as sweep:
        try:
            with display.live(sweep):
                train_sweep(backbone, sweep, workers)
        except KeyboardInterrupt:
            write_sweep_report(sweep, sweep.ended(), command=None)
            print_table(trials_table(sweep, sweep.ended()))
            err.print(f"stopped; to resume: the same command with --out {folder} --resume", style="yellow")
            raise typer.Exit(INTERRUPTED) from None
        ended = sweep.ended()
        with err.status("scoring the report rows, and baselines on them"):
            report = report_best(backbone, sweep, ended[0])
        again = command(ended[0].arguments)
        write_sweep_report(sweep, ended, command=again)
        print_table(trials_table(sweep, ended))
        _print_report(report, task.task, ended[0])
        out.print(again)
        run = sweep.folder.trial(ended[0].number)
        out.print(f"{run / 'adapter'}")
        return run


def _default_folder(name: str, *, resume: bool) -> Path:
    from training.runs.folder import next_free_folder

    return Path("runs") / name if resume else next_free_folder(Path("runs"), name)


def _print_report(report: "RunReport | None", task: "TaskFile", best: "EndedTrial") -> None:
    if report is None:
        err.print(f"trial {best.number} is still the best; its report rows were scored before", style="dim")
        return
    table = MetricsTable(f"{task.name}, report rows, split {report.plan.split}", task.scoring)
    table.add("untrained", report.untrained)
    table.add(f"trial {best.number}, epoch {best.best_epoch}", report.trained)
    table.add_baselines(report.baselines)
    print_table(table.finished())
    if told := verdict(report.baselines):
        out.print(told, style="yellow" if is_unbeaten(report.baselines) else None)
