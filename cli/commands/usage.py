"""`superpos usage`: what a server was asked, by day and task."""

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Column, Table

from cli.client.targets import Server
from cli.console import out, print_table
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption

_DAY = "%Y-%m-%d"
_NUMBERS = ("requests", "rows", "tokens", "errors")


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
    days = {name: day.strftime(_DAY) for name, day in (("from", since), ("to", until)) if day is not None}
    names = {name: value for name, value in (("task", task), ("tenant", tenant)) if value is not None}
    accept = {"Accept": "text/csv" if csv else "application/json"}
    response = Server(server, key).request("GET", "usage", params={**names, **days}, headers=accept)
    if csv:
        out.print(response.text.replace("\r\n", "\n"), end="")
        return
    body = response.json()
    out.print(f"{body['tenant']}, {body['since']} to {body['until']}")
    table = Table(Column("day", footer="total"), "task", show_footer=True)
    for name in _NUMBERS:
        table.add_column(name, justify="right", footer=f"{body['total'][name]:,}")
    for row in body["usage"]:
        table.add_row(row["day"], row["task"] or "", *(f"{row[name]:,}" for name in _NUMBERS))
    print_table(table)
