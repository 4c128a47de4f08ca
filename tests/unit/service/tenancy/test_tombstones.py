"""Deletion without a tombstone: what was taken back stays so after a restart and in a copy, in both stores."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from support.cli import superpos
from support.tenancy import ADMIN_KEY, Clock

from adapters import DEFAULT_TENANT, Conflict
from adapters.storage.opening import open_storage
from service.errors import Unauthenticated
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.admin_key import ensure_admin_key
from service.tenancy.api_keys import ApiKey, principal_by_key
from service.tenancy.models import TenantInfo
from service.tenancy.sqlite_store import SqliteAccounts

SETTINGS = ApiKey.given(ADMIN_KEY)


def restart(accounts: Accounts, key: str = ADMIN_KEY) -> None:
    """What a start does with the key of the settings."""
    ensure_admin_key(accounts, SecretStr(key), None)


def revoke_the_first(accounts: Accounts) -> None:
    """Revoke the key of the settings, which needs another operator's."""
    accounts.create_key(DEFAULT_TENANT, "operator", actor="test")
    accounts.revoke_key(DEFAULT_TENANT, SETTINGS.id, actor="test")


def is_good(accounts: Accounts, text: str, clock: Clock) -> bool:
    try:
        principal_by_key(text, accounts.store.snapshot().keys.get, now=clock())
    except Unauthenticated:
        return False
    return True


def told(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_deletion_without_a_tombstone(accounts: Accounts, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    restart(accounts)
    assert is_good(accounts, ADMIN_KEY, clock)
    revoke_the_first(accounts)
    revision = accounts.store.revision()
    for key in (ADMIN_KEY, ApiKey.new(SETTINGS.id).text):  # another secret is no other id
        caplog.clear()
        restart(accounts, key)
        assert not is_good(accounts, key, clock)
        for mention in ("admin_key_refused", "a revoked id stays revoked", "SUPERPOS_ADMIN_KEY", "make secrets"):
            assert mention in told(caplog)
        assert ApiKey.given(key).secret not in told(caplog)
    assert accounts.store.revision() == revision
    fresh = ApiKey.new()
    restart(accounts, fresh.text)
    assert is_good(accounts, fresh.text, clock), "the way out works"


def test_a_secret_that_a_rotation_replaced_does_not_come_back(
    accounts: Accounts, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    restart(accounts)
    rotated = accounts.rotate_key(DEFAULT_TENANT, SETTINGS.id, actor="test", overlap_s=60).key.text
    restart(accounts)
    assert is_good(accounts, ADMIN_KEY, clock), "the overlap holds over a restart"
    assert is_good(accounts, rotated, clock)
    clock.go_on(60)
    restart(accounts)
    assert "was replaced by a rotation" in told(caplog)
    assert not is_good(accounts, ADMIN_KEY, clock)
    assert is_good(accounts, rotated, clock)
    newest = accounts.rotate_key(DEFAULT_TENANT, SETTINGS.id, actor="test", overlap_s=0).key.text
    restart(accounts)
    assert not is_good(accounts, ADMIN_KEY, clock)
    assert is_good(accounts, newest, clock)
    # the settings may bring a new secret under the id, after which the one before does not come back either
    other = ApiKey.new(SETTINGS.id).text
    restart(accounts, other)
    restart(accounts, newest)
    assert is_good(accounts, other, clock)
    assert not is_good(accounts, newest, clock)


def test_an_expired_key_does_not_come_back(accounts: Accounts, clock: Clock) -> None:
    end = clock()
    clock.go_on(-60)
    shown = accounts.create_key(DEFAULT_TENANT, "operator", actor="test", expires_at=end)
    restart(accounts, shown.key.text)
    clock.go_on(60)
    restart(accounts, shown.key.text)
    assert not is_good(accounts, shown.key.text, clock)


def test_a_key_of_a_deleted_tenant_does_not_become_an_operators(accounts: Accounts, clock: Clock) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="test")
    theirs = accounts.create_key("acme", "admin", actor="test").key
    accounts.delete_tenant("acme", actor="test")
    restart(accounts, theirs.text)
    assert not is_good(accounts, theirs.text, clock)


def test_a_key_that_was_revoked_before_there_were_tombstones_stays_revoked(tmp_path: Path, clock: Clock) -> None:
    storage = open_storage(str(tmp_path / "old.sqlite"))
    accounts = Accounts(SqliteAccounts(storage), clock=clock)  # type: ignore[arg-type]
    restart(accounts)
    revoke_the_first(accounts)
    with storage.transaction("IMMEDIATE") as db:  # type: ignore[union-attr]
        db.execute("DELETE FROM account_tombstones")
    restart(accounts)
    assert not is_good(accounts, ADMIN_KEY, clock)


@pytest.mark.parametrize("name", ["backup", "folder.sqlite"])
@pytest.mark.slow
def test_a_copy_of_a_registry_keeps_the_tombstones(
    accounts: Accounts, place: str, tmp_path: Path, clock: Clock, name: str
) -> None:
    """`registry copy` leaves keys and tenants behind: a deleted tenant's name would be free, and its tasks with it."""
    restart(accounts)
    accounts.create_tenant(TenantInfo(id="acme"), actor="test")
    accounts.delete_tenant("acme", actor="test")
    revoke_the_first(accounts)
    folder, restored = tmp_path / name, tmp_path / "restored.sqlite"
    folder.mkdir()
    for source, target in ((place, folder), (folder, restored)):
        done = superpos("registry", "copy", source, target)
        assert done.code == 0, done.stderr
    copied = Accounts(open_accounts(open_storage(str(restored))).store, clock=clock)
    restart(copied)
    assert not is_good(copied, ADMIN_KEY, clock)
    with pytest.raises(Conflict, match="was deleted, and its name cannot be used again"):
        copied.create_tenant(TenantInfo(id="acme"), actor="test")
