# Written by scripts/sync_client.py from _async/jobs.py: change that file.
"""`client.jobs`: training jobs, which `client.tasks.train` asks for."""

from collections.abc import Sequence

from superpos_client import calls
from superpos_client._sync.io import sleep
from superpos_client._sync.transport import Transport
from superpos_client.jobs import Job, JobDetail


class Jobs:
    """Training jobs of the key's tenant; the key needs the role `publish`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, task: str | None = None) -> Sequence[Job]:
        """Return the jobs of a task, or of all, the latest first."""
        return self._transport.send(calls.jobs(task))

    def get(self, job: str) -> JobDetail:
        """Return a job with its learning curve so far (`NotFound`)."""
        return self._transport.send(calls.job(job))

    def wait(self, job: str, *, interval_s: float = 1.0) -> JobDetail:
        """Return a job once it has ended; it may have failed (`NotFound` if it is deleted meanwhile).

        Args:
            job: its id
            interval_s: seconds between two looks
        """
        while not (found := self.get(job)).has_ended:
            sleep(interval_s)
        return found

    def cancel(self, job: str) -> Job:
        """Cancel a job and delete its rows; one that has ended stays as it is."""
        return self._transport.send(calls.cancel_job(job))

    def delete(self, job: str) -> None:
        """Delete a job with its rows and its curve; one that has not ended is cancelled."""
        self._transport.send(calls.delete_job(job))
