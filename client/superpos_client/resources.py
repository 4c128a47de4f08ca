"""Tasks, versions, releases, usage and accounts, as the server describes them."""

from datetime import date, datetime
from typing import Any, Literal, TypedDict

from pydantic import Field

from superpos_client.models import Model

Role = Literal["classify", "publish", "admin", "operator"]

_DIGEST = Field(validation_alias="adapter")


class Traffic(Model):
    """The versions that serve a task's bare name in addition to its production version."""

    canary: int | None = None
    """The version that answers `percent` of the requests."""
    percent: float = 0.0
    shadow: int | None = None
    """The version that computes the same rows; its answers are counted, not returned."""
    etag: str | None = None
    """For `if_match`; None where a task's summary has the traffic."""


class Version(Model):
    """A version of a task."""

    version: int
    digest: str = _DIGEST
    created_at: datetime
    actor: str


class Task(Model):
    """A task with its versions, aliases and traffic."""

    task: str
    aliases: dict[str, int]
    traffic: Traffic
    versions: tuple[Version, ...]


class TaskPage(Model):
    """A part of the tenant's tasks, in the order of their names."""

    tasks: tuple[Task, ...]
    total: int
    """Number of all tasks."""
    cursor: str | None
    """For the next part; None at the end."""


class Adapter(Model):
    """The contents of one version, as its card has them."""

    version: int
    digest: str = _DIGEST
    spec: dict[str, Any]
    """Template, labels, kind and limits."""
    num_virtual_tokens: int
    readout: str
    backbone: dict[str, Any]
    calibration: dict[str, Any]
    provenance: dict[str, Any]
    """Method, metrics and hyperparameters of the training."""
    validation: dict[str, Any] | None
    """Its answers on the held-out rows, if they were recorded."""


class Drift(Model):
    """Production's answers of the last hour, compared with those on its held-out rows."""

    version: int
    rows: int
    min_rows: int
    since: datetime
    label_psi: float | None
    """Population stability index of the labels' shares; None without enough rows."""
    confidence_psi: float | None
    verdict: str
    """`stable`, `shifting`, `shifted` or `not_enough_rows`."""
    label_counts: tuple[int, ...] = ()
    """Rows by label, in the task's order; of a server that reports them."""
    confidence_counts: tuple[int, ...] = ()
    """Rows by tenth of the answered label's probability, lowest first."""


class Flip(Model):
    """Rows that two versions answered differently."""

    primary: str
    shadow: str
    rows: int


class Shadow(Model):
    """A shadow version's answers, compared with those that callers got."""

    primary: int
    shadow: int
    rows: int
    agreement: float | None
    """Share of the rows with the same label; None without rows."""
    mean_score_shift: float | None
    flips: tuple[Flip, ...]
    dropped: int
    failed: int


class TaskDetail(Task):
    """A task, with what its production version does."""

    current: Adapter | None
    drift: Drift | None
    shadows: tuple[Shadow, ...]


class Publication(Model):
    """A published adapter."""

    task: str
    version: int
    digest: str = _DIGEST
    created: bool
    """False if the task already had this adapter."""


class Alias(Model):
    """An alias, and the version that it points at."""

    task: str
    alias: str
    version: int
    digest: str = _DIGEST
    etag: str | None = None
    """For `if_match` of a write."""


class Move(Model):
    """An alias that was moved."""

    task: str
    alias: str
    previous: int | None
    """None if the alias is new."""
    version: int


class Promotion(Move):
    """A version that was put into production."""

    metric: str | None
    """The metric that was compared; None if the promotion was forced."""
    paired: str | None
    """The difference of the accuracies row by row, if both versions record their answers to the same rows."""
    corrections: str | None = None
    """The difference on the task's corrections, if they were compared."""


class Change(Model):
    """One write to a task: who did what, and when."""

    position: int
    at: datetime
    actor: str
    action: str
    tenant: str
    task: str
    version: int | None
    digest: str | None = _DIGEST
    alias: str | None
    traffic: Traffic | None


class UsageNumbers(Model):
    """Requests and their cost."""

    requests: int
    rows: int
    tokens: int
    errors: int


class UsageRow(UsageNumbers):
    """The usage of one task on one day."""

    task: str | None
    """None for requests that named no existing task."""
    day: date
    """UTC."""


class Usage(Model):
    """A tenant's usage, summed over all replicas."""

    tenant: str
    since: date
    until: date
    """Inclusive."""
    total: UsageNumbers
    usage: tuple[UsageRow, ...]


class TenantLimits(TypedDict, total=False):
    """A tenant's share and limits. Omitted ones stay as they are, None removes a limit."""

    weight: float
    requests_per_s: float | None
    tokens_per_min: int | None
    max_concurrency: int | None
    max_tasks: int | None
    max_versions: int | None
    max_bytes: int | None
    retention_days: int | None
    """Days for which texts are kept, to be corrected; None keeps none."""
    max_feedback_bytes: int | None
    max_jobs: int | None
    """Training jobs that have not ended."""
    max_job_rows: int | None
    max_job_s: int | None
    suspended: bool


class Tenant(Model):
    """A tenant's share and limits; None means no limit, and of `retention_days` that no text is kept."""

    id: str
    weight: float
    requests_per_s: float | None
    tokens_per_min: int | None
    max_concurrency: int | None
    max_tasks: int | None
    max_versions: int | None
    max_bytes: int | None
    retention_days: int | None = None
    max_feedback_bytes: int | None = None
    max_jobs: int | None = None
    max_job_rows: int | None = None
    max_job_s: int | None = None
    suspended: bool
    created_at: datetime | None


class Key(Model):
    """An API key without its secret."""

    id: str
    tenant: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    note: str
    default_task: str | None = None
    """The task that answers requests that name none."""
    old_secrets_until: tuple[datetime, ...]
    """When the secrets that rotations replaced expire."""


class NewKey(Key):
    """A key with its secret, which is shown only once."""

    key: str = Field(repr=False)


class AuditEntry(Model):
    """One entry of the audit log of tenants and keys."""

    position: int
    at: datetime
    actor: str
    action: str
    tenant: str
    key: str | None
    detail: str
    role: str | None
    """Role with which the actor acted; None for the server's own entries."""


class Readiness(Model):
    """Whether the worker that answered can serve requests."""

    status: Literal["ready", "not_ready"]
    reason: str | None
    precision: str
    """In which tasks are answered that it suits; others in fp32."""
    degraded: bool
    """The registry or the accounts cannot be read: requests are served from the last known state."""
    tasks: int
    queued_rows: int
    workers: int

    @property
    def is_ready(self) -> bool:
        """Whether the worker serves requests."""
        return self.status == "ready"
