"""`superpos key`: what a tenant's programs show to a server that asks for keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from cli.console import account_refusals, out, print_table, status
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption

app = typer.Typer(
    no_args_is_help=True,
    help="Keys of tenants. A key's secret is shown once, where it is made; only its hash is kept. The first "
    "administrator's key is made beside the registry itself: superpos key create default --role admin --to PLACE.",
)

TenantArgument = Annotated[str, typer.Argument(help="The tenant; 'default' is there from the start.")]
KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id: what stands in sp_<id>_<secret>.")]


@app.command("create")
def create(
    tenant: TenantArgument,
    role: Annotated[
        str, typer.Option(help="classify: ask and read; publish: change tasks too; admin: also tenants and keys.")
    ] = "classify",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0, max=36_500, help="How long it is good. (default: for ever)")
    ] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Make a key and print it, alone, on standard output. It cannot be shown again.

    \b
        superpos key create default --role admin --to ./registry.sqlite
        superpos key create acme --role publish --note "nightly training" --expires-in-days 90
    """
    from cli.client.accounts import open_account_target

    body: dict[str, object] = {"role": role, "note": note}
    if expires_in_days is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=expires_in_days)).isoformat()
    with account_refusals():
        made = open_account_target(to, key).create_key(tenant, body)
        out.print(made["key"], markup=False)
        status(f"key {made['id']} of {tenant}, role {made['role']}; it is not shown again")


@app.command("list")
def list_keys(tenant: TenantArgument, source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List a tenant's keys, without their secrets.

    \b
        superpos key list acme
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        table = Table("id", "role", "made", "expires", "old secrets until", "note")
        for made in open_account_target(source, key).keys(tenant):
            old = ", ".join(_minute(end) for end in made["old_secrets_until"])
            times = (_minute(made["created_at"]), _minute(made["expires_at"]), old)
            table.add_row(made["id"], made["role"], *times, made["note"])
        print_table(table)


@app.command("rotate")
def rotate(
    tenant: TenantArgument,
    key_id: KeyArgument,
    overlap_s: Annotated[
        float | None, typer.Option("--overlap-s", help="Seconds that the old secret is good still. (default: a day)")
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Give a key a new secret and print the key; the old secret stays good for a while.

    \b
        superpos key rotate acme 3f9a1c2b7d40
        superpos key rotate acme 3f9a1c2b7d40 --overlap-s 0
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        made = open_account_target(to, key).rotate_key(
            tenant, key_id, {} if overlap_s is None else {"overlap_s": overlap_s}
        )
        out.print(made["key"], markup=False)
        until = ", ".join(_minute(end) for end in made["old_secrets_until"]) or "now"
        status(f"key {made['id']} of {tenant}; its old secret is good until {until}")


@app.command("revoke")
def revoke(tenant: TenantArgument, key_id: KeyArgument, to: ToOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """Remove a key; within a second no server takes it.

    \b
        superpos key revoke acme 3f9a1c2b7d40
    """
    from cli.client.accounts import open_account_target

    with account_refusals():
        open_account_target(to, key).revoke_key(tenant, key_id)
        out.print(f"key {key_id} of {tenant} revoked", markup=False)


def _minute(time: str | None) -> str:
    return "never" if time is None else datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M")
