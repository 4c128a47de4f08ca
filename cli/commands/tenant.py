"""`superpos tenant`: tenants of a server with keys, and their limits."""

from typing import Annotated, Any

import typer
from rich.table import Table

from cli.console import CommandError, out, print_table
from cli.option_group import option_group
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption
from cli.targets.accounts import open_account_target, validated
from service.api.schemas.admin import TenantChange, TenantRequest
from service.tenancy.models import TenantLimits

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the tenants of a server with keys. Each tenant has its own tasks, keys and limits. Use a server and "
    "an operator's key, or name the registry that the server uses; an administrator's key lists its own tenant.",
)

TenantArgument = Annotated[str, typer.Argument(help="Name of the tenant.")]
_LIMITS = tuple(TenantLimits.model_fields)
_with_limits = option_group(
    "limits",
    {
        name: (Annotated[field.annotation, typer.Option(help=field.description)], None)
        for name, field in TenantLimits.model_fields.items()
    },
    lambda **values: {name: value for name, value in values.items() if value is not None},
)


@app.command("create")
@_with_limits
def create(
    tenant: TenantArgument, limits: dict[str, Any], to: ToOption = DEFAULT_SERVER, key: KeyOption = None
) -> None:
    """Create a tenant. A limit that is not given does not apply; the name of a deleted tenant cannot be reused.

    \b
        superpos tenant create acme --requests-per-s 20 --tokens-per-min 100000
        superpos tenant create acme --to ./registry.sqlite
    """
    made = open_account_target(to, key).create_tenant(validated(TenantRequest, id=tenant, **limits))
    out.print(f"tenant {made.id} created; next: superpos key create {made.id}")


@app.command("update")
@_with_limits
def update(
    tenant: TenantArgument,
    limits: dict[str, Any],
    no_limit: Annotated[
        list[str] | None,
        typer.Option(
            "--no-limit",
            help="A limit to remove, such as max_tasks; repeatable. Without retention_days, kept texts are deleted.",
        ),
    ] = None,
    suspended: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Reject all of its keys for now, or accept them again.")
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Change a tenant's share and limits, or suspend it. What is not given stays as it is.

    \b
        superpos tenant update acme --requests-per-s 50 --no-limit max_tasks
        superpos tenant update acme --suspend
        superpos tenant update acme --retention-days 30
        superpos tenant update acme --no-limit retention_days
    """
    removable = [name for name in _LIMITS if name != "weight"]
    for name in no_limit or ():
        if name not in removable:
            raise CommandError(f"--no-limit is {name!r}, expected one of {', '.join(removable)}")
    body = {**limits, **dict.fromkeys(no_limit or ())}
    if suspended is not None:
        body["suspended"] = suspended
    if not body:
        raise CommandError("nothing to change; see superpos tenant update --help")
    open_account_target(to, key).update_tenant(tenant, validated(TenantChange, **body))
    out.print(f"tenant {tenant}: {', '.join(f'{name} {_text(name, value)}' for name, value in body.items())}")


@app.command("list")
def list_tenants(source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List tenants with their limits.

    \b
        superpos tenant list
        superpos tenant list --from ./registry.sqlite
    """
    table = Table("tenant", *(name.replace("_", " ") for name in _LIMITS), "state")
    for tenant in open_account_target(source, key).tenants():
        cells = [_text(name, getattr(tenant, name)) for name in _LIMITS]
        table.add_row(tenant.id, *cells, "suspended" if tenant.suspended else "active")
    print_table(table)


@app.command("delete")
def delete(tenant: TenantArgument, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Delete a tenant and revoke its keys. Its tasks stay stored, but cannot be reached.

    \b
        superpos tenant delete acme
    """
    open_account_target(to, key).delete_tenant(tenant)
    out.print(f"tenant {tenant} deleted, its keys revoked")


def _text(name: str, value: object) -> str:
    if value is None:
        return "none: no text is kept" if name == "retention_days" else "no limit"
    return f"{value:g}" if isinstance(value, float) else str(value)
