"""`superpos job`: trainings by a server's trainers."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from adapters.baselines import BASELINES, TITLES
from cli.console import CommandError, out, print_table, status
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption
from cli.targets.server import open_client
from cli.task_files import read_task_file
from superpos_client import Client
from superpos_client.jobs import CurvePoint, Job, JobDetail, LabelledRow

if TYPE_CHECKING:
    from training.task.task_file import TaskFile

app = typer.Typer(
    no_args_is_help=True,
    help="Let the trainers of a server train: submit, follow and cancel jobs. The result is a version without an "
    "alias; 'superpos promote' puts it into production.",
)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Print each evaluation, and wait for the end.")]
_INTERVAL_S = 1.0


@app.command("submit")
def submit(
    task: Annotated[
        str, typer.Argument(metavar="TASK|TASK.yaml", help="Name of a task that has a version, or a task file.")
    ],
    corrections_since: Annotated[
        int | None,
        typer.Option(min=0, help="Also train on the corrections since this version was published; 0 for all of them."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="auto, superpos, simple, residual, dpt or head. (default: superpos)")
    ] = None,
    readout: Annotated[
        str | None, typer.Option(help="auto, words, soft, pooled or joint. (default: by the task)")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows. (default: 10)")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. (default: the method's)")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed. (default: 0)")] = None,
    watch: WatchOption = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Send a task and its rows to a server, whose trainers train it.

    The rows of a task file are read here and deleted there when the job ends. A task's name alone trains on its
    corrections.

    \b
        superpos job submit tickets.yaml --watch
        superpos job submit tickets.yaml --method auto --corrections-since 2
        superpos job submit tickets --corrections-since 0
    """
    given = {"method": method, "readout": readout, "epochs": epochs, "lr": lr, "seed": seed}
    arguments = {name: value for name, value in given.items() if value is not None}
    client = open_client(server, key)
    path = Path(task)
    if path.suffix in (".yaml", ".yml"):
        name, sent = _of_file(read_task_file(path))
    elif corrections_since is None:
        raise CommandError(f"{task!r} is not a task file (TASK.yaml), so there are no rows; give --corrections-since")
    else:
        name, sent = task, {}
    made = client.tasks.train(name, **sent, corrections_since=corrections_since, arguments=arguments)
    out.print(made.id)
    if watch:
        _watch(client, made.id)
    else:
        status(f"{_rows(made)} of {made.task} are queued; follow them: superpos job watch {made.id}")


@app.command("list")
def list_jobs(
    task: Annotated[str | None, typer.Argument(help="Only jobs of this task.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the jobs as JSON.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """List jobs, the latest first: those that have not ended, and those of the last 30 days.

    \b
        superpos job list
    """
    found = open_client(server, key).jobs.list(task)
    if json:
        out.print_data([job.model_dump(mode="json") for job in found])
        return
    table = Table("id", "task", "status", "rows", "seconds", "result")
    for job in found:
        table.add_row(job.id, job.task, job.status, _rows(job), f"{job.spent_s:.0f}", _outcome(job))
    print_table(table)


@app.command("show")
def show(
    job: JobArgument,
    json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show a job with its learning curve so far.

    \b
        superpos job show 0199c1d2a3b44f5e6a7b8c9d
    """
    found = open_client(server, key).jobs.get(job)
    if json:
        out.print_data(found.model_dump(mode="json"))
        return
    out.print(f"{found.task}: {found.status}, {_rows(found)}, {found.spent_s:.0f} s")
    for point in found.curve:
        out.print(_point(point))
    _print_outcome(found)


@app.command("watch")
def watch(job: JobArgument, server: ServerOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Print each evaluation of a job, and wait for its end; fails if the job fails.

    \b
        superpos job watch 0199c1d2a3b44f5e6a7b8c9d
    """
    _watch(open_client(server, key), job)


@app.command("cancel")
def cancel(job: JobArgument, server: ServerOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Cancel a job and delete its rows; one that has ended stays as it is.

    \b
        superpos job cancel 0199c1d2a3b44f5e6a7b8c9d
    """
    out.print(open_client(server, key).jobs.cancel(job).status)


@app.command("delete")
def delete(job: JobArgument, server: ServerOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Delete a job with its rows and its curve. The version that it published stays.

    \b
        superpos job delete 0199c1d2a3b44f5e6a7b8c9d
    """
    open_client(server, key).jobs.delete(job)


def _of_file(task: "TaskFile") -> tuple[str, dict[str, Any]]:
    """Return a task's name and what a job needs of its file, with the rows that it names."""
    from training.data.row_files import RowFiles

    if task.data.group is not None:
        raise CommandError("data.group: jobs judge each row by itself; train such a task with superpos train")
    if task.data.corrections is not None:
        raise CommandError("data.corrections: the server has them; name --corrections-since instead")
    files = RowFiles(task)
    spec = task.spec.model_dump(mode="json")
    spec["labels"] = {label.name: label.words for label in task.spec.labels}
    definition = spec | {"description": task.description, "metrics": list(task.metrics)}
    if task.positive is not None:
        definition["positive"] = task.positive
    validation = () if files.validation is None else files.validation.examples
    return task.name, {
        "definition": definition,
        "rows": list(_labelled(files.train.examples, task)),
        "validation": list(_labelled(validation, task)),
    }


def _labelled(examples: Iterable[Any], task: "TaskFile") -> Iterable[LabelledRow]:
    return ((dict(example.fields), example.named(task.spec.label_names)) for example in examples)


def _watch(client: Client, job_id: str) -> None:
    seen = 0
    found: JobDetail = client.jobs.get(job_id)
    status(f"{found.task}: {_rows(found)}")
    while True:
        for point in found.curve[seen:]:
            out.print(_point(point))
        seen = len(found.curve)
        if found.has_ended:
            break
        time.sleep(_INTERVAL_S)
        found = client.jobs.get(job_id)
    if found.result is None:
        raise CommandError(f"job {found.id} {found.status}: {found.error}")
    _print_outcome(found)
    status(f"try it: superpos classify {found.task}@{found.result.version} TEXT")
    status(f"put it into production: superpos promote {found.task} {found.result.version}")


def _rows(job: Job) -> str:
    parts = [f"{job.rows} rows"] if job.rows or not job.corrections else []
    parts += [f"{job.validation_rows} validation rows"] if job.validation_rows else []
    parts += [f"{job.corrections} correction{'s' * (job.corrections > 1)}"] if job.corrections else []
    return ", ".join(parts)


def _outcome(job: Job) -> str:
    if job.result is None:
        return job.error or ""
    result = job.result
    return f"version {result.version}: {result.method}, {result.readout}, report score {result.metrics['score']:.4f}"


def _print_outcome(job: Job) -> None:
    """Print how a job ended, and what simpler classifiers score on the same rows; nothing while it runs."""
    if outcome := _outcome(job):
        out.print(outcome)
    scores = {} if job.result is None else job.result.baselines
    if told := ", ".join(f"{TITLES[name]} {scores[name]:.4f}" for name in BASELINES if name in scores):
        out.print(f"on the same rows: {told}")


def _point(point: CurvePoint) -> str:
    run = f"{point.run}: " if point.run else ""
    best = ", best so far" if point.best else ""
    return (
        f"{run}epoch {point.epoch}, step {point.step}: selection score {point.score:.4f}, loss {point.loss:.4f}{best}"
    )
