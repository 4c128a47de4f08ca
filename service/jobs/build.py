"""Builds the server's side of training jobs."""

from dataclasses import dataclass

from adapters.storage.opening import Storage
from backbone import Backbone
from service.catalog.build import RegistryGroup
from service.feedback.feedback import Feedback
from service.jobs.jobs import JobLimits, Jobs, JobSweeper
from service.jobs.queue import open_jobs
from service.settings import Settings
from service.tenancy.account_cache import AccountCache


@dataclass(frozen=True, slots=True)
class JobsGroup:
    """Training jobs."""

    jobs: Jobs
    sweeper: JobSweeper


def build_jobs(
    settings: Settings,
    storage: Storage,
    registry: RegistryGroup,
    account_cache: AccountCache,
    *,
    feedback: Feedback,
    backbone: Backbone,
) -> JobsGroup:
    """Build the components over one store; none runs yet (`RegistryUnavailable`: a file's tables cannot be created)."""
    queue = open_jobs(storage)
    limits = JobLimits(
        max_jobs=settings.max_jobs_per_tenant,
        max_rows=settings.max_job_rows,
        max_s=settings.max_job_s,
        max_text_chars=settings.max_text_chars,
        max_text_tokens=settings.max_text_tokens,
    )
    jobs = Jobs(
        queue,
        tenant=account_cache.tenant,
        limits=limits,
        catalog=registry.catalog,
        registry=registry.store,
        feedback=feedback,
        backbone=backbone,
    )
    return JobsGroup(jobs=jobs, sweeper=JobSweeper(queue, account_cache.tenant))
