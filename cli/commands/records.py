"""`superpos history | usage`: what was done to a task, and what was asked of a server."""

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from cli.console import out, print_table, report_errors
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ServerOption

if TYPE_CHECKING:
    from adapters.registry.protocol import Change, Traffic

DAY = "%Y-%m-%d"
_NUMBERS = ("requests", "rows", "tokens", "errors")


def history(
    task: Annotated[str, typer.Argument(help="The task.")],
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many entries, the newest.")] = 100,
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show who did what to a task, and when: versions, aliases, canary and shadow.

    \b
        superpos history sst2
        superpos history sst2 --last 10 --from ./registry.sqlite
    """
    from adapters.errors import AdapterError
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        table = Table("when (UTC)", "by", "what", "version", "adapter")
        for change in deque(open_source(source, key).history(task), maxlen=last):
            at = change.at.strftime("%Y-%m-%d %H:%M:%S")
            table.add_row(at, change.actor, _what(change), str(change.version or ""), change.digest[:19])
        print_table(table)


def usage(
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--from", formats=[DAY], help="The first day, UTC. (default: 30 days before)")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=[DAY], help="The last day, UTC, included. (default: today)")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Another tenant's; takes an administrator's key. (default: the key's own)")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Lines with commas, for other programs.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show what was asked and what it cost, by task and day: requests, rows, tokens of the model, errors.

    The numbers are those of all servers that share a registry. A line without a task counts what asked none.

    \b
        superpos usage
        superpos usage --task sst2 --from 2026-01-01 --to 2026-01-31
        superpos usage --tenant acme --csv
    """
    from cli.client.targets import Server

    days = {name: day.strftime(DAY) for name, day in (("from", since), ("to", until)) if day is not None}
    names = {name: value for name, value in (("task", task), ("tenant", tenant)) if value is not None}
    with report_errors():
        accept = {"Accept": "text/csv" if csv else "application/json"}
        answer = Server(server, key).request("GET", "/usage", params={**names, **days}, headers=accept)
        if csv:
            typer.echo(answer.text, nl=False)
            return
        body = answer.json()
        out.print(f"{body['tenant']}, {body['since']} to {body['until']}", markup=False)
        table = Table(Column("day", footer="total"), "task", show_footer=True)
        for name in _NUMBERS:
            table.add_column(name, justify="right", footer=f"{body['total'][name]:,}")
        for row in body["usage"]:
            table.add_row(row["day"], row["task"] or "", *(f"{row[name]:,}" for name in _NUMBERS))
        print_table(table)


def _what(change: "Change") -> str:
    match change.kind:
        case "alias_set":
            return f"alias {change.alias} set"
        case "alias_deleted":
            return f"alias {change.alias} removed"
        case "version_deleted":
            return "deleted"
        case "published":
            return "published"
        case "traffic_set":
            return _split(change.traffic)


def _split(traffic: "Traffic | None") -> str:
    parts = [] if traffic is None or traffic.canary is None else [f"canary {traffic.canary} gets {traffic.percent:g} %"]
    parts += [] if traffic is None or traffic.shadow is None else [f"shadow {traffic.shadow}"]
    return ", ".join(parts) or "canary and shadow ended"
