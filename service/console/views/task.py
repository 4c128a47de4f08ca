"""A task: its versions, the traffic between them, and the answers of today compared with the held-out rows."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from service.console.api import ApiProblem, path
from service.console.cards import labels_of, measured
from service.console.markdown import rendered
from service.console.page import Page, number_of, text_of
from service.console.views.route import ViewRoute
from service.console.views.training import jobs_of

_PART = 20
"""Versions in the table at once: the card of each is read."""
_MAX_FLIPS = 10
_MAX_CHANGES = 50
"""Changes in the history, the latest."""
_MAX_LIMIT = 1_000
"""Entries that the API returns at once."""
_CARD = "README.md"
_PARTS = ("report", "selection")


async def show(page: Page) -> Response:
    """Show the page."""
    name = page.request.path_params["task"]
    info = await page.api.get(path("tasks", name))
    before = number_of(page.query("before"))
    older = [each for each in info["versions"] if before is None or each["version"] < before]
    shown = older[::-1][:_PART]
    may_publish = page.can("publish")
    return await page.render(
        "task.html",
        task=name,
        info=info,
        versions=await asyncio.gather(*(_version(page, info, each) for each in shown)),
        all_versions=[each["version"] for each in reversed(info["versions"])],
        next_before=shown[-1]["version"] if len(shown) < len(older) else None,
        production=info["aliases"].get("production"),
        current=info["current"],
        measured=None if info["current"] is None else measured(info["current"]),
        labels=[] if info["current"] is None else labels_of(info["current"]),
        profile=_profile(info),
        shadows=[{**each, "flips": each["flips"][:_MAX_FLIPS]} for each in info["shadows"]],
        jobs=await jobs_of(page, name) if may_publish else [],
        corrections=await _num_corrections(page, name) if may_publish else None,
    )


async def compare(page: Page) -> Response:
    """Return the figures of two versions side by side."""
    name = page.request.path_params["task"]
    numbers = (page.query("first"), page.query("second"))
    info = await page.api.get(path("tasks", name))
    known = {str(each["version"]): each for each in info["versions"]}
    for number in numbers:
        if number not in known:
            raise ApiProblem(404, {"code": "not_found", "detail": f"no version {number!r} of task {name!r}"}, {})
    first, second = await asyncio.gather(*(_version(page, info, known[number]) for number in numbers))
    return await page.render(
        "_task_comparison.html",
        task=name,
        first=first,
        second=second,
        rows=_figures(first["card"], second["card"]),
        verdict=_verdict(first, second),
    )


async def version(page: Page) -> Response:
    """Show one version: its card, its provenance, and the answers that its training measured."""
    name, number = page.request.path_params["task"], page.request.path_params["version"]
    card = await page.api.get(path("tasks", name, "versions", number))
    files = (await page.api.get(path("tasks", name, "versions", number, "files")))["files"]
    text = ""
    if _CARD in files:
        answer = await page.api.call("GET", path("tasks", name, "versions", number, "files", _CARD))
        text = _without_metadata(answer.content.decode(errors="replace"))
    return await page.render(
        "version.html",
        task=name,
        number=number,
        card=card,
        labels=labels_of(card),
        measured=measured(card),
        text=text,
        document=await asyncio.to_thread(rendered, text),
        files=files,
    )


async def history(page: Page) -> Response:
    """Return who changed the task's versions, aliases and traffic, the latest changes first."""
    name = page.request.path_params["task"]
    latest: deque[Mapping[str, Any]] = deque(maxlen=_MAX_CHANGES)
    since, is_complete = 0, False
    while not is_complete:
        part = await page.api.get(path("tasks", name, "history"), {"since": since, "limit": _MAX_LIMIT})
        latest.extend(part["entries"])
        since, is_complete = part["position"], part["complete"]
    return await page.render("_history.html", task=name, entries=list(reversed(latest)), most=_MAX_CHANGES)


async def remove(page: Page) -> Response:
    """Delete a version that nothing points at."""
    name, number = page.request.path_params["task"], page.request.path_params["version"]
    form = await page.form()
    await page.api.call(
        "DELETE", path("tasks", name, "versions", number), headers={"If-Match": f'"{text_of(form, "digest")}"'}
    )
    return page.go(f"/console/tasks/{name}")


async def download(page: Page) -> Response:
    """Return one of a version's files."""
    params = page.request.path_params
    answer = await page.api.call(
        "GET", path("tasks", params["task"], "versions", params["version"], "files", params["name"])
    )
    headers = {"Content-Disposition": f'attachment; filename="{params["name"]}"', "X-Content-Type-Options": "nosniff"}
    return Response(answer.content, media_type="application/octet-stream", headers=headers)


async def _version(page: Page, info: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    number = known["version"]
    card = None
    try:
        card = await page.console.cards.get(page.api, info["task"], number, known["adapter"])
    except ApiProblem as exc:
        if exc.status not in (404, 422):  # deleted meanwhile, or written by a later version
            raise
    return {
        **known,
        "card": card,
        "measured": None if card is None else measured(card),
        "aliases": [alias for alias, target in info["aliases"].items() if target == number],
        "is_canary": info["traffic"]["canary"] == number,
        "is_shadow": info["traffic"]["shadow"] == number,
    }


def _profile(info: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answers on the held-out rows and those of the last hour, by confidence and by label."""
    drift, current = info["drift"], info["current"]
    if drift is None or current is None or current["validation"] is None:
        return None
    then = current["validation"]
    names = labels_of(current)
    shares = [
        (name, held / then["rows"], now / max(drift["rows"], 1))
        for name, held, now in zip(names, then["label_counts"], drift["label_counts"], strict=True)
    ]
    return {"then": then, "now": drift, "labels": sorted(shares, key=lambda row: -abs(row[2] - row[1]))[:12]}


async def _num_corrections(page: Page, task: str) -> int | None:
    """Return the number of a task's corrections; None for a tenant that keeps no texts."""
    try:
        found = await page.api.get(path("tasks", task, "feedback"), {"view": "corrections", "limit": 1})
    except ApiProblem as exc:
        if exc.code != "retention_off":
            raise
        return None
    return int(found["counts"]["corrections"])


def _figures(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> list[tuple[str, Any, Any]]:
    """Return the metrics that at least one of two cards has, without the bounds of their intervals."""
    metrics = [{} if card is None else card["provenance"]["metrics"] for card in (first, second)]
    names = sorted({*metrics[0], *metrics[1]}, key=lambda name: (name.partition("_")[0] not in _PARTS, name))
    return [
        (name.replace("_", " "), metrics[0].get(name), metrics[1].get(name))
        for name in names
        if not name.endswith(("_low", "_high"))
    ]


def _verdict(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return what the scores of two versions say, with their intervals."""
    ours, theirs = first["measured"], second["measured"]
    if ours is None or theirs is None or None in (ours.score, theirs.score):
        return "A score is missing on one of the cards, so the cards do not say which version is better."
    if ours.metric != theirs.metric:
        return f"The scores are of different metrics, {ours.metric} and {theirs.metric}."
    higher, lower = sorted((first, second), key=lambda each: -each["measured"].score)
    rows = [each["card"]["provenance"]["data"].get("report_rows_sha256") for each in (first, second)]
    same = "" if rows[0] is not None and rows[0] == rows[1] else " They are not known to be from the same rows."
    low, high = higher["measured"].low, lower["measured"].high
    if low is None or high is None:
        return f"Version {higher['version']} has the higher score, without intervals.{same}"
    if higher["measured"].score == lower["measured"].score or low <= high:
        return f"The 95 % intervals of the scores overlap.{same}"
    return f"Version {higher['version']} scores higher, and the 95 % intervals do not overlap.{same}"


def _without_metadata(card: str) -> str:
    """Return a model card without the YAML at its beginning."""
    if not card.startswith("---\n"):
        return card
    return card.partition("\n---\n")[2].lstrip() or card


def _routes() -> Sequence[ViewRoute]:
    one = "/tasks/{task}/versions/{version:int}"
    return [
        ViewRoute("GET", "/tasks/{task}", show),
        ViewRoute("GET", "/tasks/{task}/compare", compare),
        ViewRoute("GET", "/tasks/{task}/history", history, role="publish"),
        ViewRoute("GET", one, version),
        ViewRoute("GET", one + "/files/{name}", download),
        ViewRoute("POST", one + "/delete", remove, role="publish"),
    ]


ROUTES = _routes()
