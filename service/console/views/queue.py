"""Label queue: the kept texts of a task whose answers are most in doubt, labelled by keyboard; and the corrections."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from service.console.api import ApiProblem, path
from service.console.cards import labels_of
from service.console.page import Page, text_of
from service.console.views.route import ViewRoute
from service.feedback.feedback import VIEWS

TITLES = {
    "least_confident": "Least confident",
    "shadow_flips": "Shadow differs",
    "reported_wrong": "Reported wrong",
    "corrections": "All corrections",
}
_LISTS = ("reported_wrong", "corrections")
"""Views of texts that have their label; the other two ask for it."""
_PART = 25
_LOOK_BACK = 50
"""Corrections among which the latest one of this person is looked for."""
_MAX_FOUND = 12


async def show(page: Page) -> Response:
    """Show a task's queue, or the choice of a task."""
    task, view = page.query("task"), page.query("view") or VIEWS[0]
    if not task:
        return await _choose(page)
    listed = await _listed(page, task, view, cursor=page.query("cursor"))
    if listed is None:
        return await page.render("queue.html", task=task, view=view, listed=None)
    values = await _values(page, task, view, listed)
    if view in _LISTS:
        return await page.render("queue.html", row=None, done=None, **values)
    return await page.render("queue.html", row=_first(listed), done=None, **values)


async def find(page: Page) -> Response:
    """Return tasks whose names contain what is typed."""
    return await page.render("_queue_tasks.html", **await _tasks(page, page.query("q")))


async def next_row(page: Page) -> Response:
    """Return the next text after the one at a cursor."""
    return await _row(page, page.query("task"), page.query("view"), page.query("cursor"))


async def label(page: Page) -> Response:
    """Keep the label of a text, and return the next one."""
    form = await page.form()
    task, view, row_id = (text_of(form, name) for name in ("task", "view", "id"))
    given = [str(each) for each in form.getlist("label")]
    right: object = given if "multi" in form else (given or [""])[0]
    body = {"id": row_id, "label": right, "who": page.principal.actor}
    receipt = (await page.api.call("POST", "/feedback", json=body)).json()
    done = {"id": receipt["id"], "label": ", ".join(given) or "no label"}
    return await _row(page, task, view, text_of(form, "cursor"), done=done)


async def again(page: Page) -> Response:
    """Return a text that was labelled a moment ago, to give it another label."""
    task, view, row_id = (page.query(name) for name in ("task", "view", "id"))
    found = await page.api.get(path("tasks", task, "feedback"), {"view": "corrections", "limit": _LOOK_BACK})
    row = next((each for each in found["rows"] if each["id"] == row_id), None)
    if row is None:
        raise ApiProblem(
            404,
            {"code": "not_found", "detail": f"the text is not among the latest {_LOOK_BACK} corrections any more"},
            {},
        )
    values = await _values(page, task, view, found)
    return await page.render("_queue_row.html", **values, row={**row, "next": None}, done=None)


async def remove(page: Page) -> Response:
    """Delete a correction with its text."""
    form = await page.form()
    deleted = (await page.api.call("DELETE", "/feedback", query={"id": text_of(form, "id")})).json()["deleted"]
    return await page.say(
        "Deleted: the correction and its text." if deleted else "It was deleted before.", changed=True
    )


async def _row(page: Page, task: str, view: str, cursor: str, done: Mapping[str, str] | None = None) -> Response:
    listed = await page.api.get(path("tasks", task, "feedback"), {"view": view, "limit": 1, "cursor": cursor or None})
    values = await _values(page, task, view, listed)
    return await page.render("_queue_row.html", **{**values, "cursor": cursor}, row=_first(listed), done=done)


async def _choose(page: Page) -> Response:
    state = await page.api.get("/feedback")
    return await page.render("queue_tasks.html", state=state, **await _tasks(page, ""))


async def _tasks(page: Page, query: str) -> dict[str, Any]:
    listed = await page.api.get("/tasks", {"q": query.strip().lower(), "limit": _MAX_FOUND})
    return {"tasks": listed["tasks"], "num_tasks": listed["total"], "query": query}


async def _listed(page: Page, task: str, view: str, *, cursor: str) -> dict[str, Any] | None:
    """Return a part of a view; None for a tenant that keeps no texts."""
    limit = _PART if view in _LISTS else 1
    try:
        found: dict[str, Any] = await page.api.get(
            path("tasks", task, "feedback"), {"view": view, "limit": limit, "cursor": cursor or None}
        )
    except ApiProblem as exc:
        if exc.code != "retention_off":
            raise
        return None
    return found


async def _values(page: Page, task: str, view: str, listed: Mapping[str, Any]) -> dict[str, Any]:
    info = await page.api.get(path("tasks", task))
    latest = info["versions"][-1]
    number = info["aliases"].get("production", latest["version"])
    digest = next(each["adapter"] for each in info["versions"] if each["version"] == number)
    card = await page.console.cards.get(page.api, task, number, digest)
    return {
        "task": task,
        "view": view,
        "titles": TITLES,
        "listed": listed,
        "counts": listed["counts"],
        "labels": labels_of(card),
        "is_multi": card["spec"]["kind"] == "multi_label",
        "cursor": page.query("cursor"),
        "is_list": view in _LISTS,
    }


def _first(listed: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the text to label, with the cursor that skips it."""
    return {**listed["rows"][0], "next": listed["cursor"]} if listed["rows"] else None


ROUTES = [
    ViewRoute("GET", "/queue", show, role="publish"),
    ViewRoute("GET", "/queue/tasks", find, role="publish"),
    ViewRoute("GET", "/queue/row", next_row, role="publish"),
    ViewRoute("GET", "/queue/again", again, role="publish"),
    ViewRoute("POST", "/queue/label", label, role="publish"),
    ViewRoute("POST", "/queue/delete", remove, role="publish"),
]
