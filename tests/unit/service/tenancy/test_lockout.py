"""Operators cannot lock themselves out: by a suspended tenant, a revoked key or a copy; contract of both stores."""

import asyncio
from datetime import timedelta

import pytest
import structlog
from structlog.testing import capture_logs
from support.tenancy import Clock

from adapters import DEFAULT_TENANT, Conflict
from service.api.schemas.admin import TenantChange
from service.tenancy.account_cache import AccountCache
from service.tenancy.accounts import Accounts
from service.tenancy.admin_key import LockoutWarning
from service.tenancy.models import AuditEntry, Edit, TenantInfo, Tombstones
from service.tenancy.rules import operators_end


def operator(accounts: Accounts, **more: object) -> str:
    return accounts.create_key(DEFAULT_TENANT, "operator", actor="ann", **more).info.id  # type: ignore[arg-type]


def suspend(accounts: Accounts, tenant: str) -> TenantInfo:
    return accounts.update_tenant(tenant, TenantChange(suspended=True).apply_to, actor="ann")


def suspend_as_an_older_server(accounts: Accounts) -> None:
    edit = Edit(
        AuditEntry(accounts._clock(), "ann", "tenant_updated", DEFAULT_TENANT),
        tenants=[TenantInfo(id=DEFAULT_TENANT, suspended=True)],
    )
    assert accounts.store.write(edit, expected=accounts.store.revision())


def test_the_tenant_of_the_operators_is_neither_suspended_nor_deleted(accounts: Accounts) -> None:
    revision = accounts.store.revision()
    for lock_out in (
        lambda: suspend(accounts, DEFAULT_TENANT),
        lambda: accounts.create_tenant(TenantInfo(id=DEFAULT_TENANT, suspended=True), actor="ann"),
    ):
        with pytest.raises(Conflict, match=r"cannot be suspended; .* superpos key revoke default ID"):
            lock_out()
    with pytest.raises(Conflict, match="cannot be deleted"):
        accounts.delete_tenant(DEFAULT_TENANT, actor="ann")
    assert accounts.store.revision() == revision
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    assert suspend(accounts, "acme").suspended, "any other tenant can be"


def test_operators_get_in_where_an_older_server_has_suspended_their_tenant(accounts: Accounts) -> None:
    key = operator(accounts)
    other = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann").info.id
    suspend_as_an_older_server(accounts)

    async def find(key_id: str) -> bool:
        cache = AccountCache(accounts.store, poll_interval_s=60, max_age_s=60)
        await cache.refresh()
        return cache.key(key_id) is not None

    assert asyncio.run(find(key))
    assert not asyncio.run(find(other)), "it is suspended for everybody else"
    changed = accounts.update_tenant(DEFAULT_TENANT, TenantChange(weight=2.0).apply_to, actor="ann")
    assert changed.suspended, "an unrelated change is possible"
    accounts.update_tenant(DEFAULT_TENANT, TenantChange(suspended=False).apply_to, actor="ann")
    assert asyncio.run(find(other))


def test_the_last_valid_key_of_an_operator_is_not_revoked(accounts: Accounts, clock: Clock) -> None:
    first = operator(accounts)
    expired = operator(accounts, expires_at=clock() + timedelta(hours=1))
    accounts.create_key(DEFAULT_TENANT, "admin", actor="ann")
    clock.go_on(3_601)
    revision = accounts.store.revision()
    with pytest.raises(Conflict, match=r"last valid operator's key; create another .*--role operator"):
        accounts.revoke_key(DEFAULT_TENANT, first, actor="ann")
    assert accounts.store.revision() == revision
    accounts.revoke_key(DEFAULT_TENANT, expired, actor="ann")
    second = operator(accounts)
    accounts.revoke_key(DEFAULT_TENANT, first, actor="ann")
    accounts.rotate_key(DEFAULT_TENANT, second, actor="ann", overlap_s=0)
    with pytest.raises(Conflict, match="last valid operator's key"):
        accounts.revoke_key(DEFAULT_TENANT, second, actor="ann")


def test_a_copied_tombstone_does_not_delete_the_tenant_of_the_operators(accounts: Accounts) -> None:
    key = operator(accounts)
    accounts.bury(Tombstones(tenants=(DEFAULT_TENANT, "gone")), actor="copy")
    assert [info.id for info in accounts.keys(DEFAULT_TENANT)] == [key]
    with pytest.raises(Conflict, match="was deleted"):
        accounts.create_tenant(TenantInfo(id="gone"), actor="ann")


def test_the_end_of_the_last_operators_key_is_known_and_warned_of_once(
    accounts: Accounts, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the module's logger keeps the configuration that it was first used with, by whichever test
    monkeypatch.setattr("service.tenancy.admin_key._log", structlog.get_logger())
    warning = LockoutWarning(clock=clock)

    def end() -> object:
        now = accounts.store.snapshot()
        for _ in range(2):
            warning.check(now)
        return operators_end(now, at=clock())

    soon, later = (clock() + timedelta(hours=hours) for hours in (1, 2))
    with capture_logs() as logged:
        assert end() == clock()
        accounts.create_key(DEFAULT_TENANT, "admin", actor="ann")
        operator(accounts, expires_at=later)
        operator(accounts, expires_at=soon)
        assert end() == later
        operator(accounts)
        assert end() is None
    events = [(entry["event"], entry.get("until")) for entry in logged]
    assert events == [("no_operator_key", None), ("operator_keys_expire", later.isoformat())]
    assert all("superpos key create default --role operator" in entry["todo"] for entry in logged)
