"""Training jobs as values, and the contract of the store that keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from pydantic import TypeAdapter

from adapters.task import TaskSpec

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JOB_STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)
Phase = Literal["reading", "training", "scoring", "publishing"]
Blob = Literal["rows", "checkpoint", "curve"]
"""`rows` and `checkpoint` are deleted when a job ends, `curve` with the job."""
Argument = str | int | float | bool

_PRIVATE: tuple[Blob, ...] = ("rows", "checkpoint")
BLOBS: tuple[Blob, ...] = get_args(Blob)


@dataclass(frozen=True, slots=True)
class Lease:
    """A trainer's right to work on a job, which it renews while it does."""

    trainer: str
    until: float
    """Seconds since 1970, after which another trainer may take the job."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The step that a trainer is at."""

    phase: Phase
    step: int = 0
    num_steps: int = 0
    """Optimiser steps of the longest run; 0 while it is unknown."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The version that a job published, and its scores on rows that nothing was fitted to."""

    version: int
    digest: str
    method: str
    readout: str
    metrics: Mapping[str, float]
    """Metrics of the version by name, `score` among them, which is their mean."""
    untrained_score: float
    baselines: Mapping[str, float]
    """Scores of simpler classifiers on the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training of one task. Times are in seconds since 1970."""

    id: str
    tenant: str
    task: str
    actor: str
    """The key that asked for it."""
    created_at: float
    spec: TaskSpec
    description: str = ""
    metrics: tuple[str, ...] = ()
    """Empty for the trainer's default."""
    positive: str | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Training arguments that differ from the defaults."""
    fingerprint: str
    """The fingerprint of the backbone that it is for."""
    num_rows: int
    num_validation_rows: int = 0
    num_corrections: int = 0
    max_s: float
    """Seconds that trainers may spend on it."""
    status: JobStatus = "queued"
    started_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    """Trainers that took it, apart from those that gave it back."""
    spent_s: float = 0.0
    lease: Lease | None = None
    progress: Progress | None = None
    error: str | None = None
    """Why it failed or was cancelled."""
    result: JobResult | None = None

    @property
    def has_ended(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One evaluation of a run on its selection rows."""

    run: str
    """The run among those of the job, such as `head-pooled`; empty if there is only one."""
    epoch: int
    step: int
    score: float
    loss: float
    train_loss: float | None
    best: bool
    elapsed_s: float


_JOB = TypeAdapter(Job)
_CURVE = TypeAdapter(list[CurvePoint])


def encode_job(job: Job) -> bytes:
    """Return a job as it is stored."""
    return _JOB.dump_json(job)


def decode_job(stored: bytes) -> Job:
    """Return a stored job."""
    return _JOB.validate_json(stored)


def encode_curve(points: Sequence[CurvePoint]) -> bytes:
    """Return a learning curve as it is stored."""
    return _CURVE.dump_json(list(points))


def decode_curve(stored: bytes | None) -> list[CurvePoint]:
    """Return a stored learning curve; empty without one."""
    return [] if stored is None else _CURVE.validate_json(stored)


@dataclass(frozen=True)
class Edit:
    """One atomic change of a tenant's jobs."""

    put: Sequence[Job] = ()
    """Jobs to add or replace. What only an unfinished job needs is deleted with the end of the job."""
    deleted: Sequence[Job] = ()
    blobs: Mapping[tuple[str, Blob], bytes] = field(default_factory=dict)
    """By the job's id and kind."""

    @property
    def dropped(self) -> list[tuple[str, Blob]]:
        """The blobs that this change deletes."""
        ended = [(job.id, kind) for job in self.put if job.has_ended for kind in _PRIVATE]
        return ended + [(job.id, kind) for job in self.deleted for kind in BLOBS]


class JobStore(Protocol):
    """Storage of jobs, shared by servers and trainers. Every method raises `RegistryUnavailable` during an outage."""

    def revision(self, tenant: str) -> int:
        """Return a number that increases with every change of the tenant's jobs."""
        ...

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        """Write an edit if the tenant's revision is still `expected`; return whether it was written."""
        ...

    def job(self, tenant: str, job_id: str) -> Job | None:
        """Return a job of a tenant; None if it has no such job."""
        ...

    def jobs(self, tenant: str) -> list[Job]:
        """Return all jobs of a tenant, the oldest first."""
        ...

    def unfinished(self) -> list[Job]:
        """Return the queued and running jobs of all tenants, the oldest first."""
        ...

    def blob(self, tenant: str, job_id: str, kind: Blob) -> bytes | None:
        """Return one of a job's blobs; None without it."""
        ...

    def tenants(self) -> Sequence[str]:
        """Return the tenants that have jobs, or had some."""
        ...
