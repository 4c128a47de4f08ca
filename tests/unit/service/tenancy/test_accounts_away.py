"""Tenants and keys whose store is away, or has come back empty: said, and nobody loses a key."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.redis import RedisServer

from adapters import DEFAULT_TENANT, RegistryUnavailable
from adapters.storage.opening import open_storage
from service.tenancy.account_cache import AccountCache
from service.tenancy.accounts import open_accounts
from service.tenancy.models import TenantInfo


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
        directory = AccountCache(accounts.store, poll_interval_s=0.01)
        await directory.refresh()
        server.client().flushall()
        with pytest.raises(RegistryUnavailable, match="lost its tenants and keys"):
            await directory.refresh()
        assert directory.key(key.id) == key

    asyncio.run(follow())
