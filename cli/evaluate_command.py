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


def evaluate(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, or a run's folder with one in it.")],
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Names the rows to evaluate on.")],
    rows: Annotated[Literal["validation", "train"], typer.Option(help="Which of the task's files.")] = "validation",
    int8: Annotated[bool, typer.Option("--int8", help="Also in int8: accuracy, and whether labels agree.")] = False,
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Write the answers' profile, and what --int8 found, into the adapter; its digest changes."
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
    """
    from adapters.errors import AdapterError
    from adapters.files import from_files, read_folder, to_files, write_folder
    from backbone import BackboneError
    from training.errors import TrainingError
    from training.int8 import compare_int8, recorded
    from training.row_sources import locate
    from training.validation import adapter_rows, answers, with_profile

    if int8 and device != "cpu":
        raise CommandError(f"--int8 runs on device 'cpu', not on {device!r}")

    with one_line_errors(AdapterError, BackboneError, TrainingError):
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
            tokenized = adapter_rows(loaded, adapter, task, *paths)
            answered = answers(loaded, adapter, tokenized)
            found = compare_int8(loaded, adapter, tokenized, answered, scoring=task.scoring) if int8 else None
        table.add(adapter.digest[:19], tokenized.measured(answered, task.scoring))
        if found is not None:
            table.add("the same in int8", found.int8)
        show(table.finished())
        if found is not None:
            out.print(f"{100 * found.label_agreement:.2f} % of the rows get the same label in int8")
        if record:
            adapter = with_profile(adapter if found is None else recorded(adapter, found), answered)
            write_folder(folder, to_files(adapter, card=files.get("README.md", b"").decode()))
            out.print(f"{folder} {adapter.digest}", markup=False)
