"""Attacks that look for server errors and disclosure: no caller can cause a 5xx, and no response helps an attacker."""

import re
from collections.abc import Iterator
from itertools import product

from verification.attack.arena import TASK, Answer, Arena
from verification.attack.attack import Attack, Evidence, Fault, first

_ASSET = re.compile(r"""(?:src|href|url)\s*[=:]\s*["'](/[^"']+)["']""")
_ODD_SEGMENTS = (
    "%00",
    "%ff%fe",
    "..",
    "%2e%2e%2f",
    "a%0d%0ab",
    "%F0%9F%98%80",
    "x" * 5_000,
    "-1",
    "1e9",
    "💥".encode().hex(),
)
_ODD_HEADERS = (
    "Range: bytes=0-0,5-", "If-None-Match: \"", "If-Match: W/", "If-Modified-Since: x", "If-Range: x", "Accept: \x7f",
    "Accept-Encoding: gzip;q=x", "Content-Type: application/json; charset=utf-99", "Content-Encoding: gzip, gzip",
    "Content-Type: multipart/form-data", "X-Request-ID: \xff", "traceparent: 00-0-0-0", "tracestate: " + "a=b," * 500,
    "Authorization: Bearer \xff\xfe", "Authorization: Basic x", "X-API-Key: " + "sp_" * 2_000, "Cookie: \x80=\x81",
    "Host: [::1", "Host: a:b:c", "Content-Length: 0x10", "Transfer-Encoding: chunked, identity", "Expect: x",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x", "X-Superpos-Task: \xff",
)  # fmt: skip


def _faulty(answer: Answer, what: str) -> Evidence:
    # 503 is an outage, which no attack of this module causes
    return f"{what}: {answer}" if answer.status >= 500 or answer.status == 0 else None


def documentation(arena: Arena) -> Evidence:
    """Open the documentation and each of its assets without a key."""
    pages = [arena.nobody.get(path) for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")]
    assets = sorted({asset for page in pages for asset in _ASSET.findall(page.text)})
    answers = {asset: arena.nobody.get(asset) for asset in [*assets, "/static-offline-docs/x", "/static-offline-docs/"]}
    broken = [f"{asset}: {answers[asset]}" for asset in assets if answers[asset].status >= 400]
    return first(_faulty(answer, path) for path, answer in answers.items()) or (broken[0] if broken else None)


def odd_paths(arena: Arena) -> Evidence:
    """Put odd segments into each route, with and without a key."""
    return first(
        _status(arena, f"{method} {path} HTTP/1.1", key)
        for method, path in _odd_paths(arena)
        for key in ("", arena.admin.key)
    )


def _odd_paths(arena: Arena) -> Iterator[tuple[str, str]]:
    paths = arena.document()["paths"]
    for number, (path, operations) in enumerate(sorted(paths.items())):
        for method in operations:
            for segment in _ODD_SEGMENTS[number % 3 :: 3]:
                yield method.upper(), re.sub(r"{\w+}", segment, path)
            yield method.upper(), re.sub(r"{\w+}", "x", path) + "?%ff=%00&since=1e999&from=x&limit=" + "9" * 400
    for path in ("//", "/.", "/%", "/%zz", "*", "http://x/%00", "/\x7f", "/" + "a/" * 3_000):
        yield "GET", path


def odd_headers(arena: Arena) -> Evidence:
    """Send each odd header to a read, a write and the documentation."""
    targets = (
        "GET /tasks HTTP/1.1",
        f"POST /classify/{TASK} HTTP/1.1",
        "GET /docs HTTP/1.1",
        "GET /healthz/ready HTTP/1.1",
    )
    return first(_status(arena, line, arena.tenant.key, header) for header, line in product(_ODD_HEADERS, targets))


def _status(arena: Arena, line: str, key: str = "", header: str = "") -> Evidence:
    fields = [*(["Host: localhost"] if not header.startswith("Host") else []), "Connection: close"]
    fields += [f"Authorization: Bearer {key}"] if key and not header.startswith("Authorization") else []
    fields += [header] if header else []
    request = (line + "\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode("latin-1", errors="replace")
    answer = arena.raw(request, timeout_s=10)
    return f"{line[:80]} {header[:60]!r}: {answer[:300]!r}" if answer[9:10] == b"5" else None


def not_http(arena: Arena) -> Evidence:
    """Send bytes that are not HTTP/1.1."""
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512)
    others = (
        tls,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)) * 40,
        b"\r\n" * 5_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00",
    )
    before = arena.target.log.size_bytes
    for data in others:
        answer = arena.raw(data, timeout_s=1)
        if answer[9:10] == b"5":
            return f"{data[:20]!r}: {answer[:200]!r}"
    written = arena.target.log.size_bytes - before
    return f"{written} bytes of log for {len(others)} connections" if written > 8_192 else None


def smuggled(arena: Arena) -> Evidence:
    """Send requests whose length two parsers may read differently."""
    head = f"POST /classify/{TASK} HTTP/1.1\r\nHost: x\r\n{arena.tenant.key_field}"
    second = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for framing in (
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Content-Length: +4",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ):
        answer = arena.raw(f"{head}{framing}\r\n\r\n0\r\n\r\n{second}".encode(), timeout_s=2)
        if answer.count(b"HTTP/1.1 ") > 1 or answer[9:10] in (b"2", b"5"):
            return f"{framing!r} is answered {answer.count(b'HTTP/1.1 ')} times: {answer[:200]!r}"
    return None


def wrong_methods(arena: Arena) -> Evidence:
    """Send unusual methods to every route."""
    paths = sorted(arena.document()["paths"])
    return first(
        _status(arena, f"{method} {re.sub(r'{.+?}', 'x', path)} HTTP/1.1", arena.admin.key)
        for path in paths
        for method in ("TRACE", "CONNECT", "OPTIONS", "PROPFIND")
    )


def broken_bodies(arena: Arena) -> Evidence:
    """Send bodies of other types and encodings to every write."""
    bodies = (
        (b"", "application/json"), (b"\xff\xfe", "application/json"), (b"null", "application/json"),
        (b'"\\ud800"', "application/json"), (b'{"a": NaN}', "application/json"),
        (b"--", "multipart/form-data; boundary="),
        (b"--b\r\n\r\n--b--", "multipart/form-data; boundary=b"), (b"a=b", "application/x-www-form-urlencoded"),
        (b"{}", "multipart/form-data; boundary=" + "b" * 5_000),
    )  # fmt: skip
    return first(
        _faulty(
            arena.admin.send(method, re.sub(r"{\w+}", TASK, path), content=body, headers={"Content-Type": kind}),
            f"{method} {path} with {body!r} as {kind[:40]}",
        )
        for method, path, _ in arena.operations()
        if method in ("POST", "PUT", "PATCH")
        for body, kind in bodies
    )


def headers(arena: Arena) -> Evidence:
    """Read the headers of every kind of response."""
    answers = [
        arena.nobody.get("/"), arena.nobody.get("/docs"), arena.nobody.get("/nothing"), arena.nobody.get("/tasks"),
        arena.tenant.get("/tasks"), arena.tenant.post(f"/classify/{TASK}", {}), arena.tenant.classify(TASK, "x"),
        arena.publisher.get(f"/tasks/{TASK}/versions/1/files/superpos.json"), arena.nobody.get("/metrics"),
    ]  # fmt: skip
    for number, answer in enumerate(answers):
        if answer.headers.get("X-Content-Type-Options") != "nosniff":
            return f"response {number} lacks X-Content-Type-Options: {answer}"
        if "Server" in answer.headers:
            return f"response {number} names its server: {answer.headers['Server']}"
    return None


def read_public_routes(arena: Arena) -> Evidence:
    """Read the routes that need no key: they must not show a task, a path or a key."""
    secrets = [str(arena.target.folder), arena.operator.key_id, arena.admin.key_id, f'"{TASK}"']
    for path in ("/", "/healthz/live", "/healthz/ready", "/healthz/startup", "/v2", "/v2/health/ready", "/health"):
        answer = arena.nobody.get(path)
        found = [secret for secret in secrets if secret in answer.text]
        if found or answer.status >= 500:
            return f"{path}: {found or answer}"
    return None


_FIVE = "a response is 5xx"

ATTACKS = (
    Attack(
        "documentation", Fault.ERRORS, "nobody", "opens the documentation and its assets without a key",
        _FIVE + ", or an asset is missing", documentation,
    ),
    Attack("odd paths", Fault.ERRORS, "admin", "puts odd segments and parameters into each route", _FIVE, odd_paths),
    Attack("odd headers", Fault.ERRORS, "tenant", "sends odd headers", _FIVE, odd_headers),
    Attack(
        "not HTTP", Fault.ERRORS, "nobody", "sends TLS, HTTP/2 and noise",
        _FIVE + ", or the log grows by 8 KB", not_http,
    ),
    Attack(
        "two lengths", Fault.ERRORS, "tenant", "smuggles requests: their length is ambiguous",
        "one is accepted, or answered twice", smuggled,
    ),
    Attack("unusual methods", Fault.ERRORS, "admin", "sends unusual methods to each route", _FIVE, wrong_methods),
    Attack("broken bodies", Fault.ERRORS, "admin", "sends bodies of other types to each write", _FIVE, broken_bodies),
    Attack(
        "headers", Fault.HEADERS, "nobody", "reads responses' headers",
        "one lacks nosniff, or names its server", headers,
    ),
    Attack(
        "public routes", Fault.HEADERS, "nobody", "reads every route that needs no key",
        "it shows a path, a key or a task", read_public_routes,
    ),
)  # fmt: skip
