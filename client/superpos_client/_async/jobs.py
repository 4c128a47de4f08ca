"""`client.jobs`: training jobs, which `client.tasks.train` asks for."""

from collections.abc import Sequence

from superpos_client import calls
from superpos_client._async.io import sleep
from superpos_client._async.transport import AsyncTransport
from superpos_client.jobs import Job, JobDetail


class AsyncJobs:
    """Training jobs of the key's tenant; the key needs the role `publish`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, task: str | None = None) -> Sequence[Job]:
        """Return the jobs of a task, or of all, the latest first."""
        return await self._transport.send(calls.jobs(task))

    async def get(self, job: str) -> JobDetail:
        """Return a job with its learning curve so far (`NotFound`)."""
        return await self._transport.send(calls.job(job))

    async def wait(self, job: str, *, interval_s: float = 1.0) -> JobDetail:
        """Return a job once it has ended; it may have failed (`NotFound` if it is deleted meanwhile).

        Args:
            job: its id
            interval_s: seconds between two looks
        """
        while not (found := await self.get(job)).has_ended:
            await sleep(interval_s)
        return found

    async def cancel(self, job: str) -> Job:
        """Cancel a job and delete its rows; one that has ended stays as it is."""
        return await self._transport.send(calls.cancel_job(job))

    async def delete(self, job: str) -> None:
        """Delete a job with its rows and its curve; one that has not ended is cancelled."""
        await self._transport.send(calls.delete_job(job))
