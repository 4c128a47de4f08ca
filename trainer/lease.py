"""A trainer's lease of a job: a thread renews it, with what is known of the job's progress."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from adapters import RegistryUnavailable
from service.jobs.models import CurvePoint, Job, Progress
from service.jobs.queue import JobQueue, LeaseLost, Renewal
from trainer.execution import pack

_MAX_SHARE = 0.05
"""The share of the time that storing checkpoints may take."""
_log = structlog.get_logger("trainer")


class JobLease:
    """The right to work on a job, until it is cancelled, deleted, out of time, or taken over.

    Args:
        queue: the jobs
        job: as it was claimed
        lease_s: seconds until another trainer may take it, unless the lease is renewed
        interrupt: called in the thread when the job is to be left; again and again until it is
    """

    def __init__(self, queue: JobQueue, job: Job, *, lease_s: float, interrupt: Callable[[], None]) -> None:
        self._queue, self._job, self._lease_s, self._interrupt = queue, job, lease_s, interrupt
        self._spent_before_s = job.spent_s
        self._began_s = self._renewed_s = self._stored_s = time.monotonic()
        self._storing_s = 0.0
        self._progress = job.progress or Progress("reading")
        self._curve: Sequence[CurvePoint] | None = None
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self.lost: str | None = None
        """Why the job is no longer this trainer's; None if it still is."""
        self.is_late = False
        """Whether the job's time is over."""

    @property
    def job(self) -> Job:
        """The job as it was renewed last."""
        return self._job

    @property
    def spent_s(self) -> float:
        """Seconds spent on the job, those of earlier trainers included."""
        return self._spent_before_s + time.monotonic() - self._began_s

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease until the block ends."""
        thread = threading.Thread(target=self._beat, name="job-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def progress(self, progress: Progress) -> None:
        """Take what the trainer does now, for the next renewal."""
        self._progress = progress

    def curve(self, points: Sequence[CurvePoint]) -> None:
        """Take the learning curve so far, for the next renewal."""
        self._curve = points

    def renew(self, *, checkpoint: bytes | None = None) -> Job:
        """Renew the lease, and store what is known (`LeaseLost`, `RegistryUnavailable`)."""
        with self._renewing:
            curve, self._curve = self._curve, None
            renewal = Renewal(self._lease_s, round(self.spent_s, 3), self._progress, curve, checkpoint)
            try:
                self._job = self._queue.renew(self._job, renewal)
            except RegistryUnavailable:
                self._curve = self._curve or curve
                raise
            self._renewed_s = time.monotonic()
            return self._job

    def checkpoint(self, runs: Path, *, now: bool = False) -> None:
        """Store what another trainer would continue from, at most once per lease and in little of the time.

        Args:
            runs: the folder of the job's runs
            now: store it in any case

        Raises:
            LeaseLost: the job is no longer this trainer's
        """
        began_s = time.monotonic()
        if not now and began_s - self._stored_s < max(self._lease_s, self._storing_s / _MAX_SHARE):
            return
        packed = pack(runs)
        if packed is not None:
            try:
                self.renew(checkpoint=packed)
            except RegistryUnavailable as exc:
                _log.warning("checkpoint_not_stored", job=self._job.id, reason=str(exc))
        self._stored_s = time.monotonic()
        self._storing_s = self._stored_s - began_s

    def _beat(self) -> None:
        while not self._ended.wait(min(self._lease_s / 3, max(0.1, self._job.max_s - self.spent_s))):
            try:
                self.renew()
            except LeaseLost as exc:
                self.lost = str(exc)
            except RegistryUnavailable as exc:
                if time.monotonic() - self._renewed_s > self._lease_s:
                    self.lost = f"the lease ended during an outage: {exc}"
            self.is_late = self.spent_s >= self._job.max_s
            if self.lost is not None or self.is_late:
                self._interrupt()
