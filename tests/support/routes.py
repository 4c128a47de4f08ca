"""Every route of the application with the role that it needs. A new route without a line here fails a test."""

from collections.abc import Iterator
from typing import Literal

Needed = Literal["open", "classify", "publish", "admin", "operator"]

ROLES: dict[Needed, str] = {
    "open": """
        GET /openapi.json, HEAD /openapi.json, GET /docs, GET /docs/oauth2-redirect, GET /redoc, GET /metrics
        GET /, GET /console, HEAD /console, GET /healthz/live, GET /healthz/startup, GET /healthz/ready
        GET /health, GET /tei/{ref}/health, GET /v2, GET /v2/health/live, GET /v2/health/ready
    """,
    "classify": """
        POST /classify/{ref}, POST /classify, GET /limits, POST /feedback
        GET /tasks, GET /tasks/{task}, GET /tasks/{task}/versions/{version}
        GET /tasks/{task}/versions/{version}/files, GET /tasks/{task}/versions/{version}/files/{name}
        GET /tasks/{task}/aliases/{alias}, GET /tasks/{task}/traffic, GET /usage
        POST /predict, POST /tei/{ref}/predict, POST /tei/{ref}, GET /info, GET /tei/{ref}/info
        POST /v1/classify, POST /v1/moderations, GET /v1/models, GET /v1/models/{model}
        GET /v2/models/{model}, GET /v2/models/{model}/versions/{version}
        GET /v2/models/{model}/ready, GET /v2/models/{model}/versions/{version}/ready
        POST /v2/models/{model}/infer, POST /v2/models/{model}/versions/{version}/infer
    """,
    "publish": """
        POST /tasks/{task}/versions, DELETE /tasks/{task}/versions/{version}
        PUT /tasks/{task}/aliases/{alias}, DELETE /tasks/{task}/aliases/{alias}
        PUT /tasks/{task}/traffic, DELETE /tasks/{task}/traffic, GET /tasks/{task}/history
        POST /tasks/{task}/rollback, POST /tasks/{task}/promote
        GET /feedback, DELETE /feedback, GET /tasks/{task}/feedback, GET /tasks/{task}/feedback/export
        POST /tasks/{task}/jobs, GET /jobs, GET /jobs/{job}, POST /jobs/{job}/cancel, DELETE /jobs/{job}
    """,
    "admin": """
        GET /admin/tenants, GET /admin/tenants/{tenant}
        GET /admin/tenants/{tenant}/keys, POST /admin/tenants/{tenant}/keys
        PATCH /admin/tenants/{tenant}/keys/{key}
        POST /admin/tenants/{tenant}/keys/{key}/rotate, DELETE /admin/tenants/{tenant}/keys/{key}
        GET /admin/audit, GET /admin/audit/tasks
    """,
    "operator": """
        POST /admin/tenants, PATCH /admin/tenants/{tenant}, DELETE /admin/tenants/{tenant}
    """,
}
DECIDED: dict[tuple[str, str], Needed] = {
    (method, path): role
    for role, lines in ROLES.items()
    for method, path in (line.split() for line in lines.replace(",", "\n").splitlines() if line.strip())
}


def routes(routers: object) -> Iterator[tuple[str, str]]:
    """Every method and path that an application answers."""
    for route in routers:  # type: ignore[attr-defined]
        if hasattr(route, "original_router"):
            yield from routes(route.original_router.routes)
        elif hasattr(route, "methods"):
            yield from ((method, route.path) for method in route.methods)
