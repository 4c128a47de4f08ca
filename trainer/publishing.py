"""Publication of a job's adapter, as a version that no alias points at."""

from collections.abc import Mapping

from adapters import NotFound, Publication, Registry
from adapters.files import check_stated_backbone, from_files
from adapters.registry.protocol import VersionInfo
from service.jobs.models import Job
from service.releases.storage_quota import check_room
from service.tenancy.models import TenantInfo


def publish(registry: Registry, limits: TenantInfo, job: Job, files: Mapping[str, bytes]) -> Publication:
    """Publish the adapter of a job, unless a trainer that died has published it already.

    Raises:
        InvalidAdapter: the adapter is invalid
        QuotaExceeded: a storage limit of the tenant
        RegistryUnavailable
    """
    actor = f"job:{job.id}"
    versions = _versions(registry, job)
    for known in versions or ():
        if known.actor == actor:
            return Publication(known.version, known.digest, created=False)
    digest = from_files(files).digest
    check_stated_backbone(files)
    check_room(
        limits,
        job.task,
        digest,
        files,
        versions=versions,
        num_tasks=lambda: len(registry.list(job.tenant)),
        stored=lambda: registry.content_sizes(job.tenant),
    )
    return registry.publish(job.tenant, job.task, files, digest=digest, actor=actor, aliases=[])


def _versions(registry: Registry, job: Job) -> tuple[VersionInfo, ...] | None:
    """Return the versions of a job's task; None if the task is new."""
    try:
        return registry.describe(job.tenant, job.task).versions
    except NotFound:
        return None
