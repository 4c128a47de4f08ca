"""`superpos train`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.backbone_options import backbone_source, training_precision
from cli.client.publish import ask_place, publish_trained
from cli.console import CommandError, err, report_errors, status
from cli.options import (
    BackboneOption,
    BasisOption,
    BottleneckOption,
    CacheOption,
    DropoutOption,
    KeyOption,
    MethodOption,
    NumSampledTokensOption,
    NumVirtualTokensOption,
    OfflineOption,
    PrecisionOption,
    PresetOption,
    RankOption,
    RevisionOption,
    SoftmaxOption,
    SourceOption,
    ThreadsOption,
    TokenSamplingOption,
    WeightsInitOption,
)
from cli.resume import resume_command, resume_hint
from cli.ui.results import print_outcomes
from cli.ui.training import TrainingDisplay
from training.config.choices import WITHOUT_ADAPTER, Calibrate, LossName, Sampling

if TYPE_CHECKING:
    from training.runs.plan import RunPlan
    from training.task.task_file import TaskFile


def train(
    context: typer.Context,
    task_files: Annotated[
        list[Path],
        typer.Argument(metavar="TASK.yaml...", help="Template, labels and rows of a task; several train together."),
    ],
    preset: PresetOption = None,
    method: MethodOption = None,
    basis: BasisOption = None,
    softmax: SoftmaxOption = None,
    weights_init: WeightsInitOption = None,
    token_sampling: TokenSamplingOption = None,
    num_virtual_tokens: NumVirtualTokensOption = None,
    num_sampled_tokens: NumSampledTokensOption = None,
    bottleneck: BottleneckOption = None,
    rank: RankOption = None,
    source: SourceOption = None,
    dropout: DropoutOption = None,
    loss: Annotated[
        LossName | None,
        typer.Option(
            help="labels: the served distribution; full: cross-entropy over the vocabulary.",
            rich_help_panel="Optimiser",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training rows. (default: 10)", rich_help_panel="Optimiser")
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="AdamW's rate, or several with commas. (default: 0.01 for superpos, 0.3 for simple)",
            rich_help_panel="Optimiser",
        ),
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="AdamW's; never on superpos' basis. (default: the method's)", rich_help_panel="Optimiser"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows a step. (default: 32)", rich_help_panel="Optimiser")
    ] = None,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Scale a step's gradient down to this norm, each prompt's by itself.", rich_help_panel="Optimiser"
        ),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="End after so many steps, if not before.", rich_help_panel="Optimiser")
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps between evaluations. (default: at each epoch's end)", rich_help_panel="Optimiser"
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many evaluations without a better one.", rich_help_panel="Optimiser"),
    ] = None,
    sampling: Annotated[
        Sampling | None,
        typer.Option(help="balanced: draw every label equally often. (default: shuffled)", rich_help_panel="Rows"),
    ] = None,
    class_weights: Annotated[
        bool | None,
        typer.Option(
            help="Weigh a row's loss by rows / (labels × rows of its label). (default: no)", rich_help_panel="Rows"
        ),
    ] = None,
    calibrate: Annotated[
        Calibrate | None,
        typer.Option(
            help="Fit a temperature on the selection rows. (default: auto, not with more than 20 labels)",
            rich_help_panel="Run",
        ),
    ] = None,
    abstain_precision: Annotated[
        float | None,
        typer.Option(help="Abstain so that this share of the answers is right, as 0.95.", rich_help_panel="Run"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws sampled tokens, row order and held-out rows.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, max=64, help="Train with so many seeds, from --seed on, in one packed batch.")
    ] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many training rows.")] = None,
    split: Annotated[
        Literal["honest", "paper", "kfold"],
        typer.Option(
            help="honest: choose on held-out training rows; paper: choose on the reported rows; kfold: report each "
            "fold of the training rows under a prompt that the others trained."
        ),
    ] = "honest",
    folds: Annotated[int, typer.Option(min=2, max=100, help="kfold: how many, all trained in one stack.")] = 5,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder, or that of several runs. (default: runs/<task>-<method>-seed<seed>)"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with what is half done in --out, as if it had never been ended; what is finished stays.",
            rich_help_panel="Run",
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Deal the prompts to so many processes. (default: one for each --device)",
            rich_help_panel="Run",
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="A line an evaluation, for logs, in place of the live table.")
    ] = False,
    write_report: Annotated[
        bool,
        typer.Option("--report/--no-report", help="Leave an HTML page about what was trained.", rich_help_panel="Run"),
    ] = True,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write event files for TensorBoard, an extra.", rich_help_panel="Run"),
    ] = False,
    publish: Annotated[
        str | None, typer.Option(help="Publish the result: a server's address, a SQLite registry's path, or Redis.")
    ] = None,
    key: KeyOption = None,
    backbone: BackboneOption = "embedded",
    device: Annotated[
        str, typer.Option(envvar="SUPERPOS_DEVICE", help="'cpu', 'cuda', or several: cuda:0,cuda:1.")
    ] = "cpu",
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Train a prompt for a task and write its run folder: adapter, metrics, card, report.

    Several seeds, rates and tasks train together, every prompt as it would alone, each into a folder of its own;
    --publish takes the one of each task that its selection rows say is best, if it learned anything. Ctrl-C ends
    training, keeps the best epoch so far of each, and tells the command that goes on from there to the same curve; so
    does one after a crash.

    \b
        superpos train examples/tasks/tickets.yaml --epochs 20
        superpos train sst2.yaml --limit 8000 --epochs 4 --publish http://127.0.0.1:8080
        superpos train sst2.yaml --method simple --lr 0.1,0.3,1.0 --seeds 3
        superpos train sst2.yaml --preset paper/residual --epochs 20
        superpos train tickets.yaml --split kfold --folds 5
        superpos train sst2.yaml trec.yaml --seeds 5 --out runs/both --device cuda:0,cuda:1
        superpos train sst2.yaml trec.yaml --seeds 5 --out runs/both --device cuda:0,cuda:1 --resume
    """
    from adapters.errors import AdapterError
    from backbone import BackboneError
    from training.config.presets import train_arguments
    from training.data.folds import Fold
    from training.errors import TrainingError
    from training.runs.plan import plan_runs, unfinished_runs
    from training.runs.processes import launch

    asked = {
        "method": method,
        "basis": basis,
        "softmax": softmax,
        "weights_init": weights_init,
        "token_sampling": token_sampling,
        "num_virtual_tokens": num_virtual_tokens,
        "num_sampled_tokens": num_sampled_tokens,
        "bottleneck": bottleneck,
        "rank": rank,
        "sources": tuple(source) if source else None,
        "dropout": dropout,
        "loss": loss,
        "sampling": sampling,
        "class_weights": class_weights,
        "epochs": epochs,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
        "clip": clip,
        "max_steps": max_steps,
        "eval_every": eval_every,
        "patience": patience,
        "calibrate": calibrate,
        "abstain_precision": abstain_precision,
    }
    with report_errors(AdapterError, BackboneError, TrainingError):
        tasks = [read_task_file(path) for path in task_files]
        explicit = {name: value for name, value in asked.items() if value is not None}
        rates = [{}] if lr is None else [{"lr": rate} for rate in _rates(lr)]
        if split == "kfold" and publish is not None:
            raise CommandError("--publish: no prompt of --split kfold has seen all rows; train one with another split")
        if resume and out_folder is None:
            raise CommandError("--resume goes on with what is in a folder: name it with --out")
        parts = [Fold(number=number, of=folds) for number in range(1, folds + 1)] if split == "kfold" else [None]
        variants = [
            (train_arguments(explicit | rate | {"seed": number}, preset=preset), part)
            for rate in rates
            for number in range(seed, seed + seeds)
            for part in parts
        ]
        if publish is not None and (reason := WITHOUT_ADAPTER.get(variants[0][0].method)):
            raise CommandError(f"--publish: method {variants[0][0].method!r} leaves no adapter: {reason}")
        weights = backbone_source(backbone, cache_dir=cache_dir, revision=revision, offline=offline)
        above, plans = plan_runs(
            tasks,
            variants,
            out_folder,
            split=split,
            limit=limit,
            precision=training_precision(precision),
            resume=resume,
            tensorboard=tensorboard,
        )
        if publish is not None:
            ask_place(publish, key)
        with resume_hint(resume_command(context, above), plans):
            display = TrainingDisplay(err, [(plan.name, plan.task.metric) for plan in plans], plain=plain)
            with display.live():
                failures = launch(
                    plans,
                    weights,
                    devices=device.split(","),
                    processes=processes or 1,
                    threads=threads,
                    on_event=display.watch,
                    say=status,
                )
            best = print_outcomes(plans)
            if write_report:
                report_training(plans, above)
            if failures:
                raise CommandError("; ".join(failures))
        if unfinished_runs(plans):
            raise typer.Exit(130)  # as a shell tells of an interrupt
        if publish is not None:
            publish_trained([(task.name, outcome.folder) for task, outcome in best], publish, key)


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as exc:
        raise CommandError(f"--lr is {text!r}, expected a number, or several with commas between them") from exc
    if len(set(rates)) < len(rates):
        raise CommandError(f"--lr is {text!r}: a rate stands there twice")
    return rates


def read_task_file(path: Path) -> "TaskFile":
    """A task file, its `${NAME}`s taken from the environment (this is an entry point: it may read it)."""
    from training.task.task_file import load_task_file

    return load_task_file(path, variables=os.environ)


def report_training(plans: Sequence["RunPlan"], above: Path) -> None:
    """Write one page about the runs that came to a result, into the folder that holds them, and tell where it is."""
    from training.report.writing import write_report
    from training.runs.layout import REPORT, RESULT

    folders = [plan.folder for plan in plans if (plan.folder / RESULT).exists()]
    if folders:
        with err.status("writing the report"):
            write_report(folders, above / REPORT)
        err.print(f"report: {above / REPORT}", markup=False)
