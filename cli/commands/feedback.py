"""`superpos feedback`: corrections of a server's answers, and the answers that it keeps to be corrected."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from adapters.atomic_files import atomic_write
from cli.console import CommandError, out, print_table, status
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption
from cli.targets.server import open_client
from superpos_client.feedback import FeedbackRow, Label, View

app = typer.Typer(
    no_args_is_help=True,
    help="List, export and delete corrections of a server's answers. A tenant's texts are kept only if an operator has "
    "opted it in: superpos tenant update TENANT --retention-days 30 (TENANT is 'default' on a server without keys).",
)

TaskArgument = Annotated[str, typer.Argument(help="Name of the task.")]
_MAX_SHOWN_CHARS = 120


@app.command("list")
def list_rows(
    task: TaskArgument,
    by: Annotated[
        View,
        typer.Option(
            help="least_confident: answers to check, the lowest score first; shadow_flips: answers that a shadow "
            "version gave otherwise; reported_wrong: corrections of wrong answers; corrections: all of them."
        ),
    ] = "least_confident",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of rows.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON, with whole texts.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """List kept texts of a task, each once: what to label first, and what was labelled.

    \b
        superpos feedback list tickets
        superpos feedback list tickets --by reported_wrong --limit 100
    """
    feedback = open_client(server, key).feedback
    page = feedback.page(task, by, limit=1)
    rows = list(islice(feedback.list(task, by), limit))
    if json:
        out.print_data([row.model_dump(mode="json") for row in rows])
        return
    table = Table("id", "text", "answer", "score", "shadow", "right label", "who")
    for row in rows:
        table.add_row(*_cells(row))
    print_table(table)
    counts = page.counts.model_dump()
    total = counts[by]
    shown = f"{len(rows)} of {total} rows" if len(rows) < total else f"{total} rows"
    status(f"{shown}; corrections: {counts['corrections']}, data set version {page.dataset_version}")


@app.command("export")
def export(
    task: TaskArgument,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="File to write, or - for standard output. (default: <task>-corrections-<n>.jsonl)"),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Write all corrections of a task as JSON Lines, with the version of the data set in the file's name.

    Each line has the texts in `input`, the right `label` and the `answer`, and no person. The version increases with
    every change of the task's corrections.

    \b
        superpos feedback export tickets
        superpos feedback export tickets --out -
    """
    found = open_client(server, key).feedback.export(task)
    if str(output) == "-":
        out.print(found.content.decode(), end="")
    else:
        path = output or Path(f"{task}-corrections-{found.version}.jsonl")
        atomic_write({path: found.content})
        out.print(str(path))
    status(f"{len(found.content.splitlines())} corrections of {task}, data set version {found.version}")


@app.command("delete")
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rows.")] = None,
    who: Annotated[str | None, typer.Option(help="All corrections by this person.")] = None,
    task: Annotated[str | None, typer.Option(help="Only rows of this task; without --who, all of them.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All rows of the tenant, also answers that no one has corrected.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Delete rows for ever: some by their ids, those of a person, of a task, or all.

    \b
        superpos feedback delete 0199c1d2a3b44f5e6a7b8c9d
        superpos feedback delete --who ann@example.com
        superpos feedback delete --all
    """
    if not (ids or everything or who is not None or task is not None):
        raise CommandError("nothing to delete; name ids, --who, --task or --all")
    deleted = open_client(server, key).feedback.delete(ids or (), who=who, task=task, everything=everything)
    out.print(f"{deleted} rows deleted")


def _cells(row: FeedbackRow) -> list[str]:
    texts = list(row.input.values()) if len(row.input) == 1 else [f"{name}: {text}" for name, text in row.input.items()]
    answer = row.answer
    return [
        row.id,
        " | ".join(map(_shortened, texts)),
        "" if answer is None else _label(answer.label),
        "" if answer is None else f"{answer.score:.3f}",
        "" if row.shadow is None else f"{_label(row.shadow.label)} (version {row.shadow.version})",
        "" if row.label is None else _label(row.label),
        row.who or "",
    ]


def _label(label: Label) -> str:
    return label if isinstance(label, str) else ", ".join(label) or "(none)"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN_CHARS else f"{line[:_MAX_SHOWN_CHARS]}…"
