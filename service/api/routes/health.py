"""`/`, `/healthz/live`, `/healthz/startup`, `/healthz/ready`, `/metrics`."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Header, Response

from adapters import BackboneRef
from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.api.dependencies import Running
from service.api.draining import Drain
from service.api.problems import without_reason
from service.api.schemas.health import Index, Live, Ready, Startup
from service.api.strict_route import OpenRoute
from service.telemetry.exposition import exposition
from service.telemetry.metrics import Metrics

_ACCOUNTS_OUTDATED = "keys cannot be verified: their store has been unreachable for too long"
_READ_ONLY = "the registry's disk is full or read-only; the log has the reason"


def _is_read_only(storage: Storage) -> bool:
    return isinstance(storage, SqliteFile) and storage.write_fault is not None


def health_router(metrics: Metrics, drain: Drain) -> APIRouter:
    """Make the routes for operators, load balancers and scrapers."""
    router = APIRouter(route_class=OpenRoute, tags=["operations"])

    @router.get("/")
    async def index(runtime: Running) -> Index:
        """Link to the documentation, health, metrics, tasks and console."""
        return Index(version=version("superpos"), console="/console" if runtime.settings.console else None)

    @router.get("/healthz/live")
    async def live() -> Live:
        """Report that the process is alive."""
        return Live()

    @router.get("/healthz/startup", responses={503: {"model": Startup}})
    async def startup(runtime: Running, response: Response) -> Startup:
        """Report 200 once startup is complete: backbone loaded, registry read, self-test passed."""
        found = runtime.inference.engine.stats().self_test
        started = found is not None and found.passed
        response.status_code = 200 if started else 503
        return Startup(status="started" if started else "starting", self_test=found)

    @router.get("/healthz/ready", responses={503: {"model": Ready}})
    async def ready(runtime: Running, response: Response) -> Ready:
        """Report 200 if the worker that got this request can serve others, 503 if not or while it drains."""
        stats = runtime.inference.engine.stats()
        accounts = runtime.tenancy.account_cache
        cannot_verify_keys = runtime.settings.require_keys and accounts.is_outdated
        not_ready = without_reason(stats.not_ready or "") or None
        reason = "draining" if drain.is_draining else _ACCOUNTS_OUTDATED if cannot_verify_keys else not_ready
        response.status_code = 200 if reason is None else 503
        return Ready(
            status="ready" if reason is None else "not_ready",
            reason=reason,
            last_forward_age_s=stats.last_forward_age_s,
            self_test=stats.self_test,
            backbone=BackboneRef(**asdict(runtime.backbone.identity)),
            precision=runtime.backbone.precision,
            precisions=runtime.registry.precisions.loaded,
            degraded=runtime.registry.sync.degraded or accounts.degraded,
            read_only=_READ_ONLY if _is_read_only(runtime.storage) else None,
            tasks=len(runtime.registry.catalog),
            resident_adapters=stats.resident_adapters,
            tripped_adapters=stats.tripped_adapters,
            queued_rows=runtime.inference.admission.rows,
            workers=runtime.settings.workers,
        )

    @router.get("/metrics", response_class=Response)
    async def scrape(accept: Annotated[str, Header()] = "") -> Response:
        """Return the metrics of all workers in the text format of Prometheus, or in OpenMetrics on request."""
        text, media_type = await exposition(metrics.registry, accept=accept)
        return Response(text, media_type=media_type)

    return router
