"""Who gets in: sign-in, the session's cookie, forms of other sites, roles, and keys that end."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

import service.console
from service.console.views import VIEWS

SAME = {"Sec-Fetch-Site": "same-origin"}
ROLES = ("classify", "publish", "admin", "operator")


def sign_in(server: RunningServer, key: str) -> httpx2.Client:
    client = httpx2.Client(base_url=server.url, timeout=60, verify=False)
    answer = client.post("/console/sign-in", data={"key": key}, headers=SAME)
    assert answer.status_code == 303, answer.text
    return client


def token_of(client: httpx2.Client) -> str:
    found = re.search(r'"X-CSRF-Token": "([0-9a-f]+)"', client.get("/console/").text)
    assert found is not None
    return found[1]


def test_a_session_is_a_random_id_that_scripts_and_other_sites_cannot_use(server: RunningServer) -> None:
    answer = server.client.post("/console/sign-in", data={"key": ADMIN_KEY, "next": "//evil.test"}, headers=SAME)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= set(cookie.split("; "))
    assert ADMIN_KEY.rpartition("_")[2] not in cookie
    assert "Secure" not in cookie, "the server speaks plain HTTP here"
    server.client.cookies.clear()


def test_every_page_has_a_strict_policy_and_nothing_inline(server: RunningServer) -> None:
    client = sign_in(server, ADMIN_KEY)
    for path in ("/console/", "/console/sign-in", "/console/nothing"):
        answer = client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "no-store" in answer.headers["Cache-Control"]
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    [script] = re.findall(r'src="(/console/static/[^"]+htmx.js)"', client.get("/console/").text)
    assert "immutable" in client.get(script).headers["Cache-Control"]
    client.close()


def test_without_a_session_every_page_leads_to_the_sign_in(server: RunningServer) -> None:
    for each in VIEWS:
        answer = server.client.request(each.method, "/console" + filled(each.path), headers=SAME)
        assert (answer.status_code, answer.headers["Location"].partition("?")[0]) == (303, "/console/sign-in"), (
            each.path
        )
    linked = server.client.get("/console/", headers={"Sec-Fetch-Site": "cross-site"})
    assert 'http-equiv="refresh"' in linked.text, "the browser withholds the cookie from a link on another site"


def filled(path: str) -> str:
    return re.sub(r"{(\w+)(:\w+)?}", lambda match: "1" if match[1] == "version" else "any", path)


@pytest.mark.parametrize("role", ROLES)
def test_a_page_is_for_its_role_and_forms_need_their_token(server: RunningServer, role: str) -> None:
    key = ADMIN_KEY if role == "operator" else Keyring(server).key("acme", role)
    client = sign_in(server, key)
    token = token_of(client)
    for each in VIEWS:
        path = "/console" + filled(each.path)
        may = ROLES.index(role) >= ROLES.index(each.role)
        if each.method == "POST":
            for headers in ({}, SAME, {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}):
                assert client.post(path, headers=headers).status_code == 403, path
            continue
        with client.stream("GET", path) as answer:  # the live page's stream has no end
            assert (answer.status_code == 403) is not may, f"{path}: {answer.status_code}"
    client.close()


def test_a_session_ends_with_its_key(server: RunningServer) -> None:
    key = Keyring(server).key("acme", "publish")
    client, other = sign_in(server, key), sign_in(server, key)
    assert other.post("/console/sign-out", headers=SAME).status_code == 303
    assert other.get("/console/").status_code == 303
    assert client.get("/console/").status_code == 200
    url = f"/admin/tenants/acme/keys/{key.split('_')[1]}"
    server.client.post(f"{url}/rotate", json={"overlap_s": 0}, headers=bearer(ADMIN_KEY)).raise_for_status()
    eventually(lambda: client.get("/console/").status_code == 303)
    client.close()
    other.close()


def test_a_wrong_key_is_refused_and_counted(server: RunningServer) -> None:
    answer = server.client.post("/console/sign-in", data={"key": "sp_admin_" + "x" * 40}, headers=SAME)
    assert answer.status_code == 401
    assert "the key is invalid or has expired" in answer.text
    foreign = server.client.post("/console/sign-in", data={"key": ADMIN_KEY}, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert "Set-Cookie" not in foreign.headers


@pytest.mark.parametrize("storage", ["sqlite", "redis"])
def test_replicas_share_sessions_and_the_oldest_of_a_key_end(
    storage: str, serve: Callable[..., RunningServer], request: pytest.FixtureRequest
) -> None:
    options: dict[str, object] = {"require_keys": True, "admin_key": ADMIN_KEY}
    if storage == "redis":
        found: RedisServer = request.getfixturevalue("redis_server")
        options["registry"] = found.url
    first, second = serve(**options), serve(**options)
    client = sign_in(first, ADMIN_KEY)
    shared = {"Cookie": f"superpos_console={client.cookies['superpos_console']}"}
    assert second.client.get("/console/", headers=shared).status_code == 200
    for _ in range(20):
        sign_in(first, ADMIN_KEY).close()
    assert second.client.get("/console/", headers=shared).status_code == 303
    client.close()


def test_the_console_can_be_switched_off(serve: Callable[..., RunningServer]) -> None:
    off = serve(console=False)
    assert off.client.get("/console/").status_code == 404
    assert off.client.get("/").json()["console"] is None


def test_without_keys_everyone_is_the_operator(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    page = server.client.get("/console/")
    assert page.status_code == 200
    assert "no keys: operator" in page.text
    assert server.client.get("/").json()["console"] == "/console"


def test_vendored_scripts_are_the_published_files() -> None:
    static = Path(service.console.__file__).parent / "static"
    vendored = json.loads((static / "vendored.json").read_text(encoding="utf-8"))
    for name, origin in vendored.items():
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == origin["sha256"], name
        licence = (static / name).with_suffix(".LICENSE").read_text(encoding="utf-8")
        assert "Zero-Clause BSD" in licence, f"{name}: {origin['licence']}"
