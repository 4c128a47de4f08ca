"""Cached accounts have a stated maximum age: a key that was revoked elsewhere is not accepted for ever."""

import json
from collections.abc import Callable, Iterator

import pytest
from support.http import check_problem
from support.proxy import Proxy
from support.redis import RedisServer
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters.storage.opening import open_storage
from adapters.storage.redis import RedisStore
from adapters.storage.sqlite import SqliteFile

Serve = Callable[..., RunningServer]
MAX_AGE_S = 1.0


@pytest.fixture
def way(redis_server: RedisServer) -> Iterator[Proxy]:
    """What stands between a server and Redis."""
    proxy = Proxy(redis_server.port)
    yield proxy
    proxy.close()


def status(server: RunningServer, key: str) -> int:
    return server.client.get("/tasks", headers=bearer(key)).status_code


def check_refused(server: RunningServer, key: str, *hidden: str) -> None:
    """Check the refusal, which names no place, and readiness."""
    answer = server.client.get("/tasks", headers=bearer(key))
    check_problem(answer, 503, "accounts_unavailable", "keys cannot be verified at present", "retry later")
    assert answer.headers["Retry-After"] == "5"
    ready = server.client.get("/healthz/ready")
    assert ready.status_code == 503
    assert (ready.json()["degraded"], ready.json()["status"]) == (True, "not_ready")
    assert "keys cannot be verified" in ready.json()["reason"]
    for place in hidden:
        assert place not in answer.text + ready.text
    assert server.client.get("/healthz/live").status_code == 200
    assert sample(server, "superpos_accounts_age_seconds") > MAX_AGE_S


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_cached_accounts_have_a_stated_maximum_age(
    fault: str, serve: Serve, redis_server: RedisServer, way: Proxy
) -> None:
    place = redis_server.place()
    here = serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)
    away = serve(
        registry=place.replace(str(redis_server.port), str(way.port)),
        require_keys=True,
        admin_key=ADMIN_KEY,
        accounts_max_age_s=MAX_AGE_S,
    )
    keyring = Keyring(here)
    revoked, kept = (keyring.key("default", "classify") for _ in range(2))
    for key in (revoked, kept):
        eventually(lambda key=key: status(away, key) == 200)
    getattr(way, fault)()
    path = f"/admin/tenants/default/keys/{revoked.split('_')[1]}"
    here.client.delete(path, headers=bearer(ADMIN_KEY)).raise_for_status()
    assert status(away, revoked) == 200, "a short outage costs no request"
    eventually(lambda: status(away, revoked) == 503, within_s=MAX_AGE_S + 2)
    check_refused(away, kept, str(way.port), "127.0.0.1")
    for headers in ({}, bearer("sp_x")):
        check_problem(away.client.get("/tasks", headers=headers), 401, "unauthenticated")
    assert status(here, kept) == 200
    way.mend()
    eventually(lambda: status(away, kept) == 200)
    assert status(away, revoked) == 401
    # the registry has a poll of its own, which may come back after that of the accounts
    eventually(lambda: away.client.get("/healthz/ready").json()["degraded"] is False)


@pytest.mark.slow
def test_accounts_that_cannot_be_read_for_another_reason_age_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the poll is no outage, and keeps no key alive either."""
    server = serve(require_keys=True, admin_key=ADMIN_KEY, accounts_max_age_s=MAX_AGE_S)
    store = server.app.state.runtime.tenancy.accounts.store  # type: ignore[attr-defined]

    def fail() -> int:
        raise KeyError("a bug")

    monkeypatch.setattr(store, "revision", fail)
    eventually(lambda: status(server, ADMIN_KEY) == 503, within_s=MAX_AGE_S + 2)
    check_refused(server, ADMIN_KEY)
    monkeypatch.undo()
    eventually(lambda: status(server, ADMIN_KEY) == 200)


def test_one_key_that_cannot_be_read_is_refused_alone(place: str, serve: Serve) -> None:
    """A role of a newer server must not keep all others at what they were."""
    server = serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    odd, good = (keyring.key("default", "classify") for _ in range(2))
    odd_id = odd.split("_")[1]
    storage = open_storage(place)
    if isinstance(storage, RedisStore):
        value = json.loads(storage.client.hget(storage.key("accounts", "keys"), odd_id) or b"")  # type: ignore[arg-type]
        storage.client.hset(storage.key("accounts", "keys"), odd_id, json.dumps(value | {"role": "auditor"}))
    else:
        assert isinstance(storage, SqliteFile)
        with storage.transaction("IMMEDIATE") as db:
            row = db.execute("SELECT value FROM account_keys WHERE id=?", (odd_id,)).fetchone()
            value = json.dumps(json.loads(row["value"]) | {"role": "auditor"}).encode()
            db.execute("UPDATE account_keys SET value=? WHERE id=?", (value, odd_id))
    later = keyring.key("default", "classify")
    assert [status(server, key) for key in (odd, good, later)] == [401, 200, 200]


def test_the_default_age_outlasts_a_restart_of_the_store(serve: Serve) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    assert server.settings.accounts_max_age_s == 600
    assert server.client.get("/healthz/ready").status_code == 200
    assert sample(server, "superpos_accounts_age_seconds") < 60
