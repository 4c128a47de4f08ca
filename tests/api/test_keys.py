"""Keys over HTTP: who reaches which route, for how long, and what a tenant learns of another: nothing."""

import json
import logging
from collections import Counter
from collections.abc import Callable

import pytest
from support.adapters import PAIR, make_adapter
from support.http import check_problem
from support.redis import RedisServer
from support.routes import DECIDED
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]

FILL = {"ref": "nothing", "task": "nothing", "model": "nothing", "alias": "canary", "version": "1"}
FILL |= {"name": "README.md", "tenant": "nobody", "key": "nokey"}


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    """A server that answers nobody without a key."""
    return serve(require_keys=True, admin_key=ADMIN_KEY)


@pytest.fixture
def keyring(server: RunningServer) -> Keyring:
    return Keyring(server)


def test_a_key_is_taken_from_either_header(server: RunningServer) -> None:
    get = server.client.get
    assert get("/tasks", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200
    assert get("/tasks", headers={"authorization": f"bearer  {ADMIN_KEY}"}).status_code == 200
    assert get("/tasks", headers={"X-API-Key": ADMIN_KEY}).status_code == 200
    assert get("/tasks", headers={"Authorization": "Basic x", "X-API-Key": ADMIN_KEY}).status_code == 200
    assert get("/tasks", headers={"Authorization": f"Bearer {ADMIN_KEY}", "X-API-Key": "sp_x"}).status_code == 200
    for headers in ({}, {"Authorization": ADMIN_KEY}, {"Authorization": "Basic x"}):
        response = get("/tasks", headers=headers)
        check_problem(response, 401, "unauthenticated", "no key", "Authorization: Bearer sp_")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    for wrong in ("sp_x", "x" * 10_000, ADMIN_KEY + "0", "sp_nobody_" + "0" * 43):
        check_problem(get("/tasks", headers=bearer(wrong)), 401, "unauthenticated", "the key is invalid")


def test_without_a_key_no_body_is_read(server: RunningServer) -> None:
    """A megabyte that is no JSON: whoever parsed it would answer 400, whoever counted it 413."""
    for headers in ({}, bearer("sp_x")):
        response = server.client.post(
            "/classify/x", content=b"{" * (3 << 20), headers={"Content-Type": "application/json", **headers}
        )
        check_problem(response, 401, "unauthenticated")


@pytest.mark.slow
def test_a_key_is_in_no_log_and_no_answer_but_its_first(
    server: RunningServer, keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = keyring.key("default", "classify")
    secret = key.split("_", 2)[2]  # which may hold underscores itself
    answers = [
        server.client.get("/tasks", headers=bearer(key)),
        server.client.get("/tasks", headers=bearer(key + "x")),
        server.client.get("/admin/tenants", headers=bearer(key)),
        server.client.get("/admin/tenants/default/keys", headers=bearer(ADMIN_KEY)),
        server.client.get("/admin/audit", headers=bearer(ADMIN_KEY)),
        server.client.get("/metrics"),
    ]
    told = "".join(answer.text + repr(answer.headers) for answer in answers)
    assert len(caplog.records) >= len(answers)
    logged = "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for hidden in (secret, ADMIN_KEY.rpartition("_")[2]):
        assert hidden not in told
        assert hidden not in logged
    assert ADMIN_KEY not in repr(server.settings)


@pytest.mark.slow
def test_a_revoked_key_is_refused_by_another_replica_within_a_second(serve: Serve, redis_server: RedisServer) -> None:
    place = redis_server.place()
    a, b = (serve(registry=place, require_keys=True, admin_key=ADMIN_KEY, poll_interval_s=5) for _ in range(2))
    keyring = Keyring(a)
    keyring.tenant("acme")
    revoked, suspended = keyring.key("acme", "classify"), keyring.key("acme", "classify")
    for key in (revoked, suspended):
        eventually(lambda key=key: b.client.get("/tasks", headers=bearer(key)).status_code == 200, within_s=1)
    path = f"/admin/tenants/acme/keys/{revoked.split('_')[1]}"
    assert a.client.delete(path, headers=bearer(ADMIN_KEY)).status_code == 204
    assert a.client.get("/tasks", headers=bearer(revoked)).status_code == 401
    eventually(lambda: b.client.get("/tasks", headers=bearer(revoked)).status_code == 401, within_s=1)
    keyring.change("acme", suspended=True)
    eventually(lambda: b.client.get("/tasks", headers=bearer(suspended)).status_code == 401, within_s=1)
    keyring.change("acme", suspended=False)
    eventually(lambda: b.client.get("/tasks", headers=bearer(suspended)).status_code == 200, within_s=1)


@pytest.mark.slow
def test_a_rotated_key_has_two_secrets_for_a_while(server: RunningServer, keyring: Keyring) -> None:
    old = keyring.key("default", "classify")
    path = f"/admin/tenants/default/keys/{old.split('_')[1]}/rotate"
    kept = server.client.post(path, json={"overlap_s": 600}, headers=bearer(ADMIN_KEY)).raise_for_status().json()
    assert kept["id"] == old.split("_")[1]
    assert len(kept["old_secrets_until"]) == 1
    for key in (old, kept["key"]):
        assert server.client.get("/tasks", headers=bearer(key)).status_code == 200
    alone = server.client.post(path, json={"overlap_s": 0}, headers=bearer(ADMIN_KEY)).raise_for_status()
    assert alone.headers["Cache-Control"] == "no-store"
    assert server.client.get("/tasks", headers=bearer(alone.json()["key"])).status_code == 200
    for key in (old, kept["key"]):
        assert server.client.get("/tasks", headers=bearer(key)).status_code == 401


def registry_calls(server: RunningServer) -> Counter[str]:
    """What was asked of the registry until now, by operation; not by the follower, which asks all the time."""
    lines = server.client.get("/metrics").text.splitlines()
    name = "superpos_registry_duration_seconds_count{"
    counts = [line.removeprefix(name).split("} ") for line in lines if line.startswith(name)]
    return Counter({operation: int(float(count)) for operation, count in counts if "changes" not in operation})


@pytest.mark.slow
def test_another_tenants_task_answers_in_everything_as_one_that_is_not_there(
    server: RunningServer, keyring: Keyring, tiny: Backbone
) -> None:
    for tenant in ("acme", "zeta"):
        keyring.tenant(tenant)
    theirs, ours = keyring.key("acme", "publish"), keyring.key("zeta", "publish")
    for name in ("secret", "secret-2"):
        parts = [("files", (file, data)) for file, data in to_files(make_adapter(tiny, PAIR)).items()]
        url = f"/tasks/{name}/versions"
        server.client.post(url, files=parts, data={"alias": "canary"}, headers=bearer(theirs)).raise_for_status()
    bodies: dict[str, dict[str, object]] = {
        "POST /classify": {"inputs": "a", "tasks": ["NAME"]},
        "PUT /tasks/{task}/aliases/{alias}": {"version": 1},
        "PUT /tasks/{task}/traffic": {"canary": 1, "percent": 5},
        "POST /tasks/{task}/rollback": {},
        "POST /tasks/{task}/promote": {"version": 1},
        "POST /v1/classify": {"model": "NAME", "input": "a"},
    }
    infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    asked = 0
    for (method, path), role in DECIDED.items():
        body = bodies.get(f"{method} {path}", infer if "infer" in path else {"inputs": "a"})
        names_a_task = any(part in path for part in ("{task}", "{ref}", "{model}")) or "NAME" in json.dumps(body)
        if (
            role not in {"classify", "publish"}
            or not names_a_task
            or path in {"/tasks/{task}/versions", "/tasks/{task}/jobs"}
        ):
            continue
        answers = []
        for name in ("secret", "missing"):
            before = registry_calls(server)
            fill = FILL | dict.fromkeys(("ref", "task", "model"), name)
            has_body = method in {"POST", "PUT"}
            response = server.client.request(
                method,
                path.format(**fill),
                headers={**bearer(ours), "X-Request-ID": "same"},
                json=json.loads(json.dumps(body).replace("NAME", name)) if has_body else None,
            )
            heads = {k: v for k, v in response.headers.items() if k not in {"date", "content-length", "server-timing"}}
            calls = registry_calls(server) - before
            answers.append((response.status_code, heads, response.text.replace(name, "NAME"), calls))
        assert answers[0] == answers[1], f"{method} {path}"
        assert answers[0][0] in {404, 501}, f"{method} {path}: {answers[0]}"
        asked += 1
    assert asked >= 20
    assert server.client.get("/tasks", headers=bearer(ours)).json()["tasks"] == []
    assert json.dumps(server.client.get("/v1/models", headers=bearer(ours)).json()).count("secret") == 0


def test_who_did_what_is_told_to_administrators(server: RunningServer, keyring: Keyring, tiny: Backbone) -> None:
    keyring.tenant("acme", max_tasks=2)
    key = keyring.key("acme", "publish")
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
    server.client.post("/tasks/sst2/versions", files=parts, headers=bearer(key)).raise_for_status()
    get = server.client.get
    entries = get("/admin/audit", headers=bearer(ADMIN_KEY)).json()["entries"]
    by_admin = [(entry["actor"], entry["action"], entry["tenant"], entry["key"]) for entry in entries]
    assert by_admin == [
        ("settings", "key_created", "default", "admin"),
        ("key:admin", "tenant_created", "acme", None),
        ("key:admin", "key_created", "acme", key.split("_")[1]),
    ]
    rest = get("/admin/audit", params={"since": entries[0]["position"], "limit": 1}, headers=bearer(ADMIN_KEY))
    assert rest.json()["entries"] == entries[1:2]
    changes = get("/admin/audit/tasks", headers=bearer(ADMIN_KEY)).json()["entries"]
    assert [(c["actor"], c["action"], c["tenant"], c["task"]) for c in changes] == [
        (f"key:{key.split('_')[1]}", "published", "acme", "sst2"),
        (f"key:{key.split('_')[1]}", "alias_set", "acme", "sst2"),
    ]


@pytest.mark.slow
def test_a_server_without_keys_takes_everybody_for_its_one_tenant(serve: Serve) -> None:
    server = serve()
    assert server.client.get("/admin/tenants").json() == {"tenants": []}
    assert server.client.get("/tasks", headers=bearer("sp_x")).status_code == 200
