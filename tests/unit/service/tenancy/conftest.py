"""Accounts of both stores under a clock, and rate counters of a process, of workers and of servers on a Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.redis import RedisServer
from support.tenancy import Clock

from adapters.storage.opening import open_storage
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.build import open_rate_counter
from service.tenancy.rate_limiter import RateCounter


@pytest.fixture(params=["process", "workers", "redis"])
def open_counter(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], RateCounter]:
    """Return a function that opens a counter of an empty store, of each implementation."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        storage = open_storage(server.place())
        return lambda: open_rate_counter(storage)
    folder = tmp_path if request.param == "workers" else None
    storage = open_storage(str(tmp_path / "registry.sqlite"))
    return lambda: open_rate_counter(storage, folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(place: str, clock: Clock) -> Accounts:
    return Accounts(open_accounts(open_storage(place)).store, clock=clock)
