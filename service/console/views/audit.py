"""Audit: who changed tenants and keys, and who changed tasks, in parts with the latest first."""

from starlette.responses import Response

from service.console.page import Page, number_of
from service.console.views.route import ViewRoute

_PART = 50
_LOGS = {"accounts": "/admin/audit", "tasks": "/admin/audit/tasks"}


async def show(page: Page) -> Response:
    """Show a part of one of the two logs."""
    log = page.query("log") if page.query("log") in _LOGS else "accounts"
    given = number_of(page.query("since"))
    runtime = page.console.runtime
    end = runtime.registry.catalog.position if log == "tasks" else runtime.tenancy.account_cache.revision
    since = max(0, end - _PART) if given is None else given
    found = await page.api.get(_LOGS[log], {"since": since, "limit": _PART})
    return await page.render(
        "audit.html",
        log=log,
        entries=found["entries"][::-1],
        earlier=max(0, since - _PART) if since > 0 else None,
        later=None if found["complete"] else found["position"],
        is_latest=found["complete"],
    )


ROUTES = [ViewRoute("GET", "/audit", show, role="admin")]
