"""The audit log is bounded per tenant and author, in both stores, and no author pushes out another's entries."""

import json
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.tenancy import Clock

from adapters import DEFAULT_TENANT
from adapters.storage.opening import open_storage
from adapters.storage.redis import connect
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.api_keys import ApiKey
from service.tenancy.audit import all_entries, author
from service.tenancy.models import AuditEntry, Edit, TenantInfo


@pytest.fixture
def accounts(place: str) -> Accounts:
    accounts = Accounts(open_accounts(open_storage(place)).store, clock=Clock())
    accounts.create_tenant(TenantInfo(id="mallory"), actor="key:op")
    return accounts


def actions(accounts: Accounts) -> Counter[str]:
    return Counter(entry.action for entry in all_entries(accounts.store))


def rotate_often(accounts: Accounts, times: int) -> None:
    """Rotate a key of mallory's administrator."""
    key = accounts.create_key("mallory", "admin", actor="key:op").info.id
    for _ in range(times):
        accounts.rotate_key("mallory", key, actor="key:m", authority="admin", overlap_s=0)


def test_neither_refusals_nor_an_administrator_push_out_what_operators_did(accounts: Accounts) -> None:
    for number in range(30):
        accounts.record_refusals("mallory", f"{number} forbidden", key=None)
        accounts.record_refusals(DEFAULT_TENANT, f"{number} unauthenticated", key=None)
    rotate_often(accounts, 30)
    assert accounts.trim_audit(keep=5) == 2 * 25 + 25
    kept = list(all_entries(accounts.store))
    assert Counter((entry.tenant, author(entry)) for entry in kept) == {
        ("mallory", "operators"): 2,
        ("mallory", "administrators"): 5,
        ("mallory", "server"): 5,
        (DEFAULT_TENANT, "server"): 5 + 1,
    }
    refused = [entry.detail for entry in kept if (entry.tenant, entry.action) == ("mallory", "requests_refused")]
    assert refused == [f"{number} forbidden" for number in range(25, 30)], "the oldest go first"
    assert kept[-1].action == "audit_trimmed"
    assert "75 entries removed" in kept[-1].detail


def test_operators_entries_are_bounded_too_and_the_removal_is_told(accounts: Accounts) -> None:
    for number in range(20):
        accounts.update_tenant("mallory", lambda t: t.model_copy(update={"weight": 2.0}), actor=f"key:op{number}")
    assert accounts.trim_audit(keep=4) == 17
    assert actions(accounts) == {"tenant_updated": 4, "audit_trimmed": 1}
    assert accounts.trim_audit(keep=4) == 0, "the entry about the removal alone is no reason for another"
    part = accounts.audit(0, limit=100)
    assert part.complete
    assert [entry.position for entry in part.entries] == sorted(entry.position for entry in part.entries)


def test_a_log_within_its_bounds_is_left_alone(accounts: Accounts) -> None:
    rotate_often(accounts, 3)
    before = list(all_entries(accounts.store))
    revision = accounts.store.revision()
    assert accounts.trim_audit(keep=3) == 0
    assert list(all_entries(accounts.store)) == before
    assert accounts.store.revision() == revision


def test_positions_are_never_used_again(accounts: Accounts) -> None:
    rotate_often(accounts, 10)
    last = list(all_entries(accounts.store))[-1].position
    accounts.trim_audit(keep=1)
    accounts.record_refusals("mallory", "1 forbidden", key=None)
    assert [entry.position for entry in accounts.store.audit(last)] == [last + 1, last + 2]


def test_of_servers_that_trim_at_once_one_removes_each_entry(
    accounts: Accounts, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tenancy.accounts._MAX_REMOVED", 7)
    rotate_often(accounts, 30)
    with ThreadPoolExecutor(4) as pool:
        removed = sum(pool.map(lambda _: open_accounts(open_storage(place)).trim_audit(keep=2), range(4)))
    rotated = [entry for entry in all_entries(accounts.store) if entry.action == "key_rotated"]
    assert len(rotated) == 2
    # entries about removals are entries of the server, and bounded as well
    assert removed >= 28
    assert actions(accounts)["audit_trimmed"] <= 2 + 4


def test_a_revocation_that_is_older_than_tombstones_outlives_its_entry(accounts: Accounts) -> None:
    text = ApiKey.given("sp_old_" + "0f" * 32)
    at = accounts._clock()
    accounts.store.write(Edit(AuditEntry(at, "key:op", "key_revoked", DEFAULT_TENANT, "old")), expected=1)
    accounts.create_key(DEFAULT_TENANT, "operator", actor="key:op")
    accounts.create_key(DEFAULT_TENANT, "operator", actor="key:op")
    assert accounts.trim_audit(keep=2) == 1
    assert "key_revoked" not in actions(accounts)
    assert accounts.ensure_operator_key(text, actor="settings") == "revoked"


def test_entries_of_newer_and_older_servers_are_read_and_trimmed(accounts: Accounts, place: str) -> None:
    """A rolling upgrade goes both ways: an entry may have an unknown action or field, or lack one."""
    at = accounts._clock().isoformat()
    newer = {"at": at, "actor": "key:op", "action": "keys_entangled", "tenant": "mallory", "key": None, "detail": "x"}
    for entry in (newer | {"role": "superoperator", "colour": "blue"}, newer):
        write_raw(place, json.dumps(entry).encode())
    found = accounts.audit(1, limit=10, tenant="mallory").entries
    assert [(entry.action, entry.role) for entry in found] == [
        ("keys_entangled", "superoperator"),
        ("keys_entangled", None),
    ]
    assert accounts.trim_audit(keep=1) == 1
    assert actions(accounts) == {"keys_entangled": 2, "audit_trimmed": 1}


def write_raw(place: str, entry: bytes) -> None:
    """Append an entry as another version of the server would."""
    if place.startswith("redis://"):
        store = connect(place)
        position = store.client.incr(store.key("accounts", "revision"))
        store.client.xadd(store.key("accounts", "audit"), {"entry": entry}, id=f"{position}-0")
        return
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("UPDATE account_revision SET revision=revision+1")
        db.execute("INSERT INTO account_audit (value) VALUES (?)", (entry,))
