"""Training jobs in Redis, under the registry's prefix.

A tenant's jobs are one hash and their blobs another; the unfinished jobs of all tenants are a third. A write is a
transaction that fails if the tenant's revision was changed since it was read.
"""

from typing import Any, cast

from redis.exceptions import WatchError

from adapters.storage.redis import RedisStore
from service.jobs.models import Blob, Edit, Job, decode_job, encode_job


class RedisJobs:
    """A `JobStore` on one server."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def revision(self, tenant: str) -> int:
        with self._store.reaching():
            return int(cast(bytes | None, self._store.client.get(self._key(tenant, "revision"))) or 0)

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        revision, jobs, blobs = (self._key(tenant, what) for what in ("revision", "all", "blobs"))
        with self._store.reaching(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.watch(revision)  # type: ignore[no-untyped-call]
            if int(cast(bytes | None, pipe.get(revision)) or 0) != expected:
                return False
            pipe.multi()
            for job in edit.deleted:
                pipe.hdel(jobs, job.id)
                pipe.hdel(self._unfinished, f"{tenant}/{job.id}")
            for job in edit.put:
                value = cast(Any, encode_job(job))
                pipe.hset(jobs, job.id, value)
                if job.has_ended:
                    pipe.hdel(self._unfinished, f"{tenant}/{job.id}")
                else:
                    pipe.hset(self._unfinished, f"{tenant}/{job.id}", value)
            for (job_id, kind), blob in edit.blobs.items():
                pipe.hset(blobs, f"{job_id}/{kind}", cast(Any, blob))
            for job_id, kind in edit.dropped:
                pipe.hdel(blobs, f"{job_id}/{kind}")
            pipe.incr(revision)
            pipe.sadd(self._tenants, tenant)
            try:
                pipe.execute()
            except WatchError:
                return False
        return True

    def job(self, tenant: str, job_id: str) -> Job | None:
        with self._store.reaching():
            found = cast(bytes | None, self._store.client.hget(self._key(tenant, "all"), job_id))
        return None if found is None else decode_job(found)

    def jobs(self, tenant: str) -> list[Job]:
        return self._all(self._key(tenant, "all"))

    def unfinished(self) -> list[Job]:
        return self._all(self._unfinished)

    def blob(self, tenant: str, job_id: str, kind: Blob) -> bytes | None:
        with self._store.reaching():
            return cast(bytes | None, self._store.client.hget(self._key(tenant, "blobs"), f"{job_id}/{kind}"))

    def tenants(self) -> list[str]:
        with self._store.reaching():
            found = cast(set[bytes], self._store.client.smembers(self._tenants))
        return sorted(name.decode() for name in found)

    @property
    def _tenants(self) -> str:
        return self._store.key("jobs", "tenants")

    @property
    def _unfinished(self) -> str:
        return self._store.key("jobs", "unfinished")

    def _all(self, key: str) -> list[Job]:
        with self._store.reaching():
            found = cast(list[bytes], self._store.client.hvals(key))
        return sorted(map(decode_job, found), key=lambda job: job.id)

    def _key(self, tenant: str, what: str) -> str:
        return self._store.key("jobs", tenant, what)
