"""Tasks: what a tenant has, in pages, with the quality of what answers now."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from service.console.api import ApiProblem
from service.console.cards import Measured, labels_of, measured
from service.console.page import Page
from service.console.views.route import ViewRoute
from service.monitoring.drift import DriftReport

PAGE_SIZE = 25
_MAX_QUERY = 64


async def show(page: Page) -> Response:
    """Show a part of the tasks whose names contain what is searched for."""
    query, cursor = page.query("q").strip().lower()[:_MAX_QUERY], page.query("cursor")
    listed = await page.api.get("/tasks", {"q": query, "limit": PAGE_SIZE, "cursor": cursor or None})
    rows = await asyncio.gather(*(_row(page, task) for task in listed["tasks"]))
    return await page.render(
        "tasks.html",
        rows=rows,
        total=listed["total"],
        query=query,
        cursor=cursor,
        following=listed["cursor"],
    )


async def _row(page: Page, task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the table shows of a task; its card is read only if no version of this content was read before."""
    name, production = task["task"], task["aliases"].get("production")
    digest = next((each["adapter"] for each in task["versions"] if each["version"] == production), None)
    card = None
    if digest is not None:
        try:
            card = await page.console.cards.get(page.api, name, production, digest)
        except ApiProblem as exc:
            if exc.status not in (404, 422):  # deleted meanwhile, or written by a later version
                raise
    return {
        "task": name,
        "production": production,
        "traffic": task["traffic"],
        "last": task["versions"][-1] if task["versions"] else None,
        "kind": "" if card is None else card["spec"]["kind"].replace("_", " "),
        "labels": [] if card is None else labels_of(card),
        "measured": None if card is None else _with_score(measured(card)),
        "drift": _drift(page, name, production),
    }


def _with_score(found: Measured) -> Measured | None:
    return None if found.score is None else found


def _drift(page: Page, task: str, production: int | None) -> DriftReport | None:
    """Return the last check of the production version, if it had enough rows; the API has stated the task before."""
    seen = page.console.runtime.monitoring.drift.seen.reports
    return None if production is None else seen.get((page.principal.tenant, task, production))


ROUTES = [ViewRoute("GET", "/tasks", show)]
