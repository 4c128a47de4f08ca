"""`superpos key`: API keys of tenants."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from cli.console import CommandError, out, print_table, status
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption
from cli.targets.accounts import open_account_target, validated
from service.api.schemas.admin import KeyChange, KeyRequest, RotateRequest

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the API keys of tenants. A key's secret is printed once, when it is created; only its hash is stored. "
    "Create the first operator's key directly in the registry: "
    "superpos key create default --role operator --to ./registry.sqlite",
)

TenantArgument = Annotated[str, typer.Argument(help="Name of the tenant; 'default' always exists.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the key: the <id> in sp_<id>_<secret>.")]

DefaultTaskOption = Annotated[
    str | None,
    typer.Option(
        help="Task that answers requests that name none, as those of routers and gateways with a fixed path. "
        "(default: the server's SUPERPOS_DEFAULT_TASK)"
    ),
]


@app.command("create")
def create(
    tenant: TenantArgument,
    role: Annotated[
        str,
        typer.Option(
            help="classify: query and read; publish: also change tasks; admin: also manage the tenant's keys; "
            "operator: also manage all tenants (for keys of tenant default)."
        ),
    ] = "classify",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0, max=36_500, help="Days until the key expires. (default: never)")
    ] = None,
    note: Annotated[str, typer.Option(help="What the key is for.")] = "",
    default_task: DefaultTaskOption = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Create a key and print it, and nothing else, on standard output. It cannot be printed again.

    \b
        superpos key create default --role operator --to ./registry.sqlite
        superpos key create acme --role publish --note "nightly training" --expires-in-days 90
        superpos key create acme --default-task jailbreak --note "semantic router"
    """
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    body = validated(KeyRequest, role=role, note=note, expires_at=expires_at, default_task=default_task)
    made = open_account_target(to, key).create_key(tenant, body)
    out.print(made.key)
    status(f"key {made.id} of {tenant}, role {made.role}; it is not shown again")


@app.command("list")
def list_keys(tenant: TenantArgument, source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List a tenant's keys, without their secrets.

    \b
        superpos key list acme
    """
    table = Table("id", "role", "default task", "created", "expires", "old secrets valid until", "note")
    for made in open_account_target(source, key).keys(tenant):
        times = (_minute(made.created_at), _minute(made.expires_at), ", ".join(map(_minute, made.old_secrets_until)))
        table.add_row(made.id, made.role, made.default_task or "", *times, made.note)
    print_table(table)


@app.command("update")
def update(
    tenant: TenantArgument,
    key_id: KeyArgument,
    default_task: DefaultTaskOption = None,
    no_default_task: Annotated[
        bool, typer.Option("--no-default-task", help="Remove the key's default task; the server's own applies again.")
    ] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Change the task that answers the key's requests that name none. Every server follows within a second.

    \b
        superpos key update acme 3f9a1c2b7d40 --default-task jailbreak@3
        superpos key update acme 3f9a1c2b7d40 --no-default-task
    """
    if (default_task is None) is not no_default_task:
        raise CommandError("expected either --default-task TASK or --no-default-task")
    body = validated(KeyChange, default_task=default_task)
    made = open_account_target(to, key).update_key(tenant, key_id, body)
    out.print(f"key {made.id} of {tenant}: default task {made.default_task or 'removed'}")


@app.command("rotate")
def rotate(
    tenant: TenantArgument,
    key_id: KeyArgument,
    overlap_s: Annotated[
        float | None,
        typer.Option("--overlap-s", help="Seconds for which the old secret stays valid. (default: one day)"),
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Give a key a new secret and print the key. The old secret stays valid for a while.

    \b
        superpos key rotate acme 3f9a1c2b7d40
        superpos key rotate acme 3f9a1c2b7d40 --overlap-s 0
    """
    body = validated(RotateRequest) if overlap_s is None else validated(RotateRequest, overlap_s=overlap_s)
    made = open_account_target(to, key).rotate_key(tenant, key_id, body)
    out.print(made.key)
    until = ", ".join(map(_minute, made.old_secrets_until)) or "now"
    status(f"key {made.id} of {tenant}; its old secret is valid until {until}")


@app.command("revoke")
def revoke(tenant: TenantArgument, key_id: KeyArgument, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Revoke a key for ever. Every server rejects it within a second.

    \b
        superpos key revoke acme 3f9a1c2b7d40
    """
    open_account_target(to, key).revoke_key(tenant, key_id)
    out.print(f"key {key_id} of {tenant} revoked")


def _minute(time: datetime | None) -> str:
    return "never" if time is None else time.strftime("%Y-%m-%d %H:%M")
