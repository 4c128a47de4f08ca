"""`superpos evaluate`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import CommandError, err, out, print_table
from cli.task_files import read_task_file
from cli.ui.metrics_table import MetricsTable, labels_table
from training.config.choices import Calibrate, InvalidPolicy, Protocol

if TYPE_CHECKING:
    from adapters import PromptAdapter
    from adapters.adapter import ReducedPrecision
    from training.data.examples import RowFile
    from training.data.row_files import RowFiles
    from training.scoring.adapter_evaluation import AdapterEvaluation, EvaluationOptions
    from training.task.task_file import TaskFile


@backbone_options("device", "threads")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, or the folder of a run with an adapter.")],
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="The task with the rows to evaluate on.")],
    *,
    rows: Annotated[
        Literal["validation", "train", "report"],
        typer.Option(
            help="A file of the task, or report: the rows that the adapter's card reports on, which it was not trained "
            "on."
        ),
    ] = "validation",
    bf16: Annotated[bool, typer.Option("--bf16", help="Also score in bf16, and report how many labels agree.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also score in int8, and report how many labels agree.")] = False,
    protocol: Annotated[
        Protocol,
        typer.Option(help="greedy: also compare freely generated text with the labels (the paper's protocol)."),
    ] = "constrained",
    invalid: Annotated[
        InvalidPolicy | None,
        typer.Option(
            help="greedy: text that is not a label counts as wrong, or sets the run's score to 0 (†). (default: wrong)"
        ),
    ] = None,
    calibrate: Annotated[
        Calibrate,
        typer.Option(
            help="Fit a temperature to these rows. auto: label words only up to 20 labels. With --record it is served.",
        ),
    ] = "never",
    abstain_precision: Annotated[
        float | None,
        typer.Option(
            help="With --calibrate: choose the abstention threshold for this precision, for example 0.95. "
            "(default: keep the adapter's)"
        ),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also score with typos, changed case and changed white space.")
    ] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Write the profile of the predictions and the results of --bf16, --int8 and --calibrate into the "
            "adapter. Its digest changes.",
        ),
    ] = False,
    backbone: BackboneOptions,
) -> None:
    """Score an adapter on a task's rows with the serving scorer.

    \b
        superpos evaluate runs/tickets-superpos-seed0 examples/tasks/tickets.yaml

    A server reports drift by comparing its predictions with the profile of those on held-out rows, which training
    records. A server in bf16 (SUPERPOS_PRECISION=bf16) uses it for adapters whose labels agree with fp32 on 99.5 % of
    the rows, one in int8 for those that agree on 98 %, and fp32 for others. Training records these comparisons where
    its device supports the precision. For an adapter from elsewhere:

    \b
        superpos evaluate my-adapter examples/tasks/tickets.yaml --bf16 --int8 --record
        superpos evaluate my-adapter examples/tasks/tickets.yaml --calibrate auto --abstain-precision 0.95 --record
    """
    from adapters.baselines import read_baselines
    from adapters.files import from_files
    from training.data.row_files import RowFiles
    from training.runs.adapter_folder import adapter_files
    from training.runs.card import record_adapter
    from training.scoring.adapter_answers import adapter_task
    from training.scoring.adapter_evaluation import EvaluationOptions, evaluate_adapter
    from training.scoring.exam import num_trained_on

    if int8 and backbone.device != "cpu":
        raise CommandError(f"--int8 requires --device cpu, not {backbone.device!r}")
    if abstain_precision is not None and (calibrate == "never" or not 0 < abstain_precision < 1):
        raise CommandError(
            f"--abstain-precision {abstain_precision:g}: expected --calibrate auto and a number between 0 and 1"
        )
    if invalid is not None and protocol != "greedy":
        raise CommandError(f"--invalid {invalid} requires --protocol greedy")
    task = read_task_file(task_file)
    adapter = from_files(adapter_files(folder))
    task = adapter_task(task, adapter)
    files = RowFiles(task)
    chosen = chosen_rows(adapter, task, files, rows)
    if seen := num_trained_on(adapter, files, chosen):
        err.print(
            f"{seen} of the {len(chosen.examples)} rows trained this adapter or chose its epoch, so the metrics are "
            "too good; --rows report scores the others",
            style="yellow",
        )
    loaded = load_backbone(backbone)
    options = EvaluationOptions(
        precisions=_chosen(bf16=bf16, int8=int8),
        generated=(invalid or "wrong") if protocol == "greedy" else None,
        calibrate=calibrate,
        abstain_precision=abstain_precision,
        robustness=robustness,
    )
    with err.status(f"scoring the rows of {chosen.path}"):
        evaluation = evaluate_adapter(loaded, adapter, task, chosen, options)
    for note in evaluation.notes:
        err.print(note, style="yellow")
    table = MetricsTable(f"{task.name}: {chosen.path.name}{', report rows' if rows == 'report' else ''}", task.scoring)
    table.add(adapter.digest[:19], evaluation.metrics, evaluation.intervals)
    lines = _add_comparisons(table, evaluation, options)
    if rows == "report":  # which its baselines were measured on
        table.add_baselines(read_baselines(adapter.manifest.provenance.metrics))
    print_table(table.finished())
    if evaluation.labels:
        print_table(labels_table(evaluation.labels))
    for line in lines:
        out.print(line)
    _print_calibration(evaluation, abstain_precision)
    if record:
        where = record_adapter(folder, evaluation.adapter, measured=adapter.digest)
        out.print(f"{where} {evaluation.adapter.digest}")


def _chosen(*, bf16: bool, int8: bool) -> list["ReducedPrecision"]:
    chosen: list[ReducedPrecision] = ["bf16"] if bf16 else []
    return [*chosen, "int8"] if int8 else chosen


def chosen_rows(
    adapter: "PromptAdapter", task: "TaskFile", files: "RowFiles", rows: Literal["validation", "train", "report"]
) -> "RowFile":
    """Return the rows to score an adapter on.

    Raises:
        CommandError: the task has no such rows
    """
    from training.scoring.exam import division_of

    if rows == "train":
        return files.train
    if rows == "report":
        if (division := division_of(adapter, files)) is None:
            raise CommandError(f"the adapter was not trained on the rows of task {task.name!r} as they are divided now")
        return replace(files.validation or files.train, examples=division.report)
    if files.validation is None:
        raise CommandError(
            f"task {task.name!r} has no validation file; evaluate it with --rows report, on the rows that were held "
            "out, or with --rows train"
        )
    return files.validation


def _add_comparisons(table: MetricsTable, evaluation: "AdapterEvaluation", options: "EvaluationOptions") -> list[str]:
    """Add a row for each comparison; returns the lines to print below the table."""
    lines = []
    for precision, reduced in evaluation.precisions.items():
        table.add(f"the same in {precision}", reduced.metrics)
        lines.append(f"{100 * reduced.label_agreement:.2f} % of the rows get the same label in {precision}")
    if (generated := evaluation.generated) is not None:
        table.add(f"free generation, invalid: {options.generated}", generated.metrics)
        shares = f"{100 * generated.invalid:.2f} % no label, {100 * generated.label_agreement:.2f} % the served label"
        lines.append(f"free generation: {shares}")
    for name, perturbed in evaluation.perturbed.items():
        table.add(name, perturbed.metrics)
        lines.append(f"{name}: {100 * perturbed.label_agreement:.2f} % of the rows keep their label")
    return lines


def _print_calibration(evaluation: "AdapterEvaluation", abstain_precision: float | None) -> None:
    """Print what was fitted.

    Raises:
        CommandError: no threshold gives the precision that was asked for
    """
    if (fit := evaluation.fit) is None:
        return
    if abstain_precision is not None and fit.calibration.abstain_threshold is None:
        raise CommandError(fit.notes[-1])
    for note in fit.notes:
        err.print(note, style="yellow")
    out.print(evaluation.calibration)
