"""Corrections as a use case: find the text, check the label, store; list, export, delete. Independent of HTTP."""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from adapters import PRODUCTION, NotFound, Ref
from adapters.printable import json_visible
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.catalog.catalog import Catalog
from service.errors import InvalidRequest
from service.feedback.answers import AnswerBuffer, Outcome, new_id
from service.feedback.labels import checked_input, checked_label
from service.feedback.models import FeedbackRow, Label, Place, View, request_list, view_list
from service.feedback.retention import Retention, Retentions
from service.feedback.rows import MAX_ROWS_OF_REQUEST, FeedbackRows
from service.inference.request import Item

VIEWS: tuple[View, ...] = ("least_confident", "shadow_flips", "reported_wrong", "corrections")
_EXPORT_PAGE = 500
_CURSOR = re.compile(r"(-?[0-9][0-9.e+-]{0,31})~([0-9a-f]{24})")
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A right label that is given. The text is one of: a stored row, an input of a request, a new text of a task."""

    label: Label
    who: str | None = None
    """The person who says so."""
    id: str | None = None
    """A stored row."""
    request_id: str | None = None
    """The request that had the text, of which `task` and `index` name one input if it had several."""
    task: str | None = None
    index: int | None = None
    input: Item | None = None
    """A text, with the `task` that it is of."""


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """A part of a view."""

    rows: Sequence[FeedbackRow]
    cursor: str | None
    """For the next part; None at the end."""
    counts: dict[View, int]
    """Rows of each view of the task."""
    dataset_version: int


@dataclass(frozen=True, slots=True)
class FeedbackSummary:
    """Kept bytes and retention of a tenant."""

    retention: Retention | None
    kept_bytes: int
    corrected_bytes: int


class Feedback:
    """The kept answers and corrections of all tenants. Belongs to the event loop.

    A task that a tenant does not have is reported before anything else, as any other route does.

    Args:
        rows: the stored rows
        answers: the buffer of those that are not written yet
        retentions: which tenants keep texts
        catalog: the tasks
        adapters: the versions that say which labels and fields a task has
        max_text_chars: characters of a text
        count: receives numbers of rows by outcome
        now: seconds since 1970
    """

    def __init__(
        self,
        rows: FeedbackRows,
        answers: AnswerBuffer,
        retentions: Retentions,
        catalog: Catalog,
        adapters: AdapterCache,
        *,
        max_text_chars: int,
        count: Callable[[Outcome, int], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._answers, self._retentions = rows, answers, retentions
        self._catalog, self._adapters, self._max_text_chars = catalog, adapters, max_text_chars
        self._count, self._now = count, now
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def correct(self, tenant: str, given: Correction) -> FeedbackRow:
        """Store what the right label of a text is. A later correction of the same text replaces it.

        Raises:
            NotFound: no such task, row or request
            RetentionOff: the tenant has not opted in
            InvalidRequest: the text is not named in one of the three ways, or the label is not one of the task
            InvalidRow: the text does not fit the task
            QuotaExceeded: the tenant's corrections would exceed its bytes
            RegistryUnavailable
        """
        if given.task is not None:
            self._catalog.task(tenant, given.task)
        retention = self._retentions.require(tenant)
        _check_target(given)
        # one at a time, so that a flood of corrections holds one thread and not all of them
        async with self._locks.setdefault(tenant, asyncio.Lock()):
            row = await self._target(tenant, given)
            adapter = await self._adapter(tenant, row.task)
            is_new = given.input is not None
            made = await asyncio.to_thread(
                self._rows.correct,
                tenant,
                lambda: row if is_new else self._stored(tenant, row.id),
                label=checked_label(given.label, row.task, adapter),
                who=given.who,
                at=self._now(),
                max_bytes=retention.max_bytes,
            )
        self._count("corrected", 1)
        return made

    async def page(self, tenant: str, task: str, view: View, *, cursor: str | None, limit: int) -> FeedbackPage:
        """Return a part of one of a task's views (`NotFound`, `RetentionOff`, `InvalidRequest` for a bad cursor)."""
        self._require(tenant, task)
        after = None if cursor is None else _place(cursor)
        await self._answers.flush()
        store, name = self._rows.store, view_list(view, task)
        rows = await asyncio.to_thread(store.page, tenant, name, after=after, limit=limit + 1)
        counts = await asyncio.to_thread(store.counts, tenant, [view_list(each, task) for each in VIEWS])
        more = len(rows) > limit
        return FeedbackPage(
            rows[:limit],
            _cursor(Place.of(rows[limit - 1], name)) if more else None,
            dict(zip(VIEWS, counts, strict=True)),
            await self.dataset_version(tenant, task),
        )

    async def dataset_version(self, tenant: str, task: str) -> int:
        """Return the version of a task's corrections, which increases with each change of them; 0 without any."""
        return (await asyncio.to_thread(self._rows.store.datasets, tenant)).get(task, 0)

    async def export(self, tenant: str, task: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return the version of a task's corrections, and all of them as JSON Lines, the latest first.

        Corrections that change during the export are left out of it. The persons who gave them are left out always.

        Raises:
            NotFound, RetentionOff
        """
        self._require(tenant, task)
        return await self.dataset_version(tenant, task), self._lines(tenant, task)

    async def corrections(self, tenant: str, task: str, *, limit: int) -> list[FeedbackRow]:
        """Return the latest corrections of a task (`NotFound`, `RetentionOff`)."""
        self._require(tenant, task)
        return await asyncio.to_thread(self._rows.store.page, tenant, view_list("corrections", task), limit=limit)

    async def delete(
        self, tenant: str, *, ids: Sequence[str] = (), who: str | None = None, task: str | None = None
    ) -> int:
        """Delete rows and return their number. A tenant that has opted out may do so too.

        Args:
            tenant: the tenant
            ids: these rows
            who: without ids, the corrections by this person
            task: without ids, those of this task
        """
        await self._answers.flush()
        if ids:
            removed = await asyncio.to_thread(self._rows.remove_ids, tenant, ids)
        else:
            removed = await asyncio.to_thread(
                self._rows.remove, tenant, lambda row: who in (None, row.who) and task in (None, row.task)
            )
        self._count("deleted", removed)
        # not the person: a log that kept the name would undo the deletion
        _log.info("feedback_deleted", tenant=tenant, rows=removed)
        return removed

    async def summary(self, tenant: str) -> FeedbackSummary:
        """Return what a tenant keeps."""
        state = await asyncio.to_thread(self._rows.store.state, tenant)
        return FeedbackSummary(self._retentions.of(tenant), state.kept_bytes, state.corrected_bytes)

    def _require(self, tenant: str, task: str) -> None:
        self._catalog.task(tenant, task)
        self._retentions.require(tenant)

    async def _adapter(self, tenant: str, task: str) -> LoadedAdapter:
        """Return the version that says which labels and fields a task has: production, or else the latest."""
        info = self._catalog.task(tenant, task)
        version = info.aliases.get(PRODUCTION, info.versions[-1].version)
        return await self._adapters.get(info.resolve(Ref(task, version=version)).digest)

    async def _target(self, tenant: str, given: Correction) -> FeedbackRow:
        """Return the row that a correction is of, as it is stored, or a new one."""
        if given.input is not None:
            assert given.task is not None, "checked before"
            adapter = await self._adapter(tenant, given.task)
            texts = checked_input(given.input, adapter, max_chars=self._max_text_chars)
            now = self._now()
            return FeedbackRow(new_id(now), given.task, texts, now)
        await self._answers.flush()
        if given.id is not None:
            return await asyncio.to_thread(self._stored, tenant, given.id)
        assert given.request_id is not None, "checked before"
        name = request_list(given.request_id)
        rows = await asyncio.to_thread(self._rows.store.page, tenant, name, limit=MAX_ROWS_OF_REQUEST)
        return _one_of(rows, given)

    def _stored(self, tenant: str, row_id: str) -> FeedbackRow:
        found = self._rows.store.rows(tenant, [row_id])
        if not found:
            raise NotFound(f"no row {row_id!r}: it was deleted, or its retention has ended")
        return found[0]

    async def _lines(self, tenant: str, task: str) -> AsyncIterator[bytes]:
        name, after = view_list("corrections", task), None
        while rows := await asyncio.to_thread(self._rows.store.page, tenant, name, after=after, limit=_EXPORT_PAGE):
            yield "".join(f"{exported(row)}\n" for row in rows).encode()
            after = Place.of(rows[-1], name)


def exported(row: FeedbackRow) -> str:
    """Return a correction as one line of JSON, in which no character breaks a line or acts on a terminal."""
    answer = None if row.answer is None else {"version": row.answer.version, "label": row.answer.label}
    data = {
        "id": row.id,
        "task": row.task,
        "input": dict(row.input),
        "label": row.label,
        "answer": answer,
        "corrected_at": row.corrected_at,
    }
    return json_visible(json.dumps(data, ensure_ascii=False))


def _check_target(given: Correction) -> None:
    named = [name for name in ("id", "request_id", "input") if getattr(given, name) is not None]
    if len(named) != 1:
        raise InvalidRequest(
            f"the text is named by {' and '.join(named) or 'nothing'}, expected one of: id (a listed row), "
            "request_id (with task and index if the request had several inputs), or task and input"
        )
    if given.input is not None and given.task is None:
        raise InvalidRequest("input needs the task that it is of, in task")
    if given.id is not None and given.task is not None:
        raise InvalidRequest(f"task is {given.task!r} and id is {given.id!r}, expected one of them: a row has its task")
    if given.index is not None and given.request_id is None:
        raise InvalidRequest(f"index is {given.index}, expected it with request_id only")


def _one_of(rows: Sequence[FeedbackRow], given: Correction) -> FeedbackRow:
    """Return the row that a correction names, of a request's rows, the latest first."""
    meant = [row for row in rows if given.task in (None, row.task) and given.index in (None, row.index)]
    if not meant:
        place = "" if given.index is None else f", inputs[{given.index}]"
        place += "" if given.task is None else f", task {given.task!r}"
        raise NotFound(
            f"no kept answer of request {given.request_id!r}{place}: answers are kept from the moment that the tenant "
            "opts in, for its retention_days and within its max_feedback_bytes; send the text instead, as task and "
            "input"
        )
    different = {(row.task, row.index) for row in meant}
    if len(different) > 1:
        raise InvalidRequest(
            f"request {given.request_id!r} had {len(different)} inputs × tasks, expected one: name it by task and index"
        )
    return meant[0]


def _cursor(place: Place) -> str:
    return f"{place.sort!r}~{place.id}"


def _place(cursor: str) -> Place:
    found = _CURSOR.fullmatch(cursor)
    try:
        sort = math.nan if found is None else float(found[1])
    except ValueError:
        sort = math.nan
    if found is None or not math.isfinite(sort):
        raise InvalidRequest(f"cursor is {cursor[:200]!r}, expected the cursor of the page before")
    return Place(sort, found[2])
