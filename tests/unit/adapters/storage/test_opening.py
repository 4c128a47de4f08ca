"""A storage location is opened once, and everything that is kept there shares its connections."""

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.sentinel import SentinelConnectionPool
from support.proxy import TlsFront
from support.redis import RedisServer, free_port

from adapters import InvalidName, RegistryUnavailable
from adapters.registry.opening import open_registry
from adapters.storage.opening import open_storage, redact
from adapters.storage.redis import RedisStore, connect
from adapters.storage.sqlite import SqliteFile


def test_a_location_is_a_file_or_a_redis_server(tmp_path: Path, redis_server: RedisServer) -> None:
    assert isinstance(open_storage(tmp_path / "registry.sqlite"), SqliteFile)
    assert isinstance(open_storage(redis_server.place()), RedisStore)
    with pytest.raises(InvalidName, match="postgres://…"):
        open_storage("postgres://ann:secret@h/db")
    with pytest.raises(RegistryUnavailable, match=r"redis://127\.0\.0\.1:1/0"):
        open_storage("redis://:secret@127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "address", "prefix"),
    [
        ("redis://localhost", "redis://localhost:6379/0", "superpos"),
        ("redis://ann:se%2Fcret@h:1/3", "redis://h:1/3", "superpos"),
        ("redis://:secret@[::1]:66?db=2", "redis://[::1]:66/2", "superpos"),
        ("rediss://:secret@h?prefix={team}&ssl_ca_certs=/ca.pem", "rediss://h:6379/0?prefix={team}", "{team}"),
        ("unix:///run/redis.sock?db=4&password=secret&prefix=abc", "unix:///run/redis.sock/4?prefix=abc", "abc"),
        ("redis+sentinel://:secret@a/main", "redis+sentinel://a:26379/main/0", "superpos"),
        (
            "rediss+sentinel://ann:se%2Fcret@a:1,[::1],[::2]:3/main/2?sentinel_password=secret&prefix=abc",
            "rediss+sentinel://a:1,[::1]:26379,[::2]:3/main/2?prefix=abc",
            "abc",
        ),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(url: str, address: str, prefix: str) -> None:
    store = connect(url)
    assert (store.address, store.prefix, redact(url)) == (address, prefix, address)
    assert "secret" not in repr(store)
    assert store.key("task", "acme", "sst2") == f"{prefix}:task:acme:sst2"


def test_tls_password_and_database_reach_the_connection() -> None:
    options = connect("rediss://ann:se%2Fcret@h:1/3?ssl_ca_certs=/ca.pem").client.connection_pool.connection_kwargs
    wanted = {"username": "ann", "password": "se/cret", "db": 3, "port": 1, "ssl_ca_certs": "/ca.pem"}
    assert {name: options[name] for name in wanted} == wanted
    assert type(connect("rediss://h").client.connection_pool.make_connection()).__name__ == "SSLConnection"


def test_sentinels_have_a_login_of_their_own_and_the_masters_tls() -> None:
    url = "rediss+sentinel://ann:se%2Fcret@a,b:2/main/3?sentinel_password=gu%2Fard&ssl_ca_certs=/ca.pem"
    store = connect(f"{url}&socket_timeout=0.5&max_connections=7")
    master = {"username": "ann", "password": "se/cret", "db": 3, "ssl_ca_certs": "/ca.pem", "socket_timeout": 0.5}
    guard = {"password": "gu/ard", "ssl_ca_certs": "/ca.pem", "socket_timeout": 0.5}
    for pool in (store.client.connection_pool, store.async_pool):
        assert isinstance(pool, SentinelConnectionPool | AsyncSentinelConnectionPool)
        assert (pool.service_name, pool.max_connections) == ("main", 7)
        assert "SSLConnection" in type(pool.make_connection()).__name__
        sentinels = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
        for options, wanted in ((pool.connection_kwargs, master), *((s.connection_kwargs, guard) for s in sentinels)):
            assert {name: options.get(name) for name in wanted} == wanted
        for sentinel, place in zip(sentinels, (("a", 26379), ("b", 2)), strict=True):
            assert (sentinel.connection_kwargs["host"], sentinel.connection_kwargs["port"]) == place
            assert sentinel.connection_kwargs.get("username") is None
            assert "SSLConnection" in type(sentinel.make_connection()).__name__


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:se/cret@h:1/3",
        "redis://:secret@h:port",
        "redis://:secret@h?unknown=secret",
        "redis://:secret@h?socket_timeout=secret",
        "redis://:secret@h?retry_on_timeout=yes",
        "redis://:secret@h?decode_responses=yes",
        "redis://:secret@h?min_replicas=-1",
        "redis://:secret@h?sentinel_password=secret",
        "redis+sentinel://:secret@h",
        "redis+sentinel://:secret@/main",
        "redis+sentinel://:secret@a:port,b/main",
        "redis+sentinel://:secret@a/main/secret",
        "redis+sentinel://:secret@a/main?decode_responses=yes",
        "sentinel://:secret@a/main",
        "mysql://ann:secret@h/db",
        "http://ann:secret@h",
    ],
)
def test_what_is_no_url_of_ours_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(InvalidName, match=r"registry '[a-z+]+://…' is not valid, expected") as caught:
        open_registry(url)
    assert "cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("prefix", ["a:b", "", "{a}b", "a b", "x" * 65])
def test_a_prefix_that_could_run_into_another_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidName, match="prefix"):
        connect(f"redis://h?prefix={prefix}")


def test_a_server_that_is_not_there_is_unavailable_by_its_address() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    store = connect(url)
    with pytest.raises(RegistryUnavailable) as caught, store.reaching():
        store.client.ping()
    assert str(caught.value).startswith(f"registry {store.address}: ")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_opens_the_server_and_a_wrong_one_is_not_repeated(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis("--requirepass", "s/cret")
    port = server.port
    store = connect(f"redis://:s%2Fcret@127.0.0.1:{port}")
    with store.reaching():
        assert store.client.ping()
    for url in (f"redis://:wr%2Fong@127.0.0.1:{port}", f"redis://127.0.0.1:{port}"):
        store = connect(url)
        with pytest.raises(RegistryUnavailable) as caught, store.reaching():
            store.client.ping()
        assert "wr/ong" not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_was_restarted_is_reached_again_at_the_first_command(
    start_redis: Callable[..., RedisServer],
) -> None:
    server = start_redis()
    store = connect(server.url)
    store.client.set(store.key("kept"), "1")
    for end in (server.stop, server.kill):
        end()
        server.start()
        assert store.client.get(store.key("kept")) == b"1"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate needs openssl")
def test_tls_is_spoken_and_a_certificate_that_nobody_signed_is_refused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    front = TlsFront(redis_server.port, tmp_path)
    url = f"rediss://127.0.0.1:{front.port}"
    trusting = connect(f"{url}?ssl_ca_certs={front.certificate}")
    with trusting.reaching():
        assert trusting.client.ping()
    store = connect(url)
    with pytest.raises(RegistryUnavailable, match="certificate verify failed"), store.reaching():
        store.client.ping()
    trusting.client.close()
    front.close()
