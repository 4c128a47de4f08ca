"""A role that is root everywhere: there is none. Five identities, every route, the resources of two tenants."""

import dataclasses
import json
import re
from collections.abc import Callable

import httpx2
import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.http import check_problem
from support.jobs import make_job
from support.routes import DECIDED, ROLES, routes
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters.storage.opening import open_storage
from adapters.storage.redis import RedisStore
from adapters.storage.sqlite import SqliteFile
from backbone import Backbone
from service.jobs.queue import open_jobs
from service.tenancy.accounts import open_accounts
from service.tenancy.models import TenantInfo

Serve = Callable[..., RunningServer]
RANKS = tuple(ROLES)
TENANTS = ("acme", "zeta")
REFUSED = {401, 403, 404}


@dataclasses.dataclass(frozen=True)
class Identity:
    """Somebody who sends requests: a tenant, the role of its key, and the key."""

    name: str
    tenant: str | None
    role: str
    key: str | None

    def expected(self, needed: str, *, owner: str, names_a_tenant: bool, names_a_task: bool) -> int | None:
        """The refusal of a route on a resource of `owner`; None where it is answered."""
        if needed == "open":
            return None
        if self.key is None:
            return 401
        if RANKS.index(self.role) < RANKS.index(needed):
            return 403
        if names_a_tenant:
            return None if self.role == "operator" or self.tenant == owner else 404
        return 404 if names_a_task and self.tenant != owner else None


@pytest.fixture(scope="module")
def server(serve_module: Serve, tiny: Backbone) -> RunningServer:
    """A server with two tenants, each with a task of three versions."""
    server = serve_module(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    for number, tenant in enumerate(TENANTS):
        keyring.tenant(tenant, retention_days=1)
        key = keyring.key(tenant, "publish")
        for version, alias in enumerate(("production", "production", "doomed"), start=1):
            server.upload(task_of(tenant), make_adapter(tiny, seed=10 * number + version), key=key, alias=alias)
        put = server.client.put
        for alias, at in (("canary", 1), ("doomed", 1)):
            url = f"/tasks/{task_of(tenant)}/aliases/{alias}"
            put(url, json={"version": at}, headers=bearer(key)).raise_for_status()
    return server


@pytest.fixture(scope="module")
def identities(server: RunningServer) -> list[Identity]:
    keyring = Keyring(server)
    return [
        Identity("nobody", None, "open", None),
        Identity("a reader of acme", "acme", "classify", keyring.key("acme", "classify")),
        Identity("acme's administrator", "acme", "admin", keyring.key("acme", "admin")),
        Identity("zeta's administrator", "zeta", "admin", keyring.key("zeta", "admin")),
        Identity("the operator", "default", "operator", ADMIN_KEY),
    ]


def task_of(tenant: str) -> str:
    return f"task-of-{tenant}"


TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
BODIES: dict[str, dict[str, object]] = {
    "POST /classify": {"inputs": "a", "tasks": ["TASK"]},
    "POST /v1/classify": {"model": "TASK", "input": "a"},
    "POST /v1/moderations": {"model": "TASK", "input": "a"},
    "POST /v2/models/{model}/infer": TENSOR,
    "POST /v2/models/{model}/versions/{version}/infer": TENSOR,
    "POST /feedback": {"task": "TASK", "input": "a", "label": "positive"},
    "POST /tasks/{task}/jobs": {},  # refused for what it is, by everybody who may ask for a job
    "POST /jobs/{job}/cancel": {},
    "PUT /tasks/{task}/aliases/{alias}": {"version": 1},
    "PUT /tasks/{task}/traffic": {"shadow": 1},
    "POST /tasks/{task}/rollback": {},
    "POST /tasks/{task}/promote": {"version": 2, "force": True},
    "POST /admin/tenants": {"id": "made"},
    "PATCH /admin/tenants/{tenant}": {"weight": 2},
    "POST /admin/tenants/{tenant}/keys": {"role": "classify"},
    "PATCH /admin/tenants/{tenant}/keys/{key}": {"default_task": "a"},
    "POST /admin/tenants/{tenant}/keys/{key}/rotate": {},
}
WITHOUT_BODY = {"POST /jobs/{job}/cancel"}
BY_HEADER = {"POST /predict", "GET /info"}
"""Routes that read the task from a header."""


def ask(server: RunningServer, method: str, path: str, key: str | None, *, tenant: str, task: str) -> httpx2.Response:
    """Send a request that would succeed for the owner of a tenant and a task."""
    where = f"{method} {path}"
    fill = dict.fromkeys(("ref", "task", "model"), task) | {"tenant": tenant, "name": "superpos.json", "key": "nokey"}
    fill["version"] = "3" if method == "DELETE" else "1"
    fill["alias"] = "doomed" if method == "DELETE" else "canary"
    if "{key}" in path and tenant in TENANTS:
        fill["key"] = Keyring(server).key(tenant, "classify").split("_")[1]
    if where == "DELETE /admin/tenants/{tenant}" and key == ADMIN_KEY:  # the one that may: of another tenant
        fill["tenant"] = f"{tenant}-2"
        Keyring(server).tenant(fill["tenant"])
    if "{job}" in path:
        fill["job"] = a_job_of(server, tenant)
    headers = {"X-Request-ID": "same"} | ({} if key is None else bearer(key))
    if where in BY_HEADER:
        headers["X-Superpos-Task"] = task
    body: dict[str, object] = {}
    if path.endswith("/versions") and method == "POST":
        body = {"files": [("other", b"")]}  # refused for what it is, by everybody who may upload
    elif method not in {"GET", "HEAD", "DELETE"} and where not in WITHOUT_BODY:
        body = {"json": json.loads(json.dumps(BODIES.get(where, {"inputs": "a"})).replace("TASK", task))}
    return server.client.request(method, path.format(**fill), headers=headers, **body)


def a_job_of(server: RunningServer, tenant: str) -> str:
    """The id of a training job of a tenant; of one that does not exist, an id that no job has."""
    if tenant not in TENANTS:
        return make_job(99, tenant=tenant).id
    queue = open_jobs(server.app.state.runtime.storage)  # type: ignore[attr-defined]
    known = queue.store.jobs(tenant)
    return (
        known[0].id if known else queue.submit(make_job(1 + TENANTS.index(tenant), tenant=tenant), b"", max_jobs=1).id
    )


def state(server: RunningServer) -> tuple[int, int]:
    """What grows with every change of an account and of a task."""
    runtime = server.app.state.runtime  # type: ignore[attr-defined]
    changes = runtime.registry.store.changes()
    return runtime.tenancy.accounts.store.revision(), changes[-1].position


def names_a_task(method: str, path: str) -> bool:
    where = f"{method} {path}"
    by_body = "TASK" in json.dumps(BODIES.get(where, {}))
    in_path = any(part in path for part in ("{task}", "{ref}", "{model}", "{job}"))
    # in the caller's own tenant, under any name
    creates = path in ("/tasks/{task}/versions", "/tasks/{task}/jobs") and method == "POST"
    return (in_path or by_body or where in BY_HEADER) and not creates


@pytest.mark.slow
def test_a_role_that_is_root_everywhere(server: RunningServer, identities: list[Identity]) -> None:
    """Each identity asks each route for what is acme's and for what is zeta's."""
    assert isinstance(server.app, FastAPI)
    assert {found: DECIDED.get(found) for found in routes(server.app.routes)} == DECIDED
    for (method, path), needed in DECIDED.items():
        names_a_tenant = "{tenant}" in path
        for who in identities:
            for owner in TENANTS if "{" in path or names_a_task(method, path) else TENANTS[:1]:
                where = f"{method} {path} of {owner} as {who.name}"
                before = state(server) if "{key}" not in path else None  # those cells make a key to act upon
                answer = ask(server, method, path, who.key, tenant=owner, task=task_of(owner))
                expected = who.expected(
                    needed,
                    owner=owner,
                    names_a_tenant=names_a_tenant,
                    names_a_task=names_a_task(method, path),
                )
                found = answer.status_code if answer.status_code in REFUSED else None
                assert found == expected, f"{where}: {answer.status_code} {answer.text}"
                assert answer.status_code < 500 or answer.status_code == 501, f"{where}: {answer.text}"
                assert ("WWW-Authenticate" in answer.headers) == (expected == 401), where
                if method == "GET":
                    head = ask(server, "HEAD", path, who.key, tenant=owner, task=task_of(owner))
                    assert head.status_code == answer.status_code or f"GET {path}" in BY_HEADER, where
                if expected is not None and before is not None:
                    assert state(server) == before, f"{where}: refused, and something changed"
                if expected == 404 and needed != "operator":
                    missing = ask(server, method, path, who.key, tenant="missing", task="missing")
                    same = answer.text.replace(task_of(owner), "missing").replace(owner, "missing")
                    both = [re.sub(r"/keys/\w+", "/keys/KEY", text) for text in (same, missing.text)]
                    both = [re.sub(r"[0-9a-f]{24}", "JOB", text) for text in both]
                    assert both[0] == both[1], f"{where}: differs from what does not exist"


@pytest.mark.slow
def test_lists_hold_only_what_is_the_callers(server: RunningServer, identities: list[Identity]) -> None:
    """A list names no tenant in its path: whoever forgets to filter one shows everybody's."""
    lists = [
        path for (method, path), needed in DECIDED.items() if method == "GET" and needed != "open" and "{" not in path
    ]
    assert {"/tasks", "/usage", "/v1/models", "/admin/tenants", "/admin/audit", "/admin/audit/tasks"} <= set(lists)
    _, reader, of_acme, of_zeta, operator = identities
    for path in lists:
        for who, other in ((reader, "zeta"), (of_acme, "zeta"), (of_zeta, "acme")):
            text = server.client.get(path, params={}, headers=bearer(who.key or "")).text
            assert other not in text, f"{path} as {who.name}: {text}"
    for path in ("/admin/tenants", "/admin/audit", "/admin/audit/tasks"):
        text = server.client.get(path, headers=bearer(operator.key or "")).text
        assert "acme" in text
        assert "zeta" in text


def test_an_administrator_makes_no_key_above_itself_and_takes_none_over(serve: Serve) -> None:
    """Further members: a key's role, its rotation (which shows the new secret), its revocation."""
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    keyring.tenant("acme")
    admin, of_acme = keyring.key("default", "admin"), keyring.key("acme", "admin")
    operator_id = ADMIN_KEY.split("_")[1]
    keys = "/admin/tenants/default/keys"
    post, delete = server.client.post, server.client.delete
    refused = [
        post(keys, json={"role": "operator"}, headers=bearer(admin)),
        post(f"{keys}/{operator_id}/rotate", json={}, headers=bearer(admin)),
        delete(f"{keys}/{operator_id}", headers=bearer(admin)),
        server.client.patch("/admin/tenants/default", json={"max_tasks": None}, headers=bearer(admin)),
        server.client.get("/usage?tenant=acme", headers=bearer(admin)),
        post("/admin/tenants/acme/keys", json={"role": "operator"}, headers=bearer(of_acme)),
    ]
    for answer in refused:
        check_problem(answer, 403, "forbidden", "role is 'admin'")
    elsewhere = post("/admin/tenants/acme/keys", json={"role": "operator"}, headers=bearer(ADMIN_KEY))
    check_problem(elsewhere, 422, "invalid_request", "role 'operator' is for keys of tenant 'default'")
    for role in ("classify", "publish", "admin"):
        assert post("/admin/tenants/acme/keys", json={"role": role}, headers=bearer(of_acme)).status_code == 201
    assert server.client.get("/tasks", headers=bearer(ADMIN_KEY)).status_code == 200


def test_an_administrators_changes_are_bounded(serve: Serve) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY, max_key_changes_per_hour=3)
    keyring = Keyring(server)
    keyring.tenant("acme")
    key = keyring.key("acme", "admin")
    answers = [server.client.post("/admin/tenants/acme/keys", json={}, headers=bearer(key)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    check_problem(answers[-1], 429, "rate_limited", "changes limit: tenant 'acme' may use 3 changes per 3600 s")
    keyring.key("acme", "classify")  # the operator's are not


def as_before_operators(place: str) -> None:
    """Rewrite a store's keys as they were stored before there were operators."""
    storage = open_storage(place)
    if isinstance(storage, RedisStore):
        name = storage.key("accounts", "keys")
        for key, value in storage.client.hgetall(name).items():  # type: ignore[union-attr]
            storage.client.hset(name, key, without_scope(value))
        return
    assert isinstance(storage, SqliteFile)
    with storage.transaction("IMMEDIATE") as db:
        for row in db.execute("SELECT * FROM account_keys").fetchall():
            db.execute("UPDATE account_keys SET value=? WHERE id=?", (without_scope(row["value"]), row["id"]))


def without_scope(value: bytes) -> bytes:
    stored = json.loads(value)
    assert stored["role"] in {"classify", "publish", "admin"}, "an older server reads every key"
    return json.dumps({name: each for name, each in stored.items() if name != "scope"}).encode()


def test_administrators_from_before_operators_neither_gain_nor_lose_silently(
    place: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = open_accounts(open_storage(place))
    for tenant in TENANTS:
        accounts.create_tenant(TenantInfo(id=tenant), actor="test")
    ours = accounts.create_key("default", "operator", actor="test").key
    theirs = accounts.create_key("acme", "admin", actor="test").key
    reader = accounts.create_key("acme", "classify", actor="test").key
    as_before_operators(place)

    caplog.set_level("INFO", logger="service")
    server = serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert f'"key": "{ours.id}"' in logged.replace("'", '"')
    assert "key_became_operator" in logged
    assert f'"key": "{theirs.id}"' in logged.replace("'", '"')
    assert "key_became_tenant_admin" in logged
    get = server.client.get
    for key in (ours.text, ADMIN_KEY):
        assert get("/admin/tenants/zeta", headers=bearer(key)).status_code == 200
    assert get("/admin/tenants/acme/keys", headers=bearer(theirs.text)).status_code == 200
    assert get("/admin/tenants/zeta", headers=bearer(theirs.text)).status_code == 404
    assert get("/admin/tenants", headers=bearer(reader.text)).status_code == 403
    entries = get("/admin/audit", headers=bearer(ADMIN_KEY)).json()["entries"]
    migrations = [entry["detail"] for entry in entries if entry["action"] == "roles_migrated"]
    assert migrations == ["1 keys became operator, 1 admin of their tenant"]

    # an administrator that the default tenant gets from now on stays one
    admin = Keyring(server).key("default", "admin")
    caplog.clear()
    again = serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)
    assert not [record for record in caplog.records if "key_became" in record.getMessage()]
    assert again.client.get("/admin/tenants/zeta", headers=bearer(admin)).status_code == 404
    assert again.client.get("/admin/tenants/zeta", headers=bearer(ours.text)).status_code == 200
