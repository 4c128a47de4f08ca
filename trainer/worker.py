"""The trainer's loop: it takes one job after the other, renews its lease while it trains, and publishes the result.

The main thread trains. A second thread renews the lease; if the job is no longer this trainer's, or out of time, it
sends the process a signal, whose handler ends the training wherever it is.
"""

import importlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

import structlog
from pydantic import ValidationError

from adapters import AdapterError, Registry, RegistryUnavailable
from adapters.errors import first_error
from backbone import Backbone, BackboneError
from service.errors import QuotaExceeded
from service.jobs.models import Job, JobResult, Progress
from service.jobs.queue import JobQueue, LeaseLost
from service.jobs.rows import decode_rows
from service.tenancy.models import AccountStore
from trainer.execution import RUNS, Callbacks, JobFailed, Trained, train_job
from trainer.interruption import Interrupted, Interruption
from trainer.lease import JobLease
from trainer.metrics import JobOutcome, TrainerMetrics
from trainer.publishing import publish
from training.errors import FolderInUse, TrainingError
from training.runs.folder import locked

POLL_S = 0.5
"""Seconds between two looks for a job."""
_IMPORTED_WHEN_USED = (
    *("scipy.sparse", "scipy.stats"),
    *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.multiclass"),
)
_PREFIX = "job-"
_STORE_WITHIN_S = 60.0
"""Seconds for which the end of a job is written again during an outage."""
_log = structlog.get_logger("trainer")

T = TypeVar("T")


class Trainer:
    """One process that trains jobs.

    Args:
        backbone: in float32, the one that the servers run
        queue: the jobs
        registry: where results are published
        accounts: the tenants, with their limits
        folder: for rows and runs of the present job; what killed trainers left in it is deleted
        lease_s: seconds after which another trainer takes a job whose trainer does not respond
        metrics: counts what becomes of the jobs
    """

    def __init__(
        self,
        backbone: Backbone,
        queue: JobQueue,
        registry: Registry,
        accounts: AccountStore,
        *,
        folder: Path,
        lease_s: float,
        metrics: TrainerMetrics,
    ) -> None:
        self._backbone, self._queue, self._registry, self._accounts = backbone, queue, registry, accounts
        self._folder, self._lease_s, self._metrics = folder, lease_s, metrics
        self.name = f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._is_stopping = threading.Event()
        self._interruption = Interruption()

    def run(self) -> None:
        """Train jobs until a signal ends the process: SIGTERM and SIGINT give the present job back."""
        for module in _IMPORTED_WHEN_USED:  # an import that is interrupted cannot always be repeated
            importlib.import_module(module)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        _delete_left_over(self._folder)
        _log.info("trainer_started", trainer=self.name, backbone=self._backbone.identity.id)
        was_down = False
        while not self._is_stopping.is_set():
            try:
                job = self._claim()
                was_down = False
            except RegistryUnavailable as exc:
                if not was_down:
                    _log.warning("jobs_unavailable", reason=str(exc))
                was_down, job = True, None
            if job is None:
                self._is_stopping.wait(POLL_S)
            else:
                self._work(job)
        _log.info("trainer_stopped", trainer=self.name)

    def _claim(self) -> Job | None:
        return self._queue.claim(
            self.name,
            fingerprint=self._backbone.identity.fingerprint,
            lease_s=self._lease_s,
            is_active=lambda tenant: self._accounts.snapshot().tenant(tenant).active,
        )

    def _work(self, job: Job) -> None:
        """Train a job to its end, or to the moment when it is to be left."""
        log = _log.bind(job=job.id, tenant=job.tenant, task=job.task)
        log.info("job_taken", attempt=job.attempts, spent_s=round(job.spent_s, 1))
        lease = JobLease(self._queue, job, lease_s=self._lease_s, interrupt=self._interruption.request)
        outcome: JobOutcome = "lost"
        began_s = time.monotonic()
        self._metrics.taken()
        try:
            with lease.kept(), self._working_folder() as folder:
                result = self._train(lease, folder)
                outcome = self._leave(lease, folder, log) if result is None else self._end(lease, result, log)
        except LeaseLost as exc:
            log.info("job_lost", reason=str(exc))
        except RegistryUnavailable as exc:
            # the lease ends, and then the job is taken again, by this trainer or another
            outcome = "not_stored"
            log.warning("job_not_stored", reason=str(exc))
        finally:
            self._metrics.left(job, outcome, time.monotonic() - began_s)

    def _train(self, lease: JobLease, folder: Path) -> Trained | JobFailed | None:
        """Return what became of a job; None if it was interrupted (`LeaseLost`, `RegistryUnavailable`)."""
        job = lease.job
        stored = self._queue.store.blob(job.tenant, job.id, "rows")
        if stored is None:
            raise LeaseLost(f"job {job.id} has no rows: it has ended")
        checkpoint = self._queue.store.blob(job.tenant, job.id, "checkpoint")
        callbacks = Callbacks(
            on_progress=lease.progress,
            on_curve=lease.curve,
            on_checkpoint=lambda: lease.checkpoint(folder / RUNS),
        )
        try:
            with self._interruption.possible():
                if self._is_stopping.is_set():
                    raise Interrupted
                return train_job(self._backbone, job, decode_rows(stored), folder, callbacks, checkpoint=checkpoint)
        except Interrupted:
            return None
        except (RegistryUnavailable, LeaseLost):
            raise
        except JobFailed as exc:
            return exc
        except (TrainingError, AdapterError, BackboneError) as exc:
            return JobFailed(_without_paths(str(exc), folder))
        except ValidationError as exc:
            where, value, message = first_error(exc)
            return JobFailed(f"task.{where}: {message} (got {value})")
        except Exception as exc:  # noqa: BLE001 - one job's rows must not end the trainer of all
            # not the error's message, which may quote a text
            trace = "".join(traceback.format_tb(exc.__traceback__))
            _log.error("job_failed_unexpectedly", job=job.id, error=type(exc).__qualname__, trace=trace)
            return JobFailed(f"internal error; include the job's id when reporting it: {job.id}", is_internal=True)

    def _end(self, lease: JobLease, result: Trained | JobFailed, log: structlog.stdlib.BoundLogger) -> JobOutcome:
        lease.progress(Progress("publishing"))
        done = self._published(lease, result) if isinstance(result, Trained) else result
        if isinstance(done, JobFailed):
            self._stored(lambda: self._queue.fail(lease.job, str(done)))
            log.info("job_failed", reason=str(done))
            return "internal_error" if done.is_internal else "failed"
        self._stored(lambda: self._queue.succeed(lease.job, done))
        log.info("job_succeeded", version=done.version)
        return "succeeded"

    def _published(self, lease: JobLease, trained: Trained) -> JobResult | JobFailed:
        def attempt() -> JobResult:
            job = lease.renew()  # a job that was cancelled meanwhile publishes nothing
            made = publish(self._registry, self._accounts.snapshot().tenant(job.tenant), job, trained.files)
            best = trained.result
            return JobResult(
                made.version,
                made.digest,
                best.method,
                best.readout,
                dict(best.trained.values.items()) | {"score": best.trained.score},
                best.untrained.score,
                {each.name: each.figures["score"] for each in best.baselines},
            )

        try:
            return self._stored(attempt)
        except (AdapterError, QuotaExceeded) as exc:
            if isinstance(exc, RegistryUnavailable):
                raise
            return JobFailed(f"the version cannot be published: {exc}")

    def _leave(self, lease: JobLease, folder: Path, log: structlog.stdlib.BoundLogger) -> JobOutcome:
        """Leave an interrupted job: it has failed by its time, or another trainer continues it."""
        if lease.lost is not None:
            raise LeaseLost(lease.lost)
        if lease.is_late:
            reason = (
                f"the job took more than {lease.job.max_s:.0f} s; try fewer rows or epochs, or ask the operator to "
                "raise max_job_s"
            )
            self._queue.fail(lease.job, reason)
            log.info("job_failed", reason=reason)
            return "late"
        lease.checkpoint(folder / RUNS, now=True)
        self._queue.release(lease.job)
        log.info("job_given_back")
        return "given_back"

    def _stored(self, write: Callable[[], T]) -> T:
        """Repeat a write during a short outage of the store."""
        end = time.monotonic() + _STORE_WITHIN_S
        while True:
            try:
                return write()
            except RegistryUnavailable:
                if time.monotonic() >= end:
                    raise
                time.sleep(POLL_S)

    @contextmanager
    def _working_folder(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder))
        try:
            with locked(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._is_stopping.set()
        self._interruption.raise_if_possible()


def _delete_left_over(folder: Path) -> None:
    """Delete the rows and runs of trainers that were killed; those of living ones are locked."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(FolderInUse, OSError), locked(path):
            shutil.rmtree(path, ignore_errors=True)


def _without_paths(message: str, folder: Path) -> str:
    """Return an error in one line, without places on this machine."""
    return " ".join(message.replace(f"{folder}/", "").split())[:1_000]
