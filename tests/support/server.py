"""Real servers on real ports, each in a thread of the test process."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import uvicorn

from adapters import PromptAdapter, Registry
from adapters.files import to_files
from adapters.registry.opening import open_registry
from service.app import create_app
from service.server.graceful import DrainingServer
from service.settings import Settings


@dataclasses.dataclass
class RunningServer:
    """A real server on a real port, in a thread of this process."""

    url: str
    client: httpx2.Client
    settings: Settings
    app: object
    server: uvicorn.Server

    @property
    def registry(self) -> Registry:
        """Its registry, opened a second time: what another process would do."""
        return open_registry(self.settings.registry)

    def upload(self, task: str, adapter: PromptAdapter, *, key: str = "", **form: str) -> dict[str, object]:
        """Publish an adapter over HTTP."""
        parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        response = self.client.post(f"/tasks/{task}/versions", files=parts, data=form, headers=headers)
        assert response.is_success, response.text
        return response.json()

    def classify(self, ref: str, inputs: object, **body: object) -> httpx2.Response:
        """Ask for predictions."""
        return self.client.post(f"/classify/{ref}", json={"inputs": inputs, **body})


def sample(server: RunningServer, name: str) -> float:
    """One sample of /metrics."""
    lines = server.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).rpartition(" ")[2])


@contextmanager
def running_servers(tiny_t5: Path, folder: Path, cache_dir: Path) -> Iterator[Callable[..., RunningServer]]:
    """Yield a function that starts a server with changed settings; at the end all of them drain and stop."""
    started: list[tuple[uvicorn.Server, threading.Thread, httpx2.Client]] = []

    def start(**changes: object) -> RunningServer:
        values = {
            "backbone": str(tiny_t5),
            "cache_dir": cache_dir,
            "registry": folder / "registry.sqlite",
            "port": 0,
            "poll_interval_s": 0.02,
            **changes,
        }
        settings = Settings(**values)
        app = create_app(settings)
        server = DrainingServer(lambda: app, settings)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the server ended at its start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        while app.state.runtime.inference.engine.stats().self_test is None:
            assert time.monotonic() < deadline, "the self-test did not end"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        client = httpx2.Client(base_url=url, timeout=60, verify=False)  # plain HTTP: reading certificates takes 0.05 s
        started.append((server, thread, client))
        return RunningServer(url, client, settings, app, server)

    yield start
    for server, thread, client in started:
        client.close()
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not stop"
