"""Training jobs as a use case: check what is asked for, queue it; read, cancel, delete. Independent of HTTP."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError

from adapters import PRODUCTION, NotFound, Registry
from adapters.errors import first_error
from adapters.files import from_files
from adapters.names import check_name
from adapters.task import TaskSpec
from backbone import Backbone
from service.catalog.catalog import Catalog
from service.errors import InvalidRequest, QuotaExceeded
from service.feedback.answers import new_id
from service.feedback.feedback import Feedback
from service.feedback.models import FeedbackRow
from service.jobs.arguments import check_arguments, check_metrics
from service.jobs.models import Argument, CurvePoint, Job
from service.jobs.queue import JobQueue
from service.jobs.rows import (
    GivenRow,
    LabelledRow,
    TrainingRows,
    check_labels_occur,
    checked_rows,
    encode_rows,
    fitting_corrections,
)
from service.periodic import PeriodicTask
from service.releases.publisher import min_task_tokens
from service.tenancy.models import TenantInfo

MIN_EXAMPLES, MAX_EXAMPLES = 8, 20
"""Texts of each label, where labels come with examples."""
_SWEEP_INTERVAL_S = 60.0
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """A task as in a task file, without its rows."""

    spec: TaskSpec
    description: str = ""
    metrics: tuple[str, ...] = ()
    positive: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is asked for."""

    definition: TaskDefinition | None = None
    """None for a task that has a version, or for examples."""
    rows: Sequence[GivenRow] = ()
    validation: Sequence[GivenRow] = ()
    examples: Mapping[str, Sequence[str]] | None = None
    """Texts by label, instead of rows."""
    corrections_since: int | None = None
    """Also train on the corrections that were made after this version was published; 0 for all of them."""
    arguments: Mapping[str, Argument] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The server's limits, which a tenant's own may lower."""

    max_jobs: int
    max_rows: int
    max_s: float
    max_text_chars: int
    max_text_tokens: int


class Jobs:
    """The training jobs of all tenants. Belongs to the event loop.

    Args:
        queue: the stored jobs
        tenant: returns a tenant's current limits
        limits: those of the server
        catalog: the tasks
        registry: the versions that say what a task is
        feedback: corrections
        backbone: what the task's labels and template must fit
        now: seconds since 1970
    """

    def __init__(
        self,
        queue: JobQueue,
        *,
        tenant: Callable[[str], TenantInfo],
        limits: JobLimits,
        catalog: Catalog,
        registry: Registry,
        feedback: Feedback,
        backbone: Backbone,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queue, self._tenant, self._limits = queue, tenant, limits
        self._catalog, self._registry, self._feedback = catalog, registry, feedback
        self._backbone, self._now = backbone, now

    async def submit(self, tenant: str, task: str, given: NewJob, *, actor: str) -> Job:
        """Queue a training of a task, which may be new.

        Raises:
            InvalidName: the task's name is malformed
            NotFound: the task has no version, and the request does not say what it is
            InvalidRequest, InvalidRow, backbone.InvalidLabels: the task, its rows, examples or arguments are invalid
            RetentionOff: corrections are asked for, and the tenant keeps none
            QuotaExceeded: a limit of the tenant or the server
            RegistryUnavailable
        """
        check_name("task", task)
        _check_sources(given)
        info = self._tenant(tenant)
        max_jobs = _lowest(info.max_jobs, self._limits.max_jobs)
        max_rows = _lowest(info.max_job_rows, self._limits.max_rows)
        self._check_number(given, tenant, max_rows)
        definition = given.definition or await self._known_definition(tenant, task, given.examples)
        corrected = await self._corrections(tenant, task, given.corrections_since, limit=max_rows + 1)
        return await asyncio.to_thread(
            self._submit, tenant, task, given, definition, corrected, actor=actor, max_jobs=max_jobs, max_rows=max_rows
        )

    async def get(self, tenant: str, job_id: str) -> tuple[Job, list[CurvePoint]]:
        """Return a job and its learning curve so far (`NotFound`)."""
        job = await asyncio.to_thread(self._queue.get, tenant, job_id)
        return job, await asyncio.to_thread(self._queue.curve, job)

    async def list(self, tenant: str, *, task: str | None) -> list[Job]:
        """Return a tenant's jobs, of one task or of all, the latest first."""
        jobs = await asyncio.to_thread(self._queue.store.jobs, tenant)
        return [job for job in reversed(jobs) if task in (None, job.task)]

    async def cancel(self, tenant: str, job_id: str, *, actor: str) -> Job:
        """End a job and delete its rows (`NotFound`); one that has ended stays as it is."""
        return await asyncio.to_thread(self._queue.cancel, tenant, job_id, reason=f"cancelled by {actor}")

    async def delete(self, tenant: str, job_id: str) -> None:
        """Delete a job, its rows and its curve (`NotFound`)."""
        await asyncio.to_thread(self._queue.delete, tenant, job_id)

    async def forget_corrections(self, tenant: str) -> None:
        """Cancel the jobs that have copies of corrections, since some of the tenant's corrections were deleted."""
        for job in await self.list(tenant, task=None):
            if job.num_corrections and not job.has_ended:
                reason = "corrections of the tenant were deleted; submit the job again to train on the others"
                await asyncio.to_thread(self._queue.cancel, tenant, job.id, reason=reason)

    def _submit(
        self,
        tenant: str,
        task: str,
        given: NewJob,
        definition: TaskDefinition,
        corrected: Sequence[FeedbackRow],
        *,
        actor: str,
        max_jobs: int,
        max_rows: int,
    ) -> Job:
        spec = definition.spec
        self._check_spec(spec)
        check_metrics(definition.metrics, definition.positive, spec)
        arguments = given.arguments if given.examples is None else _for_examples(given.arguments)
        check_arguments(arguments, spec)
        max_chars = self._limits.max_text_chars
        pairs = given.rows if given.examples is None else _labelled_examples(given.examples)
        corrections: tuple[LabelledRow, ...] = fitting_corrections(corrected, spec)
        train = checked_rows(pairs, spec, where="rows" if given.examples is None else "examples", max_chars=max_chars)
        # corrections alone are both trained on and measured on
        rows = TrainingRows(
            train or corrections,
            checked_rows(given.validation, spec, where="validation", max_chars=max_chars),
            corrections if train else (),
        )
        num_rows = len(train) + len(rows.validation) + len(corrections)
        if num_rows > max_rows:
            raise _too_many(tenant, num_rows, max_rows)
        check_labels_occur(rows)
        now = self._now()
        job = Job(
            id=new_id(now),
            tenant=tenant,
            task=task,
            actor=actor,
            created_at=now,
            spec=spec,
            description=definition.description,
            metrics=definition.metrics,
            positive=definition.positive,
            arguments=dict(arguments),
            fingerprint=self._backbone.identity.fingerprint,
            num_rows=len(train),
            num_validation_rows=len(rows.validation),
            num_corrections=len(corrections),
            max_s=float(_lowest(self._tenant(tenant).max_job_s, self._limits.max_s)),
        )
        return self._queue.submit(job, encode_rows(rows), max_jobs=max_jobs)

    def _check_number(self, given: NewJob, tenant: str, max_rows: int) -> None:
        """Refuse too many rows before each is looked at (`QuotaExceeded`)."""
        examples = 0 if given.examples is None else sum(map(len, given.examples.values()))
        if (total := len(given.rows) + len(given.validation) + examples) > max_rows:
            raise _too_many(tenant, total, max_rows)

    def _check_spec(self, spec: TaskSpec) -> None:
        """Refuse a task that this server could not serve, before hours are spent on it."""
        if spec.max_tokens > self._limits.max_text_tokens:
            raise InvalidRequest(
                f"max_tokens is {spec.max_tokens}, expected at most {self._limits.max_text_tokens}, this server's limit"
            )
        self._backbone.label_trie(spec.label_words)
        template = spec.parsed_template
        frame = self._backbone.tokenizer.frame(template.literals, template.placeholders)
        if (needed := min_task_tokens(frame, spec.max_tokens)) > spec.max_tokens:
            raise InvalidRequest(
                f"max_tokens is {spec.max_tokens}, expected at least {needed}: the template has {frame.num_tokens} "
                f"tokens and {len(spec.fields)} fields"
            )

    async def _known_definition(
        self, tenant: str, task: str, examples: Mapping[str, Sequence[str]] | None
    ) -> TaskDefinition:
        """Return what a task is: as its production version or else its latest says, or as its examples suggest."""
        try:
            info = self._catalog.task(tenant, task)
        except NotFound:
            if examples is None:
                raise NotFound(
                    f"no task {task!r}; for a new one, say what it is in `task`: template and labels"
                ) from None
            labels = {name: name for name in examples}
            return TaskDefinition(spec=spec_of({"template": "{text}", "labels": labels}))
        version = info.aliases.get(PRODUCTION, info.versions[-1].version)
        files = await asyncio.to_thread(self._registry.files, tenant, task, version)
        adapter = await asyncio.to_thread(from_files, files)
        return TaskDefinition(spec=adapter.spec)

    async def _corrections(self, tenant: str, task: str, since: int | None, *, limit: int) -> Sequence[FeedbackRow]:
        if since is None:
            return ()
        rows = await self._feedback.corrections(tenant, task, limit=limit)
        if since == 0:
            return rows
        versions = {each.version: each.created_at.timestamp() for each in self._catalog.task(tenant, task).versions}
        if since not in versions:
            raise NotFound(f"no version {since} of task {task!r}, whose publication `corrections_since` means")
        return [row for row in rows if (row.corrected_at or row.at) > versions[since]]


class JobSweeper:
    """Deletes old jobs and those of deleted tenants, and fails jobs that no trainer takes, once a minute."""

    def __init__(self, queue: JobQueue, tenant: Callable[[str], TenantInfo]) -> None:
        self._queue, self._tenant = queue, tenant
        self._loop = PeriodicTask(
            "job-sweeper",
            self.sweep,
            interval_s=_SWEEP_INTERVAL_S,
            on_down=lambda error: _log.warning("jobs_not_swept", reason=str(error)),
        )

    async def start(self) -> None:
        """Sweep every minute."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop sweeping."""
        await self._loop.stop()

    async def sweep(self) -> None:
        """Sweep the jobs of all tenants (`RegistryUnavailable`)."""
        for tenant in await asyncio.to_thread(self._queue.store.tenants):
            swept = await asyncio.to_thread(self._queue.sweep, tenant, is_deleted=self._tenant(tenant).deleted)
            if swept:
                _log.info("jobs_swept", tenant=tenant, jobs=swept)


def spec_of(values: Mapping[str, object]) -> TaskSpec:
    """Return the task that a mapping describes, as a task file does (`InvalidRequest`)."""
    try:
        return TaskSpec.model_validate(values)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        at = "task" if where == "(whole)" else f"task.{where}"
        raise InvalidRequest(f"{at}: {message} (got {value})") from exc


def _check_sources(given: NewJob) -> None:
    """Refuse a job without rows, or with two kinds of them (`InvalidRequest`)."""
    if given.rows and given.examples is not None:
        raise InvalidRequest("the request has rows and examples, expected one of them")
    if not given.rows and given.examples is None and given.corrections_since is None:
        raise InvalidRequest("the request has no rows, expected rows, examples (texts by label) or corrections_since")
    for label, texts in (given.examples or {}).items():
        if not MIN_EXAMPLES <= len(texts) <= MAX_EXAMPLES:
            raise InvalidRequest(
                f"label {label[:200]!r} has {len(texts)} examples, expected {MIN_EXAMPLES} to {MAX_EXAMPLES}; "
                "send more of them as rows"
            )


def _for_examples(arguments: Mapping[str, Argument]) -> dict[str, Argument]:
    """Return the arguments of a job on examples: by default a head of each kind is fitted, and the best is kept."""
    found = {"method": "head", **arguments}
    return {"readout": "auto", **found} if found["method"] == "head" else found


def _labelled_examples(examples: Mapping[str, Sequence[str]]) -> list[GivenRow]:
    return [(text, label) for label, texts in examples.items() for text in texts]


def _lowest(own: float | None, server: float) -> int:
    return int(server if own is None else min(own, server))


def _too_many(tenant: str, rows: int, limit: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"the job has {rows} rows, the limit of tenant {tenant!r} is {limit}; send fewer, or ask the operator to raise "
        "max_job_rows"
    )
