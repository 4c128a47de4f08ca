"""`superpos tenant`: tenants of a server with keys, their shares and limits."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.console import CommandError, account_refusals, out, print_table
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption
from service.tenancy.models import TenantLimits

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Tenants of a server with keys. Each has its own tasks, keys and limits. Give the address of a server and an "
    "administrator's key, or the registry that the server uses.",
)

TenantArgument = Annotated[str, typer.Argument(help="The tenant's name.")]
_LIMITS = tuple(TenantLimits.model_fields)


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `limits` by an option per field of `TenantLimits`; it gets those that are set."""

    @wraps(command)
    def with_options(**arguments: Any) -> None:
        limits = {name: value for name in _LIMITS if (value := arguments.pop(name)) is not None}
        command(limits=limits, **arguments)

    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=field.annotation,
            default=typer.Option(None, help=field.description),
        )
        for name, field in TenantLimits.model_fields.items()
    ]
    signature = inspect.signature(command, eval_str=True)
    others = [parameter for name, parameter in signature.parameters.items() if name != "limits"]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]
    parameters[1:1] = options
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


@app.command("create")
@limit_options
def create(tenant: TenantArgument, limits: Json, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Create a tenant. Limits that are not given do not apply. The name of a deleted tenant cannot be used again.

    \b
        superpos tenant create acme --requests-per-s 20 --tokens-per-min 100000
        superpos tenant create acme --to ./registry.sqlite
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        made = open_account_target(to, key).create_tenant({"id": tenant, **limits})
        out.print(f"tenant {made['id']} created; next: superpos key create {made['id']}", markup=False)


@app.command("update")
@limit_options
def update(
    tenant: TenantArgument,
    limits: Json,
    no_limit: Annotated[
        list[str] | None, typer.Option("--no-limit", help="A limit to remove, such as max_tasks; may be repeated.")
    ] = None,
    suspended: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Reject all of its keys, or accept them again.")
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Change a tenant's share or limits, or suspend it; what is not given keeps its value.

    \b
        superpos tenant update acme --requests-per-s 50 --no-limit max_tasks
        superpos tenant update acme --suspend
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        body = {**limits, **_removed(no_limit or [])}
        if suspended is not None:
            body["suspended"] = suspended
        if not body:
            raise CommandError("nothing to change; see superpos tenant update --help")
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
        table = Table("tenant", *(name.replace("_", " ") for name in _LIMITS), "state")
        for tenant in open_account_target(source, key).tenants():
            cells = [_shown(tenant[name]) for name in _LIMITS]
            table.add_row(tenant["id"], *cells, "suspended" if tenant["suspended"] else "active")
        print_table(table)


@app.command("delete")
def delete(tenant: TenantArgument, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Delete a tenant and revoke its keys. Its tasks stay stored, but no tenant can reach them.

    \b
        superpos tenant delete acme
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        open_account_target(to, key).delete_tenant(tenant)
        out.print(f"tenant {tenant} deleted, its keys revoked", markup=False)


def _removed(names: list[str]) -> Json:
    limits = [name for name in _LIMITS if name != "weight"]
    for name in names:
        if name not in limits:
            raise CommandError(f"--no-limit is {name!r}, expected one of {', '.join(limits)}")
    return dict.fromkeys(names)


def _shown(value: object) -> str:
    return "no limit" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
