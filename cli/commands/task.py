"""`superpos task`: task files from rows."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.backbone_options import load_backbone
from cli.console import CommandError, err, out, print_table, report_errors
from cli.options import BackboneOption, CacheOption, OfflineOption, RevisionOption

if TYPE_CHECKING:
    from backbone import Backbone
    from training.data.sources import RowSources

app = typer.Typer(no_args_is_help=True, help="Task files.")


@app.command()
def init(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A Parquet, JSONL, CSV or TSV file, a directory of such, or a Hub id."),
    ],
    out_file: Annotated[Path | None, typer.Option("--out", help="The file to write. (default: <name>.yaml)")] = None,
    name: Annotated[str | None, typer.Option(help="The task's name. (default: that of the data)")] = None,
    label: Annotated[str | None, typer.Option(help="The column of the label, where the guess is wrong.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A column of the text; repeatable, in the template's order.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    backbone: BackboneOption = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Write a task file from rows: text and label columns, label words, longest text; says what it guessed and why.

    A file of training rows takes the validation rows beside it along (train.csv, validation.csv). A data set of the Hub
    is read as the Parquet files that the Hub makes of it.

    \b
        superpos task init examples/tickets/tickets.csv
        superpos task init reviews/ --out reviews.yaml --name reviews
        superpos task init glue/sst2 --label label --text sentence
    """
    from adapters.atomic_files import atomic_write
    from backbone import BackboneError
    from training.data.task_init.draft import draft_task
    from training.data.task_init.writing import task_file_text
    from training.errors import TrainingError
    from training.task.task_file import parse_task_file

    with report_errors(BackboneError, TrainingError):
        task_name = name or _name_of(data)
        path = out_file or Path(f"{task_name}.yaml")
        if path.exists() and not force:
            raise CommandError(f"{path} is there already: --force overwrites it, --out writes another")
        sources, source = _source(data, path.parent)
        loaded = load_backbone(backbone, cache_dir=cache_dir, revision=revision, offline=offline)
        with err.status(f"reading the rows of {data}"):
            draft = draft_task(
                sources,
                source,
                name=task_name,
                pieces=loaded.tokenizer.pieces,
                can_tell_apart=lambda words: _can_tell_apart(loaded, words),
                label=label,
                text=text or (),
            )
        written = task_file_text(draft, command=shlex.join(["superpos", "task", "init", data]))
        parse_task_file(written, path=path, variables=os.environ)  # nothing is written that does not load
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write({path: written.encode()})
        table = Table("what", "guessed", "why", title=f"{task_name}: {len(draft.labels.words)} labels")
        for guess in draft.guesses:
            table.add_row(guess.what, guess.value, guess.why)
        print_table(table)
        for line in draft.to_edit:
            err.print(f"edit: {line}", style="yellow", markup=False)
        out.print(f"{path}: next, superpos data check {path} and superpos train {path}", markup=False)


def _source(data: str, folder: Path) -> tuple["RowSources", dict[str, str]]:
    """The files of the rows, and what stands for them in a task file of this folder."""
    from training.data.sources import RowSources, beside, locate
    from training.task.task_file import DataSource

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


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _name_of(data: str) -> str:
    """A task's name from that of its rows; a file called train is named after its folder."""
    from training.data.sources import role_of

    path = Path(data)
    word = path.resolve().parent.name if path.is_file() and role_of(path) else path.resolve().stem
    if not path.exists():
        word = re.split(r"[/:]", data)[-1]
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_") or "task"


def _can_tell_apart(backbone: "Backbone", words: Sequence[str]) -> bool:
    from backbone import InvalidLabels

    try:
        backbone.label_trie(words)
    except InvalidLabels:
        return False
    return True
