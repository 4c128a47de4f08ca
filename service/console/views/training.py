"""Training jobs of a task: a job with its corrections, the curve of each, and its end."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from service.console.api import ApiProblem, path
from service.console.page import Page, number_of, text_of
from service.console.views.route import ViewRoute

_SHOWN = 5
_ACTIVE = ("queued", "running")


async def jobs_of(page: Page, task: str) -> list[dict[str, Any]]:
    """Return the latest jobs of a task with their curves, by run."""
    listed = (await page.api.get("/jobs", {"task": task}))["jobs"][:_SHOWN]
    return [job for job in await asyncio.gather(*(_job(page, each) for each in listed)) if job is not None]


async def _job(page: Page, listed: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        job = await page.api.get(path("jobs", listed["id"]))
    except ApiProblem as exc:
        if exc.status != 404:
            raise
        return None  # deleted meanwhile
    runs: dict[str, list[tuple[float, float]]] = {}
    for point in job["curve"]:
        runs.setdefault(point["run"], []).append((point["step"], point["score"]))
    progress = job["progress"]
    share = progress["step"] / progress["num_steps"] if progress and progress["num_steps"] else None
    best = max((point["score"] for point in job["curve"]), default=None)
    return {**job, "runs": runs, "share": share, "best": best, "is_active": job["status"] in _ACTIVE}


async def show(page: Page) -> Response:
    """Return the list, which asks for itself again while a job has not ended."""
    task = page.request.path_params["task"]
    return await page.render("_jobs.html", task=task, jobs=await jobs_of(page, task))


async def train(page: Page) -> Response:
    """Queue a training on the corrections since a version."""
    form, task = await page.form(), page.request.path_params["task"]
    since = text_of(form, "since")
    body: dict[str, Any] = {"corrections_since": since if (number := number_of(since)) is None else number}
    method = text_of(form, "method")
    if method:
        body["arguments"] = {"method": method}
    job = (await page.api.call("POST", path("tasks", task, "jobs"), json=body)).json()
    return await page.say(
        f"Queued: a training on {job['corrections']} corrections.",
        detail="Its result becomes a version that is not in production until you promote it.",
        changed=True,
    )


async def cancel(page: Page) -> Response:
    """Cancel a job."""
    task, job = page.request.path_params["task"], page.request.path_params["job"]
    await page.api.call("POST", path("jobs", job, "cancel"))
    return await page.render("_jobs.html", task=task, jobs=await jobs_of(page, task))


ROUTES = [
    ViewRoute("GET", "/tasks/{task}/jobs", show, role="publish"),
    ViewRoute("POST", "/tasks/{task}/jobs", train, role="publish"),
    ViewRoute("POST", "/tasks/{task}/jobs/{job}/cancel", cancel, role="publish"),
]
