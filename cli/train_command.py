"""`superpos train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.backbones import load_backbone
from cli.options import (
    BackboneOption,
    CacheOption,
    DeviceOption,
    KeyOption,
    OfflineOption,
    RevisionOption,
    ThreadsOption,
)
from cli.output import CommandError, one_line_errors
from cli.stacked_training import folders, print_reports, train_together
from cli.task_files import read_task_file


def train(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Template, labels and rows of the task.")],
    method: Annotated[
        Literal["superpos", "simple"], typer.Option(help="How the prompt is parameterised.")
    ] = "superpos",
    basis: Annotated[
        Literal["per_token", "shared"], typer.Option(help="superpos: a basis for each prompt vector, or one for all.")
    ] = "per_token",
    epochs: Annotated[int, typer.Option(help="Passes over the training rows.")] = 10,
    lr: Annotated[
        str | None,
        typer.Option(help="AdamW's rate, or several with commas. (default: 0.01 for superpos, 0.3 for simple)"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 32,
    clip: Annotated[
        float | None, typer.Option(help="Scale a step's gradient down to this norm, each prompt's by itself.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps, if not before.")] = None,
    eval_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations. (default: at each epoch's end)")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="End after so many evaluations without a better one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws sampled tokens, row order and held-out rows.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, max=64, help="Train with so many seeds, from --seed on, in one packed batch.")
    ] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many training rows.")] = None,
    split: Annotated[
        Literal["honest", "paper"],
        typer.Option(help="honest: choose on held-out training rows; paper: choose on the reported rows."),
    ] = "honest",
    num_virtual_tokens: Annotated[int, typer.Option(help="P, the prompt's length.")] = 10,
    num_sampled_tokens: Annotated[int, typer.Option(help="superpos: m, the token embeddings superposed.")] = 128,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder, or that of several runs. (default: runs/<task>-<method>-seed<seed>)"),
    ] = None,
    publish: Annotated[
        str | None, typer.Option(help="Publish the result: a server's address, a SQLite registry's path, or Redis.")
    ] = None,
    key: KeyOption = None,
    backbone: BackboneOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Train a prompt for a task and write its run folder: adapter, metrics, card.

    Several seeds and rates train together, every prompt as it would alone, each into a folder of its own; --publish
    takes the one that its selection rows say is best. Ctrl-C ends training and keeps the best epoch so far of each.

    \b
        superpos train examples/tasks/tickets.yaml --epochs 20
        superpos train sst2.yaml --limit 8000 --epochs 4 --publish http://127.0.0.1:8080
        superpos train sst2.yaml --method simple --lr 0.1,0.3,1.0 --seeds 3
    """
    from adapters.errors import AdapterError
    from backbone import BackboneError
    from training.arguments import DEFAULT_LR, TrainArguments
    from training.errors import TrainingError

    with one_line_errors(AdapterError, BackboneError, TrainingError):
        task = read_task_file(task_file)
        rates = [DEFAULT_LR[method]] if lr is None else _rates(lr)
        stack = [
            TrainArguments(
                method=method,
                basis=basis,
                epochs=epochs,
                lr=rate,
                batch_size=batch_size,
                seed=number,
                clip=clip,
                max_steps=max_steps,
                eval_every=eval_every,
                patience=patience,
                num_virtual_tokens=num_virtual_tokens,
                num_sampled_tokens=num_sampled_tokens,
            )
            for rate in rates
            for number in range(seed, seed + seeds)
        ]
        runs = folders(stack, out_folder, f"{task.name}-{method}")
        loaded = load_backbone(
            backbone, cache_dir=cache_dir, revision=revision, offline=offline, device=device, threads=threads
        )
        reports = train_together(loaded, task, list(zip(stack, runs, strict=True)), split=split, limit=limit)
        best = print_reports(reports, task)
        if publish is not None:
            from cli.adapters_commands import push

            push(best.folder, task.name, to=publish, key=key)


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError as exc:
        raise CommandError(f"--lr is {text!r}, expected a number, or several with commas between them") from exc
    if len(set(rates)) < len(rates):
        raise CommandError(f"--lr is {text!r}: a rate stands there twice")
    return rates
