"""A Redis that speaks TLS, asks for a client's certificate, and knows Superpos as a user with few rights."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import redis
import redis.asyncio
from support.adapters import SENTIMENT, make_adapter
from support.certificates import Certificates
from support.cli import superpos
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters import OutcomeUnknown, RegistryUnavailable
from adapters.files import to_files
from adapters.registry.opening import open_registry
from adapters.storage.opening import open_storage
from adapters.storage.redis import RedisStore, connect
from backbone import Backbone
from deploy.platform import free_ports
from deploy.replicated_redis import make_replicated_redis

USERS = Path(__file__).parents[2] / "deploy" / "redis-users.acl"
PASSWORD = "s/cret"
Serve = Callable[..., RunningServer]
pytestmark = [
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates need openssl"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(
    tls_redis: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A Redis with the users of the file that the project ships, and an administrator."""
    folder = tmp_path_factory.mktemp("guarded")
    users = USERS.read_text(encoding="ascii").replace("PASSWORD", PASSWORD)
    (folder / "users.acl").write_text(f"{users}user admin on >admin ~* &* +@all\n", encoding="ascii")
    options = ("--aclfile", str(folder / "users.acl"))
    server = RedisServer(folder, options=options, program=tls_redis, certificates=certificates)
    server.start()
    yield server
    server.close()


def url_of(server: RedisServer, files: dict[str, str], *, user: str = "superpos", password: str = PASSWORD) -> str:
    login = f"//{user}:{quote(password, safe='')}@"
    return f"{server.url.replace('//', login)}?{urlencode(files)}"


def test_a_server_does_everything_with_few_rights(
    serve: Serve, guarded: RedisServer, certificates: Certificates, tiny: Backbone, tmp_path: Path
) -> None:
    """Redis itself keeps a log of every command that it refused."""
    admin = guarded.client("admin", "admin")
    admin.acl_log_reset()
    place = url_of(guarded, certificates.of("client"))
    one, other = (
        serve(registry=place, require_keys=True, admin_key=ADMIN_KEY, max_log_entries=1, max_audit_entries=1)
        for _ in range(2)
    )
    keyring = Keyring(one)
    keyring.tenant(
        "acme",
        retention_days=1,
        requests_per_s=50,
        tokens_per_min=100_000,
        max_concurrency=8,
        max_tasks=9,
        max_versions=9,
    )
    key = bearer(keyring.key("acme", "publish"))
    for number in range(3):
        files = to_files(make_adapter(tiny, SENTIMENT, seed=number))
        parts = [("files", (name, data)) for name, data in files.items()]
        one.client.post("/tasks/sentiment/versions", files=parts, headers=key).raise_for_status()
    aliases, traffic = "/tasks/sentiment/aliases/canary", "/tasks/sentiment/traffic"
    one.client.put(aliases, json={"version": 2}, headers=key).raise_for_status()
    one.client.put(traffic, json={"canary": 2, "percent": 50, "shadow": 1}, headers=key).raise_for_status()
    body = {"inputs": ["a gripping film", "flat"]}
    eventually(lambda: other.client.post("/classify/sentiment", json=body, headers=key).status_code == 200)
    one.client.post("/classify/sentiment", json=body, headers=key).raise_for_status()
    one.client.delete(traffic, headers=key).raise_for_status()
    one.client.delete(aliases, headers=key).raise_for_status()
    one.client.post("/tasks/sentiment/rollback", json={}, headers=key).raise_for_status()
    one.client.get("/tasks/sentiment", headers=key).raise_for_status()
    one.client.get("/tasks/sentiment/history", headers=key).raise_for_status()
    one.client.delete("/tasks/sentiment/versions/1", headers=key).raise_for_status()
    for text in ("a gripping film", "flat"):
        correction = {"task": "sentiment", "input": text, "label": "positive", "who": "ann"}
        one.client.post("/feedback", json=correction, headers=key).raise_for_status()
    for path in ("/tasks/sentiment/feedback?limit=1", "/tasks/sentiment/feedback/export", "/feedback"):
        one.client.get(path, headers=key).raise_for_status()
    one.client.delete("/feedback?who=ann", headers=key).raise_for_status()
    for path in ("/usage", "/admin/tenants", "/admin/audit"):
        one.client.get(path, headers=bearer(ADMIN_KEY)).raise_for_status()
    keyring.tenant("gone")
    keyring.key("gone", "classify")
    one.client.delete("/admin/tenants/gone", headers=bearer(ADMIN_KEY)).raise_for_status()
    open_registry(place).trim_log(keep=1)
    (secret := tmp_path / "superpos_registry").write_text(place, encoding="ascii")
    copied = superpos("registry", "copy", f"@{secret}", tmp_path / "copy.sqlite")
    assert copied.code == 0, copied.stderr
    assert one.client.get("/healthz/ready").json()["degraded"] is False
    with pytest.raises(OutcomeUnknown):  # Redis has no replica
        open_registry(f"{place}&min_replicas=1").delete_alias("acme", "sentiment", "production", actor="ann")
    assert admin.acl_log() == []


def test_the_user_may_not_administer_redis_or_touch_other_keys(
    guarded: RedisServer, certificates: Certificates
) -> None:
    storage = open_storage(url_of(guarded, certificates.of("client")))
    assert isinstance(storage, RedisStore)
    for command in (
        ["FLUSHALL"], ["FLUSHDB"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["SCRIPT", "FLUSH"], ["ACL", "LIST"],
        ["CLIENT", "KILL", "TYPE", "normal"], ["SHUTDOWN"], ["PUBLISH", "superpos:x", "y"], ["GET", "other:key"],
        ["EVAL", "return redis.call('GET', 'other:key')", "0"],
    ):  # fmt: skip
        with pytest.raises(RegistryUnavailable, match=r"permission|can't access"), storage.reaching():
            storage.client.execute_command(*command)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ssl_certfile": None, "ssl_keyfile": None}, "certificate required"),
        ({"stranger": "ssl_certfile ssl_keyfile"}, "unknown ca|certificate"),
        ({"stranger": "ssl_ca_certs"}, "certificate verify failed"),
        ({"ssl_ca_certs": None}, "certificate verify failed"),
        ({"ssl_ca_certs": "/missing/ca.crt"}, "ssl_ca_certs /missing/ca.crt: No such file or directory"),
        ({"ssl_certfile": "/missing/tls.crt"}, "ssl_certfile /missing/tls.crt: No such file or directory"),
        ({"stranger": "ssl_keyfile"}, "client.crt and .*client.key: .*expected certificates in PEM, and a key"),
        ({"user": "nobody"}, "invalid username-password pair"),
        ({"password": "wrong"}, "invalid username-password pair"),
    ],
)
def test_what_waiting_does_not_mend_is_reported_at_once(
    guarded: RedisServer, certificates: Certificates, tmp_path: Path, change: dict[str, str | None], reason: str
) -> None:
    files = certificates.of("client")
    login = {name: value for name, value in change.items() if name in ("user", "password") and value}
    for option in (change.get("stranger") or "").split():
        files[option] = Certificates(tmp_path / "stranger").of("client")[option]
    for option, path in change.items():
        if option.startswith("ssl_"):
            files = {**files, option: path} if path else {name: at for name, at in files.items() if name != option}
    started = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=reason) as caught:
        open_storage(url_of(guarded, files, **login), wait_s=60)
    assert time.monotonic() < started + 30
    assert "cret" not in str(caught.value).replace("secret", "")
    assert "wrong" not in str(caught.value)


def test_sentinels_that_speak_tls_lead_to_a_master_that_does(
    tls_redis: Path, certificates: Certificates, tiny: Backbone, tmp_path: Path
) -> None:
    ports, files = free_ports(3), certificates.of("server")
    certificate = (Path(files["ssl_certfile"]), Path(files["ssl_keyfile"]), Path(files["ssl_ca_certs"]))
    replicated = make_replicated_redis(
        tmp_path, tls_redis, ports[:2], ports[2:], sink=lambda *_: None, certificate=certificate
    )
    replicated.start()
    try:
        place = replicated.url(min_replicas=1)
        storage = open_storage(place, wait_s=10)
        assert open_registry(storage).publish("acme", "sst2", to_files(make_adapter(tiny)), actor="ann").version == 1

        async def ping() -> bool:
            async with redis.asyncio.Redis.from_pool(connect(place).async_pool) as client:
                return bool(await client.ping())

        assert asyncio.run(ping())
        without_certificate = place.partition("&ssl_")[0]
        with pytest.raises(RegistryUnavailable, match=r"a sentinel refused the connection: .*certificate"):
            open_storage(without_certificate, wait_s=100_000)
    finally:
        replicated.stop()


def test_a_redis_that_starts_later_is_waited_for(tls_redis: Path, certificates: Certificates, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, program=tls_redis, certificates=certificates)
    place = f"{server.url}?{urlencode(certificates.of('client'))}"
    with pytest.raises(RegistryUnavailable, match="refused"):
        open_storage(place, wait_s=0.2)
    server.start()
    open_storage(place, wait_s=10)
    server.close()


def test_a_password_is_replaced_without_a_moment_in_which_none_is_valid(
    guarded: RedisServer, certificates: Certificates
) -> None:
    admin = guarded.client("admin", "admin")
    old, new = (url_of(guarded, certificates.of("client"), password=each) for each in (PASSWORD, "n/ew"))
    open_registry(old)
    admin.execute_command("ACL", "SETUSER", "superpos", ">n/ew")
    for place in (old, new):
        open_registry(place).list("default")
    admin.execute_command("ACL", "SETUSER", "superpos", f"<{PASSWORD}")
    open_registry(new).list("default")
    with pytest.raises(RegistryUnavailable, match="username-password"):
        open_registry(old)
    admin.execute_command("ACL", "SETUSER", "superpos", f">{PASSWORD}", "<n/ew")
    with pytest.raises(redis.AuthenticationError):
        guarded.client("superpos", "n/ew").ping()
