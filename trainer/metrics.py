"""The trainer's Prometheus metrics, on a port of their own: what became of its jobs, and the queue of all trainers."""

import time
from collections import Counter as Counts
from collections.abc import Iterator
from typing import Literal, get_args
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters import RegistryUnavailable
from service.jobs.models import Job
from service.jobs.queue import JobQueue

JobOutcome = Literal["succeeded", "failed", "late", "internal_error", "given_back", "lost", "not_stored"]
"""How a trainer's work on a job ends. `late`: the job's time was over; `lost`: it was cancelled or taken over."""
_BUCKETS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)


class TrainerMetrics:
    """All series of one trainer. No label value comes from a tenant.

    Args:
        queue: the jobs, which are read at each scrape
    """

    def __init__(self, queue: JobQueue) -> None:
        self.registry = registry = CollectorRegistry()
        self._jobs = Counter("superpos_trainer_jobs", "Jobs that this trainer left", ["outcome"], registry=registry)
        for outcome in get_args(JobOutcome):
            self._jobs.labels(outcome)
        self._rows = Counter("superpos_trainer_rows", "Rows of the jobs that succeeded", registry=registry)
        self._seconds = Histogram(
            "superpos_trainer_job_duration_seconds",
            "Time that this trainer worked on a job",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._is_busy = Gauge("superpos_trainer_busy", "1 while this trainer works on a job", registry=registry)
        registry.register(_Queue(queue))
        self._server: WSGIServer | None = None

    def serve(self, host: str, port: int) -> int:
        """Answer scrapes in a thread, until the process ends; return the port (`OSError` if it is taken)."""
        try:
            self._server, _ = start_http_server(port, host, registry=self.registry)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, f"{host}:{port} (trainer_metrics_port)") from exc
        return self._server.server_port

    def stop(self) -> None:
        """Stop answering scrapes."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def taken(self) -> None:
        """Note that a job is being worked on."""
        self._is_busy.set(1)

    def left(self, job: Job, outcome: JobOutcome, seconds: float) -> None:
        """Count the end of the work on a job."""
        self._is_busy.set(0)
        self._jobs.labels(outcome).inc()
        self._seconds.observe(seconds)
        if outcome == "succeeded":
            self._rows.inc(job.num_rows + job.num_validation_rows + job.num_corrections)


class _Queue(Collector):
    """The unfinished jobs of all tenants, as they are stored."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def describe(self) -> list[Metric]:
        return []  # otherwise it is collected when it is registered

    def collect(self) -> Iterator[Metric]:
        try:
            jobs, is_up = self._queue.store.unfinished(), True
        except RegistryUnavailable:
            jobs, is_up = [], False
        yield GaugeMetricFamily("superpos_trainer_store_up", "1 while the jobs can be read", value=float(is_up))
        if not is_up:
            return
        counts = Counts(job.status for job in jobs)
        by_status = GaugeMetricFamily("superpos_jobs", "Jobs of all tenants that have not ended", labels=["status"])
        for status in ("queued", "running"):
            by_status.add_metric([status], counts[status])
        yield by_status
        waiting = [job.created_at for job in jobs if job.status == "queued"]
        yield GaugeMetricFamily(
            "superpos_jobs_oldest_queued_seconds",
            "Age of the oldest queued job",
            value=max(0.0, time.time() - min(waiting)) if waiting else 0.0,
        )
