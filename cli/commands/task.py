"""`superpos task`: create task files from labelled rows."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from adapters.atomic_files import atomic_write
from adapters.errors import first_error
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.commands.data import label_error
from cli.console import CommandError, err, out, print_table
from training.data.sources import RowSources, beside, locate, role_of
from training.data.task_init.draft import draft_task
from training.data.task_init.writing import task_file_text
from training.task.task_file import DataSource, parse_task_file

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
    task_name = name or _name_of(data)
    path = out_file or Path(f"{task_name}.yaml")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: use --force to overwrite it, or --out to write another file")
    sources, source = _source(data, path.parent)
    options = {"separator": separator, "encoding": encoding}
    source |= {name: value for name, value in options.items() if value is not None}
    _check_source(source)
    loaded = load_backbone(backbone)
    with err.status(f"reading the rows of {data}"):
        draft = draft_task(
            sources,
            source,
            name=task_name,
            token_ids=lambda texts: [
                each.token_ids for each in loaded.tokenizer.tokenize(texts, max_tokens=sys.maxsize, truncation="error")
            ],
            can_tell_apart=lambda words: label_error(loaded, words) is None,
            label=label,
            text=text or (),
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


def _source(data: str, folder: Path) -> tuple[RowSources, dict[str, str]]:
    """Return the files of the rows, and the entries that name them in a task file in this folder."""
    path = Path(data)
    if path.is_dir():
        return locate(DataSource(directory=data)), {"directory": _relative(path, folder)}
    if path.is_file():
        validation = beside(path)
        named = {"train": _relative(path, folder)}
        if validation is None:
            return RowSources((path,)), named
        return RowSources((path,), (validation,)), named | {"validation": _relative(validation, folder)}
    if path.suffix or path.is_absolute() or data.startswith("."):
        raise CommandError(f"{data}: no such file or directory")
    sources = locate(DataSource(hub=data))
    described = sources.described
    pinned = {"hub": f"{described['hub']}:{described['hub_config']}", "revision": described["hub_revision"]}
    return sources, pinned


def _check_source(source: dict[str, str]) -> None:
    try:
        DataSource.model_validate(source)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise CommandError(f"--{where}: {message} (got {value})") from exc


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _name_of(data: str) -> str:
    """Derive a task's name from its data; a file called train is named after its folder."""
    path = Path(data)
    word = path.resolve().parent.name if path.is_file() and role_of(path) else path.resolve().stem
    if not path.exists():
        word = re.split(r"[/:]", data)[-1]
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") or "task"
