"""A storage location is opened once, and everything that is kept there shares its connections."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import redis.asyncio
from support import RunningServer
from support.redis import RedisServer

from adapters import InvalidName, RegistryUnavailable
from adapters.storage.opening import open_storage
from adapters.storage.redis import RedisStore
from adapters.storage.sqlite import SqliteFile


def test_a_server_has_one_connection_pool_of_each_kind(
    serve: Callable[..., RunningServer], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[type] = []
    for kind in (redis.ConnectionPool, redis.asyncio.ConnectionPool):
        monkeypatch.setattr(kind, "__init__", counting(kind, made))
    server = serve(registry=redis_server.place())
    assert server.client.get("/healthz/ready").status_code == 200
    assert sorted(made, key=str) == [redis.asyncio.ConnectionPool, redis.ConnectionPool]


def counting(kind: type, made: list[type]) -> Callable[..., None]:
    """The constructor of a pool, which also notes that one was made."""
    construct = kind.__init__

    def init(self: object, *args: object, **kwargs: object) -> None:
        made.append(kind)
        construct(self, *args, **kwargs)

    return init


def test_a_location_is_a_file_or_a_redis_server(tmp_path: Path, redis_server: RedisServer) -> None:
    assert isinstance(open_storage(tmp_path / "registry.sqlite"), SqliteFile)
    assert isinstance(open_storage(redis_server.place()), RedisStore)
    with pytest.raises(InvalidName, match="postgres://…"):
        open_storage("postgres://ann:secret@h/db")
    with pytest.raises(RegistryUnavailable, match=r"redis://127\.0\.0\.1:1/0"):
        open_storage("redis://:secret@127.0.0.1:1")
