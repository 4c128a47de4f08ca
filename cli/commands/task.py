"""`superpos task`: create task files from labelled rows."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from adapters.atomic_files import atomic_write
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import CommandError, err, out, print_table
from cli.drafts import draft_of, name_of
from training.data.task_init.writing import task_file_text
from training.task.task_file import parse_task_file

app = typer.Typer(no_args_is_help=True, help="Create task files from labelled rows.")


@app.command()
@backbone_options()
def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A Parquet, JSONL, CSV or TSV file, a directory of them, or a Hub dataset id."
        ),
    ],
    backbone: BackboneOptions,
    out_file: Annotated[Path | None, typer.Option("--out", help="The file to write. (default: <name>.yaml)")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the task. (default: derived from DATA)")] = None,
    label: Annotated[str | None, typer.Option(help="Label column, if the guess is wrong.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Text column; repeatable, in the order of the template.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Character between the cells of a CSV or TSV file. (default: detected)")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of a text file. (default: detected)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a task file from rows: its columns, labels, label words and maximum length, with the reason for each.

    A file of training rows is paired with the validation rows in its folder (train.csv, validation.csv). A Hub dataset
    is read from the Parquet files that the Hub converts it to.

    \b
        superpos task init examples/tickets/tickets.csv
        superpos task init reviews/ --out reviews.yaml --name reviews
        superpos task init glue/sst2 --label label --text sentence
    """
    task_name = name or name_of(data)
    path = out_file or Path(f"{task_name}.yaml")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: use --force to overwrite it, or --out to write another file")
    draft = draft_of(
        data,
        load_backbone(backbone),
        folder=path.parent,
        name=task_name,
        label=label,
        text=text or (),
        separator=separator,
        encoding=encoding,
    )
    written = task_file_text(draft, command=shlex.join(["superpos", "task", "init", data]))
    # a file that cannot be loaded again is not written
    parse_task_file(written, path=path, variables=os.environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write({path: written.encode()})
    table = Table("what", "guessed", "why", title=f"{task_name}: {len(draft.labels.words)} labels")
    for guess in draft.guesses:
        table.add_row(guess.what, guess.value, guess.why)
    print_table(table)
    for line in draft.to_edit:
        err.print(f"edit: {line}", style="yellow")
    out.print(f"{path}: next, superpos data check {path} and superpos train {path}")
