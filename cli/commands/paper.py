"""`superpos paper`: run and print the paper's grids, and convert their results to JSON and back."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import CommandError, err, out
from cli.options import require_package
from cli.ui.paper_tables import Part, print_part

if TYPE_CHECKING:
    from backbone import Backbone, Precision
    from training.paper.grid import Cell, Grid
    from training.paper.results import CellResult
    from training.paper.runner import GridOutcome
    from training.paper.variants import Starts
    from training.task.task_file import TaskFile

app = typer.Typer(
    no_args_is_help=True,
    help="Reproduce the tables and the figure of the SuperPos-Prompt paper (Sadraei et al. 2024) on any backbone.",
    epilog="An interrupted grid resumes with the same --out. Processes with different --tasks can share a folder.",
)

GridOption = Annotated[Path, typer.Option("--out", help="Folder of the grid.")]
TasksOption = Annotated[
    str, typer.Option(help="Task files of --task-files by name, with commas; they need SUPERPOS_DATA.")
]
MethodsOption = Annotated[
    str | None, typer.Option(help="Variants by name, with commas; --dry-run lists them. (default: the table's)")
]
SeedsOption = Annotated[
    str, typer.Option(help="Seeds, separated by commas; each seed completes its table before the next starts.")
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="100 steps of 16 rows, 200 selection and 400 report rows; enough for two cores.")
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of steps. (default: 80 epochs, as in the paper)")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Maximum number of training rows.")]
EvalRowsOption = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of selection rows, and of report rows.")
]
SplitOption = Annotated[
    Literal["honest", "paper"],
    typer.Option(help="paper: select the best epoch on the reported rows, as the paper does."),
]
SlotsOption = Annotated[int, typer.Option(min=1, max=64, help="Prompts that train in one packed batch.")]
RayOption = Annotated[str | None, typer.Option("--ray", help="Train on the Ray cluster at this address, or 'local'.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="List the unfinished cells without training.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Print one line per run, for logs.")]
SourceOption = Annotated[list[str] | None, typer.Option(help="ATTEMPT: folder of an adapter to mix; repeatable.")]
TransferOption = Annotated[str | None, typer.Option(help="SPoT, PANDA: folder of the adapter to start from.")]
SharedOption = Annotated[str | None, typer.Option(help="MPT: folder of 'superpos library share'.")]
SubspaceOption = Annotated[str | None, typer.Option(help="IPT: folder of 'superpos library subspace'.")]
TaskFilesOption = Annotated[Path, typer.Option(help="Folder of the task files.")]

_TASKS = "qqp,qnli,mnli,sst2,stsb,mrpc,cola,multirc,rte,cb,copa,wic,boolq"


def _command(part: Part, about: str) -> None:
    """Add the command of one table; all have the same options."""

    @backbone_options("device", "precision", "threads")
    def run(
        backbone: BackboneOptions,
        tasks: TasksOption = _TASKS,
        methods: MethodsOption = None,
        seeds: SeedsOption = "0",
        quick: QuickOption = False,
        max_steps: StepsOption = None,
        limit: LimitOption = None,
        eval_rows: EvalRowsOption = None,
        split: SplitOption = "honest",
        out_folder: GridOption = Path("runs/paper"),
        max_slots: SlotsOption = 8,
        ray: RayOption = None,
        dry_run: DryOption = False,
        plain: PlainOption = False,
        task_files: TaskFilesOption = Path("examples/tasks"),
        source: SourceOption = None,
        transfer: TransferOption = None,
        shared: SharedOption = None,
        subspace: SubspaceOption = None,
    ) -> None:
        from training.paper.variants import Starts

        if ray is not None:
            require_package("ray", "ray", command=f"paper {part} --ray")
        grid = _grid(
            part,
            methods,
            tasks,
            seeds,
            quick=quick,
            steps=max_steps,
            limit=limit,
            rows=eval_rows,
            split=split,
            starts=Starts(attempt=tuple(source or ()), transfer=transfer, shared=shared, subspace=subspace),
        )
        files = _task_files(task_files, grid.tasks)
        # with --ray this process only compares and prints: the devices are the workers'
        loaded = load_backbone(replace(backbone, device="cpu") if ray else backbone)
        if dry_run:
            _list_left(grid, files, out_folder, loaded)
            return
        outcome = _run(
            grid,
            files,
            out_folder,
            loaded,
            max_slots=max_slots,
            precision=backbone.precision or "fp32",
            plain=plain,
            workers=None if ray is None else (ray, backbone),
        )
        print_part(part, grid, out_folder, loaded)
        _end(outcome, out_folder)

    run.__doc__ = f"{about}\n\n\b\n    superpos paper {part} --quick --tasks sst2,rte,trec --seeds 0,1 --out runs/paper"
    app.command(part)(run)


_command("table1", "Run and print Table 1: methods with and without dropout, the score of each task.")
_command("table2", "Run Table 1's grid and print Table 2: the standardised overall score.")
_command("table3", "Run and print Table 3: a softmax over the superposition weights, and one-shot prompting.")
_command(
    "relatives",
    "Run and print SuperPos next to methods that the paper's Table 1 lacks: LoRA, adapters and one-shot prompting; "
    "with --transfer SPoT and PANDA, with --shared MPT, with --subspace IPT.",
)
_command("fig2", "Run Figure 2's grids (dropout, methods, m, how p′ starts) and draw them into the folder.")


@app.command()
@backbone_options()
def results(
    folder: Annotated[Path, typer.Argument(help="A grid's folder.")],
    backbone: BackboneOptions,
    json_file: Annotated[Path, typer.Option("--json", help="The file to write.")],
) -> None:
    """Write the results of a grid's finished runs into one JSON file.

    \b
        superpos paper results runs/paper --json docs/results/embedded.json
    """
    from training.paper.grid_folder import collect
    from training.paper.results import write_results

    found = collect(folder, load_backbone(backbone))
    if not found.cells:
        raise CommandError(f"{folder} has no finished run of a grid")
    write_results(json_file, found)
    out.print(f"{json_file}: {len(found.cells)} runs")


@app.command()
def restore(
    json_file: Annotated[Path, typer.Argument(metavar="JSON", help="What `superpos paper results` wrote.")],
    out_folder: GridOption = Path("runs/paper"),
) -> None:
    """Restore the runs of a results file into a grid's folder, to resume a grid that ran elsewhere.

    The file has only the results of the runs, without adapters, step curves and p′: Figure 2d needs new runs.

    \b
        superpos paper restore docs/results/embedded.json --out runs/paper
    """
    from training.paper.grid_folder import restore_cells
    from training.paper.results import read_results

    cells = read_results(json_file).cells
    count = restore_cells(out_folder, cells)
    out.print(f"{out_folder}: {count} of {len(cells)} runs restored, the others exist already")


@app.command()
def render(
    json_files: Annotated[list[Path], typer.Argument(metavar="JSON...", help="What `superpos paper results` wrote.")],
    out_file: Annotated[Path, typer.Option("--out", help="The page to write; plots go to `images` next to it.")] = Path(
        "docs/results.md"
    ),
) -> None:
    """Write the results page with tables, claims and plots from the JSON files.

    \b
        superpos paper render docs/results/*.json --out docs/results.md
    """
    from training.paper.page import write_page
    from training.paper.results import read_results

    write_page(out_file, {path.stem: read_results(path) for path in json_files}, images=out_file.parent / "images")
    out.print(str(out_file))


def _grid(
    part: Part,
    methods: str | None,
    tasks: str,
    seeds: str,
    *,
    quick: bool,
    steps: int | None,
    limit: int | None,
    rows: int | None,
    split: Literal["honest", "paper"],
    starts: "Starts",
) -> "Grid":
    from training.paper.grid import FULL, QUICK, Grid
    from training.paper.variants import FIGURE2, RELATIVES, TABLE1, TABLE2, TABLE3, variant, variants

    tables = {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3, "relatives": RELATIVES, "fig2": FIGURE2}
    known = variants(starts)  # without those that lack what they start from
    asked = {"max_steps": steps, "limit": limit, "max_selection": rows, "max_report": rows}
    budget = replace(QUICK if quick else FULL, **{name: value for name, value in asked.items() if value is not None})
    names = methods.split(",") if methods else [name for name in tables[part] if name in known]
    try:
        numbers = tuple(int(seed) for seed in seeds.split(","))
    except ValueError as exc:
        raise CommandError(f"--seeds is {seeds!r}, expected whole numbers separated by commas") from exc
    chosen = tuple(variant(name, starts) for name in names)
    return Grid(variants=chosen, tasks=tuple(tasks.split(",")), seeds=numbers, split=split, budget=budget)


def _task_files(folder: Path, tasks: Sequence[str]) -> dict[str, "TaskFile"]:
    from training.task.task_file import load_task_file

    return {task: load_task_file(folder / f"{task}.yaml", variables=os.environ) for task in tasks}


def _list_left(grid: "Grid", files: "dict[str, TaskFile]", folder: Path, backbone: "Backbone") -> None:
    from training.paper.grid_folder import pending

    left = pending(folder, grid, files, fingerprint=backbone.identity.fingerprint)
    for cell in left:
        out.print(str(cell))
    err.print(f"{len(left)} of {len(grid.cells())} runs are unfinished in {folder}")


def _run(
    grid: "Grid",
    files: "dict[str, TaskFile]",
    folder: Path,
    backbone: "Backbone",
    *,
    max_slots: int,
    precision: "Precision",
    plain: bool,
    workers: tuple[str, BackboneOptions] | None,
) -> "GridOutcome":
    """Train the unfinished runs, with a progress bar and one line per finished run.

    Args:
        workers: the address of a Ray cluster and the backbone of its workers; None to train in this process
    """
    from training.paper.grid_folder import pending
    from training.paper.runner import GridEvents, run_grid

    left = len(pending(folder, grid, files, fingerprint=backbone.identity.fingerprint))
    total = len(grid.cells())
    with Progress(
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}"),
        console=err,
        transient=True,
        disable=plain,
    ) as progress:
        bar = progress.add_task("", total=total, completed=total - left, doing="")

        def done(cell: "Cell", result: "CellResult") -> None:
            progress.advance(bar)
            flat = "  COLLAPSED" if result.collapsed else ""
            scores = f"{100 * result.untrained['score']:.1f} → {100 * result.report['score']:.1f}"
            err.print(f"{cell}  score {scores}, step {result.best_step}{flat}")

        def failed(cell: "Cell", reason: str) -> None:
            progress.advance(bar)
            err.print(f"{cell}: {reason}", style="red")

        events = GridEvents(
            on_stack=lambda cells: progress.update(bar, doing=f"{cells[0].task}, {len(cells)} prompts"),
            on_step=lambda cell, event: progress.update(bar, doing=f"{cell.task} step {event.step}/{event.num_steps}"),
            on_done=done,
            on_failed=failed,
        )
        if workers is None:
            return run_grid(backbone, grid, files, folder, max_slots=max_slots, precision=precision, events=events)
        from training.paper.on_ray import run_grid_on_ray
        from training.ray_cluster import cluster

        address, of_workers = workers
        with cluster(address):
            return run_grid_on_ray(
                partial(load_backbone, of_workers),
                backbone.identity.fingerprint,
                grid,
                files,
                folder,
                max_slots=max_slots,
                precision=precision,
                events=events,
                threads=of_workers.threads or 1,
                gpus=int(of_workers.device.startswith("cuda")),
            )


def _end(outcome: "GridOutcome", folder: Path) -> None:
    if outcome.interrupted:
        err.print(f"stopped; the same command resumes the grid in {folder}", style="yellow")
        raise typer.Exit(130)
    if outcome.failed:
        raise CommandError(f"{len(outcome.failed)} runs failed, the first: {next(iter(outcome.failed.values()))}")
