"""`superpos evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.backbones import load_backbone
from cli.metrics_table import MetricsTable
from cli.options import (
    BackboneOption,
    CacheOption,
    DeviceOption,
    OfflineOption,
    RevisionOption,
    ThreadsOption,
)
from cli.output import CommandError, err, one_line_errors, out, show
from cli.task_files import read_task_file
from training.choices import InvalidPolicy, Protocol


def evaluate(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, or a run's folder with one in it.")],
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Names the rows to evaluate on.")],
    rows: Annotated[Literal["validation", "train"], typer.Option(help="Which of the task's files.")] = "validation",
    int8: Annotated[bool, typer.Option("--int8", help="Also in int8: accuracy, and whether labels agree.")] = False,
    protocol: Annotated[
        Protocol, typer.Option(help="greedy: also what free generation says, compared as text (the paper's protocol).")
    ] = "constrained",
    invalid: Annotated[
        InvalidPolicy, typer.Option(help="greedy: words that are no label are wrong, or the run is worth 0 (†).")
    ] = "wrong",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature to these rows; with --record it is served.")
    ] = False,
    abstain_precision: Annotated[
        float | None, typer.Option(help="--calibrate: abstain so that this share of the answers is right, as 0.95.")
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
        superpos evaluate my-adapter examples/tasks/tickets.yaml --calibrate --abstain-precision 0.95 --record
    """
    from adapters.errors import AdapterError
    from adapters.files import from_files, read_folder, to_files, write_folder
    from backbone import BackboneError
    from cli.further_evaluation import Scored, add_generated, add_perturbed, calibrated_adapter
    from training.errors import TrainingError
    from training.evaluation import tokenize_examples
    from training.int8 import compare_int8, recorded
    from training.row_sources import locate
    from training.validation import adapter_examples, answers, with_profile

    with one_line_errors(AdapterError, BackboneError, TrainingError):
        if int8 and device != "cpu":
            raise CommandError(f"--int8 runs on device 'cpu', not on {device!r}")
        if abstain_precision is not None and not (calibrate and 0 < abstain_precision < 1):
            raise CommandError(
                f"--abstain-precision {abstain_precision:g} needs --calibrate, and to lie between 0 and 1"
            )
        task = read_task_file(task_file)
        sources = locate(task.data)
        paths = sources.train if rows == "train" else sources.validation
        if not paths:
            raise CommandError(f"{task_file} names no validation file; evaluate on --rows train")
        folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
        files = read_folder(folder)
        adapter = from_files(files)
        loaded = load_backbone(
            backbone, cache_dir=cache_dir, revision=revision, offline=offline, device=device, threads=threads
        )
        table = MetricsTable(f"{task.name}: {paths[0].name}", task.scoring)
        with err.status(f"scoring the rows of {paths[0]}"):
            examples = adapter_examples(loaded, adapter, task, *paths)
            tokenized = tokenize_examples(loaded, adapter.spec, examples)
            answered = answers(loaded, adapter, tokenized)
            found = compare_int8(loaded, adapter, tokenized, answered, scoring=task.scoring) if int8 else None
            measured = tokenized.measured(answered, task.scoring)
            table.add(adapter.digest[:19], measured, tokenized.intervals(answered, task.scoring))
            told = (
                [] if found is None else [f"{100 * found.label_agreement:.2f} % of the rows get the same label in int8"]
            )
            if found is not None:
                table.add("the same in int8", found.int8)
                adapter = recorded(adapter, found)
            scored = Scored(loaded, adapter, task.scoring, examples, tokenized, answered)
            if protocol == "greedy":
                told.append(add_generated(table, scored, loss=measured.loss, policy=invalid))
            if robustness:
                told += add_perturbed(table, scored)
        show(table.finished())
        for line in told:
            out.print(line, markup=False)
        if calibrate:
            adapter = calibrated_adapter(adapter, answered, tokenized.labels, abstain_precision=abstain_precision)
        if record:
            adapter = with_profile(adapter, answered)
            write_folder(folder, to_files(adapter, card=files.get("README.md", b"").decode()))
            out.print(f"{folder} {adapter.digest}", markup=False)
