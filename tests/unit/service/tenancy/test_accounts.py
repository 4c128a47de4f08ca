"""Tenants and keys: one contract, both stores, a real Redis."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.redis import RedisServer
from support.tenancy import Clock

from adapters import DEFAULT_TENANT, Conflict, InvalidName, NotFound, RegistryUnavailable
from adapters.storage.opening import open_storage
from adapters.storage.redis import connect
from service.api.schemas.admin import TenantChange
from service.errors import InvalidRequest, Unauthenticated
from service.tenancy.account_cache import AccountCache
from service.tenancy.accounts import MAX_OVERLAP_S, Accounts, open_accounts
from service.tenancy.api_keys import ApiKey, principal_by_key
from service.tenancy.models import AccountStore, AuditEntry, Edit, TenantInfo, TenantLimits
from service.tenancy.principal import Principal


def who(accounts: Accounts, text: str, clock: Clock) -> Principal:
    return principal_by_key(text, accounts.store.snapshot().keys.get, now=clock())


def is_good(accounts: Accounts, text: str, clock: Clock) -> bool:
    try:
        who(accounts, text, clock)
    except Unauthenticated:
        return False
    return True


def test_a_tenant_is_kept_with_all_that_was_said_of_it(accounts: Accounts, place: str, clock: Clock) -> None:
    acme = TenantInfo(
        id="acme",
        weight=2.5,
        requests_per_s=0.5,
        tokens_per_min=60_000,
        max_concurrency=8,
        max_tasks=20,
        max_versions=50,
        max_bytes=10**9,
        suspended=True,
    )
    made = accounts.create_tenant(acme, actor="ann")
    assert made == acme.model_copy(update={"created_at": clock()})
    again = open_accounts(open_storage(place))
    assert again.tenant("acme") == made
    changed = again.update_tenant("acme", TenantChange(weight=1.0, suspended=False).apply_to, actor="bob")
    assert accounts.tenants() == [changed] == [made.model_copy(update={"weight": 1.0, "suspended": False})]


def test_a_tenants_name_is_given_once_for_ever(accounts: Accounts) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    with pytest.raises(Conflict, match="tenant 'acme' exists already"):
        accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    accounts.delete_tenant("acme", actor="ann")
    assert accounts.tenants() == []
    with pytest.raises(Conflict, match="was deleted, and its name cannot be used again"):
        accounts.create_tenant(TenantInfo(id="acme"), actor="ann")


@pytest.mark.parametrize(
    "limits",
    [
        {"weight": 0},
        {"weight": 101.0},
        {"requests_per_s": -1.0},
        {"requests_per_s": float("nan")},
        {"tokens_per_min": 0},
        {"max_bytes": 1 << 54},
    ],
)
def test_an_impossible_tenant_cannot_be_built(limits: dict[str, float]) -> None:
    [(name, value)] = limits.items()
    for build in (TenantLimits, TenantChange, partial(TenantInfo, id="acme")):
        with pytest.raises(ValidationError, match=rf"(?s){name}\n.*input_value={value:.0f}"):
            build(**limits)
    with pytest.raises(InvalidName):
        TenantInfo(id="Acme Inc.")


def test_what_is_not_there_can_be_neither_changed_nor_used(accounts: Accounts) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    key = accounts.create_key("acme", "classify", actor="ann")
    revision = accounts.store.revision()
    for action in (
        lambda: accounts.tenant("nobody"),
        lambda: accounts.update_tenant("nobody", lambda tenant: tenant, actor="ann"),
        lambda: accounts.delete_tenant("nobody", actor="ann"),
        lambda: accounts.create_key("nobody", "admin", actor="ann"),
        lambda: accounts.keys("nobody"),
        lambda: accounts.revoke_key("acme", "nokey", actor="ann"),
        lambda: accounts.revoke_key(DEFAULT_TENANT, key.info.id, actor="ann"),
        lambda: accounts.rotate_key(DEFAULT_TENANT, key.info.id, actor="ann"),
    ):
        with pytest.raises(NotFound):
            action()
    assert accounts.store.revision() == revision


def test_a_key_opens_its_tenant_with_its_role_and_is_stored_as_a_hash(
    accounts: Accounts, place: str, clock: Clock
) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    shown = accounts.create_key("acme", "publish", actor="ann", note="the nightly job")
    assert who(accounts, shown.key.text, clock) == Principal("acme", "publish", shown.info.id)
    assert accounts.keys("acme") == [shown.info]
    assert shown.key.secret not in everything_stored(place) + repr(shown) + repr(accounts.store.snapshot())
    assert shown.key.sha256 in everything_stored(place)
    assert len(shown.key.secret) >= 43, "256 bits in base 64"
    assert accounts.create_key("acme", "publish", actor="ann").key.text != shown.key.text


def everything_stored(place: str) -> str:
    if place.startswith("redis://"):
        store = connect(place)
        keys = list(store.client.scan_iter(f"{store.prefix}:*"))
        kinds = {b"hash": store.client.hgetall, b"stream": store.client.xrange, b"string": store.client.get}
        return repr([kinds[store.client.type(key)](key) for key in keys])
    with sqlite3.connect(place) as db:
        return "\n".join(db.iterdump()) + "".join(
            row[0].decode()
            for table in ("keys", "tenants", "audit")
            for row in db.execute(f"SELECT value FROM account_{table}")
        )


def test_only_the_very_key_is_a_key(accounts: Accounts, clock: Clock) -> None:
    shown = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann")
    other = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann")
    text = shown.key.text
    for wrong in (
        "",
        "sp_",
        "sp__",
        text[:-1],
        text + "x",
        text.upper(),
        f" {text}",
        f"sp_{shown.key.id}_{other.key.secret}",
        f"sp_{shown.key.id}_{shown.key.sha256}",
        f"sp_nobody_{shown.key.secret}",
        f"sp_{shown.key.id}_{'é' * 43}",
    ):
        with pytest.raises(Unauthenticated, match=r"^the key is invalid or has expired$"):
            who(accounts, wrong, clock)
    assert is_good(accounts, text, clock)


def test_a_key_ends_at_its_time(accounts: Accounts, clock: Clock) -> None:
    end = clock()
    clock.go_on(-60)
    shown = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann", expires_at=end)
    clock.go_on(59.9)
    assert is_good(accounts, shown.key.text, clock)
    clock.go_on(0.1)
    assert not is_good(accounts, shown.key.text, clock)
    with pytest.raises(InvalidRequest, match="expected a time in the future"):
        accounts.create_key(DEFAULT_TENANT, "classify", actor="ann", expires_at=end)


def test_a_rotated_key_opens_with_the_old_secret_for_the_overlap_only(accounts: Accounts, clock: Clock) -> None:
    first = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann")
    second = accounts.rotate_key(DEFAULT_TENANT, first.info.id, actor="ann", overlap_s=60)
    assert second.info.id == first.info.id
    clock.go_on(59)
    assert is_good(accounts, first.key.text, clock)
    third = accounts.rotate_key(DEFAULT_TENANT, first.info.id, actor="ann", overlap_s=60)
    clock.go_on(1)
    assert not is_good(accounts, first.key.text, clock), "a second rotation gives it no more time"
    assert is_good(accounts, second.key.text, clock)
    clock.go_on(59)
    assert not is_good(accounts, second.key.text, clock)
    assert is_good(accounts, third.key.text, clock)
    at_once = accounts.rotate_key(DEFAULT_TENANT, first.info.id, actor="ann", overlap_s=0)
    assert not is_good(accounts, third.key.text, clock)
    assert [secret.sha256 for secret in accounts.keys(DEFAULT_TENANT)[0].secrets] == [at_once.key.sha256]
    for wrong in (-1, MAX_OVERLAP_S + 1, float("nan")):
        with pytest.raises(InvalidRequest, match="overlap_s is"):
            accounts.rotate_key(DEFAULT_TENANT, first.info.id, actor="ann", overlap_s=wrong)


def test_a_keys_working_secrets_are_bounded(accounts: Accounts) -> None:
    key = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann")
    for _ in range(7):
        accounts.rotate_key(DEFAULT_TENANT, key.info.id, actor="ann")
    with pytest.raises(Conflict, match="8 valid secrets"):
        accounts.rotate_key(DEFAULT_TENANT, key.info.id, actor="ann")
    assert len(accounts.keys(DEFAULT_TENANT)[0].secrets) == 8


def test_a_deleted_tenants_keys_are_gone(accounts: Accounts, clock: Clock) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    accounts.create_tenant(TenantInfo(id="zeta"), actor="ann")
    gone, kept = (accounts.create_key(tenant, "admin", actor="ann").key.text for tenant in ("acme", "zeta"))
    accounts.delete_tenant("acme", actor="ann")
    assert not is_good(accounts, gone, clock)
    assert is_good(accounts, kept, clock)
    with pytest.raises(Conflict, match="cannot be deleted"):
        accounts.delete_tenant(DEFAULT_TENANT, actor="ann")


def test_the_administrators_key_of_the_settings_is_made_once_however_many_replicas_start(
    accounts: Accounts, place: str, clock: Clock
) -> None:
    text = ApiKey.given("sp_admin_" + "0f" * 32)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda _: open_accounts(open_storage(place)).ensure_operator_key(text, actor="settings"), range(8))
        )
    assert who(accounts, text.text, clock) == Principal(DEFAULT_TENANT, "operator", "admin")
    assert [entry.action for entry in accounts.store.audit()] == ["key_created"]
    changed = ApiKey.given("sp_admin_" + "1e" * 32)
    accounts.ensure_operator_key(changed, actor="settings")
    assert is_good(accounts, changed.text, clock)
    assert not is_good(accounts, text.text, clock)


def test_a_tenants_key_is_not_replaced_by_that_of_the_settings(accounts: Accounts) -> None:
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    shown = accounts.create_key("acme", "classify", actor="ann")
    with pytest.raises(Conflict, match="belongs to tenant 'acme'"):
        accounts.ensure_operator_key(ApiKey.new(shown.info.id), actor="settings")
    with pytest.raises(InvalidName, match="admin_key '…' is not valid, expected sp_<id>_<secret>") as caught:
        ApiKey.given("hunter2")
    assert "hunter2" not in str(caught.value)


def test_every_change_leaves_who_did_what_and_when(accounts: Accounts, clock: Clock) -> None:
    start = clock()
    accounts.create_tenant(TenantInfo(id="acme", max_tasks=3), actor="ann")
    clock.go_on(1)
    key = accounts.create_key("acme", "publish", actor="bob").info.id
    accounts.rotate_key("acme", key, actor="bob", overlap_s=5)
    accounts.update_key("acme", key, default_task="topic@canary", actor="bob")
    accounts.update_tenant("acme", TenantChange(suspended=True).apply_to, actor="cleo")
    accounts.revoke_key("acme", key, actor="bob")
    accounts.delete_tenant("acme", actor="ann")
    entries = accounts.store.audit()
    assert {entry.role for entry in entries} == {"operator"}
    assert [replace(entry, position=0, at=start, role=None) for entry in entries] == [
        AuditEntry(start, "ann", "tenant_created", "acme", detail="weight=1, max_tasks=3"),
        AuditEntry(start, "bob", "key_created", "acme", key, "publish"),
        AuditEntry(start, "bob", "key_rotated", "acme", key, "overlap 5 s"),
        AuditEntry(start, "bob", "key_updated", "acme", key, "default task topic@canary"),
        AuditEntry(start, "cleo", "tenant_updated", "acme", detail="weight=1, max_tasks=3, suspended"),
        AuditEntry(start, "bob", "key_revoked", "acme", key),
        AuditEntry(start, "ann", "tenant_deleted", "acme", detail="0 keys revoked"),
    ]
    assert (entries[0].at, entries[1].at) == (start, clock())
    positions = [entry.position for entry in entries]
    assert positions == sorted(set(positions))
    assert accounts.store.audit(positions[2], limit=2) == entries[3:5]


def test_an_edit_of_what_has_changed_meanwhile_is_not_written(accounts: Accounts) -> None:
    store: AccountStore = accounts.store
    before = store.snapshot()
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    late = Edit(
        AuditEntry(accounts._clock(), "bob", "tenant_updated", "acme"), tenants=[TenantInfo(id="acme", weight=9.0)]
    )
    assert not store.write(late, expected=before.revision)
    assert accounts.tenant("acme").weight == 1.0
    assert len(store.audit()) == 1
    assert store.write(late, expected=store.revision())
    assert store.snapshot().revision == store.revision() == before.revision + 2


def test_of_many_writers_at_once_none_loses_what_it_wrote(accounts: Accounts, place: str) -> None:
    accounts.create_tenant(TenantInfo(id="acme", max_tasks=1), actor="ann")

    def add(_: int) -> str:
        own = open_accounts(open_storage(place))
        own.update_tenant(
            "acme", lambda tenant: tenant.model_copy(update={"max_tasks": (tenant.max_tasks or 0) + 1}), actor="ann"
        )
        return own.create_key("acme", "classify", actor="ann").info.id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(add, range(12)))
    assert accounts.tenant("acme").max_tasks == 13
    assert {key.id for key in accounts.keys("acme")} == ids


def test_accounts_that_cannot_be_reached_say_so(start_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    server = start_redis()
    accounts = open_accounts(open_storage(server.url))
    accounts.create_tenant(TenantInfo(id="acme"), actor="ann")
    server.stop()
    for action in (accounts.store.revision, accounts.tenants, accounts.store.audit):
        with pytest.raises(RegistryUnavailable, match="registry redis://127"):
            action()
    server.start()
    assert accounts.tenant("acme").id == "acme"
    with pytest.raises(RegistryUnavailable):
        open_accounts(open_storage(str(tmp_path)))


def test_a_store_that_was_emptied_leaves_everybody_their_keys(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    accounts = open_accounts(open_storage(server.url))
    key = accounts.create_key(DEFAULT_TENANT, "classify", actor="ann").info

    async def follow() -> None:
        cache = AccountCache(accounts.store, poll_interval_s=0.01, max_age_s=60)
        await cache.refresh()
        server.client().flushall()
        with pytest.raises(RegistryUnavailable, match="lost its tenants and keys"):
            await cache.refresh()
        assert cache.key(key.id) == key

    asyncio.run(follow())
