"""Nobody can be traced: each request's log entry names key and address, and refusals are counted and audited."""

import json
import time
from collections.abc import Callable
from io import StringIO

import httpx2
import pytest
from pydantic import ValidationError
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from service.settings import Settings
from service.tenancy import refusals

Serve = Callable[..., RunningServer]


@pytest.fixture
def log(logged: StringIO) -> Callable[[], list[dict[str, object]]]:
    """Return a function that returns the log's entries."""
    return lambda: [json.loads(line) for line in logged.getvalue().splitlines()]


def entry_of(log: Callable[[], list[dict[str, object]]], response: httpx2.Response) -> dict[str, object]:
    """Return the log entry of a request."""
    asked = response.headers["X-Request-ID"]
    found: list[dict[str, object]] = []

    def is_logged() -> bool:
        found[:] = [each for each in log() if each.get("request_id") == asked and each["event"] == "request"]
        return bool(found)

    eventually(is_logged)
    return found[0]


PEER = "127.0.0.1"
STATED = [
    ({"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
    ({"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}, "203.0.113.7"),
    ({"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 10.1.2.3"}, "203.0.113.7"),
    ({"X-Forwarded-For": "2001:db8::7"}, "2001:db8::7"),
    ({"X-Forwarded-For": "[2001:db8::7]:443"}, "2001:db8::7"),
    ({"Forwarded": "for=203.0.113.7"}, PEER),
    ({"X-Real-IP": "203.0.113.7"}, PEER),
    ({"X-Forwarded-For": "zanzibar" * 1_000}, "unknown"),
    ({"X-Forwarded-For": "fe80::1%zanzibar"}, "fe80::1"),
    ({"X-Forwarded-For": "::ffff:203.0.113.7"}, "203.0.113.7"),
    ({"X-Forwarded-For": ""}, PEER),
]


def test_an_address_is_believed_from_trusted_proxies_only(
    serve: Serve, log: Callable[[], list[dict[str, object]]]
) -> None:
    behind, direct = serve(trusted_proxies="127.0.0.0/8, 10.0.0.0/8"), serve()
    for headers, client in STATED:
        assert entry_of(log, behind.client.get("/tasks", headers=headers))["client"] == client, headers
        assert entry_of(log, direct.client.get("/tasks", headers=headers))["client"] == PEER
    assert "zanzibar" not in json.dumps(log())


@pytest.mark.parametrize("proxies", ["gateway", "0.0.0.0/0", "::/0", "10.0.0.1/8", "127.0.0.1,*"])
def test_proxies_that_name_no_network_or_everybody_are_refused(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"expected addresses or networks|trusts every client"):
        Settings(trusted_proxies=proxies)


def test_a_request_is_logged_with_the_id_of_its_key_and_never_with_the_key(
    serve: Serve, log: Callable[[], list[dict[str, object]]]
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    key = Keyring(server).key("default", "classify")
    key_id, secret = key.split("_", 2)[1:]
    for shown, status, named in (
        (key, 200, key_id),
        (key + "x", 401, key_id),  # a rotation that was forgotten, or a guess
        ("sp_stranger_" + "0" * 43, 401, None),
        (None, 401, None),
    ):
        answer = server.client.get("/tasks", headers={} if shown is None else bearer(shown))
        found = entry_of(log, answer)
        assert (answer.status_code, found.get("key")) == (status, named)
    found = entry_of(log, server.client.get("/admin/tenants", headers=bearer(key)))
    assert (found["status"], found["code"], found["key"], found["tenant"]) == (403, "forbidden", key_id, "default")
    text = json.dumps(log())
    for hidden in (secret, "stranger", ADMIN_KEY):
        assert hidden not in text


@pytest.mark.slow
def test_refusals_are_counted_and_sampled_into_the_audit_log_which_they_cannot_flood(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "INTERVAL_S", 0.5)
    server = serve(require_keys=True, admin_key=ADMIN_KEY, trusted_proxies="127.0.0.1")
    keyring = Keyring(server)
    keyring.tenant("acme")
    key = keyring.key("acme", "classify")
    began = time.monotonic()
    for number in range(300):
        headers = {"X-Forwarded-For": "203.0.113.7"} | (bearer(key) if number % 3 == 0 else bearer("sp_x"))
        server.client.get("/admin/tenants", headers=headers)
    assert sample(server, "superpos_authorization_failures_total") == 100
    assert sample(server, 'superpos_authentication_failures_total{reason="malformed"}') == 200

    def entries() -> list[dict[str, object]]:
        audit = server.client.get("/admin/audit", params={"limit": 1_000}, headers=bearer(ADMIN_KEY)).json()["entries"]
        return [entry for entry in audit if entry["action"] == "requests_refused"]

    def num_refused(code: str) -> int:
        parts = [part.split() for entry in entries() for part in str(entry["detail"]).partition(";")[0].split(", ")]
        return sum(int(count) for count, each in parts if each == code)

    eventually(lambda: (num_refused("forbidden"), num_refused("unauthenticated")) == (100, 200))
    assert len(entries()) <= 2 * (2 + (time.monotonic() - began) / 0.5)
    assert {(entry["tenant"], entry["key"]) for entry in entries()} == {("acme", key.split("_")[1]), ("default", None)}
    assert all("the last from 203.0.113.7" in str(entry["detail"]) for entry in entries())
    assert all(entry["actor"] == "server" for entry in entries())
