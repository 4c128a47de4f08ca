"""`superpos usage`: what a server was asked, by day and task."""

from datetime import date, datetime
from typing import Annotated, TypedDict

import typer
from rich.table import Column, Table

from cli.console import out, print_table
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption
from cli.targets.server import open_client

_DAY = "%Y-%m-%d"
_NUMBERS = ("requests", "rows", "tokens", "errors")


class _Asked(TypedDict):
    task: str | None
    tenant: str | None
    since: date | None
    until: date | None


def usage(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=[_DAY], help="First day, in UTC. (default: 30 days ago)")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=[_DAY], help="Last day, in UTC, inclusive. (default: today)")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="Another tenant; needs an operator's key. (default: the tenant of the key)"),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show requests, rows, tokens and errors per day and task.

    The numbers cover all servers that share the registry. Requests that name no task are on a line without one.

    \b
        superpos usage
        superpos usage --task sst2 --from 2026-01-01 --to 2026-01-31
        superpos usage --tenant acme --csv
    """
    client = open_client(server, key)
    asked: _Asked = {
        "task": task,
        "tenant": tenant,
        "since": None if since is None else since.date(),
        "until": None if until is None else until.date(),
    }
    if csv:
        out.print(client.usage_csv(**asked).replace("\r\n", "\n"), end="")
        return
    found = client.usage(**asked)
    out.print(f"{found.tenant}, {found.since} to {found.until}")
    table = Table(Column("day", footer="total"), "task", show_footer=True)
    for name in _NUMBERS:
        table.add_column(name, justify="right", footer=f"{getattr(found.total, name):,}")
    for row in found.usage:
        table.add_row(str(row.day), row.task or "", *(f"{getattr(row, name):,}" for name in _NUMBERS))
    print_table(table)
