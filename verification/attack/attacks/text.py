"""Attacks by text: escapes that reach a terminal, reflections, addresses and paths in error details."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from adapters.files import CARD, MANIFEST, to_files
from verification.attack.arena import MALLORY, TASK, WIDE, Answer, Arena
from verification.attack.attack import Attack, Evidence, Fault, first

CLEAR = "\x1b[2J\x1b[1;1Hroot:"
ODD_TEXTS = (
    CLEAR,
    "a\rb",
    "a\nb",
    "a\x9bb",
    "\u202egnirts",
    "a\u2028b",
    "\x00",
    "\u2066x",
)
TENSOR = {"shape": [1], "datatype": "BYTES", "data": ["x"]}
MAX_REFLECTED = 4 << 10
"""Bytes of a response to a request with 60 KB of text."""


def notes(arena: Arena) -> Evidence:
    """Create keys with control characters in their notes."""
    for text in ODD_TEXTS:
        made = arena.admin.post(f"/admin/tenants/{MALLORY}/keys", {"role": "classify", "note": text})
        if made.status < 300:
            return f"a note of {text!r} was accepted: {made}"
    return None


def shown_notes(arena: Arena) -> Evidence:
    """Let an administrator list keys, tasks and history after text with control characters was sent."""
    notes(arena)
    names(arena)
    commands = (
        ("key", "list", MALLORY), ("tenant", "list"), ("list",), ("show", TASK), ("history", TASK), ("usage",),
    )  # fmt: skip
    for command in commands:
        shown = arena.cli(*command, key=arena.admin.key if command[0] not in ("key", "tenant") else "")
        if "\x1b[2J" in shown.stdout + shown.stderr or "\u202e" in shown.stdout:
            return f"superpos {' '.join(command)} prints an escape: {shown.stdout[:200]!r}"
    return None


def names(arena: Arena) -> Evidence:
    """Use text with control characters as the name of a task, an alias, a label, a tenant and a sticky key."""
    adapter = to_files(arena.make.small(seed=6_000))
    for text in ODD_TEXTS:
        manifest = json.loads(adapter[MANIFEST])
        manifest["task"]["labels"][0]["name"] = text
        attempts = (
            arena.operator.post("/admin/tenants", {"id": text}),
            arena.publisher.send("PUT", f"/tasks/{TASK}/aliases/x", json={"version": 1, "alias": text}),
            arena.publisher.upload("odd", adapter, aliases=[text]),
            arena.publisher.upload("odd", {**adapter, MANIFEST: json.dumps(manifest).encode()}),
        )
        for answer in attempts:
            if answer.status < 300 or any(mark in answer.text for mark in ("\x1b", "\u202e", "\x9b")):
                return f"{text!r}: {answer}"
    return None


def logged(arena: Arena) -> Evidence:
    """Put line breaks and escapes where the log could show them."""
    marker = f"forged-{time.monotonic_ns()}"
    forged = f'{marker}"}}\r\n{{"event": "forged"'
    arena.nobody.get(f"/tasks/%0d%0a{marker}%1b[2J")
    for header in ("X-Request-ID", "User-Agent", "traceparent", "X-Forwarded-For", "Authorization"):
        arena.raw(
            f"GET /tasks HTTP/1.1\r\nConnection: close\r\n{header}: {marker}\t\x1b[2J\x9b\r\n\r\n".encode("latin-1")
        )
    arena.tenant.classify(TASK, "x", sticky_key=forged)
    arena.publisher.upload(f"{marker}%1b", arena.make.small(seed=1), aliases=[forged])
    time.sleep(0.3)
    lines = arena.target.log.text().splitlines()
    broken = [line for line in lines if line.strip() and not line.startswith("{")]
    acting = [line for line in lines if "\x1b" in line or '"event": "forged"' in line]
    # a traceback has lines of its own, and no caller may cause one
    return first(f"the log has the line {line[:200]!r}" for line in (*acting, *broken))


def reflections(arena: Arena) -> Evidence:
    """Send 60 KB in a path, a parameter, a header, a member and a name of a file."""
    long = "y" * 60_000
    parts = [("files", (long, b"x"))]
    attempts = (
        lambda: arena.nobody.get(f"/{long}"),
        lambda: arena.tenant.get(f"/tasks/{long}"),
        lambda: arena.tenant.get(f"/tasks?{long}=1"),
        lambda: arena.tenant.get("/tasks", headers={f"X-Superpos-{long[:30_000]}": "1"}),
        lambda: arena.tenant.get("/tasks", headers={"Content-Encoding": long}),
        lambda: arena.tenant.post(f"/classify/{TASK}", {long: 1, "inputs": "x"}),
        lambda: arena.tenant.post(f"/classify/{TASK}", {"inputs": [{long: "x"}]}),
        lambda: arena.tenant.post(f"/classify/{TASK}", {"inputs": "x", "truncate": long}),
        lambda: arena.tenant.post("/v1/classify", {"model": long, "input": "x"}),
        lambda: arena.tenant.post("/classify", {"tasks": [long] * 3, "inputs": "x"}),
        lambda: arena.tenant.post_bytes("/classify", b"{}", {"Content-Type": long}),
        lambda: arena.tenant.post(f"/v2/models/{TASK}/infer", {"inputs": [{"name": long, **TENSOR}]}),
        lambda: arena.publisher.send("POST", f"/tasks/{TASK}/versions", files=parts),
        lambda: arena.publisher.upload(TASK, to_files(arena.make.small(seed=1)), aliases=[long]),
        lambda: arena.publisher.send("DELETE", f"/tasks/{TASK}/versions/1", headers={"If-Match": f'"{long}"'}),
        lambda: arena.admin.get(f"/admin/tenants/{MALLORY}/keys/{long}"),
    )  # fmt: skip
    for number, attempt in enumerate(attempts):
        if evidence := _reflected(attempt()):
            return f"attempt {number}: {evidence}"
    return None


def _reflected(answer: Answer) -> Evidence:
    size = len(answer.body) + sum(len(name) + len(value) for name, value in answer.headers.items())
    return f"{size} bytes are returned: {answer}" if size > MAX_REFLECTED or "y" * 300 in answer.text else None


def wide_reflections(arena: Arena) -> Evidence:
    """Send hundreds of wrong members and inputs, each of which an error could repeat."""
    bodies = (
        {f"member-{number}-{'y' * 150}": 1 for number in range(300)},
        {"inputs": [{f"field-{'z' * 200}": "x"}] * 200},
        {"inputs": "x", "top_k": "9" * 4_000, "truncate": ["y" * 200] * 200},
    )
    return first(
        f"{len(answer.body)} bytes are returned: {answer}" if len(answer.body) > 16 << 10 else None
        for answer in (arena.tenant.post(f"/classify/{TASK}", body) for body in bodies)
    )


def places_of_redis(arena: Arena) -> Evidence:
    """Upload and classify while Redis is stopped."""
    port = arena.target.registry.rpartition(":")[2].partition("/")[0]
    with arena.target.without_redis():
        evidence = _places(arena, port)
    _until_writable(arena)
    return evidence


def places_of_sqlite(arena: Arena) -> Evidence:
    """Upload and classify while the file is locked."""
    with closing(sqlite3.connect(arena.target.registry, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        evidence = _places(arena, Path(arena.target.registry).name)
    _until_writable(arena)
    return evidence


def _places(arena: Arena, place: str) -> Evidence:
    answers = (
        arena.publisher.upload(f"place-{arena.number()}", arena.make.small(seed=7_000 + arena.number())),
        arena.publisher.get(f"/tasks/{TASK}/history"),
        arena.nobody.get("/healthz/ready"),
        arena.tenant.get("/usage"),
        arena.tenant.get(f"/tasks/{WIDE}/versions/1"),
    )
    for answer in answers:
        if place in answer.text or str(arena.target.folder) in answer.text:
            return f"a place is named to the caller: {answer}"
    return None


def _until_writable(arena: Arena) -> None:
    for _ in range(60):
        made = arena.publisher.upload("writable", arena.make.small(seed=8_000 + arena.number()), aliases=[""])
        if made.status in (200, 201, 409):
            return
        time.sleep(0.5)


def cards(arena: Arena) -> Evidence:
    """Publish a card with escapes and markup, and read it as a browser would."""
    task = f"card-{arena.number()}"
    card = f"# {CLEAR}\n<script>alert(1)</script>\n".encode()
    arena.publisher.upload(task, to_files(arena.make.small(seed=6_500)) | {CARD: card})
    answer = arena.publisher.get(f"/tasks/{task}/versions/1/files/{CARD}")
    kind = answer.headers.get("Content-Type", "")
    if answer.status == 200 and (
        not kind.startswith("application/octet-stream") or answer.headers.get("X-Content-Type-Options") != "nosniff"
    ):
        return f"a browser could run it: {dict(answer.headers)}"
    shown = arena.cli("show", task, key=arena.publisher.key)
    return f"superpos show prints an escape: {shown.stdout[:200]!r}" if "\x1b[2J" in shown.stdout else None


ATTACKS = (
    Attack(
        "notes that act", Fault.TEXT, "admin", "makes keys with escapes and other invisible characters in their notes",
        "one is accepted", notes,
    ),
    Attack(
        "text in a terminal", Fault.TEXT, "admin", "lets an operator list what was sent", "a command prints an escape",
        shown_notes, repeats=False, is_long=True,
    ),
    Attack(
        "names with escapes", Fault.TEXT, "tenant", "uses escapes as names of aliases, labels and tenants",
        "one is accepted, or returned as it is", names,
    ),
    Attack(
        "lines in the log", Fault.TEXT, "nobody", "puts line breaks and escapes into paths, headers and members",
        "the log gets a line of the attacker's", logged,
    ),
    Attack(
        "reflections", Fault.TEXT, "tenant", "sends 60 KB in each place that an error could repeat",
        f"more than {MAX_REFLECTED >> 10} KB, or 300 characters of it, are returned", reflections,
    ),
    Attack(
        "wide reflections", Fault.TEXT, "tenant", "sends hundreds of wrong members", "16 KB are returned",
        wide_reflections,
    ),
    Attack(
        "address of Redis", Fault.TEXT, "tenant", "uses the server while Redis is stopped",
        "a response names its address", places_of_redis, repeats=False, is_long=True, store="redis",
    ),
    Attack(
        "path of SQLite", Fault.TEXT, "tenant", "uses the server while its file is locked",
        "a response names its path", places_of_sqlite, repeats=False, is_long=True, store="sqlite",
    ),
    Attack(
        "cards with scripts", Fault.TEXT, "tenant", "publishes a card with escapes and scripts",
        "a browser could run it, or a command prints it", cards, is_long=True, repeats=False,
    ),
)  # fmt: skip
