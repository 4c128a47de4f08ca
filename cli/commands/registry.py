"""`superpos registry`: operations on a whole registry."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adapters.registry.copying import copy as copy_registry
from adapters.registry.opening import open_archive
from adapters.storage.opening import redact
from cli.console import CommandError, err, out
from cli.options import read_if_file
from cli.targets.tombstones import copy_tombstones

app = typer.Typer(
    no_args_is_help=True,
    help="Copy, back up or move a whole registry. A registry is a SQLite file (one machine) or a Redis (redis://…, "
    "redis+sentinel://…, shared by any number of servers). A backup may also be a folder, with one PEFT folder per "
    "version.",
)

_LOCATION = "A SQLite file, redis://host:port/db?prefix=…, or a backup folder; @FILE reads the location from a file"


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"{_LOCATION}.")],
    target: Annotated[
        str,
        typer.Argument(metavar="DST", help=f"{_LOCATION}; must be empty. A new path ending in .sqlite becomes a file."),
    ],
) -> None:
    """Copy a registry without loss: back it up, restore it, or move it between SQLite and Redis.

    The copy has the tasks of all tenants, their versions with numbers, times and authors, aliases, traffic, every file
    byte for byte, and the change log, which is the audit trail. Version numbers of deleted versions, names of
    deleted tenants and ids of revoked keys stay reserved. Keys, quotas and usage are not copied. Nothing may write to
    SRC meanwhile: the copy fails if it notices a change.

    \b
        superpos registry copy registry.sqlite redis://localhost:6379
        superpos registry copy @deploy/secrets/superpos_registry ./backup-2026-01-31
        superpos registry copy ./backup-2026-01-31 restored.sqlite
    """
    source, target = read_if_file(source), read_if_file(target)
    if "://" not in source and not Path(source).exists():
        raise CommandError(f"registry {source}: no such file or folder")
    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), TextColumn("versions"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("")
        done = copy_registry(
            open_archive(source),
            open_archive(target),
            on_version=lambda at, total: bar.update(task, completed=at, total=total),
        )
    copy_tombstones(source, target)
    out.print(
        f"{redact(target)}: {done.tasks} tasks of {done.tenants} tenants, {done.versions} versions of "
        f"{done.adapters} adapters, {done.changes} log entries",
    )
