"""`/tasks/{task}/jobs`: ask for a training; `/jobs`: follow, cancel and delete trainings. Trainers do the work."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.dependencies import JOB_BODY, Publishing, Running, TaskPath
from service.api.openapi import problems
from service.api.schemas.jobs import JOB_ID_PATTERN, JobBody, JobDetail, JobList, JobRequest, TaskName
from service.api.strict_route import StrictRequest, StrictRoute
from service.runtime import Runtime


class JobRoute(StrictRoute):
    """A route whose JSON body may have as many rows as a training job."""

    def request_of(self, request: Request) -> StrictRequest:
        return _JobRequest(request.scope, request.receive)


class _JobRequest(StrictRequest):
    def parse(self, body: bytes, max_rows: int) -> Any:
        """Return the JSON; the limit of rows is that of jobs."""
        runtime: Runtime = self.app.state.runtime
        return super().parse(body, max(max_rows, runtime.settings.max_job_rows))


router = APIRouter(route_class=JobRoute, tags=["jobs"])

JobPath = Annotated[
    str, Path(json_schema_extra={"pattern": f"^{JOB_ID_PATTERN}$"}, examples=["0199c1d2a3b44f5e6a7b8c9d"])
]


@router.post(
    "/tasks/{task}/jobs",
    status_code=201,
    dependencies=[JOB_BODY],
    responses=problems(400, 404, 409, 413, 415, 429, 503),
)
async def submit(
    task: TaskPath, body: JobRequest, runtime: Running, principal: Publishing, response: Response
) -> JobBody:
    """Ask for a training. A trainer takes it, and publishes the result as a version without an alias.

    So production stays what it is until the version is promoted, or gets the alias. The rows are deleted when the job
    ends.
    """
    job = await runtime.jobs.jobs.submit(principal.tenant, task, body.job(), actor=principal.actor)
    response.headers["Location"] = f"/jobs/{job.id}"
    return JobBody.of(job)


@router.get("/jobs", responses=problems(503))
async def list_jobs(
    runtime: Running,
    principal: Publishing,
    task: Annotated[TaskName | None, Query(description="only this task's")] = None,
) -> JobList:
    """List the tenant's jobs: those that have not ended, and the latest 100 that have, for 30 days."""
    jobs = await runtime.jobs.jobs.list(principal.tenant, task=task)
    return JobList(jobs=list(map(JobBody.of, jobs)))


@router.get("/jobs/{job}", responses=problems(404, 503))
async def describe_job(job: JobPath, runtime: Running, principal: Publishing) -> JobDetail:
    """Return a job with its learning curve so far."""
    found, curve = await runtime.jobs.jobs.get(principal.tenant, job)
    return JobDetail.with_curve(found, curve)


@router.post("/jobs/{job}/cancel", responses=problems(404, 503))
async def cancel(job: JobPath, runtime: Running, principal: Publishing) -> JobBody:
    """Cancel a job and delete its rows; its trainer stops soon. A job that has ended stays as it is."""
    return JobBody.of(await runtime.jobs.jobs.cancel(principal.tenant, job, actor=principal.actor))


@router.delete("/jobs/{job}", status_code=204, responses=problems(404, 503))
async def delete(job: JobPath, runtime: Running, principal: Publishing) -> None:
    """Delete a job with its rows and its curve; one that has not ended is cancelled. Its version stays."""
    await runtime.jobs.jobs.delete(principal.tenant, job)
