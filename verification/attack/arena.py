"""`Arena`: a server under attack with its tenants, and what an attack may do there."""

import gzip
import json
import os
import re
import secrets
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from adapters import PromptAdapter
from adapters.files import Files, to_files
from benchmarks.common.server_process import SUPERPOS
from verification.attack.adapters import Maker
from verification.attack.target import Target

TIMEOUT_S = 60.0
SETTLES_S = 0.3
"""Seconds until every server process has read a change that one of them made: several poll intervals."""
KNOWN_AFTER = 8
"""New connections that must accept a key, one after another, before every server process is taken to know it."""
KNOWN_WITHIN_S = 30.0
JSON = {"Content-Type": "application/json"}
GZIPPED = {**JSON, "Content-Encoding": "gzip"}
VICTIM, MALLORY = "victim", "mallory"
TASK, WIDE, LONG = "sentiment", "wide", "long"
"""Mallory's tasks: of two labels, of 400 labels, and of the longest texts. The victim has the first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    """0 if the connection ended without one."""
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} after {self.seconds:.2f} s, {len(self.body)} bytes: {self.text[:160]!r}"


@dataclass(frozen=True)
class Party:
    """A client of the server with one key, or with none."""

    url: str
    tenant: str = ""
    key: str = field(default="", repr=False)
    settles_s: float = 0.0
    """How long to wait after each change, until every server process knows of it."""

    @cached_property
    def _http(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        client = httpx2.Client(base_url=self.url, timeout=TIMEOUT_S, headers=headers, verify=False)
        weakref.finalize(self, client.close)
        return client

    @property
    def key_id(self) -> str:
        """The public part of the key."""
        return self.key.split("_")[1]

    @property
    def key_field(self) -> str:
        """The key as a field of a request's head; empty without one."""
        return f"Authorization: Bearer {self.key}\r\n" if self.key else ""

    def send(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request, and wait until what it has created or deleted is known; `options` are httpx's."""
        started = time.monotonic()
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as exc:
            return Answer(0, {}, repr(exc).encode(), time.monotonic() - started)
        seconds = time.monotonic() - started
        if response.is_success and method in ("POST", "PATCH", "DELETE") and path.startswith(("/tasks", "/admin")):
            time.sleep(self.settles_s)
        return Answer(response.status_code, response.headers, response.content, seconds)

    def elsewhere(self) -> "Party":
        """Return the same party with a connection of its own, which another server process may serve."""
        return replace(self)

    def get(self, path: str, **options: Any) -> Answer:
        """Send a GET."""
        return self.send("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> Answer:
        """Send a POST of JSON."""
        return self.send("POST", path, json=body, **options)

    def post_bytes(self, path: str, body: bytes, headers: Mapping[str, str] = JSON) -> Answer:
        """Send a POST of bytes."""
        return self.send("POST", path, content=body, headers=dict(headers))

    def post_gzipped(self, path: str, body: object) -> Answer:
        """Send a POST of gzipped JSON."""
        return self.post_bytes(path, gzip.compress(json.dumps(body).encode()), GZIPPED)

    def classify(self, ref: str, inputs: object, **members: object) -> Answer:
        """Ask for predictions."""
        return self.post(f"/classify/{ref}", {"inputs": inputs, **members})

    def upload(self, task: str, files: Files | PromptAdapter, *, aliases: Sequence[str] | None = None) -> Answer:
        """Publish an adapter."""
        named = to_files(files) if isinstance(files, PromptAdapter) else files
        parts = [("files", (name, data)) for name, data in named.items()]
        form = {} if aliases is None else {"alias": list(aliases)}
        return self.send("POST", f"/tasks/{task}/versions", files=parts, data=form)

    def files(self, task: str, version: int) -> dict[str, bytes]:
        """Download a version's files."""
        path = f"/tasks/{task}/versions/{version}/files"
        return {name: self.get(f"{path}/{name}").body for name in self.get(path).json()["files"]}


@dataclass
class Arena:
    """A server with keys, on which a victim and an attacker, Mallory, have tasks."""

    target: Target
    make: Maker
    nobody: Party
    operator: Party
    victim: Party
    """A `publish` key of the victim."""
    tenant: Party
    """Mallory's `classify` key."""
    publisher: Party
    """Mallory's `publish` key."""
    admin: Party
    """Mallory's `admin` key."""
    scratch: Path
    """A folder for an attack's own files."""
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    @classmethod
    def prepare(cls, target: Target, make: Maker, scratch: Path) -> "Arena":
        """Create the tenants and publish their tasks."""
        first = Party(target.url, key=target.admin_key, settles_s=SETTLES_S if len(target.processes) > 1 else 0)
        operator = _known(_with_key(first, "default", "operator"))
        for tenant in (VICTIM, MALLORY):
            # a limit that is never reached, so that the header `RateLimit` shows what was charged
            made = operator.post("/admin/tenants", {"id": tenant, "tokens_per_min": 1_000_000_000})
            assert made.status == 201, made
        keys = {role: _known(_with_key(operator, MALLORY, role)) for role in ("classify", "publish", "admin")}
        arena = cls(
            target,
            make,
            Party(target.url),
            operator,
            _known(_with_key(operator, VICTIM, "publish")),
            keys["classify"],
            keys["publish"],
            keys["admin"],
            scratch,
        )
        for party, task, adapter in (
            (arena.victim, TASK, make.small(seed=1)),
            (arena.publisher, TASK, make.small(seed=2)),
            (arena.publisher, WIDE, make.wide()),
            (arena.publisher, LONG, make.long()),
        ):
            published = party.upload(task, adapter)
            if published.status != 201:
                raise RuntimeError(f"{task} was not published: {published}")
        return arena

    def number(self) -> int:
        """Return a number that no attack has used yet."""
        return next(self._numbers)

    def new_tenant(self, **limits: object) -> tuple[Party, str]:
        """Create a tenant; return a `publish` key of it, and its name."""
        name = f"other-{self.number()}"
        made = self.operator.post("/admin/tenants", {"id": name, **limits})
        assert made.status == 201, made
        return _with_key(self.operator, name, "publish"), name

    def new_key(self, tenant: str, role: str, **members: object) -> Party:
        """Create another key of a tenant."""
        return _with_key(self.operator, tenant, role, **members)

    def connect(self, *, timeout_s: float = TIMEOUT_S) -> socket.socket:
        """Open a connection."""
        address = urlsplit(self.target.url)
        return socket.create_connection((address.hostname, address.port), timeout=timeout_s)

    def raw(self, data: bytes, *, timeout_s: float = 10.0) -> bytes:
        """Send bytes on a new connection; return what arrives until it is closed, or silent for `timeout_s`."""
        with self.connect(timeout_s=timeout_s) as connection:
            received = b""
            try:
                connection.sendall(data)
                while chunk := connection.recv(1 << 16):
                    received += chunk
            except OSError:
                pass
            return received

    def answers(self, *, within_s: float) -> bool:
        """Return whether a new client is answered within a time."""
        request = b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        try:
            return self.raw(request, timeout_s=within_s).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def operations(self) -> Iterator[tuple[str, str, Any]]:
        """Yield method, path and description of each operation of the server's document, its parameters in braces."""
        for path, operations in self.document()["paths"].items():
            for method, operation in operations.items():
                yield method.upper(), path, operation

    def document(self) -> Any:
        """Return the server's OpenAPI document."""
        return self.nobody.get("/openapi.json").json()

    def audit(self) -> list[dict[str, object]]:
        """Return the whole audit log."""
        found: list[dict[str, object]] = []
        since: object = 0
        while entries := self.operator.get(f"/admin/audit?since={since}&limit=1000").json()["entries"]:
            since = entries[-1]["position"]
            found += entries
        return found

    @contextmanager
    def many_connections(self, count: int, opening: bytes = b"") -> Iterator[list[socket.socket]]:
        """Hold connections, each of which has sent `opening`; those that the server refuses are missing."""
        held: list[socket.socket] = []
        try:
            for _ in range(count):
                try:
                    held.append(self.connect(timeout_s=2))
                    held[-1].sendall(opening)
                except OSError:
                    continue
            yield held
        finally:
            for connection in held:
                connection.close()

    def cli(self, *words: str, key: str = "", timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the `superpos` command against this server (`subprocess.TimeoutExpired`)."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
        environment |= {"SUPERPOS_SERVER": self.target.url, "SUPERPOS_API_KEY": key or self.operator.key}
        return subprocess.run(
            [SUPERPOS, *words],
            env=environment,
            cwd=self.scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def wait_for(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Return whether a condition holds within a time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def filled(path: str, *, tenant: str) -> str:
    """Return the path of an operation with parameters that exist, as far as a tenant's task has them."""
    known = {"ref": TASK, "task": TASK, "model": TASK, "version": "1", "alias": "canary", "tenant": tenant}
    return re.sub(r"{(\w+)}", lambda name: known.get(name[1], "x"), path)


def guess() -> dict[str, str]:
    """Return the headers of a client that guesses a key."""
    return {"Authorization": f"Bearer sp_{secrets.token_hex(6)}_{'x' * 43}"}


def _with_key(operator: Party, tenant: str, role: str, **members: object) -> Party:
    made = operator.post(f"/admin/tenants/{tenant}/keys", {"role": role, **members})
    if made.status != 201:
        raise RuntimeError(f"no key of role {role}: {made}")
    return replace(operator, tenant=tenant, key=str(made.json()["key"]))


def _known(party: Party) -> Party:
    """Return a party once every server process knows its key: a busy one may read it later than it settles."""
    if party.settles_s and not wait_for(
        lambda: all(party.elsewhere().get("/tasks").status != 401 for _ in range(KNOWN_AFTER)), within_s=KNOWN_WITHIN_S
    ):
        raise RuntimeError(f"a new key of {party.tenant} is not known after {KNOWN_WITHIN_S:g} s")
    return party
