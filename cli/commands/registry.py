"""`superpos registry`: a whole registry at once."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import CommandError, err, out, report_errors

app = typer.Typer(
    no_args_is_help=True,
    help="A registry as a whole. It is a SQLite file (one machine), a Redis server (redis://…; any number of servers "
    "share it), or, to keep or to carry it, a folder with one PEFT folder a version.",
)

_PLACE = "A SQLite file, redis://:password@host:port/db?prefix=…, or a folder"


@app.callback()
def registry() -> None:
    """Keeps `copy` a command of its own name, though it is the only one."""


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"{_PLACE} that a copy made.")],
    target: Annotated[
        str, typer.Argument(metavar="DST", help=f"{_PLACE}; must be empty. A new path ending in .sqlite is a file.")
    ],
) -> None:
    """Copy a registry without loss: back it up, restore it, or move it between SQLite and Redis.

    Tasks of all tenants, versions with their numbers, times and publishers, aliases, traffic, files byte for byte, and
    the whole log, which is the audit trail. Numbers that were given stay given. Keys, quotas and usage stay behind.
    Nobody may write to SRC meanwhile; a copy that notices is refused.

    \b
        superpos registry copy registry.sqlite redis://localhost:6379
        superpos registry copy redis://localhost:6379 ./backup-2026-01-31
        superpos registry copy ./backup-2026-01-31 restored.sqlite
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from adapters.errors import AdapterError
    from adapters.registry.copying import copy as copy_all
    from adapters.registry.opening import open_archive
    from adapters.storage.opening import is_redis, redact

    with report_errors(AdapterError):
        if not is_redis(source) and "://" not in source and not Path(source).exists():
            raise CommandError(f"registry {source}: no such file or folder")
        columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), TextColumn("versions"))
        with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("")
            done = copy_all(
                open_archive(source),
                open_archive(target),
                on_version=lambda at, total: bar.update(task, completed=at, total=total),
            )
        out.print(
            f"{redact(target)}: {done.tasks} tasks of {done.tenants} tenants, {done.versions} versions of "
            f"{done.adapters} adapters, {done.changes} log entries",
            markup=False,
        )
