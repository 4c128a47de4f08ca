"""Planned runs: values that can travel to another process, and the folder that each one is written to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone import Precision
from training.config.arguments import TrainArguments
from training.config.choices import OWN_MODEL
from training.config.recipes import AUTO
from training.data.folds import Fold
from training.data.splits import Split
from training.errors import InvalidArguments
from training.loop.checkpoint import generations
from training.runs.folder import RunFolder, next_free_folder
from training.runs.layout import RUN
from training.runs.task_rows import RunRows
from training.scoring.calibration import check_abstention
from training.task.task_file import TaskFile

Variant = tuple[TrainArguments, Fold | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Everything that a run is asked for.

    Raises:
        InvalidArguments: full fine-tuning in another precision than float32, or arguments that do not suit a
            multi-label task
    """

    name: str = ""
    """Distinguishes the run from the others of its command; empty for a single run."""
    task: TaskFile
    arguments: TrainArguments
    folder: Path
    split: Split = "honest"
    fold: Fold | None = None
    """The fold that is reported; for `kfold` only."""
    limit: int | None = None
    """Maximum number of training rows."""
    shots: int | None = None
    """Number of training rows of each label."""
    max_selection: int | None = None
    max_report: int | None = None
    rows: RunRows | None = None
    """The tokenised rows of the run; None to read them from the task's files."""
    precision: Precision = "fp32"
    """Precision of the frozen network during training. The result is always scored in float32."""
    compare_precisions: bool = True
    """Compare the result with its predictions in bf16 and int8, which a server in them requires of an adapter."""
    baselines: bool = True
    """Also measure baselines on the report rows (`training.baselines`)."""
    tensorboard: bool = False
    """Also write event files for TensorBoard."""

    def __post_init__(self) -> None:
        if self.arguments.method in OWN_MODEL and self.precision != "fp32":
            raise InvalidArguments(f"method {self.arguments.method!r} was asked for in {self.precision}, expected fp32")
        check_kind(self.task, self.arguments)


def check_kind(task: TaskFile, arguments: TrainArguments) -> None:
    """Refuse arguments that have no meaning in a multi-label task.

    Raises:
        InvalidArguments: the task is multi-label, and the arguments have a method, readout or sampling of others
    """
    if not task.spec.is_multi_label:
        return
    what = f"task {task.name!r} is multi_label"
    if arguments.method in OWN_MODEL:
        raise InvalidArguments(
            f"{what}, which method {arguments.method!r} cannot train; use another method, such as head"
        )
    if arguments.readout == "words":
        raise InvalidArguments(
            f"{what}, which needs --readout soft, pooled or joint, not 'words': label words exclude others"
        )
    if arguments.sampling == "balanced":
        raise InvalidArguments(f"{what}: sampling 'balanced' needs one label per row; use --class-weights instead")
    check_abstention(task.spec, arguments.abstain_precision)


def plan_runs(
    tasks: Sequence[TaskFile],
    variants: Sequence[Variant],
    out_folder: Path | None,
    *,
    split: Split,
    limit: int | None,
    shots: int | None = None,
    precision: Precision,
    resume: bool,
    grows: bool = False,
    baselines: bool = True,
    tensorboard: bool = False,
) -> tuple[Path, list[RunPlan]]:
    """Plan a run for each task and variant; returns them with the folder that holds them all.

    Args:
        grows: later commands add tasks, methods and seeds to the folder: each run is named by all three, and resumed if
            it was begun

    Raises:
        InvalidArguments: two tasks have one name; a folder holds a run and `resume` is False; none of the folders holds
            a run and `resume` is True; a folder that is to hold several runs is itself a run's
    """
    if len({task.name for task in tasks}) < len(tasks):
        raise InvalidArguments(f"two task files have the same name: {', '.join(task.name for task in tasks)}")
    above = out_folder or _default_folder(tasks, variants)
    plans = []
    for task in tasks:
        for arguments, fold in variants:
            if grows:
                parts = [task.name, f"{arguments.method}-seed{arguments.seed}"]
            else:
                parts = [task.name] if len(tasks) > 1 else []
                parts += [name] if (name := _variant_name(arguments, fold, variants)) else []
            plan = RunPlan(
                name="/".join(parts),
                task=task,
                arguments=arguments,
                folder=RunFolder(above.joinpath(*parts), resume=resume).path,
                split=split,
                fold=fold,
                limit=limit,
                shots=shots,
                precision=precision,
                baselines=baselines,
                tensorboard=tensorboard,
            )
            plans.append(plan)
    for folder in {folder for plan in plans for folder in plan.folder.parents if folder.is_relative_to(above)}:
        if (folder / RUN).exists():
            raise InvalidArguments(
                f"{folder} holds a run, expected a folder for several; choose another with --out, or remove it"
            )
    if resume and not grows and not any((plan.folder / RUN).is_file() for plan in plans):
        raise InvalidArguments(f"{above} holds no run to resume, expected {plans[0].folder / RUN}")
    return above, plans


def unfinished_runs(plans: Sequence[RunPlan]) -> list[RunPlan]:
    """Return the runs that were started and have a checkpoint to resume from."""
    return [plan for plan in plans if generations(plan.folder)]


def _default_folder(tasks: Sequence[TaskFile], variants: Sequence[Variant]) -> Path:
    arguments, _ = variants[0]
    method = arguments.method if len({other.method for other, _ in variants}) == 1 else AUTO
    if len(tasks) > 1:
        return next_free_folder(Path("runs"), f"{len(tasks)}-tasks-{method}")
    many = f"{len(variants)}-runs" if len(variants) > 1 else f"seed{arguments.seed}"
    return next_free_folder(Path("runs"), f"{tasks[0].name}-{method}-{many}")


def _variant_name(arguments: TrainArguments, fold: Fold | None, variants: Sequence[Variant]) -> str:
    """Name what distinguishes a run from the others of its task; empty for a single run."""

    def differ(figure: Callable[[TrainArguments], object]) -> bool:
        return len({figure(other) for other, _ in variants}) > 1

    parts: list[str] = [arguments.method] if differ(lambda other: other.method) else []
    parts += [arguments.readout] if differ(lambda other: other.readout) else []
    rates = {other.lr for other, _ in variants if other.method != "head"}
    parts += [f"lr{arguments.lr:g}"] if len(rates) > 1 and arguments.method != "head" else []
    parts += [f"seed{arguments.seed}"] if differ(lambda other: other.seed) else []
    parts += [] if fold is None else [f"fold{fold.number}"]
    return "-".join(parts)
