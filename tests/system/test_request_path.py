"""The path of a request: how many modules it crosses, and that nothing on it is parsed or checked twice.

A profiler records each Python function of `service`, `adapters` and `backbone` that is entered for one request: on
the event loop and in worker threads those in the request's context, on the model thread all, as the engine holds no
other row. Polling is not counted, nor are functions that Python generates. Modules are counted in six groups, each of
which a reader meets at another time:

- path: routes, catalog, inference, engine, releases and the values that they pass on
- surroundings: middleware, accounts, telemetry and monitoring, which every request crosses
- body: the limits of a body and its reading
- store: the registry and its storage
- format: an adapter's files and values
- model thread: scheduling and the forward
"""

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx2
import pytest
from support.adapters import make_adapter
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone
from service.app import create_app
from service.settings import Settings

MOST = 25
"""Modules of one group."""
ROOT = Path(__file__).parents[2]
PACKAGES = tuple(f"{ROOT / package}/" for package in ("service", "adapters", "backbone"))
GROUPS = {
    "body": (
        "service/api/middleware/body_",
        "service/api/middleware/decompression.py",
        "service/api/request_body.py",
    ),
    "surroundings": (
        "service/api/middleware/",
        "service/api/strict_route.py",
        "service/api/reflection.py",
        "service/tenancy/",
        "service/telemetry/",
        "service/monitoring/",
        "service/counters/",
        "service/runtime.py",
    ),
    "store": ("adapters/registry/", "adapters/storage/", "service/catalog/instrumented.py"),
    "format": ("adapters/",),
}
MODEL_THREAD = "superpos-model"
_traced: ContextVar[bool] = ContextVar("traced", default=False)


@dataclass
class Trace:
    """What was entered for one request."""

    modules: set[tuple[str, str]] = field(default_factory=set)
    """Group and module."""
    calls: Counter[str] = field(default_factory=Counter)
    """Python functions as `module.Class.function`, C functions by their names."""

    def group(self, name: str) -> list[str]:
        return sorted(module for group, module in self.modules if group == name)

    def check_length(self) -> None:
        for name in ("path", *GROUPS, "model thread"):
            modules = self.group(name)
            assert len(modules) <= MOST, f"{name}: {len(modules)} modules\n" + "\n".join(modules)


class Tracer:
    """A profiler of the threads that start while it is installed, and of the current one."""

    def __init__(self) -> None:
        self._trace: Trace | None = None

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        trace = self._trace
        on_model_thread = trace is not None and threading.current_thread().name == MODEL_THREAD
        if trace is None or not (on_model_thread or _traced.get()):
            return
        if event == "c_call":
            trace.calls[getattr(arg, "__qualname__", "?")] += 1
        elif event == "call":
            code = frame.f_code
            trace.calls[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += 1
            if code.co_filename.startswith(PACKAGES):
                module = str(Path(code.co_filename).relative_to(ROOT))
                trace.modules.add(("model thread" if on_model_thread else _group(module), module))

    async def trace(self, client: httpx2.AsyncClient, url: str, **request: object) -> Trace:
        """Send one request and return what was entered for it."""

        async def send() -> httpx2.Response:
            _traced.set(True)
            return await client.post(url, **request)

        self._trace = trace = Trace()
        response = await asyncio.create_task(send())  # a task has a context of its own
        self._trace = None
        assert response.is_success, response.text
        return trace


def _group(module: str) -> str:
    return next((name for name, prefixes in GROUPS.items() if module.startswith(prefixes)), "path")


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    tracer = Tracer()
    before, before_in_threads = sys.getprofile(), threading.getprofile()
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    yield tracer
    sys.setprofile(before)
    threading.setprofile(before_in_threads)


def test_an_upload_and_a_request_cross_few_modules_and_parse_everything_once(
    tracer: Tracer, tiny: Backbone, tiny_t5: Path, cache_dir: Path, tmp_path: Path
) -> None:
    upload, classify = asyncio.run(_traces(tracer, tiny, tiny_t5, cache_dir, tmp_path))
    upload.check_length()
    assert upload.calls["formparsers.MultiPartParser.parse"] == 1
    assert upload.calls["files.from_files"] == 1
    assert upload.calls["deserialize"] == 1, "the safetensors file is read again"
    assert upload.calls["template.Template.parse"] == 1
    assert upload.calls["task.TaskSpec._check"] == 1
    assert upload.calls["adapter_cache.load_adapter"] == 1
    classify.check_length()
    assert classify.calls["__init__.loads"] == 1, "the JSON is parsed again"
    assert classify.calls["classify._as_list"] == 1, "the body is validated again"
    assert classify.calls["classify.check_item"] == 2
    assert classify.calls["template.Template.parse"] == 0
    assert classify.calls["template.Template.values"] == 2
    assert classify.calls["names.Ref.parse"] == 1
    assert classify.calls["text.TextTokenizer.ids"] == 1
    assert classify.calls["scheduler.Scheduler.next"] == 1
    assert {"service/engine/scheduler.py", "backbone/encoder.py"} <= set(classify.group("model thread"))


async def _traces(tracer: Tracer, tiny: Backbone, tiny_t5: Path, cache_dir: Path, folder: Path) -> tuple[Trace, Trace]:
    """Trace an upload and a request for two texts in a server without other work."""
    settings = Settings(
        backbone=str(tiny_t5),
        cache_dir=cache_dir,
        registry=folder / "registry.sqlite",
        bundled=False,
        poll_interval_s=3_600,
        heartbeat_interval_s=3_600,
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        engine = app.state.runtime.inference.engine
        await asyncio.to_thread(eventually, lambda: engine.stats().self_test is not None)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            files = [("files", file) for file in to_files(make_adapter(tiny)).items()]
            upload = await tracer.trace(client, "/tasks/sentiment/versions", files=files)
            body = {"inputs": ["a gripping film", "flat and overlong"]}
            return upload, await tracer.trace(client, "/classify/sentiment", json=body)
