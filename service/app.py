"""Builds the FastAPI application of one server: routes, middleware, error handlers. Importing it has no effects."""

from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from backbone import Backbone
from service.api.draining import Drain
from service.api.middleware.authentication import AuthenticationMiddleware
from service.api.middleware.body_budget import BodyBudgetMiddleware
from service.api.middleware.body_deadline import BodyDeadlineMiddleware
from service.api.middleware.body_drain import DrainBodyMiddleware
from service.api.middleware.body_limit import BodyLimitMiddleware
from service.api.middleware.conditional_get import ConditionalGetMiddleware
from service.api.middleware.decompression import GunzipMiddleware
from service.api.middleware.request_context import RequestContextMiddleware
from service.api.middleware.request_target import HeadMiddleware, RequestTargetMiddleware
from service.api.middleware.trusted_hosts import TrustedHostsMiddleware
from service.api.openapi import close_forms, errors, problems, state_keys
from service.api.problems import internal_error_handler, register_handlers
from service.api.request_body import body_limit
from service.api.routes import admin, classify, feedback, jobs, open_inference, openai, rollouts, tasks, tei, usage
from service.api.routes.health import health_router
from service.api.strict_route import StrictRoute
from service.console.app import build_console
from service.gauges import register_gauges
from service.loading import begin_loading
from service.runtime import Runtime, build_runtime
from service.settings import Settings
from service.telemetry.multiprocess import SharedFolder

_GZIP_FROM_BYTES = 4_096
"""Smaller responses fit into two or three packets anyway."""
_GZIP_LEVEL = 1
CONSOLE = "/console"
_COMPATIBLE_APIS = (tei, openai, open_inference)

_DESCRIPTION = """Many small text classifiers on one frozen T5: each task is a soft prompt, and requests of all
tasks share a batch. Errors are RFC 9457 problem details with a stable `code`."""


def create_app(
    settings: Settings,
    *,
    loading: Future[Backbone] | None = None,
    shared: SharedFolder | None = None,
    on_model_failure: Callable[[str], None] = lambda reason: None,
) -> FastAPI:
    """Build the application and its runtime, which runs from the application's startup to its shutdown.

    Args:
        settings: the server's settings
        loading: the backbone, if its loading has begun
        shared: where to keep metrics if this process is one of several workers
        on_model_failure: called on the event loop, with the reason, when this process can no longer serve requests

    Raises:
        backbone.BackboneError: the backbone cannot be loaded
        adapters.RegistryUnavailable: the registry cannot be opened
    """
    drain = Drain()
    loading = loading or begin_loading(settings)
    runtime = build_runtime(settings, loading, shared=shared, on_model_failure=on_model_failure)
    metrics = runtime.telemetry.metrics
    register_gauges(metrics, runtime)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        app.state.runtime = runtime
        async with runtime.running():
            # read by the server, which learns first that the process is to stop
            yield {"drain": drain, "activity": runtime.inference.engine.activity}

    app: FastAPI = FastAPIOffline(  # /docs without a content delivery network
        title="Superpos",
        version=version("superpos"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        responses=problems(422),
        redirect_slashes=False,
    )
    routes = _include_routers(app, health_router(metrics, drain))
    _complete_openapi(app, [route for route in routes if route.needs_key] if settings.require_keys else [])
    register_handlers(app, [*routes, *app.routes], formats=[api.ERROR_FORMAT for api in _COMPATIBLE_APIS])
    if settings.console:
        app.router.routes.append(Route(CONSOLE, _to_console, include_in_schema=False))
        app.mount(CONSOLE, build_console(app, runtime))
    _add_middleware(app, runtime, drain)
    metrics.register_routes([*(route.path for route in routes), *([CONSOLE] if settings.console else [])])
    return app


def _complete_openapi(app: FastAPI, keyed: Sequence[APIRoute]) -> None:
    """Add to the OpenAPI document what `StrictRoute` does apart from the framework.

    Args:
        app: the application
        keyed: the routes that require a key
    """
    describe = app.openapi

    def describe_strictly() -> dict[str, Any]:
        document = close_forms(describe())
        if keyed:
            state_keys(document, keyed)
        return document

    app.openapi = describe_strictly  # type: ignore[method-assign]


async def _to_console(request: Request) -> RedirectResponse:
    """Redirect to the page with the slash that the console's paths have."""
    return RedirectResponse(f"{CONSOLE}/{'?' + request.url.query if request.url.query else ''}")


def _include_routers(app: FastAPI, health: APIRouter) -> list[StrictRoute]:
    """Add all routes."""
    native = [classify.router, tasks.router, rollouts.router, feedback.router, jobs.router, usage.router, admin.router]
    for router in native:
        app.include_router(router, responses=problems(401, 403, 412, 421, 429))
    app.include_router(health, responses=problems(403, 412, 421))
    for api in _COMPATIBLE_APIS:
        responses = errors(api.ERROR_FORMAT.model, 401, 403, 412, 421, 422, 429)
        app.include_router(api.router, responses=responses)
    for open_api in (tei, open_inference):
        app.include_router(open_api.open_router, responses=errors(open_api.ERROR_FORMAT.model, 403, 412, 421))
    routers = [*native, health, *(api.router for api in _COMPATIBLE_APIS), tei.open_router, open_inference.open_router]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    strict = [route for route in routes if isinstance(route, StrictRoute)]
    assert len(strict) == len(routes), "a router without route_class=StrictRoute"
    return strict


def _add_middleware(app: FastAPI, runtime: Runtime, drain: Drain) -> None:
    """Add the middleware around the routes, from the inside out."""
    settings = runtime.settings
    smallest = body_limit("small", settings)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        AuthenticationMiddleware,
        account_cache=runtime.tenancy.account_cache,
        quotas=runtime.tenancy.quotas,
        require_keys=settings.require_keys,
    )
    app.add_middleware(ConditionalGetMiddleware)
    app.add_middleware(BodyBudgetMiddleware, max_bytes=settings.bodies_bytes)
    app.add_middleware(BodyLimitMiddleware, unmatched_bytes=smallest)  # after decompression
    app.add_middleware(GunzipMiddleware)
    app.add_middleware(BodyLimitMiddleware, unmatched_bytes=smallest)  # on the wire
    app.add_middleware(BodyDeadlineMiddleware, timeout_s=settings.body_timeout_s)
    if not settings.require_keys:
        app.add_middleware(TrustedHostsMiddleware, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(RequestTargetMiddleware)
    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM_BYTES, compresslevel=_GZIP_LEVEL)
    # added here as well: the framework's own is outermost, where a response gets no request id
    app.add_middleware(ServerErrorMiddleware, handler=internal_error_handler)
    app.add_middleware(
        RequestContextMiddleware,
        metrics=runtime.telemetry.metrics,
        usage=runtime.monitoring.usage,
        refusals=runtime.tenancy.refusals,
        drain=drain,
        tracing=runtime.telemetry.tracing,
    )
    app.add_middleware(DrainBodyMiddleware)
