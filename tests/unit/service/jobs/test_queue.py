"""The queue of training jobs: one contract, both stores, a real Redis."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import FINGERPRINT, make_job

from adapters import NotFound
from adapters.storage.opening import open_storage
from service.errors import QuotaExceeded
from service.jobs.models import CurvePoint, Job, JobResult, Progress
from service.jobs.queue import KEPT_S, MAX_ATTEMPTS, MAX_ENDED, MAX_WAIT_S, JobQueue, LeaseLost, Renewal, open_jobs

RESULT = JobResult(2, "sha256:ab", "head", "pooled", {"score": 0.9}, 0.5, {"constant": 0.5})
POINT = CurvePoint("", 1, 10, 0.8, 0.4, 0.5, True, 1.5)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(place: str, clock: Clock) -> JobQueue:
    return JobQueue(open_jobs(open_storage(place)).store, now=clock)


def submit(queue: JobQueue, *jobs: Job) -> None:
    for job in jobs:
        queue.submit(job, b"rows of " + job.id.encode(), max_jobs=1_000)


def claim(queue: JobQueue, trainer: str = "a", **others: object) -> Job:
    found = queue.claim(trainer, fingerprint=FINGERPRINT, lease_s=30, **others)  # type: ignore[arg-type]
    assert found is not None
    return found


def renewal(**others: object) -> Renewal:
    return Renewal(lease_s=30, spent_s=5, progress=Progress("training", 3, 9), **others)  # type: ignore[arg-type]


def test_an_empty_store_has_nothing(queue: JobQueue) -> None:
    assert queue.claim("a", fingerprint=FINGERPRINT, lease_s=30) is None
    assert (queue.store.jobs("acme"), queue.store.unfinished(), list(queue.store.tenants())) == ([], [], [])
    assert queue.sweep("acme", is_deleted=True) == 0
    with pytest.raises(NotFound, match="no job"):
        queue.get("acme", "0" * 24)


def test_a_job_runs_once_and_its_rows_end_with_it(queue: JobQueue) -> None:
    submit(queue, make_job(1))
    job = claim(queue)
    assert (job.status, job.attempts, job.started_at) == ("running", 1, 1_000)
    assert queue.claim("b", fingerprint=FINGERPRINT, lease_s=30) is None
    assert queue.store.blob("acme", job.id, "rows") == b"rows of " + job.id.encode()
    job = queue.renew(job, renewal(curve=[POINT], checkpoint=b"state"))
    assert (job.progress, job.spent_s) == (Progress("training", 3, 9), 5)
    assert queue.store.blob("acme", job.id, "checkpoint") == b"state"
    queue.renew(job, renewal())
    assert queue.store.blob("acme", job.id, "checkpoint") == b"state"
    ended = queue.succeed(job, RESULT)
    assert queue.get("acme", job.id) == ended
    assert (ended.status, ended.result, ended.lease, ended.progress) == ("succeeded", RESULT, None, None)
    assert queue.store.blob("acme", job.id, "rows") is None
    assert queue.store.blob("acme", job.id, "checkpoint") is None
    assert queue.curve(ended) == [POINT]
    queue.delete("acme", job.id)
    assert queue.curve(ended) == []
    assert queue.store.jobs("acme") == []


def test_another_trainer_takes_over_when_the_lease_ends(queue: JobQueue, clock: Clock) -> None:
    submit(queue, make_job(1))
    first = queue.renew(claim(queue, "a"), renewal(checkpoint=b"state"))
    clock.now += 29
    assert queue.claim("b", fingerprint=FINGERPRINT, lease_s=30) is None
    clock.now += 2
    second = claim(queue, "b")
    assert (second.attempts, second.spent_s, second.started_at) == (2, 5, 1_000)
    assert queue.store.blob("acme", second.id, "checkpoint") == b"state"
    for change in (
        lambda: queue.renew(first, renewal()),
        lambda: queue.succeed(first, RESULT),
        lambda: queue.fail(first, "x"),
        lambda: queue.release(first),
    ):
        with pytest.raises(LeaseLost, match="taken over"):
            change()
    queue.succeed(second, RESULT)


def test_a_job_that_kills_its_trainers_fails(queue: JobQueue, clock: Clock) -> None:
    submit(queue, make_job(1))
    for _ in range(MAX_ATTEMPTS):
        claim(queue)
        clock.now += 31
    assert queue.claim("a", fingerprint=FINGERPRINT, lease_s=30) is None
    [job] = queue.store.jobs("acme")
    assert (job.status, queue.store.blob("acme", job.id, "rows")) == ("failed", None)
    assert f"ended {MAX_ATTEMPTS} times" in str(job.error)


def test_a_job_that_is_given_back_continues_and_counts_no_attempt(queue: JobQueue) -> None:
    submit(queue, make_job(1))
    for _ in range(MAX_ATTEMPTS + 1):
        queue.release(claim(queue))
    assert claim(queue).attempts == 1


def test_a_cancelled_or_deleted_job_is_lost_to_its_trainer(queue: JobQueue) -> None:
    submit(queue, make_job(1), make_job(2))
    one, two = claim(queue), claim(queue)
    assert queue.cancel("acme", one.id, reason="because").error == "because"
    queue.delete("acme", two.id)
    with pytest.raises(LeaseLost, match="cancelled"):
        queue.renew(one, renewal(checkpoint=b"late"))
    with pytest.raises(LeaseLost, match="deleted"):
        queue.renew(two, renewal())
    assert queue.store.blob("acme", one.id, "checkpoint") is None
    assert queue.cancel("acme", one.id, reason="again").error == "because", "an ended job stays as it is"
    assert queue.claim("b", fingerprint=FINGERPRINT, lease_s=30) is None


def test_tenants_take_turns_and_each_backbone_has_its_jobs(queue: JobQueue) -> None:
    submit(queue, *(make_job(n) for n in (1, 2, 3)), make_job(9, tenant="zeta"), make_job(4, fingerprint="other"))
    assert [claim(queue).id for _ in range(4)] == [make_job(n).id for n in (1, 9, 2, 3)]
    assert queue.claim("a", fingerprint=FINGERPRINT, lease_s=30) is None
    submit(queue, make_job(5, tenant="closed"))
    assert queue.claim("a", fingerprint=FINGERPRINT, lease_s=30, is_active=lambda name: name != "closed") is None


def test_jobs_at_once_are_limited_also_when_they_come_at_once(queue: JobQueue) -> None:
    def add(number: int) -> bool:
        with suppress(QuotaExceeded):
            return queue.submit(make_job(number), b"", max_jobs=3) is not None
        return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(add, range(1, 13))) == 3
    queue.submit(make_job(99, tenant="zeta"), b"", max_jobs=3)
    with pytest.raises(QuotaExceeded, match="its limit is 3"):
        queue.submit(make_job(50), b"", max_jobs=3)
    queue.fail(claim(queue), "x")
    queue.submit(make_job(50), b"", max_jobs=3)


def test_one_trainer_of_many_gets_a_job(queue: JobQueue) -> None:
    submit(queue, make_job(1))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: queue.claim(f"t{n}", fingerprint=FINGERPRINT, lease_s=30), range(8)))
    assert sum(job is not None for job in found) == 1


def test_tenants_do_not_see_one_anothers_jobs(queue: JobQueue) -> None:
    submit(queue, make_job(1), make_job(1, tenant="zeta"))
    for change in (queue.get, queue.delete, lambda tenant, job: queue.cancel(tenant, job, reason="x")):
        with pytest.raises(NotFound):
            change("other", make_job(1).id)
    queue.delete("acme", make_job(1).id)
    assert [job.tenant for job in queue.store.unfinished()] == ["zeta"]
    assert queue.store.blob("zeta", make_job(1).id, "rows") is not None


def test_the_sweep_ends_what_waits_too_long_and_deletes_what_is_old(queue: JobQueue, clock: Clock) -> None:
    submit(queue, replace(make_job(1), created_at=clock.now), replace(make_job(2), created_at=clock.now))
    claim(queue)
    clock.now += MAX_WAIT_S + 1
    submit(queue, replace(make_job(3), created_at=clock.now))
    assert queue.sweep("acme", is_deleted=False) == 2
    assert [job.status for job in queue.store.jobs("acme")] == ["failed", "failed", "queued"]
    assert queue.sweep("acme", is_deleted=False) == 0
    queue.cancel("acme", make_job(3).id, reason="x")
    clock.now += KEPT_S + 1
    assert queue.sweep("acme", is_deleted=False) == 3
    submit(queue, make_job(4))
    assert queue.sweep("acme", is_deleted=True) == 1
    assert queue.store.jobs("acme") == []


def test_only_the_latest_ended_jobs_are_kept(queue: JobQueue) -> None:
    for number in range(1, MAX_ENDED + 3):
        submit(queue, make_job(number))
        queue.cancel("acme", make_job(number).id, reason="x")
    assert len(queue.store.jobs("acme")) == MAX_ENDED + 1
    submit(queue, make_job(900))
    assert queue.store.jobs("acme")[0].id == make_job(3).id


def test_deleted_rows_are_overwritten_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    queue = open_jobs(open_storage(path))
    secret = b"a secret text " * 50
    queue.submit(make_job(1), secret, max_jobs=1)
    queue.cancel("acme", make_job(1).id, reason="x")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"a secret text" not in path.read_bytes()
