"""`superpos sweep`."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.backbone_options import load_backbone
from cli.client.publish import ask_place, publish_trained
from cli.commands.train import read_task_file
from cli.console import CommandError, report_errors
from cli.options import (
    BackboneOption,
    CacheOption,
    DeviceOption,
    KeyOption,
    OfflineOption,
    RevisionOption,
    ThreadsOption,
    with_training_arguments,
)

_SEARCH, _RUN = "Search", "Run"


@with_training_arguments(only=("epochs", "num_virtual_tokens", "max_steps", "eval_every", "seed"))
def sweep(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Template, labels and rows of the task.")],
    explicit: dict[str, Any],
    trials: Annotated[int, typer.Option(min=1, help="Runs to try, pruned ones among them.", rich_help_panel=_RUN)] = 24,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Runs that train in one packed batch.", rich_help_panel=_RUN)
    ] = 8,
    method: Annotated[
        str, typer.Option(help="superpos, simple, residual, dpt: one, or several with commas.", rich_help_panel=_SEARCH)
    ] = "superpos",
    lr: Annotated[
        str, typer.Option(help="A range low:high, drawn from by its logarithm, or values.", rich_help_panel=_SEARCH)
    ] = "0.001:1.0",
    m: Annotated[
        str, typer.Option("--m", help="superpos: the token embeddings superposed.", rich_help_panel=_SEARCH)
    ] = "128",
    basis: Annotated[str, typer.Option(help="superpos: per_token, shared.", rich_help_panel=_SEARCH)] = "per_token",
    weight_decay: Annotated[
        str | None, typer.Option(help="A range or values. (default: the method's)", rich_help_panel=_SEARCH)
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Rows a step.", rich_help_panel=_SEARCH)] = "32",
    metric: Annotated[
        str, typer.Option(help="What is compared on the selection rows: score, loss, or one of the task's metrics.")
    ] = "score",
    pruner: Annotated[
        Literal["median", "halving", "hyperband", "none"],
        typer.Option(help="Who ends hopeless runs early, of Optuna's.", rich_help_panel=_SEARCH),
    ] = "median",
    limit: Annotated[int | None, typer.Option(min=1, help="Use at most so many training rows.")] = None,
    split: Annotated[
        Literal["honest", "paper"],
        typer.Option(help="honest: choose on held-out training rows; paper: choose on the reported rows."),
    ] = "honest",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The sweep's folder. (default: runs/<task>-sweep)")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep in the folder; --trials may be more.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Train on a Ray cluster: its address, or 'local'.", rich_help_panel=_RUN),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines for a log, no bar.")] = False,
    publish: Annotated[
        str | None, typer.Option(help="Publish the best: a server's address, a SQLite registry's path, or Redis.")
    ] = None,
    key: KeyOption = None,
    backbone: BackboneOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Search for the best rate, method and size: Optuna asks, whole stacks of runs train at once.

    Each trial has a run folder; the report rows are scored once, for the best. After Ctrl-C or a kill, --resume goes
    on: trials that had ended are not repeated. --ray spreads stacks over the machines of a cluster.

    \b
        superpos sweep examples/tasks/tickets.yaml --trials 16 --epochs 5
        superpos sweep sst2.yaml --method superpos,simple --lr 0.001:1.0 --m 8,32,128 --publish http://127.0.0.1:8080
        superpos sweep sst2.yaml --trials 100 --ray 10.0.0.7:6379 --out runs/sst2-sweep --resume
    """
    from adapters.errors import AdapterError
    from backbone import BackboneError
    from training.config.arguments import TrainArguments
    from training.errors import TrainingError
    from training.sweeping import space

    with report_errors(AdapterError, BackboneError, TrainingError):
        _need("optuna", "sweep")
        if ray is not None:
            _need("ray", "ray")
        from cli.sweeping import Workers, run_sweep
        from training.runs.command import train_command
        from training.sweeping.sweep import SweepPlan

        plan = SweepPlan(
            space=space.SearchSpace(
                methods=space.methods(method),
                lr=space.numbers(lr, "lr"),
                weight_decay=None if weight_decay is None else space.numbers(weight_decay, "weight_decay"),
                batch_size=space.counts(batch_size, "batch_size"),
                num_sampled_tokens=space.counts(m, "m"),
                basis=space.bases(basis),
            ),
            fixed=TrainArguments(**explicit),
            trials=trials,
            parallel=parallel,
            metric=metric,
            pruner=pruner,
        )
        task = read_task_file(task_file)
        if publish is not None:
            ask_place(publish, key)
        load = partial(load_backbone, backbone, cache_dir=cache_dir, revision=revision, offline=offline)
        best = run_sweep(
            plan,
            task,
            # with --ray this process cuts texts into tokens and scores one prompt: the devices are the workers'
            load(device=device if ray is None else "cpu", threads=threads),
            out_folder,
            split=split,
            limit=limit,
            resume=resume,
            plain=plain,
            workers=None
            if ray is None
            else Workers(ray, partial(load, device=device, threads=threads), device, threads),
            command=lambda arguments: train_command(
                arguments,
                split=split,
                limit=limit,
                backbone=backbone,
                revision=revision or "",
                task_file=str(task_file),
            ),
        )
        if publish is not None:
            publish_trained([(task.name, best)], publish, key)


def _need(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise CommandError(f"superpos sweep needs {package}, which is not installed: pip install 'superpos[{extra}]'")
