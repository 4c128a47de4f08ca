"""Attacks by connections: many, idle, slow, half open, or never read."""

import socket
import time
from contextlib import suppress

from verification.attack.arena import MALLORY, TASK, Arena, wait_for
from verification.attack.attack import Attack, Evidence, Fault

MANY = 260
"""More connections than the server may open descriptors."""
ANSWERS_WITHIN_S = 45.0
"""How long a new client may wait while others hold connections: until deadlines have freed one."""
CLOSED_WITHIN_S = 100.0
"""Seconds after which a connection without a request, or with half of one, must be closed."""
MAX_LOG_BYTES = 256 << 10
_HEAD = b"POST /classify/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % TASK.encode()


def _closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection; what it sent before is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _hold(arena: Arena, opening: bytes) -> Evidence:
    """Hold more connections than there are descriptors, and open more whenever one is closed."""
    before = arena.target.log.size_bytes
    with arena.many_connections(MANY, opening):
        if not wait_for(lambda: arena.answers(within_s=5), within_s=ANSWERS_WITHIN_S):
            return f"while {MANY} connections are held, no new client is answered within {ANSWERS_WITHIN_S:g} s"
    if not wait_for(lambda: arena.answers(within_s=5), within_s=ANSWERS_WITHIN_S):
        return f"after {MANY} connections were held, no new client is answered within {ANSWERS_WITHIN_S:g} s"
    written = arena.target.log.size_bytes - before
    return f"it wrote {written >> 10} KB of log" if written > MAX_LOG_BYTES else None


def idle(arena: Arena) -> Evidence:
    return _hold(arena, b"")


def half_heads(arena: Arena) -> Evidence:
    return _hold(arena, _HEAD)


def half_bodies(arena: Arena) -> Evidence:
    return _hold(arena, _HEAD + b"Content-Length: 1000\r\n\r\n{")


def kept_alive(arena: Arena) -> Evidence:
    return _hold(arena, b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")


def kept_for_ever(arena: Arena) -> Evidence:
    """Wait for the server to close idle connections, half a head, half a body and finished requests."""
    key = arena.tenant.key_field.encode()
    openings = {
        "no byte": b"",
        "half a head": _HEAD,
        "half a body": _HEAD + key + b"Content-Length: 1000\r\n\r\n{",
        "a chunk of a body": _HEAD + key + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        "an answered request": b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a body after 100 (Continue)": _HEAD + key + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
    }
    held = {name: arena.connect() for name in openings}
    try:
        for name, connection in held.items():
            connection.sendall(openings[name])
        open_ones = dict(held)

        def all_closed() -> bool:
            for name in [name for name, connection in open_ones.items() if _closed(connection)]:
                del open_ones[name]
            return not open_ones

        if not wait_for(all_closed, within_s=CLOSED_WITHIN_S):
            return f"still open {CLOSED_WITHIN_S:g} s after {', '.join(open_ones)}"
    finally:
        for connection in held.values():
            connection.close()
    return None


def _drip(arena: Arena, opening: bytes, drop: bytes, *, within_s: float) -> Evidence:
    """Send a few bytes per second until the server closes the connection."""
    with arena.connect() as connection:
        connection.sendall(opening)
        started = time.monotonic()
        while time.monotonic() < started + within_s:
            connection.setblocking(True)
            try:
                connection.sendall(drop)
            except OSError:
                return None
            time.sleep(1)
            if _closed(connection):
                return None
    return f"a client that sends {drop!r} each second is still served after {within_s:g} s"


def slow_head(arena: Arena) -> Evidence:
    return _drip(arena, b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n", within_s=CLOSED_WITHIN_S)


def slow_body(arena: Arena) -> Evidence:
    key = arena.tenant.key_field.encode()
    opening = _HEAD + key + b"Content-Length: 100000\r\n\r\n" + b'{"inputs": "'
    return _drip(arena, opening, b"x", within_s=2 * CLOSED_WITHIN_S)


def endless_head(arena: Arena) -> Evidence:
    """Send megabytes of header lines."""
    before = arena.target.resident_bytes
    line = b"X-Filler: " + b"y" * 8_000 + b"\r\n"
    answer = arena.raw(b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n" + line * 1_000, timeout_s=5)
    grown = arena.target.resident_bytes - before
    if grown > 64 << 20:
        return f"8 MB of header lines cost {grown >> 20} MB"
    return None if not answer or answer[9:10] == b"4" else f"8 MB of header lines: {answer[:60]!r}"


def never_read(arena: Arena) -> Evidence:
    """Send thousands of requests in one connection and read no response."""
    before = arena.target.resident_bytes
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with arena.connect(timeout_s=3) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with suppress(OSError):  # the server stops reading, as it should
            connection.sendall(request * 3_000)
        time.sleep(1)
        grown = arena.target.resident_bytes - before
    return f"3,000 unread responses cost {grown >> 20} MB" if grown > 100 << 20 else None


def tiny_chunks(arena: Arena) -> Evidence:
    """Send a body in chunks of one byte with long extensions."""
    fields = f"{arena.tenant.key_field}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"1;" + b"e" * 200 + b"\r\n \r\n"
    body = chunk * 20_000 + b"0\r\n\r\n"
    answer = arena.raw(_HEAD + fields + body, timeout_s=20)
    return None if not answer or answer[9:10] == b"4" else f"it was answered {answer[:60]!r}"


def resets(arena: Arena) -> Evidence:
    """Send requests and reset the connections at once."""
    arena.tenant.elsewhere().get("/tasks")  # the log of earlier resets has been written
    before = arena.target.log.size_bytes
    key = arena.tenant.key_field.encode()
    body = b'{"inputs": "a gripping film"}'
    request = _HEAD + key + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(100):
        with arena.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.sendall(request)
    arena.tenant.elsewhere().get("/tasks")
    written = (arena.target.log.size_bytes - before) / 100
    return f"each reset writes {written:.0f} bytes of log" if written > 2_048 else None


def revoked_meanwhile(arena: Arena) -> Evidence:
    """Revoke a key in the store, as another server would, while connections are held."""
    victim = arena.new_key(MALLORY, "classify")
    with arena.many_connections(MANY):
        revoked = arena.cli("key", "revoke", MALLORY, victim.key_id, "--to", arena.target.registry)
        if revoked.returncode:
            return f"the key could not be revoked: {revoked.stderr[-200:]}"
        time.sleep(2)
    answers: list[int] = []

    def refused() -> bool:
        answers.append(victim.get("/tasks").status)
        return answers[-1] == 401

    # after the flood the first answer that there is must be the refusal
    return None if wait_for(refused, within_s=1) and 200 not in answers else f"the revoked key was answered {answers}"


def stale_accounts(arena: Arena) -> Evidence:
    """Stop Redis: keys that may have been revoked elsewhere must not be accepted for ever."""
    with arena.target.without_redis():
        refused = wait_for(lambda: arena.tenant.get("/tasks").status in (401, 503), within_s=ACCOUNTS_AGE_S + 15)
    recovered = wait_for(lambda: arena.tenant.get("/tasks").status == 200, within_s=30)
    if not refused:
        return f"{ACCOUNTS_AGE_S + 15:g} s after the store of keys is gone, keys are accepted"
    return None if recovered else "keys are refused 30 s after their store has returned"


ACCOUNTS_AGE_S = 10.0
"""Maximum age of the cached accounts in this server's settings."""

_HELD = f"a new client is not answered within {ANSWERS_WITHIN_S:g} s, or the log grows by {MAX_LOG_BYTES >> 10} KB"

ATTACKS = (
    Attack(
        "idle connections", Fault.CONNECTIONS, "nobody", f"holds {MANY} connections without a byte", _HELD, idle,
        is_long=True,
    ),
    Attack(
        "half heads", Fault.CONNECTIONS, "nobody", f"holds {MANY} connections with half a head", _HELD, half_heads,
        is_long=True,
    ),
    Attack(
        "half bodies", Fault.CONNECTIONS, "nobody", f"holds {MANY} connections with half a body", _HELD, half_bodies,
        is_long=True,
    ),
    Attack(
        "kept-alive connections", Fault.CONNECTIONS, "nobody", f"holds {MANY} connections after one request each",
        _HELD, kept_alive, is_long=True,
    ),
    Attack(
        "held for ever", Fault.CONNECTIONS, "tenant",
        "holds connections without a byte, with half a head, half a body, or after a request",
        f"one is still open after {CLOSED_WITHIN_S:g} s", kept_for_ever, repeats=False, is_long=True,
    ),
    Attack(
        "slow head", Fault.CONNECTIONS, "nobody", "sends one header line per second",
        f"it is still served after {CLOSED_WITHIN_S:g} s", slow_head, repeats=False, is_long=True,
    ),
    Attack(
        "slow body", Fault.CONNECTIONS, "tenant", "sends one byte of its body per second",
        f"it is still served after {2 * CLOSED_WITHIN_S:g} s", slow_body, repeats=False, is_long=True,
    ),
    Attack(
        "endless head", Fault.CONNECTIONS, "nobody", "sends 8 MB of header lines",
        "it is answered, or the server grows by 64 MB", endless_head,
    ),
    Attack(
        "unread responses", Fault.CONNECTIONS, "nobody",
        "sends 3,000 requests in one connection and reads no response", "the server grows by 100 MB", never_read,
    ),
    Attack(
        "tiny chunks", Fault.CONNECTIONS, "tenant", "sends a body in chunks of a byte with long extensions",
        "it is not refused", tiny_chunks,
    ),
    Attack(
        "resets", Fault.CONNECTIONS, "tenant", "resets 100 connections right after a request",
        "each adds more than 2 KB to the log", resets,
    ),
    Attack(
        "revoked meanwhile", Fault.CONNECTIONS, "tenant",
        f"uses a key that is revoked in the store while {MANY} connections are held",
        "it is answered once more", revoked_meanwhile, repeats=False, is_long=True,
    ),
    Attack(
        "accounts out of date", Fault.CONNECTIONS, "tenant", "uses a key while the store of keys cannot be read",
        "it is accepted beyond the stated maximum age", stale_accounts,
        repeats=False, is_long=True, disturbs=True, store="redis",
    ),
)  # fmt: skip
