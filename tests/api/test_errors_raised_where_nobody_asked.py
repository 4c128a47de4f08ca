"""Errors raised where nobody asked: no caller, with whatever key, makes a route fail by what it sends."""

import gzip
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import httpx2
import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring

from backbone import Backbone

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "x" * 300)
UNLISTED = (
    *("/docs", "/redoc", "/docs/oauth2-redirect", "/openapi.json", "/metrics", "/", "//", "/nothing", "/tasks/"),
    *("/static-offline-docs", "/static-offline-docs/", "/static-offline-docs/swagger-ui-bundle.js"),
    *("/static-offline-docs/swagger-ui.css", "/static-offline-docs/redoc.standalone.js"),
    *("/static-offline-docs/favicon.png", "/static-offline-docs/nothing.js", "/static-offline-docs/..%2f__init__.py"),
    *("/static-offline-docs/%00", "/static-offline-docs/" + "x" * 5_000, "/static-offline-docs/a%0d%0ab"),
)
NAMES = ("sentiment", "%00", "%ff", "..%2f..", "%0a%1b[31m", "x" * 5_000, "%F0%9F%98%80", "@", "sentiment@", "%D9%A3")
NUMBERS = ("1", "0", "-1", "x", "1e9", "%D9%A3", "9" * 30, "1.0", "%00")
QUERIES = (
    "?",
    "?since=x&limit=-1",
    "?%ff=%ff",
    "?a=1&a=2",
    "?since=" + "9" * 400,
    "?limit=%00",
    "?=&&=",
    "?from=%D9%A3",
)
Headers = tuple[bytes, ...]
T = TypeVar("T")
HEADERS: tuple[Headers, ...] = (
    (b"X-Request-ID: \x80", b"traceparent: 00-x", b"tracestate: \xff"),
    (b'If-Match: "', b'If-None-Match: "\xff, W/', b"If-Unmodified-Since: \xff", b"If-Modified-Since: Mon, 99 Foo 1 x"),
    (b"Range: bytes=5-1,,-,x", b"If-Range: \xff"),
    (b"Range: bytes=" + b",".join(b"%d-%d" % (at, at) for at in range(2_000)),),
    (b"If-Modified-Since: Mon, 01 Jan 99999999999 00:00:00 GMT", b"Accept: \xff;q=x", b"Accept-Encoding: \xff"),
    (b"Origin: \xff", b"Cookie: \xff=;;", b"X-Superpos-Task: \xff\xfe", b"X-Superpos-Nothing: \xff"),
    (b"Authorization: Bearer \xff\xfe", b"X-API-Key: \xe9"),
    (b"Authorization: Bearer sp_x_" + "é".encode() * 100,),
    (b"Expect: nothing", b"Accept-Language: *"),
    (b"X-Forwarded-For: \xff, x", b"Forwarded: for=\xff", b"X-Forwarded-Proto: \xff"),
    (b"Content-Encoding: \xff",),
    (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: \xff"),
    (b"Host: \xff",),
)  # fmt: skip
TEXTS: tuple[object, ...] = (
    "\ud800",
    "\x00",
    "\x1b[2J",
    "",
    " ",
    "é" * 300,
    10**30,
    -1,
    0.5,
    True,
    None,
    [],
    {},
    [[]],
    ["\ud800"],
)
JSON = b"application/json"
FORM = b"multipart/form-data; boundary=b"
PART = b"--b\r\nContent-Disposition: form-data%s\r\n\r\n%s\r\n--b--\r\n"
RAW: tuple[tuple[bytes, bytes], ...] = (
    *((JSON, body) for body in (b"", b"null", b"[]", b'"x"', b"[" * 60_000, b'{"a":' * 9_000, b"{}x", b"\xff", b"NaN")),
    (JSON, b'{"version": ' + b"9" * 5_000 + b"}"),
    (JSON, b'{"percent": 1e999, "inputs": -1e999, "version": 1e999}'),
    (JSON, "﻿{}".encode()),
    (JSON, "{}".encode("utf-16")),
    (b"application/json; charset=utf-16", b"{}"),
    (b'application/json; charset="no such', b"{}"),
    (b"application/\xff+json", b"{}"),
    (b"text/plain", b"{}"),
    (b"application/x-www-form-urlencoded", b"a=%ff&a"),
    (b"multipart/form-data", b"x"),
    (b"multipart/form-data; boundary=", b"x"),
    (b"multipart/form-data; boundary=\xff", b"--\xff--"),
    (b"multipart/form-data; boundary=" + b"x" * 5_000, b"x"),
    (FORM + b"; charset=no-such", PART % (b'; name="alias"', b"\xff")),
    (FORM, PART % (b'; name="alias"', b"\x00")),
    (FORM, PART % (b'; name="files"; filename="\xff\x00"', b"x")),
    (FORM, PART % (b"", b"x")),
    (FORM, b"--b\r\n\xff: \x00\r\n\r\nx\r\n--b--\r\n"),
    (b"", b"{}"),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    started = serve_module(require_keys=True, admin_key=ADMIN_KEY, trusted_proxies="127.0.0.1")
    started.upload("sentiment", make_adapter(tiny), key=ADMIN_KEY)
    return started


@pytest.fixture(scope="module")
def keys(server: RunningServer) -> dict[str, str]:
    keyring = Keyring(server)
    keyring.tenant("acme")
    return {"nobody": "", "tenant": keyring.key("acme", "admin"), "operator": ADMIN_KEY}


class Prober:
    """Sends requests as bytes, and keeps those that the server failed at."""

    def __init__(self, server: RunningServer, key: str) -> None:
        self._address = (server.client.base_url.host, server.client.base_url.port)
        self._key = [b"X-API-Key: " + key.encode()] if key else []
        self.failures: list[tuple[bytes, bytes]] = []
        self.count = 0

    def send(self, method: str, target: str, headers: Headers = (), body: bytes | None = None) -> None:
        lines = [f"{method} {target} HTTP/1.1".encode(), *headers, *self._key, b"Connection: close"]
        lines += [b"Host: localhost"] if not any(line.startswith(b"Host") for line in headers) else []
        lines += [b"Content-Length: %d" % len(body)] if body is not None else []
        sent = b"\r\n".join([*lines, b"", b""]) + (body or b"")
        answer = b""
        with socket.create_connection(self._address, timeout=30) as connection:
            try:
                connection.sendall(sent)
                answer = connection.recv(65_536)
            except ConnectionError:
                pass
        self.count += 1
        if not answer.startswith(b"HTTP/1.1 ") or answer.split()[1].startswith(b"5"):
            self.failures.append((sent[:300], answer[-300:]))


class Share:
    """The inputs that an identity sends: the operator all of them, others each sixth in turn, over all routes."""

    def __init__(self, identity: str) -> None:
        self._every, self._at = (1 if identity == "operator" else 6), 0

    def of(self, inputs: Iterable[T]) -> Iterator[T]:
        """Yield those of the inputs that are next in turn."""
        for each in inputs:
            self._at += 1
            if self._at % self._every == 0:
                yield each


def operations(server: RunningServer) -> list[tuple[str, str, dict[str, object]]]:
    assert isinstance(server.app, FastAPI)
    document = server.app.openapi()
    return [
        (method.upper(), path, operation | {"components": document["components"]["schemas"]})
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def filled(path: str, name: str = "sentiment", number: str = "1") -> str:
    return path.replace("{version}", number).format_map(_Names(name))


class _Names(dict[str, str]):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, key: str) -> str:
        return "nobody" if key == "tenant" and self._name == "sentiment" else self._name


def members(operation: dict[str, object]) -> list[str]:
    """Return the names of a JSON body's members."""
    content = operation.get("requestBody", {}).get("content", {})  # type: ignore[attr-defined]
    schema = content.get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    return list(operation["components"].get(name, {}).get("properties", {}))  # type: ignore[attr-defined]


@pytest.mark.parametrize("identity", ["nobody", "tenant", "operator"])
@pytest.mark.slow
def test_nothing_that_a_caller_sends_makes_a_route_fail(
    server: RunningServer, keys: dict[str, str], identity: str
) -> None:
    """Bodies are read alike for all keys: the operator sends each to every route, others a sixth of them in turn."""
    prober, share = Prober(server, keys[identity]), Share(identity)
    for method, path, operation in operations(server):
        for name in NAMES if "{" in path else ():
            prober.send(method, filled(path, name), body=b"{}" if "requestBody" in operation else None)
        for number in NUMBERS if "{version}" in path else ():
            prober.send(method, filled(path, number=number))
        for query in QUERIES:
            prober.send(method, filled(path) + query)
        for headers in HEADERS:
            prober.send(method, filled(path), headers)
        if "requestBody" not in operation:
            prober.send(method, filled(path), (b"Content-Type: application/json",), b"{}")
            continue
        for kind, body in share.of(RAW):
            prober.send(method, filled(path), (b"Content-Type: " + kind,) if kind else (), body)
        packed = (b"Content-Type: application/json", b"Content-Encoding: gzip")
        for body in share.of((b"x", gzip.compress(b"{}")[:-4], gzip.compress(b"[" * 60_000), b"")):
            prober.send(method, filled(path), packed, body)
        for member in members(operation):
            for value in share.of(TEXTS):
                data = dict.fromkeys(members(operation), "sentiment") | {member: value, "inputs": value, "input": value}
                for content in ({member: value}, data):
                    known = {key: each for key, each in content.items() if key in members(operation)}
                    prober.send(method, filled(path), (b"Content-Type: application/json",), json.dumps(known).encode())
    assert prober.failures == []
    assert prober.count > 1_000


@pytest.mark.parametrize("identity", ["nobody", "tenant", "operator"])
@pytest.mark.slow
def test_every_path_answers_every_method(server: RunningServer, keys: dict[str, str], identity: str) -> None:
    prober = Prober(server, keys[identity])
    for path in (*UNLISTED, *{path for _, path, _ in operations(server)}, "*", "localhost:80", "http://localhost/docs"):
        for method in METHODS:
            prober.send(method, filled(path))
    for path in UNLISTED:
        for headers in HEADERS:
            prober.send("GET", path, headers)
        for kind, body in RAW[:3]:
            prober.send("POST", path, (b"Content-Type: " + kind,), body)
    assert prober.failures == []


def test_the_documentation_works_without_a_key(server: RunningServer) -> None:
    with httpx2.Client(base_url=server.url) as client:
        page = client.get("/docs").text
        assets = [part.partition('"')[0] for part in page.split('"/static-offline-docs/')[1:]]
        assert len(assets) >= 3
        for asset in assets:
            answer = client.get(f"/static-offline-docs/{asset}")
            assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff"), asset
