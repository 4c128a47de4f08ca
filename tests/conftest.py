"""What tests share: tiny T5s, the embedded backbone, real rows, and real servers."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import platformdirs
import pytest
import uvicorn
from support import RunningServer, make_t5

from backbone import Backbone, load
from service.app import create_app
from service.logs import configure_logging
from service.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where the embedded backbone's weights are kept between test runs."""
    return Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real rows; a test that asks for them is marked `data` and skips loudly without them."""
    if not os.environ.get("SUPERPOS_DATA"):
        pytest.skip("SUPERPOS_DATA is not set: this test needs real rows")
    return Path(os.environ["SUPERPOS_DATA"])


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny T5 v1.1."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v11"), gated=True)


@pytest.fixture(scope="session")
def tiny_t5_v10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny T5 v1.0."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v10"), gated=False)


@pytest.fixture(scope="session")
def tiny(tiny_t5: Path, cache_dir: Path) -> Backbone:
    """The tiny T5 v1.1, loaded."""
    return load(str(tiny_t5), cache_dir=cache_dir)


@pytest.fixture(scope="session")
def embedded(cache_dir: Path) -> Backbone:
    """The embedded backbone, loaded."""
    return load("embedded", cache_dir=cache_dir)


@pytest.fixture
def serve(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers; they stop, everything accepted answered, when the test ends."""
    started: list[tuple[uvicorn.Server, threading.Thread, httpx2.Client]] = []

    def start(**changes: object) -> RunningServer:
        values = {
            "backbone": str(tiny_t5),
            "cache_dir": cache_dir,
            "registry": tmp_path / "registry.sqlite",
            "port": 0,
            "poll_interval_s": 0.02,
            **changes,
        }
        settings = Settings(**values)
        app = create_app(settings)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the server ended at its start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        client = httpx2.Client(base_url=url, timeout=60)
        started.append((server, thread, client))
        return RunningServer(url, client, settings, app)

    yield start
    for server, thread, client in started:
        client.close()
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not stop"
