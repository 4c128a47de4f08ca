"""`superpos evaluate`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.backbone_options import load_backbone
from cli.commands.train import read_task_file
from cli.console import CommandError, report_errors
from cli.options import BackboneOption, CacheOption, DeviceOption, OfflineOption, RevisionOption, ThreadsOption
from training.config.choices import Calibrate, InvalidPolicy, Protocol


def evaluate(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, or a run's folder with one in it.")],
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Names the rows to evaluate on.")],
    rows: Annotated[Literal["validation", "train"], typer.Option(help="Which of the task's files.")] = "validation",
    int8: Annotated[bool, typer.Option("--int8", help="Also in int8: accuracy, and whether labels agree.")] = False,
    protocol: Annotated[
        Protocol, typer.Option(help="greedy: also what free generation says, compared as text (the paper's protocol).")
    ] = "constrained",
    invalid: Annotated[
        InvalidPolicy | None,
        typer.Option(help="greedy: words that are no label are wrong, or the run is worth 0 (†). (default: wrong)"),
    ] = None,
    calibrate: Annotated[
        Calibrate,
        typer.Option(
            help="Fit a temperature to these rows, auto: not with more than 20 labels; with --record it is served.",
        ),
    ] = "never",
    abstain_precision: Annotated[
        float | None,
        typer.Option(
            help="--calibrate: abstain so that this share of the answers is right, as 0.95. (default: as it does)"
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also with typos, other case and other white space.")
    ] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Write the answers' profile, and what --int8 and --calibrate found, into the adapter; its digest "
            "changes.",
        ),
    ] = False,
    backbone: BackboneOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Score an adapter on a task's rows with the serving scorer.

    \b
        superpos evaluate runs/tickets-superpos-seed0 examples/tasks/tickets.yaml

    A server compares its answers with the profile of those on held-out rows, which training records, and tells how far
    they have drifted. One in int8 (SUPERPOS_PRECISION=int8) serves only adapters that were compared there and agree on
    98 % of the rows; training on a CPU compares by itself. For an adapter from elsewhere:

    \b
        superpos evaluate my-adapter examples/tasks/tickets.yaml --int8 --record
        superpos evaluate my-adapter examples/tasks/tickets.yaml --calibrate auto --abstain-precision 0.95 --record
    """
    from adapters.errors import AdapterError
    from backbone import BackboneError
    from cli.evaluating import EvaluationOptions, evaluate_adapter
    from training.errors import TrainingError

    with report_errors(AdapterError, BackboneError, TrainingError):
        if int8 and device != "cpu":
            raise CommandError(f"--int8 runs on device 'cpu', not on {device!r}")
        if abstain_precision is not None and (calibrate == "never" or not 0 < abstain_precision < 1):
            raise CommandError(
                f"--abstain-precision {abstain_precision:g} needs --calibrate auto, and to lie between 0 and 1"
            )
        if invalid is not None and protocol != "greedy":
            raise CommandError(f"--invalid {invalid} is of free generation: it needs --protocol greedy")
        evaluate_adapter(
            folder,
            read_task_file(task_file),
            partial(
                load_backbone,
                backbone,
                cache_dir=cache_dir,
                revision=revision,
                offline=offline,
                device=device,
                threads=threads,
            ),
            rows=rows,
            further=EvaluationOptions(
                int8=int8,
                generated=(invalid or "wrong") if protocol == "greedy" else None,
                calibrate=calibrate,
                abstain_precision=abstain_precision,
                robustness=robustness,
                record=record,
            ),
        )
