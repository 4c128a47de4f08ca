"""No budget for connections: no client holds one by doing nothing, slowly, and no number of them stops the server."""

import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.adapters import make_adapter
from support.http import check_problem, http_request
from support.server import RunningServer, running_servers
from support.server_process import ServerProcess, server_process
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.api.middleware import body_drain
from service.api.middleware.body_budget import BodyBudgetMiddleware

BODY = b'{"inputs": "a gripping film"}'
REQUEST = http_request(BODY)
GET = b"GET /limits HTTP/1.1\r\nHost: localhost\r\n"
LIMITS = {"header_timeout_s": 0.4, "body_timeout_s": 0.6, "idle_timeout_s": 0.3, "answer_timeout_s": 0.5}
MAX_CONNECTIONS = 12
CLOSED_WITHIN_S = 6
"""A deadline, the time to the next look at the connections, and a busy machine."""


@pytest.fixture(scope="module")
def server(
    tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, tiny: Backbone
) -> Iterator[RunningServer]:
    with running_servers(tiny_t5, tmp_path_factory.mktemp("connections"), cache_dir) as start:
        started = start(**LIMITS, max_connections=MAX_CONNECTIONS)
        started.upload("sentiment", make_adapter(tiny))
        yield started


@pytest.fixture(scope="module")
def patient(
    tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, tiny: Backbone
) -> Iterator[RunningServer]:
    """A server with the default deadlines, so that attackers hold their connections."""
    with running_servers(tiny_t5, tmp_path_factory.mktemp("patient"), cache_dir) as start:
        started = start(max_connections=MAX_CONNECTIONS)
        started.upload("sentiment", make_adapter(tiny))
        yield started


@pytest.fixture(autouse=True)
def _short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_drain, "DRAIN_TIMEOUT_S", 0.5)


def head(path: str, *fields: str, method: str = "POST") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields, "", "")
    return "\r\n".join(lines).encode()


CHUNKED = head("/classify/sentiment", "Transfer-Encoding: chunked")
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAA")
ATTACKS: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "half a request line": (b"GET /lim", b""),
    "a header, byte by byte": (GET, b"X-Slow: 1\r\n" * 1_000),
    "a header after an answer": (GET + b"\r\n", b"GET /limits HTTP/1.1\r\nX-Slow: " + b"1" * 1_000),
    "no second request": (GET + b"\r\n", b""),
    "no body": (head("/classify/sentiment", "Content-Length: 1000"), b""),
    "a body, byte by byte": (head("/classify/sentiment", "Content-Length: 1000"), b" " * 1_000),
    "no body after 100": (head("/classify/sentiment", "Content-Length: 1000", "Expect: 100-continue"), b""),
    "chunks, byte by byte": (CHUNKED, b"1\r\n \r\n" * 1_000),
    "a chunk's extension": (CHUNKED, b"1;" + b"x" * 1_000),
    "trailers": (CHUNKED + b"0\r\n", b"X-Slow: 1\r\n" * 1_000),
    "a body that nobody reads": (head("/tasks", "Content-Length: 1000000000", method="GET"), b" " * 1_000),
    "a body after the refusal": (head("/nothing", "Content-Length: 1000000000"), b" " * 1_000),
    "another protocol": (head("/limits", *UPGRADE, method="GET"), b"\x81\x00" * 1_000),
    "a tunnel": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"x" * 1_000),
}


def connected(server: RunningServer | ServerProcess) -> socket.socket:
    address = server.address if isinstance(server, ServerProcess) else server.server.servers[0].sockets[0].getsockname()
    return socket.create_connection(address, timeout=30)


def dribble(connection: socket.socket, data: bytes) -> None:
    """Send a byte every now and then until the server has closed the connection."""
    for number in range(len(data)):
        try:
            connection.sendall(data[number : number + 1])
        except OSError:
            return
        time.sleep(0.05)


@contextmanager
def attacked(server: RunningServer, first: bytes, later: bytes) -> Iterator[socket.socket]:
    with connected(server) as connection:
        connection.sendall(first)
        sender = threading.Thread(target=dribble, args=(connection, later), daemon=True)
        sender.start()
        yield connection


def open_connections(server: RunningServer) -> int:
    return len(server.server.server_state.connections)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.slow
def test_a_client_that_does_not_do_its_part_is_closed_in_time(
    server: RunningServer, attack: tuple[bytes, bytes]
) -> None:
    with attacked(server, *attack) as connection:
        connection.settimeout(CLOSED_WITHIN_S)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    assert b"500 Internal" not in received
    eventually(lambda: open_connections(server) == 0, within_s=CLOSED_WITHIN_S)


def test_a_late_header_and_a_late_body_are_refused_with_408(server: RunningServer) -> None:
    for first, code in ((b"GET /lim", b""), (ATTACKS["no body"][0], b'"code":"body_timeout"')):
        with connected(server) as connection:
            connection.sendall(first)
            answer = b"".join(iter(lambda connection=connection: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert code in answer


@pytest.mark.slow
def test_a_client_that_reads_no_answers_is_closed_in_time(server: RunningServer) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(server.server.servers[0].sockets[0].getsockname())
        get = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall((get + b"\r\n") * 100 + get + b"Connection: close\r\n\r\n")
        eventually(lambda: open_connections(server) == 1)
        eventually(lambda: open_connections(server) == 0, within_s=CLOSED_WITHIN_S)


@pytest.mark.parametrize("attack", ["nothing", "half a request line", "no body", "a body after the refusal"])
@pytest.mark.slow
def test_a_neighbour_is_answered_while_others_hold_all_connections(patient: RunningServer, attack: str) -> None:
    with ExitStack() as stack:
        for _ in range(5 * MAX_CONNECTIONS):
            connection = stack.enter_context(connected(patient))
            connection.sendall(ATTACKS[attack][0])
        waits = []
        for _ in range(20):
            began = time.monotonic()
            with httpx2.Client(base_url=patient.url, timeout=30, verify=False) as neighbour:
                answer = neighbour.post(
                    "/classify/sentiment", content=BODY, headers={"Content-Type": "application/json"}
                )
            waits.append(time.monotonic() - began)
            assert answer.status_code == 200
            assert open_connections(patient) <= MAX_CONNECTIONS
    assert max(waits) < 2


@pytest.mark.slow
def test_a_request_that_is_being_answered_keeps_its_connection(
    serve: Callable[..., RunningServer], tiny: Backbone
) -> None:
    server = serve(max_connections=2)
    server.upload("sentiment", make_adapter(tiny))

    def ask(_: int) -> int:
        # reading no certificates, clients connect so fast that many requests arrive before the server has read one
        with httpx2.Client(base_url=server.url, timeout=60, verify=False) as client:
            return client.post("/classify/sentiment", json={"inputs": ["a gripping film"] * 64}).status_code

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == [200] * 24


@pytest.mark.slow
@pytest.mark.parametrize("flood", [b"", GET + b"\r\n", GET], ids=["idle", "kept alive", "half a header"])
def test_a_flood_without_keys_closes_no_connection_that_has_sent_one(
    serve: Callable[..., RunningServer], flood: bytes
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY, max_connections=MAX_CONNECTIONS)
    neighbour = HTTPConnection(*server.server.servers[0].sockets[0].getsockname(), timeout=30)

    def ask() -> int:
        neighbour.request("GET", "/limits", headers=bearer(ADMIN_KEY))
        answer = neighbour.getresponse()
        answer.read()
        return answer.status

    with closing(neighbour), ExitStack() as stack:
        for _ in range(3):
            assert ask() == 200
            time.sleep(0.1)  # so that it has waited longer for its client than any connection of the flood
            for _ in range(2 * MAX_CONNECTIONS):
                with suppress(OSError):
                    stack.enter_context(connected(server)).sendall(flood)
        assert ask() == 200


def body_budget(server: RunningServer) -> BodyBudgetMiddleware:
    layer: Any = server.app.middleware_stack
    while not isinstance(layer, BodyBudgetMiddleware):
        layer = getattr(layer, "_app", None) or layer.app
    return layer


@pytest.mark.slow
def test_a_tenants_unfinished_bodies_leave_memory_for_those_of_others(
    serve: Callable[..., RunningServer], tiny: Backbone
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY, bodies_bytes=1 << 20)
    keyring = Keyring(server)
    keys = {}
    for tenant in ("flood", "quiet"):
        keyring.tenant(tenant)
        keys[tenant] = keyring.key(tenant, "publish")
        server.upload("sentiment", make_adapter(tiny), key=keys[tenant])

    def classify(tenant: str, padding: int) -> httpx2.Response:
        content = BODY + b" " * padding
        headers = {"Content-Type": "application/json"} | bearer(keys[tenant])
        return server.client.post("/classify/sentiment", content=content, headers=headers)

    part = head("/classify/sentiment", "Content-Length: 200000", f"X-API-Key: {keys['flood']}") + b" " * 199_999
    with ExitStack() as stack:
        for _ in range(3):  # as many as it may hold: none of them is refused, and its share stays used up
            stack.enter_context(connected(server)).sendall(part)
        budget = body_budget(server)
        eventually(lambda: budget._held_by_all == 3 * 199_999)
        refused = classify("flood", 300_000)
        check_problem(refused, 429, "queue_full", "of this tenant", "the server holds at most 1048576")
        assert refused.headers["Retry-After"] == "1"
        assert classify("quiet", 100_000).status_code == 200
    eventually(lambda: classify("flood", 600_000).status_code == 200)


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); from cli.main import main; main()"


@pytest.fixture
def registry(tiny: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "registry.sqlite"
    open_registry(path).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    return path


@pytest.mark.slow
def test_more_connections_than_descriptors_neither_stop_the_server_nor_fill_its_log(
    tiny_t5: Path, registry: Path
) -> None:
    program = (sys.executable, "-c", LIMITED)
    with server_process(tiny_t5, registry, program=program) as server:
        with httpx2.Client(base_url=server.url, verify=False) as client:
            eventually(lambda: client.get("/healthz/ready").is_success, within_s=60)
        num_lines = len(server.lines)
        for attack in ("nothing", "a header, byte by byte", "no body"):
            with ExitStack() as stack:
                for _ in range(260):
                    attacker = stack.enter_context(connected(server))
                    with suppress(ConnectionError):  # closed already
                        attacker.sendall(ATTACKS[attack][0])
                for _ in range(20):
                    with httpx2.Client(base_url=server.url, timeout=30, verify=False) as neighbour:
                        assert neighbour.post("/classify/sentiment", json={"inputs": "a film"}).status_code == 200
                        assert neighbour.get("/usage").status_code == 200  # opens the registry's file
                assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 200
        noise = [entry for entry in server.entries[num_lines:] if entry["event"] != "request"]
        assert len(noise) <= 5, noise
        assert not any("Traceback" in line for line in server.lines)


@pytest.mark.slow
def test_a_lack_of_descriptors_is_logged_once_and_survived(tiny_t5: Path, registry: Path) -> None:
    with (
        server_process(tiny_t5, registry) as server,
        httpx2.Client(base_url=server.url, timeout=30, verify=False) as client,
    ):
        eventually(lambda: client.get("/healthz/ready").is_success, within_s=60)
        _, hard = before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connected(server))
            eventually(lambda: any('"accept_failed"' in line for line in list(server.lines)))
            time.sleep(1)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
            with httpx2.Client(base_url=server.url, timeout=30, verify=False) as neighbour:
                assert neighbour.get("/limits").status_code == 200
        assert len([line for line in server.lines if "accept" in line]) == 1
