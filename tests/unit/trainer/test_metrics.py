"""The trainer's metrics: what a scrape returns of the stored jobs and of this trainer's work."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.jobs import FINGERPRINT, make_job

from adapters.storage.opening import open_storage
from service.jobs.queue import JobQueue, open_jobs
from trainer.metrics import TrainerMetrics

Series = dict[tuple[str, ...], float]


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return open_jobs(open_storage(str(tmp_path / "registry.sqlite")))


@pytest.fixture
def metrics(queue: JobQueue) -> TrainerMetrics:
    return TrainerMetrics(queue)


@pytest.fixture
def url(metrics: TrainerMetrics) -> Iterator[str]:
    yield f"http://127.0.0.1:{metrics.serve('127.0.0.1', 0)}/metrics"
    metrics.stop()


def scrape(url: str) -> Series:
    text = httpx2.get(url).raise_for_status().text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_has_the_queue_of_all_tenants(queue: JobQueue, url: str) -> None:
    empty = scrape(url)
    assert (empty["superpos_jobs", "queued"], empty["superpos_jobs", "running"]) == (0, 0)
    assert (empty["superpos_trainer_store_up",], empty["superpos_jobs_oldest_queued_seconds",]) == (1, 0)
    for number, tenant in enumerate(("acme", "acme", "globex"), 1):
        queue.submit(make_job(number, tenant=tenant), b"rows", max_jobs=5)
    assert queue.claim("a", fingerprint=FINGERPRINT, lease_s=30) is not None
    found = scrape(url)
    assert (found["superpos_jobs", "queued"], found["superpos_jobs", "running"]) == (2, 1)
    assert found["superpos_jobs_oldest_queued_seconds",] > 1e9, "the jobs were made in 1970"
    assert not [series for series in found if {"acme", "globex"} & set(series)], "no tenants"


def test_each_end_of_a_job_is_counted_with_its_seconds_and_rows(metrics: TrainerMetrics, url: str) -> None:
    assert scrape(url)["superpos_trainer_jobs_total", "internal_error"] == 0, "before the first one"
    job = replace(make_job(), num_validation_rows=4, num_corrections=2)
    metrics.taken()
    assert scrape(url)["superpos_trainer_busy",] == 1
    metrics.left(job, "succeeded", 3.5)
    metrics.left(job, "late", 60.0)
    found = scrape(url)
    assert found["superpos_trainer_busy",] == 0
    assert found["superpos_trainer_jobs_total", "succeeded"] == found["superpos_trainer_jobs_total", "late"] == 1
    assert found["superpos_trainer_rows_total",] == 9
    assert found["superpos_trainer_job_duration_seconds_sum",] == 63.5
    assert found["superpos_trainer_job_duration_seconds_bucket", "5.0"] == 1


def test_a_scrape_succeeds_while_the_jobs_cannot_be_read(tmp_path: Path, queue: JobQueue, url: str) -> None:
    place = tmp_path / "registry.sqlite"
    place.write_bytes(b"not a database")
    for other in ("-wal", "-shm"):
        place.with_name(place.name + other).unlink(missing_ok=True)
    found = scrape(url)
    assert found["superpos_trainer_store_up",] == 0
    assert not [series for series in found if series[0] == "superpos_jobs"], "unknown, so left out"


def test_a_port_that_is_taken_is_named(queue: JobQueue, url: str) -> None:
    port = urlsplit(url).port
    assert port is not None
    with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
        TrainerMetrics(queue).serve("127.0.0.1", port)
