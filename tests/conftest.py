"""What tests share: tiny T5s, the embedded backbone, real rows, real servers, and runs that are done."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import platformdirs
import pytest
import torch
import uvicorn
from support import PAIR, RunningServer, make_adapter, make_t5
from support.cli import QUICK as QUICK_OPTIONS
from support.cli import TASK, Desk, superpos
from support.redis import RedisServer
from support.registry import Store, Uploads
from support.tools import caddy, prometheus, promtool  # noqa: F401, as fixtures
from support.training import Finished, easy_rows, easy_task, run, write_rows
from torch import Tensor

from adapters import PromptAdapter, Registry
from adapters.files import to_files
from backbone import Backbone, load
from service.app import create_app
from service.server.graceful import DrainingServer
from service.settings import Settings
from service.telemetry.logging import configure_logging
from training.task.task_file import TaskFile


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Ctrl-C reaches tests and the programs that they start, also where a script's `&` has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _model_threads_end() -> Iterator[None]:
    """A thread that a test made to die says so within that test, not in the next one."""
    before = set(threading.enumerate())  # a server for all tests of a module outlives each of them
    yield
    for thread in threading.enumerate():
        if thread.name == "superpos-model" and thread not in before:
            thread.join(30)


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


@contextmanager
def _servers(tiny_t5: Path, folder: Path, cache_dir: Path) -> Iterator[Callable[..., RunningServer]]:
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
        config = uvicorn.Config(app, port=0, http="h11", loop="asyncio", log_config=None, access_log=False)
        server = DrainingServer(config, drain_delay_s=settings.drain_delay_s, drain_timeout_s=settings.drain_timeout_s)
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
        client = httpx2.Client(base_url=url, timeout=60)
        started.append((server, thread, client))
        return RunningServer(url, client, settings, app, server)

    yield start
    for server, thread, client in started:
        client.close()
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def serve(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers; they stop, everything accepted answered, when the test ends."""
    with _servers(tiny_t5, tmp_path, cache_dir) as start:
        yield start


@pytest.fixture(scope="module")
def shared_server(
    tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, tiny: Backbone
) -> Iterator[RunningServer]:
    """The same as `server`, one for all tests of a module: they leave these tasks as they are."""
    with _servers(tiny_t5, tmp_path_factory.mktemp("shared"), cache_dir) as start:
        started = start()
        started.upload("sentiment", make_adapter(tiny))
        started.upload("pair", make_adapter(tiny, PAIR))
        yield started


@pytest.fixture
def server(serve: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """A server with one task of one field and one of two."""
    started = serve()
    started.upload("sentiment", make_adapter(tiny))
    started.upload("pair", make_adapter(tiny, PAIR))
    return started


@pytest.fixture
def still_answers(server: RunningServer) -> Iterator[None]:
    """Every test that uses this ends with the server still answering."""
    yield
    assert server.classify("sentiment", "a gripping film").status_code == 200
    assert server.client.get("/healthz/ready").json()["queued_rows"] == 0


@contextmanager
def _on_one_thread() -> Iterator[None]:
    # the number of threads is a setting of the whole process: put it back
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A model as small as ours is quickest on one thread."""
    with _on_one_thread():
        yield


@pytest.fixture
def task(tmp_path: Path) -> TaskFile:
    """A task that a prompt learns in seconds."""
    return easy_task(tmp_path)


@pytest.fixture(scope="session")
def untouched(tiny: Backbone) -> dict[str, Tensor]:
    """Every tensor of the backbone as it was before the finished run."""
    return {name: tensor.clone() for name, tensor in tiny.weights.tensors().items()}


@pytest.fixture(scope="session")
def finished(tiny: Backbone, untouched: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run with QUICK's arguments, for the tests that look at what it left."""
    folder = tmp_path_factory.mktemp("finished")
    with _on_one_thread():
        return run(tiny, easy_task(folder), folder / "run")


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Desk:
    """A folder with a task, its rows and a run of it by the command."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "topic.yaml").write_text(TASK, encoding="utf-8")
    write_rows(folder / "train.jsonl", easy_rows(120, seed=1))
    write_rows(folder / "validation.jsonl", easy_rows(60, seed=2))
    with _on_one_thread():
        trained = superpos(
            "train", folder / "topic.yaml", "--backbone", tiny_t5, "--out", folder / "run", *QUICK_OPTIONS
        )
    return Desk(folder, tiny_t5, trained)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for all tests, each at a place of its own; who stops it starts it again."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers for one test, with options of its configuration: to stop, to kill, to fill."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        folder = tmp_path / f"redis-{len(started)}"
        folder.mkdir()
        started.append(RedisServer(folder, options=options))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty place for a registry, of each implementation."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return Store(server.place())
    return Store(str(tmp_path / "registry" / "registry.sqlite"))


@pytest.fixture
def registry(store: Store) -> Registry:
    """An empty registry."""
    return store.open()


@pytest.fixture(scope="session")
def published(tiny: Backbone) -> list[PromptAdapter]:
    """Adapters that differ."""
    return [make_adapter(tiny, seed=seed, num_virtual_tokens=2) for seed in range(130)]


@pytest.fixture(scope="session")
def uploads(published: list[PromptAdapter]) -> Uploads:
    """The files of each of them."""
    return [to_files(adapter, card=f"# {adapter.digest}\n") for adapter in published]
