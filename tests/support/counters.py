"""Support for tests of the counter store: a location of either kind, with a clock that the test sets."""

import dataclasses
import socket
import socketserver
import threading
import time
from pathlib import Path
from typing import Self

from adapters.registry.opening import open_registry
from adapters.storage.redis import connect
from adapters.storage.sqlite import SqliteFile
from service.counters.redis_store import RedisCounterStore
from service.counters.sqlite_store import SqliteCounterStore
from service.counters.store import CounterStore
from support.redis import RedisServer


@dataclasses.dataclass
class CounterPlace:
    """Where replicas share a counter store."""

    place: str
    now: float = dataclasses.field(default_factory=time.time)

    def open(self) -> CounterStore:
        """The counter store as one more replica sees it."""
        if "://" in self.place:
            return RedisCounterStore(connect(self.place), now=lambda: self.now)
        return SqliteCounterStore(SqliteFile(Path(self.place)), now=lambda: self.now)


def new_place(kind: str, folder: Path, redis_server: RedisServer) -> CounterPlace:
    """An empty place, with its registry in it."""
    if kind == "redis":
        return CounterPlace(redis_server.place())
    path = folder / "registry.sqlite"
    open_registry(path)
    return CounterPlace(str(path))


class AnswersLost:
    """A way to a local server on which, while `losing`, commands arrive and their answers do not."""

    def __init__(self, port: int) -> None:
        self.losing = False
        outer = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    while command := self.request.recv(1 << 16):
                        server.sendall(command)
                        answer = server.recv(1 << 16)
                        if outer.losing:
                            return
                        self.request.sendall(answer)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
