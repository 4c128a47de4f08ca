"""`superpos tenant`: who may use a server with keys, and how much."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.console import CommandError, account_refusals, out, print_table
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption

if TYPE_CHECKING:
    from cli.client.accounts import Json

app = typer.Typer(
    no_args_is_help=True,
    help="Tenants of a server with keys: each has tasks, keys and limits of its own. Ask a server with an "
    "administrator's key, or name the registry that it uses.",
)

TenantArgument = Annotated[str, typer.Argument(help="The tenant's name.")]
Weight = Annotated[float | None, typer.Option(help="Its share of the model and the queue; others have 1.")]
Requests = Annotated[float | None, typer.Option("--requests-per-s", help="Requests a second, over all servers.")]
Tokens = Annotated[int | None, typer.Option("--tokens-per-min", help="Tokens of texts a minute, over all servers.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests that are answered at once, over all servers.")]
Tasks = Annotated[int | None, typer.Option(help="Tasks that it may have.")]
Versions = Annotated[int | None, typer.Option(help="Versions that each of its tasks may have.")]
Bytes = Annotated[int | None, typer.Option(help="Bytes of all its versions' files.")]
_COLUMNS = ("weight", "requests_per_s", "tokens_per_min", "max_concurrency", "max_tasks", "max_versions", "max_bytes")


@app.command("create")
def create(
    tenant: TenantArgument,
    weight: Weight = None,
    requests_per_s: Requests = None,
    tokens_per_min: Tokens = None,
    max_concurrency: Concurrency = None,
    max_tasks: Tasks = None,
    max_versions: Versions = None,
    max_bytes: Bytes = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Make a tenant. A limit that is not given is none; a deleted tenant's name is not given again.

    \b
        superpos tenant create acme --requests-per-s 20 --tokens-per-min 100000
        superpos tenant create acme --to ./registry.sqlite
    """
    given = (weight, requests_per_s, tokens_per_min, max_concurrency, max_tasks, max_versions, max_bytes)
    from cli.client.accounts import open_account_target

    with account_refusals():
        made = open_account_target(to, key).create_tenant({"id": tenant, **_limits(given)})
        out.print(f"tenant {made['id']} made; next: superpos key create {made['id']}", markup=False)


@app.command("update")
def update(
    tenant: TenantArgument,
    weight: Weight = None,
    requests_per_s: Requests = None,
    tokens_per_min: Tokens = None,
    max_concurrency: Concurrency = None,
    max_tasks: Tasks = None,
    max_versions: Versions = None,
    max_bytes: Bytes = None,
    no_limit: Annotated[
        list[str] | None, typer.Option("--no-limit", help="A limit to take away, like max_tasks; may be repeated.")
    ] = None,
    suspended: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Refuse its keys for now, or take them again.")
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Set a tenant's share and limits, or suspend it; what is not given stays as it is.

    \b
        superpos tenant update acme --requests-per-s 50 --no-limit max_tasks
        superpos tenant update acme --suspend
    """
    given = (weight, requests_per_s, tokens_per_min, max_concurrency, max_tasks, max_versions, max_bytes)
    from cli.client.accounts import open_account_target

    with account_refusals():
        body = {**_limits(given), **_lifted(no_limit or [])}
        if suspended is not None:
            body["suspended"] = suspended
        if not body:
            raise CommandError("nothing to set; see superpos tenant update --help")
        open_account_target(to, key).update_tenant(tenant, body)
        out.print(f"tenant {tenant}: {', '.join(f'{name} {_shown(value)}' for name, value in body.items())}")


@app.command("list")
def list_tenants(source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List tenants with their limits.

    \b
        superpos tenant list
        superpos tenant list --from ./registry.sqlite
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        table = Table("tenant", *(name.replace("_", " ") for name in _COLUMNS), "state")
        for tenant in open_account_target(source, key).tenants():
            cells = [_shown(tenant[name]) for name in _COLUMNS]
            table.add_row(tenant["id"], *cells, "suspended" if tenant["suspended"] else "active")
        print_table(table)


@app.command("delete")
def delete(tenant: TenantArgument, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Remove a tenant and revoke its keys. Its tasks stay stored, out of everybody's reach.

    \b
        superpos tenant delete acme
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        open_account_target(to, key).delete_tenant(tenant)
        out.print(f"tenant {tenant} deleted, its keys revoked", markup=False)


def _limits(given: tuple[float | None, ...]) -> "Json":
    return {name: value for name, value in zip(_COLUMNS, given, strict=True) if value is not None}


def _lifted(names: list[str]) -> "Json":
    for name in names:
        if name not in _COLUMNS[1:]:
            raise CommandError(f"--no-limit is {name!r}, expected one of {', '.join(_COLUMNS[1:])}")
    return dict.fromkeys(names)


def _shown(value: object) -> str:
    return "no limit" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
