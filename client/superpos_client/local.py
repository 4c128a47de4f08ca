"""The engine in this process: the server's own application, without a socket, in a thread with an event loop.

It is imported when a local client is made, since only that needs the package of the server.
"""

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Self

import httpx2

_POLL_S = 0.02
_START_TIMEOUT_S = 600.0


class LocalEngine:
    """A running application. Clients of any thread and event loop send it requests."""

    url = "http://localhost"

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any, stop: Callable[[], None]) -> None:
        self._loop, self._transport, self._stop = loop, httpx2.ASGITransport(app, raise_app_exceptions=False), stop

    @classmethod
    def start(cls, registry: str | None, settings: Mapping[str, object]) -> Self:
        """Load the backbone, start the application, and wait until it can answer.

        Args:
            registry: a SQLite file or a Redis URL; None for the default
            settings: the server's settings by name

        Raises:
            ModuleNotFoundError: the server's package is not installed
            RuntimeError: the model cannot answer
        """
        app = _application({**settings, **({} if registry is None else {"registry": registry})})
        thread = _AppThread(app)
        thread.start()
        thread.until_ready()
        return cls(thread.loop, app, thread.stop)

    def transport(self) -> httpx2.BaseTransport:
        """Return a transport for `httpx2.Client`."""
        return _SyncTransport(self)

    def async_transport(self) -> httpx2.AsyncBaseTransport:
        """Return a transport for `httpx2.AsyncClient`."""
        return _AsyncTransport(self)

    def stop(self) -> None:
        """Answer what was accepted, and stop."""
        self._stop()

    def send(self, request: httpx2.Request, content: bytes) -> "concurrent.futures.Future[httpx2.Response]":
        """Begin a request on the application's loop; a cancelled future cancels it."""
        return asyncio.run_coroutine_threadsafe(self._answer(request, content), self._loop)

    async def _answer(self, request: httpx2.Request, content: bytes) -> httpx2.Response:
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"transfer-encoding"]
        sent = httpx2.Request(request.method, request.url, headers=headers, content=content)
        response = await self._transport.handle_async_request(sent)
        # as it came: the client that asked decodes it
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        body = b"".join([part async for part in response.stream])
        return httpx2.Response(response.status_code, headers=response.headers, stream=httpx2.ByteStream(body))


class _SyncTransport(httpx2.BaseTransport):
    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        future = self._engine.send(request, request.read())
        try:
            return future.result(timeout=request.extensions["timeout"]["read"])
        except concurrent.futures.TimeoutError as exc:
            raise httpx2.ReadTimeout("no answer in time", request=request) from exc
        finally:
            future.cancel()


class _AsyncTransport(httpx2.AsyncBaseTransport):
    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await asyncio.wrap_future(self._engine.send(request, await request.aread()))


class _AppThread(threading.Thread):
    """Runs an application between its startup and its shutdown."""

    def __init__(self, app: Any) -> None:
        super().__init__(name="superpos-engine", daemon=True)
        self.loop = asyncio.new_event_loop()
        self._app = app
        self._has_started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._should_stop = asyncio.Event()

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        except Exception as exc:
            if self._has_started.done():
                raise
            self._has_started.set_exception(exc)
        finally:
            self.loop.close()

    def until_ready(self) -> None:
        """Wait until the self-test has passed (`RuntimeError` with the reason if it has not)."""
        self._has_started.result(timeout=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop the application and wait for it."""
        if self.is_alive():
            self.loop.call_soon_threadsafe(self._should_stop.set)
            self.join()

    async def _serve(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            engine = self._app.state.runtime.inference.engine
            while (found := engine.stats()).self_test is None:  # noqa: ASYNC110 - the model's thread has no event
                await asyncio.sleep(_POLL_S)
            if found.not_ready is not None:
                raise RuntimeError(f"the engine cannot answer: {found.not_ready}")
            self._has_started.set_result(None)
            await self._should_stop.wait()


def _quiet_logs() -> None:
    """Send the engine's warnings to Python's logging, unless the program has configured structlog."""
    structlog = import_module("structlog")
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


def _application(settings: Mapping[str, object]) -> Any:
    try:
        create_app = import_module("service.app").create_app
        configured = import_module("service.settings").Settings(**settings)
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"Client.local runs the engine in this process, which needs the package 'superpos' ({exc}): install it "
            "from a checkout of the project with 'pip install .'"
        ) from exc
    _quiet_logs()
    return create_app(configured)
