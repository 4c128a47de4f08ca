"""`superpos library train | share | subspace`: libraries of source prompts, and what is trained over all of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.backbone_options import BackboneOptions, backbone_options, backbone_source, load_backbone
from cli.console import CommandError, err, out
from cli.options import with_training_arguments
from cli.task_files import read_task_file
from cli.ui.training import TrainingDisplay

if TYPE_CHECKING:
    from training.runs.plan import RunPlan, Variant
    from training.source_prompts.joint import JointArguments, JointStep
    from training.task.task_file import TaskFile

app = typer.Typer(
    no_args_is_help=True,
    help="Train libraries of source prompts, and what new tasks start from.",
    epilog="An interrupted command resumes when it is repeated with the same folder.",
)

_ARGUMENTS = (
    *("num_virtual_tokens", "num_sampled_tokens", "basis", "loss", "epochs", "batch_size", "max_steps", "eval_every"),
    *("patience", "seed"),
)
LibraryArgument = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of 'superpos library train'.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Rows of each source in a step.")]
LossOption = Annotated[
    Literal["labels", "full"],
    typer.Option(
        help="labels: cross-entropy over the task's labels, as served; full: cross-entropy over the whole vocabulary."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed of the start and of the rows of each step.")]
_METHODS = ("simple", "superpos", "residual", "dpt")
_EVERY = 50
"""Steps between two lines of progress."""


@app.command()
@with_training_arguments(only=_ARGUMENTS)
@backbone_options("device", "precision", "threads")
def train(
    task_files: Annotated[list[Path], typer.Argument(metavar="TASK.yaml...", help="Task files of the source tasks.")],
    *,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the library.")],
    methods: Annotated[str, typer.Option(help="Methods of the prompts, separated by commas.")] = "simple",
    seeds: Annotated[int, typer.Option(min=1, help="Number of consecutive seeds, starting at --seed.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of training rows of each task.")] = None,
    eval_rows: Annotated[
        int, typer.Option(min=1, help="Maximum number of selection rows, and of report rows, of each task.")
    ] = 500,
    max_slots: Annotated[int, typer.Option(min=1, max=64, help="Prompts that train in one packed batch.")] = 16,
    plain: Annotated[bool, typer.Option("--plain", help="Print one log line per evaluation.")] = False,
    explicit: dict[str, Any],
    backbone: BackboneOptions,
) -> None:
    """Train a source prompt for each task, method and seed, in stacks.

    Prompts score label words, so that they can be compared and exchanged. Each has a run folder under --out; the same
    command resumes, finished prompts are kept, and other tasks, methods and seeds are added. Twenty tasks, five seeds
    and one method make the hundred prompts of IPT's paper.

    \b
        superpos library train sst2.yaml rte.yaml mrpc.yaml --seeds 5 --max-steps 300 --limit 5000 --out runs/library
        superpos library train sst2.yaml rte.yaml trec.yaml --methods simple,superpos --out runs/library
    """
    from training.runs.folder import RunFolder
    from training.runs.identity import check_same
    from training.runs.layout import RUN, read_json
    from training.runs.plan import unfinished_runs
    from training.runs.processes import launch

    tasks = [read_task_file(path) for path in task_files]
    variants = _variants(explicit, methods.split(","), seeds)
    plans = [
        replace(plan, compare_precisions=False, max_selection=eval_rows, max_report=eval_rows)
        for plan in _plans(tasks, variants, out_folder, limit=limit, options=backbone)
    ]
    left = []
    for plan in plans:
        if RunFolder(plan.folder, resume=True).is_finished:
            asked = {"task": plan.task.model_dump(mode="json"), "arguments": asdict(plan.arguments)}
            check_same(plan.folder, read_json(plan.folder / RUN), json.loads(json.dumps(asked)))
        else:
            left.append(plan)
    err.print(f"{len(left)} of {len(plans)} prompts are unfinished in {out_folder}")
    source = backbone_source(backbone)
    loaded = load_backbone(backbone) if left else None
    for start in range(0, len(left), max_slots):
        stack = left[start : start + max_slots]
        display = TrainingDisplay(
            err, [(plan.name, plan.task.metric, plan.arguments.method) for plan in stack], plain=plain
        )
        with display.live():
            launch(
                stack,
                source,
                devices=[backbone.device],
                processes=1,
                threads=backbone.threads,
                loaded=loaded,
                on_event=display.watch,
                say=err.print,
            )
        if unfinished_runs(stack):
            err.print(f"stopped; the same command resumes the library in {out_folder}", style="yellow")
            raise typer.Exit(130)
    _print_library(plans)


def _variants(explicit: dict[str, Any], methods: Sequence[str], seeds: int) -> "list[Variant]":
    """Return the arguments of every prompt of a task; an argument that a method does not use is left out for it."""
    from training.config.arguments import unused_arguments
    from training.config.presets import train_arguments

    first = explicit.get("seed", 0)
    variants: list[Variant] = []
    for name in methods:
        if name not in _METHODS:
            raise CommandError(f"--methods: {name!r} is not one of {', '.join(_METHODS)}, which start from tokens")
        asked = {**explicit, "method": name}
        unused = unused_arguments(asked["method"], "words")
        arguments = train_arguments({key: value for key, value in asked.items() if key not in unused})
        variants += [(replace(arguments, seed=seed), None) for seed in range(first, first + seeds)]
    return variants


def _plans(
    tasks: "Sequence[TaskFile]",
    variants: "Sequence[Variant]",
    folder: Path,
    *,
    limit: int | None,
    options: BackboneOptions,
) -> "list[RunPlan]":
    from training.runs.plan import plan_runs

    _, plans = plan_runs(
        tasks,
        variants,
        folder,
        split="honest",
        limit=limit,
        precision=options.precision or "fp32",
        resume=True,
        grows=True,
        baselines=False,
    )
    return plans


def _print_library(plans: "Sequence[RunPlan]") -> None:
    from rich.table import Table

    from cli.console import print_table
    from training.runs.layout import RESULT
    from training.runs.run_result import read_run_result

    table = Table("task", "prompts", "score on selection rows", "untrained on report rows", "trained on report rows")
    for name in dict.fromkeys(plan.task.name for plan in plans):
        done = [
            read_run_result(plan.folder)
            for plan in plans
            if plan.task.name == name and (plan.folder / RESULT).is_file()
        ]
        if done:
            best = max(done, key=lambda result: result.selection.score)
            scores = [f"{each.score:.4f}" for each in (best.selection, best.untrained, best.trained)]
            table.add_row(name, str(len(done)), *scores)
    print_table(table)


@app.command()
@backbone_options("device", "precision", "threads")
def share(
    library: LibraryArgument,
    *,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the shared prompt.")],
    steps: StepsOption = 1_000,
    tasks_per_step: Annotated[int, typer.Option(min=1, help="Source tasks of a step, drawn at random.")] = 4,
    batch_size: BatchOption = 8,
    lr: Annotated[float, typer.Option(help="Learning rate of the shared prompt and of the tasks' vectors.")] = 0.3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay of AdamW.")] = 1e-5,
    distillation: Annotated[
        float, typer.Option(min=0, help="Weight λ of the distillation; 0 learns from labels alone.")
    ] = 0.9,
    loss: LossOption = "labels",
    seed: SeedOption = 0,
    backbone: BackboneOptions,
) -> None:
    """Distil a shared prompt from a library: the source training of MPT (Wang et al. 2023).

    The best prompt of each task teaches. The shared prompt and a pair of vectors for each task learn from the labels,
    and from the teacher's answers and hidden states. The command prints how a training adapts the result to a new
    task, with --method mpt.

    \b
        superpos library share runs/library --out runs/shared --steps 2000
    """
    from training.source_prompts.collection import read_library
    from training.source_prompts.joint import JointArguments
    from training.source_prompts.shared import train_shared

    loaded = load_backbone(backbone)
    arguments = JointArguments(
        steps=steps,
        sources_per_step=tasks_per_step,
        batch_size=batch_size,
        lr=lr,
        loss=loss,
        seed=seed,
        by_size=True,
    )
    _refuse_finished(out_folder)
    with _resume_hint(out_folder):
        prior = train_shared(
            loaded,
            read_library(loaded, library),
            arguments,
            distillation=distillation,
            weight_decay=weight_decay,
            folder=out_folder,
            precision=backbone.precision or "fp32",
            on_step=_progress(arguments),
        )
    out.print(f"{out_folder}: a shared prompt of {len(prior.sources)} tasks, {prior.digest}")
    out.print(f"superpos train TASK.yaml --method mpt --source {out_folder}")


@app.command()
@backbone_options("device", "precision", "threads")
def subspace(
    library: LibraryArgument,
    *,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the subspace.")],
    dimensions: Annotated[int, typer.Option("--dimensions", "-d", min=1, help="Dimensions d of the subspace.")] = 250,
    hidden: Annotated[int, typer.Option(min=1, help="Width of the decoder's inner layer.")] = 768,
    steps: StepsOption = 1_000,
    prompts_per_step: Annotated[int, typer.Option(min=1, help="Source prompts of a step, drawn at random.")] = 4,
    batch_size: BatchOption = 16,
    lr: Annotated[float, typer.Option(help="Learning rate of the autoencoder.")] = 0.001,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay of AdamW.")] = 0.0,
    reconstruction: Annotated[
        float,
        typer.Option(
            min=0,
            help="Weight of the reconstruction error, in units of the prompts' variance. With a small one, the loss of "
            "the rows decides alone and no prompt is reproduced.",
        ),
    ] = 200.0,
    loss: LossOption = "labels",
    seed: SeedOption = 0,
    backbone: BackboneOptions,
) -> None:
    """Find the subspace of a library's prompts: the multi-task subspace finding of IPT (Qin et al. 2021).

    An autoencoder learns to reproduce every prompt of the library from d numbers, so that the reproduction still does
    the prompt's task. A training with --method ipt then fits d numbers of a new task behind its decoder. For the curve
    of d against the score, find a subspace for each d.

    \b
        superpos library subspace runs/library --dimensions 5 --out runs/subspace-5
        superpos library subspace runs/library --dimensions 250 --out runs/subspace-250
    """
    from training.source_prompts.collection import read_library
    from training.source_prompts.joint import JointArguments
    from training.source_prompts.subspace import train_subspace

    loaded = load_backbone(backbone)
    arguments = JointArguments(
        steps=steps, sources_per_step=prompts_per_step, batch_size=batch_size, lr=lr, loss=loss, seed=seed
    )
    _refuse_finished(out_folder)
    with _resume_hint(out_folder):
        prior = train_subspace(
            loaded,
            read_library(loaded, library),
            arguments,
            dimensions=dimensions,
            hidden=hidden,
            reconstruction=reconstruction,
            weight_decay=weight_decay,
            folder=out_folder,
            precision=backbone.precision or "fp32",
            on_step=_progress(arguments),
        )
    out.print(f"{out_folder}: a subspace of {dimensions} dimensions of {len(prior.sources)} prompts, {prior.digest}")
    out.print(f"superpos train TASK.yaml --method ipt --source {out_folder}")


def _refuse_finished(folder: Path) -> None:
    from training.methods.prior import PRIOR

    if (folder / PRIOR).exists():
        raise CommandError(f"{folder} already holds a {PRIOR}; choose another folder with --out, or remove it")


@contextmanager
def _resume_hint(folder: Path) -> Iterator[None]:
    """Report Ctrl-C, after which the same command resumes."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"stopped; the same command resumes from the checkpoint in {folder}", style="yellow")
        raise typer.Exit(130) from None


def _progress(arguments: "JointArguments") -> "Callable[[JointStep], None]":
    """Return a callback that prints a line every few steps, with the mean loss since the last one."""
    losses: list[float] = []

    def show(step: "JointStep") -> None:
        losses.append(step.loss)
        if step.step % _EVERY == 0 or step.step == arguments.steps:
            penalty = "" if step.penalty is None else f"  penalty {step.penalty:.4f}"
            err.print(f"step {step.step}/{step.num_steps}  loss {sum(losses) / len(losses):.4f}{penalty}")
            losses.clear()

    return show
