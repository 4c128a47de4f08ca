"""`GET /usage`."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BeforeValidator

from adapters.names import NAME_PATTERN, check_name
from service.api.dependencies import Running, principal_of
from service.api.openapi import problems
from service.api.schemas.usage import UsageBody, usage_csv
from service.api.strict_route import StrictRoute
from service.errors import InvalidRequest
from service.monitoring.usage import USAGE, usage_rows
from service.tenancy.principal import Principal

router = APIRouter(route_class=StrictRoute, tags=["usage"])

CSV = "text/csv"
_DEFAULT_DAYS = 30
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = {"pattern": f"^{NAME_PATTERN}$"}


def _check_day(value: object) -> object:
    """Accept ISO days only: pydantic would also accept seconds since 1970."""
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("expected a day such as 2026-01-31")
    return value


Day = Annotated[date, BeforeValidator(_check_day)]


async def _tenant_asked(
    request: Request,
    tenant: Annotated[str | None, Query(description="another tenant, for operators", json_schema_extra=_NAME)] = None,
) -> str:
    """Return the tenant to report on: the principal's own, or for operators any (`Forbidden`)."""
    principal: Principal = await principal_of(request)
    if tenant is None or tenant == principal.tenant:
        return principal.tenant
    principal.require("operator")
    return check_name("tenant", tenant)


@router.get(
    "/usage",
    responses={200: {"model": UsageBody, "content": {CSV: {"schema": {"type": "string"}}}}, **problems(400, 422, 503)},
)
async def read_usage(
    runtime: Running,
    tenant: Annotated[str, Depends(_tenant_asked)],
    task: Annotated[str | None, Query(description="only this task", json_schema_extra=_NAME)] = None,
    since: Annotated[Day | None, Query(alias="from", description="first day, UTC; by default 30 days earlier")] = None,
    until: Annotated[Day | None, Query(alias="to", description="last day, UTC, inclusive; by default today")] = None,
    accept: Annotated[str, Header(description=f"`application/json` or `{CSV}`")] = "application/json",
) -> Response:
    """Return requests, rows, tokens and errors by task and day, summed over all replicas.

    Counts survive restarts. A process that is killed loses its last second.
    """
    last = until or datetime.now(UTC).date()
    first = since or last - timedelta(days=min(_DEFAULT_DAYS, last.toordinal() - 1))
    if first > last:
        raise InvalidRequest(f"from is {first}, expected {last} or earlier")
    words = (USAGE, tenant) if task is None else (USAGE, tenant, check_name("task", task))
    rows = usage_rows(await runtime.monitoring.counters.read(*words), since=first, until=last)
    if CSV in accept:
        return Response(usage_csv(rows), media_type=CSV)
    body = UsageBody.of(tenant, rows, since=first, until=last)
    return Response(body.model_dump_json(), media_type="application/json")
