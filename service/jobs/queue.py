"""The queue of training jobs: each change is planned from the present state and written with its revision.

Servers submit, cancel and delete jobs; trainers claim one, renew their lease while they work, and end it. A trainer
that dies renews no lease, so another one takes its job over. Blocking: the event loop calls it in threads.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from adapters import NotFound, RegistryUnavailable
from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.errors import QuotaExceeded
from service.jobs.models import (
    Blob,
    CurvePoint,
    Edit,
    Job,
    JobResult,
    JobStatus,
    JobStore,
    Lease,
    Progress,
    decode_curve,
    encode_curve,
)
from service.jobs.sqlite_store import SqliteJobs

MAX_ATTEMPTS = 3
"""Trainers that may die during a job before it fails: its rows may be what kills them."""
MAX_WAIT_S = 86_400.0
"""Seconds that a job waits for a trainer before it fails and its rows are deleted."""
MAX_ENDED = 100
"""Jobs of a tenant that are kept after their end, the latest."""
KEPT_S = 30 * 86_400.0
"""Seconds for which they are kept."""
_MAX_RETRIES = 100

T = TypeVar("T")


class LeaseLost(Exception):
    """The job is no longer this trainer's: it was cancelled or deleted, or another trainer has taken it over."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """Progress that a trainer reports with its lease."""

    lease_s: float
    spent_s: float
    """Seconds spent on the job, those of earlier trainers included."""
    progress: Progress
    curve: Sequence[CurvePoint] | None = None
    """None if it has not changed."""
    checkpoint: bytes | None = None
    """None to keep the last one."""


class JobQueue:
    """The jobs of one store.

    Args:
        store: the jobs
        now: seconds since 1970; the clocks of trainers may differ by much less than a lease
    """

    def __init__(self, store: JobStore, *, now: Callable[[], float] = time.time) -> None:
        self.store, self._now = store, now

    def submit(self, job: Job, rows: bytes, *, max_jobs: int) -> Job:
        """Add a job with its rows (`QuotaExceeded` if the tenant has `max_jobs` unfinished ones).

        Of the tenant's ended jobs, all but the latest are deleted.
        """

        def plan() -> tuple[Edit, Job]:
            known = self.store.jobs(job.tenant)
            unfinished = sum(not each.has_ended for each in known)
            if unfinished >= max_jobs:
                raise QuotaExceeded(
                    f"tenant {job.tenant!r} has {unfinished} jobs that have not ended, its limit is {max_jobs}; wait "
                    "for one, or cancel it"
                )
            ended = [each for each in known if each.has_ended]
            return Edit(put=[job], deleted=ended[:-MAX_ENDED], blobs={(job.id, "rows"): rows}), job

        return self._change(job.tenant, plan)

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job (`NotFound`)."""
        found = self.store.job(tenant, job_id)
        if found is None:
            raise NotFound(f"no job {job_id!r}: it was deleted, or ended more than {KEPT_S / 86_400:.0f} days ago")
        return found

    def curve(self, job: Job) -> list[CurvePoint]:
        """Return a job's learning curve so far."""
        return decode_curve(self.store.blob(job.tenant, job.id, "curve"))

    def cancel(self, tenant: str, job_id: str, *, reason: str) -> Job:
        """End a job unless it has ended; its trainer stops within a third of its lease (`NotFound`)."""

        def plan() -> tuple[Edit | None, Job]:
            job = self.get(tenant, job_id)
            if job.has_ended:
                return None, job
            cancelled = self._ended(job, "cancelled", error=reason)
            return Edit(put=[cancelled]), cancelled

        return self._change(tenant, plan)

    def delete(self, tenant: str, job_id: str) -> None:
        """Delete a job, its rows and its curve, whether it has ended or not (`NotFound`)."""
        self._change(tenant, lambda: (Edit(deleted=[self.get(tenant, job_id)]), None))

    def claim(
        self, trainer: str, *, fingerprint: str, lease_s: float, is_active: Callable[[str], bool] = lambda tenant: True
    ) -> Job | None:
        """Take the next job: one that waits, or whose trainer's lease has ended; None if there is none.

        The tenant with the fewest running jobs is next, and of its jobs the oldest. A job whose trainers died too often
        fails here.

        Args:
            trainer: a name that no other trainer has
            fingerprint: of the trainer's backbone
            lease_s: seconds until another trainer may take the job, unless the lease is renewed
            is_active: whether a tenant's jobs may run
        """
        unfinished = self.store.unfinished()
        running = [job.tenant for job in unfinished if self._is_running(job)]
        waiting = [job for job in unfinished if not self._is_running(job) and job.fingerprint == fingerprint]
        for job in sorted(waiting, key=lambda job: (running.count(job.tenant), job.id)):
            if is_active(job.tenant):
                claimed = self._take(job, trainer, lease_s=lease_s)
                if claimed is not None:
                    return claimed
        return None

    def renew(self, job: Job, renewal: Renewal) -> Job:
        """Renew a lease, and keep what the trainer reports (`LeaseLost`)."""

        def plan() -> tuple[Edit, Job]:
            now = self._own(job)
            assert now.lease is not None, "checked by _own"
            renewed = replace(
                now,
                lease=Lease(now.lease.trainer, self._now() + renewal.lease_s),
                spent_s=renewal.spent_s,
                progress=renewal.progress,
            )
            blobs: dict[tuple[str, Blob], bytes] = {}
            if renewal.curve is not None:
                blobs[job.id, "curve"] = encode_curve(renewal.curve)
            if renewal.checkpoint is not None:
                blobs[job.id, "checkpoint"] = renewal.checkpoint
            return Edit(put=[renewed], blobs=blobs), renewed

        return self._change(job.tenant, plan)

    def release(self, job: Job) -> None:
        """Give a job back, to be continued by another trainer (`LeaseLost`)."""

        def plan() -> tuple[Edit, None]:
            now = self._own(job)
            return Edit(put=[replace(now, status="queued", lease=None, attempts=now.attempts - 1)]), None

        self._change(job.tenant, plan)

    def succeed(self, job: Job, result: JobResult) -> Job:
        """End a job with its result (`LeaseLost`)."""
        return self._change(job.tenant, lambda: _put(self._ended(self._own(job), "succeeded", result=result)))

    def fail(self, job: Job, reason: str) -> Job:
        """End a job with the reason why it failed (`LeaseLost`)."""
        return self._change(job.tenant, lambda: _put(self._ended(self._own(job), "failed", error=reason)))

    def sweep(self, tenant: str, *, is_deleted: bool) -> int:
        """Fail jobs that no trainer took in time, delete those that ended long ago, and all of a deleted tenant.

        Returns:
            the number of jobs that changed
        """

        def plan() -> tuple[Edit | None, int]:
            jobs, now = self.store.jobs(tenant), self._now()
            if is_deleted:
                return (Edit(deleted=jobs) if jobs else None), len(jobs)
            old = [job for job in jobs if job.ended_at is not None and job.ended_at < now - KEPT_S]
            reason = f"no trainer took the job within {MAX_WAIT_S / 3_600:.0f} hours"
            idle = [job for job in jobs if not job.has_ended and not self._is_running(job)]
            waiting = [job for job in idle if job.created_at < now - MAX_WAIT_S]
            late = [self._ended(job, "failed", error=reason) for job in waiting]
            return (Edit(put=late, deleted=old) if late or old else None), len(late) + len(old)

        return self._change(tenant, plan)

    def _take(self, job: Job, trainer: str, *, lease_s: float) -> Job | None:
        """Take a job that is still to be taken; None if it is not, or fails instead."""

        def plan() -> tuple[Edit | None, Job | None]:
            now = self.store.job(job.tenant, job.id)
            if now is None or now.has_ended or self._is_running(now):
                return None, None
            if now.attempts >= MAX_ATTEMPTS:
                reason = f"the trainer ended {now.attempts} times during this job; try fewer or shorter rows"
                return Edit(put=[self._ended(now, "failed", error=reason)]), None
            taken = replace(
                now,
                status="running",
                lease=Lease(trainer, self._now() + lease_s),
                attempts=now.attempts + 1,
                started_at=now.started_at or self._now(),
                progress=Progress("reading"),
            )
            return Edit(put=[taken]), taken

        return self._change(job.tenant, plan)

    def _own(self, job: Job) -> Job:
        """Return a trainer's job as it is stored (`LeaseLost`)."""
        assert job.lease is not None, "a claimed job"
        now = self.store.job(job.tenant, job.id)
        if now is None:
            raise LeaseLost(f"job {job.id} was deleted")
        if now.status != "running":
            raise LeaseLost(f"job {job.id} is {now.status}")
        if now.lease is None or (now.lease.trainer, now.attempts) != (job.lease.trainer, job.attempts):
            raise LeaseLost(f"job {job.id} was taken over by another trainer")
        return now

    def _is_running(self, job: Job) -> bool:
        return job.lease is not None and job.lease.until > self._now()

    def _ended(self, job: Job, status: JobStatus, *, error: str | None = None, result: JobResult | None = None) -> Job:
        return replace(job, status=status, ended_at=self._now(), lease=None, progress=None, error=error, result=result)

    def _change(self, tenant: str, plan: Callable[[], tuple[Edit | None, T]]) -> T:
        for _ in range(_MAX_RETRIES):
            revision = self.store.revision(tenant)
            edit, result = plan()
            if edit is None or self.store.write(tenant, edit, expected=revision):
                return result
        raise RegistryUnavailable(f"the jobs were changed concurrently {_MAX_RETRIES} times, try again")


def _put(job: Job) -> tuple[Edit, Job]:
    return Edit(put=[job]), job


def open_jobs(storage: Storage) -> JobQueue:
    """Return the jobs of a storage (`RegistryUnavailable` if a file's tables cannot be created)."""
    if isinstance(storage, SqliteFile):
        return JobQueue(SqliteJobs(storage))
    from service.jobs.redis_store import RedisJobs  # noqa: PLC0415 - as `open_storage`

    return JobQueue(RedisJobs(storage))
