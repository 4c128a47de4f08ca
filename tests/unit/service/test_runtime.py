"""What a server builds and shares."""

from collections.abc import Callable

import pytest
import redis
import redis.asyncio
from support.redis import RedisServer
from support.server import RunningServer


def counting(kind: type, made: list[type]) -> Callable[..., None]:
    """The constructor of a pool, which also notes that one was made."""
    construct = kind.__init__

    def init(self: object, *args: object, **kwargs: object) -> None:
        made.append(kind)
        construct(self, *args, **kwargs)

    return init


@pytest.mark.slow
def test_a_server_has_one_connection_pool_of_each_kind(
    serve: Callable[..., RunningServer], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[type] = []
    for kind in (redis.ConnectionPool, redis.asyncio.ConnectionPool):
        monkeypatch.setattr(kind, "__init__", counting(kind, made))
    server = serve(registry=redis_server.place())
    assert server.client.get("/healthz/ready").status_code == 200
    assert sorted(made, key=str) == [redis.asyncio.ConnectionPool, redis.ConnectionPool]
