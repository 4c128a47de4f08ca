"""`superpos train`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.backbone_options import PANEL, BackboneOptions, backbone_options, backbone_source
from cli.console import CommandError, err, status
from cli.corrections import with_feedback
from cli.options import (
    DEFAULT_SERVER,
    SERVER_VARIABLES,
    KeyOption,
    PresetOption,
    with_training_arguments,
)
from cli.resume import resume_command, resume_hint
from cli.starts import chosen_start
from cli.targets.publish import check_target, publish_trained
from cli.task_files import guess_tasks, read_task_file
from cli.ui.results import keep_chosen, print_results
from cli.ui.training import TrainingDisplay
from training.config.arguments import default_of
from training.config.choices import WITHOUT_ADAPTER
from training.runs.layout import TASK

if TYPE_CHECKING:
    from training.runs.plan import RunPlan

_DATA, _RUN = "Data", "Run"


DevicesOption = Annotated[
    str,
    typer.Option(
        envvar="SUPERPOS_DEVICE",
        help="'cpu', 'cuda', or several devices: cuda:0,cuda:1.",
        rich_help_panel=PANEL,
    ),
]


@with_training_arguments(
    several=("lr", "readout"),
    auto={"method": "auto: train heads and SuperPos prompts, and keep what is best on the selection rows."},
)
@backbone_options("device", "auto_precision", "threads", device=DevicesOption)
def train(
    context: typer.Context,
    task_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="TASK.yaml|ROWS...",
            help="Task files (template, labels and rows), or files of labelled rows (Parquet, JSONL, CSV, TSV) and "
            "directories of them, whose task is guessed. Several tasks train together.",
        ),
    ],
    *,
    label: Annotated[
        str | None,
        typer.Option(help="Rows without a task file: the label column. (default: guessed)", rich_help_panel=_DATA),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows without a task file: a text column; repeatable, in the order of the template. "
            "(default: guessed)",
            rich_help_panel=_DATA,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Rows without a task file: name of the task. (default: derived from the file's name)",
            rich_help_panel=_DATA,
        ),
    ] = None,
    preset: PresetOption = None,
    explicit: dict[str, Any],
    start: Annotated[
        Literal["auto"] | None,
        typer.Option(
            help="auto: rank the adapters of --start-from by short trials, and start from the best as --method spot "
            "does; if none beats SuperPos without a source, start as usual. Needs --out.",
            rich_help_panel="Method",
        ),
    ] = None,
    start_from: Annotated[
        str,
        typer.Option(
            envvar=SERVER_VARIABLES,
            help="Where --start auto looks: a folder of runs or adapters, a server, or a registry.",
            rich_help_panel="Method",
        ),
    ] = DEFAULT_SERVER,
    start_steps: Annotated[
        int, typer.Option(min=1, help="Optimiser steps of each trial of --start auto.", rich_help_panel="Method")
    ] = 50,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--with-feedback",
            metavar="SERVER",
            help="Also train on the corrections that this server (http://…) has of each task. They are saved in --out, "
            "or else in runs/, and never reported on. Needs a publish key.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    split: Annotated[
        Literal["honest", "paper", "kfold"],
        typer.Option(
            help="honest: select the best epoch on held-out training rows; paper: select it on the reported rows; "
            "kfold: cross-validate, reporting each fold under a prompt trained on the others.",
            rich_help_panel=_DATA,
        ),
    ] = "honest",
    folds: Annotated[
        int, typer.Option(min=2, max=100, help="kfold: number of folds, trained together.", rich_help_panel=_DATA)
    ] = 5,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of training rows, drawn by the seed with labels in proportion.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train on this many rows of each label, drawn by the seed: the same rows for every method and "
            "readout. Held-out selection rows are limited to as many.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Number of consecutive seeds to train, starting at --seed.", rich_help_panel=_RUN
        ),
    ] = 1,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Run folder, or the folder that holds several. (default: runs/<task>-<method>-seed<seed>)",
            rich_help_panel=_RUN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the unfinished runs in --out from their checkpoints; finished runs are kept.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training processes. (default: one per device)", rich_help_panel=_RUN),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help="Print one log line per evaluation instead of a live table.", rich_help_panel=_RUN
        ),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Measure a constant answer, the untrained model, TF-IDF with logistic regression and a head on the "
            "frozen model on the same rows, for the report and the card.",
            rich_help_panel=_RUN,
        ),
    ] = True,
    write_report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write an HTML report.", rich_help_panel=_RUN)
    ] = True,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard event files (needs the extra).", rich_help_panel=_RUN),
    ] = False,
    publish: Annotated[
        str | None,
        typer.Option(
            help="Publish the best adapter of each task to a server's URL, a SQLite registry's path or a Redis URL.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    key: KeyOption = None,
    backbone: BackboneOptions,
) -> None:
    """Train a prompt for each task and write its run folder: adapter, metrics, card and report.

    All seeds, learning rates, readouts and tasks train together in one packed batch, each into its own folder.
    --publish takes the best adapter of each task by the selection rows, if it beats the untrained prompt.
    --method auto trains heads and SuperPos prompts with every readout. Of several methods, readouts or rates, the
    selection rows choose; the choice and its reason are printed and written to choice.json, the adapter to adapter/.
    Ctrl-C stops training, keeps the best epoch so far and prints the command that resumes it.

    Rows need no task file: it is guessed from them, printed, and written into the run folder as task.yaml. The command
    fails if the rows do not decide which column is the label or the text.

    \b
        superpos train examples/tasks/tickets.yaml --epochs 20
        superpos train emails.csv --publish http://127.0.0.1:8080
        superpos train emails.csv --label team --text subject --text body
        superpos train sst2.yaml --limit 8000 --epochs 4 --publish http://127.0.0.1:8080
        superpos train banking77.yaml --readout soft --lr 0.1
        superpos train tickets.yaml --readout auto
        superpos train tickets.yaml --method head
        superpos train tickets.yaml --method auto --publish http://127.0.0.1:8080
        superpos train tickets.yaml --with-feedback http://127.0.0.1:8080 --publish http://127.0.0.1:8080
        superpos train sst2.yaml --method simple --lr 0.1,0.3,1.0 --seeds 3
        superpos train sst2.yaml --preset paper/residual --epochs 20
        superpos train cb.yaml --method panda --source runs/mnli --source runs/cb-spot
        superpos train cb.yaml --start auto --start-from runs/library --out runs/cb
        superpos train tickets.yaml --split kfold --folds 5
        superpos train sst2.yaml trec.yaml --seeds 5 --out runs/both --device cuda:0,cuda:1
        superpos train sst2.yaml trec.yaml --seeds 5 --out runs/both --device cuda:0,cuda:1 --resume
    """
    from training.config.recipes import AUTO, recipes
    from training.data.folds import Fold
    from training.runs.plan import plan_runs, unfinished_runs
    from training.runs.processes import launch

    devices = backbone.device.split(",")
    is_alone = len(devices) == 1 and processes in (None, 1)
    # a backbone that is loaded to guess a task also trains it, unless other processes do
    guessed = guess_tasks(
        task_files,
        replace(backbone, device=devices[0] if is_alone else "cpu"),
        keep_backbone=is_alone,
        name=name,
        label=label,
        text=text or (),
    )
    known = guessed.by_path
    tasks = [known[path].task if path in known else read_task_file(path) for path in task_files]
    tasks = with_feedback(tasks, feedback, key, folder=out_folder or Path("runs"), resume=resume)
    where = None if start is None else start_from
    rates = _rates(explicit.pop("lr")) if "lr" in explicit else []
    explicit = chosen_start(
        tasks,
        explicit,
        where,
        key,
        rates=rates,
        preset=preset,
        out_folder=out_folder,
        steps=start_steps,
        split=split,
        seeds=seeds,
        limit=limit,
        shots=shots,
        backbone=backbone,
    )
    is_auto = explicit.get("method") == AUTO
    first_seed = explicit.get("seed", default_of("seed", "superpos"))
    if split == "kfold" and publish is not None:
        raise CommandError("--publish: with --split kfold no prompt is trained on all rows; use another split")
    if resume and out_folder is None:
        raise CommandError("--resume needs the folder of the interrupted runs; name it with --out")
    if is_auto and split == "paper":
        raise CommandError("--method auto with --split paper would choose on the reported rows; use --split honest")
    parts = [Fold(number=number, of=folds) for number in range(1, folds + 1)] if split == "kfold" else [None]
    variants = [
        (replace(arguments, seed=number), part)
        for arguments in recipes(explicit, rates=rates, preset=preset, tasks=[task.spec for task in tasks])
        for number in range(first_seed, first_seed + seeds)
        for part in parts
    ]
    if publish is not None and (reason := WITHOUT_ADAPTER.get(variants[0][0].method)):
        raise CommandError(f"--publish: method {variants[0][0].method!r} produces no adapter: {reason}")
    above, plans = plan_runs(
        tasks,
        variants,
        out_folder,
        split=split,
        limit=limit,
        shots=shots,
        precision=backbone.precision or "fp32",
        resume=resume,
        baselines=baselines,
        tensorboard=tensorboard,
    )
    if backbone.precision is None:
        plans = _in_automatic_precision(plans, devices, preset=preset)
    if publish is not None:
        check_target(publish, key)
    for guess in known.values():
        path = above / (guess.task.name if len(tasks) > 1 else "") / TASK
        guess.write(path, resume=resume)
        guess.report(path)
    with resume_hint(resume_command(context, above), plans):
        display = TrainingDisplay(
            err, [(plan.name, plan.task.metric, plan.arguments.method) for plan in plans], plain=plain
        )
        with display.live():
            failures = launch(
                plans,
                backbone_source(backbone),
                devices=devices,
                processes=processes or 1,
                threads=backbone.threads,
                loaded=guessed.backbone,
                on_event=display.watch,
                say=status,
            )
        best = print_results(plans)
        if split == "honest" and not failures and not unfinished_runs(plans):
            keep_chosen(plans, above)
        if write_report:
            report_training(plans, above)
        if failures:
            raise CommandError("; ".join(failures))
    if unfinished_runs(plans):
        raise typer.Exit(130)  # the exit status of a shell command that Ctrl-C ended
    if publish is not None:
        publish_trained([(task.name, outcome.folder) for task, outcome in best], publish, key)


def _in_automatic_precision(
    plans: "Sequence[RunPlan]", devices: Sequence[str], *, preset: str | None
) -> "list[RunPlan]":
    """Set the precision that suits devices and methods; runs that were begun keep theirs."""
    from training.runs.automatic_precision import automatic_precision, begun_precision

    precision, why = automatic_precision(devices, {plan.arguments.method for plan in plans}, preset=preset)
    if (begun := begun_precision([plan.folder for plan in plans])) is not None:
        precision, why = begun, "as the run was begun"
    status(f"training in {precision}: {why}")
    return [replace(plan, precision=precision) for plan in plans]


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as exc:
        raise CommandError(f"--lr is {text!r}, expected a number, or several separated by commas") from exc
    if len(set(rates)) < len(rates):
        raise CommandError(f"--lr is {text!r}: a rate is repeated")
    return rates


def report_training(plans: Sequence["RunPlan"], above: Path) -> None:
    """Write one HTML page about the finished runs into the folder that holds them, and print its path."""
    from training.report.page import write_report
    from training.runs.layout import REPORT, RESULT

    folders = [plan.folder for plan in plans if (plan.folder / RESULT).exists()]
    if folders:
        with err.status("writing the report"):
            write_report(folders, above / REPORT)
        err.print(f"report: {above / REPORT}")
