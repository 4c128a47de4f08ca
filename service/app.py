"""`create_app`: the FastAPI application of one server. Importing this does nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.gzip import GZipMiddleware

from service.api.dependencies import KEY_SCHEMES, principal_of
from service.api.draining import Drain
from service.api.middleware.authentication import AuthenticationMiddleware
from service.api.middleware.body_drain import DrainBodyMiddleware
from service.api.middleware.body_limit import BodyLimitMiddleware
from service.api.middleware.conditional_get import ConditionalGetMiddleware
from service.api.middleware.decompression import GunzipMiddleware
from service.api.middleware.request_context import RequestContextMiddleware
from service.api.middleware.trusted_hosts import TrustedHostsMiddleware
from service.api.openapi import errors, problems
from service.api.problems import internal_error_handler, register_handlers
from service.api.routes import admin, classify, open_inference, openai, rollouts, tasks, tei, usage
from service.api.routes.health import health_router
from service.gauges import register_gauges
from service.runtime import build_runtime
from service.settings import Settings
from service.telemetry.multiprocess import SharedFolder

GZIP_FROM_BYTES = 4_096
"""Smaller answers fit into two or three packets anyway."""
GZIP_LEVEL = 1

_DESCRIPTION = """Many small text classifiers on one frozen T5: each task is a soft prompt, and requests of all
tasks share a batch. Errors are RFC 9457 problem details with a stable `code`."""


def create_app(
    settings: Settings,
    *,
    shared: SharedFolder | None = None,
    on_model_failure: Callable[[str], None] = lambda reason: None,
) -> FastAPI:
    """The application of a world built here; its engine runs from the application's start to its stop.

    Args:
        settings: everything that the server can be told
        shared: where it keeps its metrics if it is one of several workers
        on_model_failure: told, on the event loop, why no request can be answered by this process any more

    Raises:
        backbone.BackboneError: the backbone cannot be loaded
        adapters.RegistryUnavailable: the registry cannot be opened
    """
    drain = Drain()
    runtime = build_runtime(settings, shared=shared, on_model_failure=on_model_failure)
    metrics = runtime.telemetry.metrics
    register_gauges(metrics, runtime)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        app.state.runtime = runtime
        async with runtime.running():
            # for the server that runs the application, which is the first to know that it stops
            yield {"drain": drain}

    app: FastAPI = FastAPIOffline(  # /docs without a content delivery network
        title="Superpos",
        version=version("superpos"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        responses=problems(422),
        redirect_slashes=False,
    )
    routes = _include_routers(app, health_router(metrics, drain), require_keys=settings.require_keys)
    register_handlers(app, [*routes, *app.routes], faces=[tei.FACE, openai.FACE, open_inference.FACE])
    app.add_middleware(
        AuthenticationMiddleware,
        directory=runtime.tenancy.account_cache,
        quotas=runtime.tenancy.quotas,
        require_keys=settings.require_keys,
    )
    _add_layers(app, settings)
    app.add_middleware(
        RequestContextMiddleware,
        metrics=metrics,
        usage=runtime.monitoring.usage,
        drain=drain,
        tracing=runtime.telemetry.tracing,
    )
    app.add_middleware(DrainBodyMiddleware)
    metrics.register_routes([route.path for route in routes])
    return app


def _include_routers(app: FastAPI, health: APIRouter, *, require_keys: bool) -> list[APIRoute]:
    """All routes; those of tenants take a key."""
    keyed = [Depends(principal_of), *(KEY_SCHEMES if require_keys else [])]
    native = [classify.router, tasks.router, rollouts.router, usage.router, admin.router]
    for router in native:
        app.include_router(router, dependencies=keyed, responses=problems(401, 403, 421, 429))
    app.include_router(health, responses=problems(403, 421))
    faces = (tei, openai, open_inference)
    for face in faces:
        app.include_router(face.router, dependencies=keyed, responses=errors(face.ERROR, 401, 403, 421, 422, 429))
    for open_face in (tei, open_inference):
        app.include_router(open_face.open_router, responses=errors(open_face.ERROR, 403, 421))
    routers = [*native, health, *(face.router for face in faces), tei.open_router, open_inference.open_router]
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def _add_layers(app: FastAPI, settings: Settings) -> None:
    """What stands around the routes, from the inside out."""
    limits = {"max_body_bytes": settings.max_body_bytes, "max_upload_bytes": settings.max_upload_bytes}
    app.add_middleware(ConditionalGetMiddleware)
    app.add_middleware(BodyLimitMiddleware, **limits)  # what comes out of a gzipped body
    app.add_middleware(GunzipMiddleware)
    app.add_middleware(BodyLimitMiddleware, **limits)  # what comes in
    if not settings.require_keys:
        app.add_middleware(TrustedHostsMiddleware, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=GZIP_LEVEL)
    # the framework's own stands outside of all layers, where an answer gets no request id
    app.add_middleware(ServerErrorMiddleware, handler=internal_error_handler)
