"""Training jobs, as the server describes them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from superpos_client.feedback import Label
from superpos_client.models import Model

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LabelledRow = tuple[str | Mapping[str, str], Label | list[str]]
"""A text, or the text of each field of the task, and its label; for a multi-label task its labels."""


class CurvePoint(Model):
    """One evaluation of a run on its selection rows."""

    run: str
    """The run among those of the job; empty if there is only one."""
    epoch: int
    step: int
    score: float
    loss: float
    train_loss: float | None
    best: bool
    elapsed_s: float


class JobProgress(Model):
    """The step that the trainer is at."""

    phase: Literal["reading", "training", "scoring", "publishing"]
    step: int
    num_steps: int


class JobResult(Model):
    """The version that a job published; no alias points at it."""

    version: int
    adapter: str
    """Its digest."""
    method: str
    readout: str
    metrics: Mapping[str, float]
    """Metrics on rows that nothing was fitted to, with their mean, `score`."""
    untrained_score: float
    baselines: Mapping[str, float]
    """Scores of simpler classifiers on the same rows."""


class Job(Model):
    """A training job. Its rows are deleted when it ends."""

    id: str
    task: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    rows: int
    validation_rows: int
    corrections: int
    arguments: Mapping[str, str | int | float | bool]
    max_s: float
    spent_s: float
    attempts: int
    progress: JobProgress | None
    error: str | None
    """Why it failed or was cancelled."""
    result: JobResult | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status not in ("queued", "running")


class JobDetail(Job):
    """A training job with its learning curve so far."""

    curve: tuple[CurvePoint, ...]
