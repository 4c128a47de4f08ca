"""The server as an application of Ray Serve: equal replicas on a cluster's nodes, which share a Redis.

Only this module's name and plain values travel to the nodes: each replica builds its own application. There is no
`@serve.batch` and no multiplexing, since the engine batches all tasks' rows by itself.
"""

import asyncio
import logging
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from adapters.storage.opening import is_redis, redact
from service.api.middleware.request_context import REQUEST_ID
from service.app import create_app
from service.errors import ServiceError
from service.server.graceful import trusted_hosts
from service.settings import Settings
from service.telemetry.logging import configure_logging

NAME = "superpos"
"""Name of the application and of its deployment."""
_HEALTH_PERIOD_S = 2.0
_POLL_S = 0.05
_ENDED_BY_SERVE = ("host", "port", "workers", "drain_delay_s")
"""Settings of a process with a port of its own."""

_REQUEST_TIMEOUT_S = 130.0
"""Longer than `max_timeout_ms`, so that the replica decides about a request that takes too long."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Value = str | int | float | bool


class RayRefused(ServiceError):
    """The application cannot be deployed."""


class Arguments(BaseModel):
    """Arguments of the application, in `serveConfigV2` and of `superpos ray serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: dict[str, Value] = {}
    """Settings of the replicas by name; they precede those of the nodes' environment, where secrets belong.

    Replicas require keys unless `require_keys` is false here.
    """
    cpus: Annotated[int, Field(ge=1)] = 2
    """CPUs of a replica, and threads of its model."""
    min_replicas: Annotated[int, Field(ge=1)] = 2
    max_replicas: Annotated[int, Field(ge=1)] = 10
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 64
    """Per replica, to scale on: two batches of single rows, one that runs and one that waits."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 1_024
    """Per replica. The engine refuses rows beyond its queue with 429, so that Serve need not hold them back."""
    max_queued_requests: Annotated[int, Field(ge=1)] = 1_024
    """Requests that a proxy holds while no replica takes them; more get 503."""
    scale_up_after_s: Annotated[float, Field(ge=0)] = 10
    scale_down_after_s: Annotated[float, Field(ge=0)] = 300

    @model_validator(mode="after")
    def _check(self) -> "Arguments":
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}, expected at least min_replicas, {self.min_replicas}"
            )
        if unread := sorted(set(self.settings) & set(_ENDED_BY_SERVE)):
            raise ValueError(f"settings has {', '.join(unread)}, which a replica does not read; Serve's proxies listen")
        if _has_password(str(self.settings.get("registry", ""))):
            raise ValueError(
                "settings.registry has a password, which Ray would store and show; set SUPERPOS_REGISTRY or "
                "SUPERPOS_SECRETS_DIR on the nodes instead"
            )
        return self


class Replica:
    """One server without a port: Serve's proxies send it requests, and Serve asks whether it is healthy."""

    def __init__(self, settings: dict[str, Value], threads: int) -> None:
        """Read the settings of this node, of which the given ones are replaced.

        Raises:
            ValueError: a setting is invalid, or the registry is a file, which only this node has
        """
        self._settings = Settings.model_validate({"threads": threads, "require_keys": True, **settings})
        if not is_redis(self._settings.registry):
            raise ValueError(
                f"registry is {redact(self._settings.registry)!r}, expected the URL of a Redis that all nodes "
                "reach, in the settings of the application or in SUPERPOS_REGISTRY"
            )
        configure_logging(self._settings.log_format, self._settings.log_level)
        self._failure: str | None = None
        self._app: FastAPI | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Build the application; Serve calls this in the replica's process."""
        self._app = create_app(self._settings, on_model_failure=self._fail)
        app: ASGIApp = _WithoutRequestId(self._app)
        if self._settings.trusted_proxies:
            app = ProxyHeadersMiddleware(app, trusted_hosts(self._settings.trusted_proxies))  # type: ignore[arg-type,assignment]
        return app

    async def check_health(self) -> None:
        """Wait until the model has passed its self-test; raise an error if it has failed: Serve replaces the replica.

        A registry or a Redis that is away does not matter: what is in memory is still served.
        """
        assert self._app is not None
        engine = self._app.state.runtime.inference.engine
        while (stats := engine.stats()).self_test is None and stats.alive and self._failure is None:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        has_passed = stats.self_test is not None and stats.self_test.passed
        failure = self._failure or stats.failure or (None if has_passed else stats.not_ready)
        if failure is not None:
            raise RuntimeError(f"the model cannot serve: {failure}")

    def _fail(self, reason: str) -> None:
        self._failure = reason


class _WithoutRequestId:
    """Leaves the response's request id to Serve's proxy, which adds the one that the request has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(raw=message["headers"])[REQUEST_ID]
            await send(message)

        await self._app(scope, receive, send_on)


def build(arguments: Arguments) -> serve.Application:
    """Build the application: `import_path: service.ray:build` of a RayService or of `serve deploy`."""
    drain_s = Settings.model_fields["drain_timeout_s"].default
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": arguments.cpus},
        max_ongoing_requests=arguments.max_ongoing_requests,
        max_queued_requests=arguments.max_queued_requests,
        autoscaling_config=AutoscalingConfig(
            min_replicas=arguments.min_replicas,
            max_replicas=arguments.max_replicas,
            target_ongoing_requests=arguments.target_ongoing_requests,
            upscale_delay_s=arguments.scale_up_after_s,
            downscale_delay_s=arguments.scale_down_after_s,
        ),
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=float(arguments.settings.get("drain_timeout_s", drain_s)),
        graceful_shutdown_wait_loop_s=_POLL_S,
    )
    # the late form of an ingress: `__serve_build_asgi_app__` runs in the replica
    return deployment(serve.ingress()(Replica)).bind(arguments.settings, arguments.cpus)


def deploy(arguments: Arguments, *, address: str, host: str, port: int) -> None:
    """Deploy the application on a cluster, and wait until its replicas are healthy.

    Args:
        arguments: of the application; another set of them replaces the replicas one by one
        address: of the Ray cluster
        host: address that the proxy of each node with a replica listens on
        port: its port

    Raises:
        RayRefused: no cluster answers, the proxies would listen beyond loopback for requests without keys, or the
            application does not start
    """
    if arguments.settings.get("require_keys", True) in (False, "false") and host not in _LOOPBACK:
        raise RayRefused(
            f"host is {host!r} and require_keys is false; without keys proxies may listen on loopback only"
        )
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise RayRefused(f"no Ray cluster at {address!r}: {str(exc).splitlines()[0]}") from exc
    http = {"host": host, "port": port, "request_timeout_s": _REQUEST_TIMEOUT_S}
    try:
        serve.start(proxy_location="EveryNode", http_options=http)
        serve.run(build(arguments), name=NAME, route_prefix="/")
    except RuntimeError as exc:
        raise RayRefused(f"the application does not start: {exc}") from exc
    finally:
        ray.shutdown()


def _has_password(location: str) -> bool:
    parts = urlsplit(location)
    return parts.password is not None or any("password" in name for name in parse_qs(parts.query))
