"""`superpos similar`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import err, out
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, with_training_arguments
from cli.task_files import read_task_file
from cli.ui.ranking import print_ranking

if TYPE_CHECKING:
    from training.loop.events import StepEvent


@with_training_arguments(only=("batch_size", "num_sampled_tokens"))
@backbone_options("device", "threads")
def similar(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Task file of the new task.")],
    *,
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Optimiser steps of the new task's own prompt, which the others are compared to.")
    ] = 50,
    trial: Annotated[
        bool,
        typer.Option(
            "--trial", help="Also train as many steps from each adapter, and from none, and rank by the scores."
        ),
    ] = False,
    keep: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of adapters to compare, those whose mean vectors are most similar. Each costs "
            "forwards of 128 rows, or a trial.",
        ),
    ] = 32,
    limit: Annotated[int, typer.Option(min=2, help="Maximum number of training rows to read.")] = 1_024,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the rows and of the own prompt.")] = 0,
    explicit: dict[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON.")] = False,
    backbone: BackboneOptions,
) -> None:
    """Rank adapters as starts of a new task.

    The adapters are those under a folder (--from runs/library), or production of each task of a registry or server.
    A short prompt of the new task is trained first. Each adapter's prompt is compared with it: the cosine of their mean
    vectors and of all pairs of vectors (SPoT), and the cosine of the states behind them on the task's rows (PANDA's
    transferability). --trial also trains from each adapter, and by SuperPos without one, all in one stack, and ranks by
    the scores on held-out rows. A training with --start auto starts from the best.

    \b
        superpos similar tickets.yaml
        superpos similar tickets.yaml --from runs/library --trial --steps 100
        superpos similar tickets.yaml --from ./registry.sqlite --json
    """
    from cli.starts import candidates, without_report_rows
    from training.source_prompts.similar import rank_starts

    task = read_task_file(task_file)
    loaded = load_backbone(backbone)
    found = without_report_rows(candidates(loaded, source, key), task, seed=seed)
    with err.status(f"comparing {len(found)} adapters") as shown:

        def show(event: "StepEvent") -> None:
            shown.update(f"comparing {len(found)} adapters, step {event.step} of {event.num_steps}")

        ranking = rank_starts(
            loaded,
            task,
            found,
            steps=steps,
            trial=trial,
            keep=keep,
            limit=limit,
            seed=seed,
            explicit=explicit,
            on_step=show,
        )
    if as_json:
        out.print_data({"task": task.name, "steps": steps, **asdict(ranking)})
        return
    print_ranking(ranking)
