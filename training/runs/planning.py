"""Prompts that a command trains: planned, a folder each, and trained in this process or in several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import CommandError, err

if TYPE_CHECKING:
    from backbone import Precision
    from training.config.arguments import TrainArguments
    from training.data.folds import Fold
    from training.data.splits import Split
    from training.runs.plan import RunPlan, Watch
    from training.runs.processes import BackboneSource
    from training.task.task_file import TaskFile

    Variant = tuple[TrainArguments, Fold | None]


@dataclass(frozen=True, slots=True)
class NamedPlan:
    """A planned run, and what tells it from the others; nothing where it is alone."""

    name: str
    plan: "RunPlan"


def plan_runs(
    tasks: Sequence["TaskFile"],
    variants: Sequence["Variant"],
    out_folder: Path | None,
    *,
    split: "Split",
    limit: int | None,
    precision: "Precision",
    resume: bool,
    tensorboard: bool,
) -> tuple[Path, list[NamedPlan]]:
    """A run of each task with each of the arguments and folds; and the folder that holds them all.

    Raises:
        InvalidArguments: a folder holds a run already, and none is to be gone on with
        CommandError: two tasks of one name; `resume`, and none of the folders holds a run
    """
    from training.runs.folder import RunFolder
    from training.runs.layout import RUN
    from training.runs.plan import RunPlan

    if len({task.name for task in tasks}) < len(tasks):
        raise CommandError(f"two of the task files have one name: {', '.join(task.name for task in tasks)}")
    above = out_folder or _default_folder(tasks, variants)
    planned = []
    for task in tasks:
        for arguments, fold in variants:
            parts = [task.name] if len(tasks) > 1 else []
            parts += [name] if (name := _variant_name(arguments, fold, variants)) else []
            folder = RunFolder(above.joinpath(*parts), resume=resume).path
            plan = RunPlan(
                task=task,
                arguments=arguments,
                folder=folder,
                split=split,
                fold=fold,
                limit=limit,
                precision=precision,
                tensorboard=tensorboard,
            )
            planned.append(NamedPlan("/".join(parts), plan))
    if resume and not any((named.plan.folder / RUN).is_file() for named in planned):
        raise CommandError(f"{above} holds no run to resume, expected {planned[0].plan.folder / RUN}")
    return above, planned


def train_planned(
    plans: Sequence[NamedPlan],
    source: "BackboneSource",
    *,
    devices: Sequence[str],
    processes: int,
    threads: int | None,
    plain: bool,
) -> list[str]:
    """Train in this process, or in several where there are more devices or processes than one.

    What failed in other processes comes back in words; raises as `training.runs.run.run_training`.
    """
    from cli.backbone_options import load_backbone
    from cli.ui.training import TrainingDisplay
    from training.runs.plan import train_plans

    display = TrainingDisplay(err, [(named.name, named.plan.task.metric) for named in plans], plain=plain)
    runs = [named.plan for named in plans]
    count = min(max(processes, len(devices)), len(runs))
    if count > 1:
        with display.live():
            return _in_processes(runs, source, devices=devices, processes=count, threads=threads, watch=display.watch)
    backbone = load_backbone(
        source.source,
        cache_dir=source.cache_dir,
        revision=source.revision,
        offline=source.offline,
        device=devices[0],
        threads=threads,
    )
    with display.live():
        train_plans(backbone, runs, watch=display.watch)
    return []


def unfinished_runs(plans: Sequence[NamedPlan]) -> list[NamedPlan]:
    """Those that were begun and did not come to their end."""
    from training.loop.checkpoint import generations

    return [named for named in plans if generations(named.plan.folder)]


@contextmanager
def resume_hint(command: str, plans: Sequence[NamedPlan]) -> Iterator[None]:
    """However this ends: where runs are half done, tell the command that goes on with them."""
    try:
        yield
    finally:
        if left := unfinished_runs(plans):
            err.print(f"{len(left)} of {len(plans)} runs are not finished; to go on with them:", style="yellow")
            err.print(f"  {command}", markup=False)


def _in_processes(
    runs: Sequence["RunPlan"],
    source: "BackboneSource",
    *,
    devices: Sequence[str],
    processes: int,
    threads: int | None,
    watch: "Watch",
) -> list[str]:
    """Train in processes of their own; what failed is told in words."""
    import torch

    from training.runs.processes import assign, train_shares

    shares = assign(runs, source, devices=devices, processes=processes, threads=threads or torch.get_num_threads())
    return [
        f"{', '.join(str(plan.folder) for plan in failure.share.plans)}: {failure.reason}"
        for failure in train_shares(shares, watch=watch)
    ]


def _default_folder(tasks: Sequence["TaskFile"], variants: Sequence["Variant"]) -> Path:
    from training.runs.folder import next_free_folder

    arguments, _ = variants[0]
    if len(tasks) > 1:
        return next_free_folder(Path("runs"), f"{len(tasks)}-tasks-{arguments.method}")
    many = f"{len(variants)}-runs" if len(variants) > 1 else f"seed{arguments.seed}"
    return next_free_folder(Path("runs"), f"{tasks[0].name}-{arguments.method}-{many}")


def _variant_name(arguments: "TrainArguments", fold: "Fold | None", variants: Sequence["Variant"]) -> str:
    """What tells a run from the others of its task; nothing where it is alone."""

    def differ(figure: Callable[["TrainArguments"], object]) -> bool:
        return len({figure(other) for other, _ in variants}) > 1

    parts = [f"lr{arguments.lr:g}"] if differ(lambda other: other.lr) else []
    parts += [f"seed{arguments.seed}"] if differ(lambda other: other.seed) else []
    parts += [] if fold is None else [f"fold{fold.number}"]
    return "-".join(parts)
