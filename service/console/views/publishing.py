"""Publishing: an adapter's files, dropped on the page, and the result of the server's checks."""

from starlette.responses import Response

from adapters import InvalidName
from adapters.names import check_name
from service.console.api import ApiProblem, path
from service.console.page import Page
from service.console.views.route import ViewRoute

CHECKS = {
    "files": "The files are those of an adapter, and no larger than allowed",
    "manifest": "Task, labels, template and calibration are valid",
    "tensors": "Tensors have the right names, types and shapes, and finite values within bounds",
    "backbone": "The adapter was made for this server's backbone",
    "forward": "A trial classification gives finite scores",
}
"""Checks that an upload has to pass, by the API's names and in its order."""


async def show(page: Page) -> Response:
    """Show the form: first for the task's name, then for the files."""
    task = page.query("task").strip().lower()
    problem = ""
    if task:
        try:
            check_name("task", task)
        except InvalidName as exc:
            problem = str(exc)
    return await page.render("publish.html", task=task, problem=problem, checks=CHECKS)


async def upload(page: Page) -> Response:
    """Publish the files as the task's next version, and show the result."""
    task = page.request.path_params["task"]
    try:
        answer = await page.api.relay("POST", path("tasks", task, "versions"))
    except ApiProblem as exc:
        if "check" not in exc.body:
            raise
        return await page.render(
            "_upload_result.html",
            task=task,
            checks=CHECKS,
            results=exc.body.get("checks") or [{"name": "manifest", "result": "failed", "faults": [exc.body]}],
            done=None,
        )
    passed = [{"name": name, "result": "passed", "faults": []} for name in CHECKS]
    return await page.render("_upload_result.html", task=task, checks=CHECKS, results=passed, done=answer.json())


ROUTES = [
    ViewRoute("GET", "/publish", show, role="publish"),
    ViewRoute("POST", "/tasks/{task}/versions", upload, role="publish", body="upload", relays=True),
]
