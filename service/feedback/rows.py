"""Changes to kept answers and corrections, each planned from the present state and written with its revision.

Blocking: the event loop calls them in threads. A change that another one overtakes is planned again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from adapters import RegistryUnavailable
from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.errors import QuotaExceeded
from service.feedback.models import (
    CORRECTED,
    KEPT,
    Edit,
    FeedbackRow,
    FeedbackStore,
    Label,
    Place,
    ShadowAnswer,
    TenantState,
    request_list,
    size_bytes,
    text_list,
)
from service.feedback.sqlite_store import SqliteFeedback

MAX_ROWS_OF_REQUEST = 1_000
"""Rows of one request id that are looked at, the latest first."""
_MAX_ATTEMPTS = 100
_PAGE = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flip:
    """A row that a shadow version answered otherwise, known by its request."""

    request_id: str
    index: int
    task: str
    texts: tuple[str, ...]
    shadow: ShadowAnswer

    def is_of(self, row: FeedbackRow) -> bool:
        """Return whether a kept answer is to this row. Its text is compared, since a caller may reuse request ids."""
        same_place = (row.index, row.task) == (self.index, self.task)
        return same_place and row.label is None and sorted(row.input.values()) == sorted(self.texts)


@dataclass(slots=True)
class _Plan:
    """An edit in the making: rows as they are stored, and as they shall be; None to delete them."""

    stored: dict[str, FeedbackRow] = field(default_factory=dict)
    wanted: dict[str, FeedbackRow | None] = field(default_factory=dict)

    def replace(self, before: FeedbackRow, after: FeedbackRow | None) -> None:
        """Replace a stored row or one that this plan adds, or delete it."""
        if before.id not in self.wanted:
            self.stored[before.id] = before
        self.wanted[before.id] = after

    def add(self, row: FeedbackRow) -> None:
        self.wanted[row.id] = row

    def edit(self) -> Edit:
        return Edit(tuple(self.stored.values()), tuple(row for row in self.wanted.values() if row is not None))


class FeedbackRows:
    """The rows of one store."""

    def __init__(self, store: FeedbackStore) -> None:
        self.store = store

    def keep(self, tenant: str, answers: Sequence[FeedbackRow], *, max_bytes: int) -> None:
        """Keep answers; the oldest kept ones make room for them, in at most half of the tenant's bytes.

        A text is listed once per task: its correction, or else its latest answer.

        Args:
            tenant: the tenant
            answers: new rows without a right label, the oldest first
            max_bytes: bytes of all rows of the tenant
        """

        def plan(state: TenantState) -> tuple[Edit, None]:
            made = _Plan()
            names = [text_list(row) for row in answers]
            unique = list(dict.fromkeys(names))
            listed = dict(zip(unique, self.store.first(tenant, unique), strict=True))
            for name, row in zip(names, answers, strict=True):
                known = listed[name]
                if known is not None and known.label is not None:
                    made.add(replace(row, superseded=True))
                    continue
                if known is not None:
                    made.replace(known, replace(known, superseded=True))
                listed[name] = row
                made.add(row)
            self._make_room(tenant, made, state, max_bytes=max_bytes)
            return made.edit(), None

        self._change(tenant, plan)

    def correct(
        self, tenant: str, find: Callable[[], FeedbackRow], *, label: Label, who: str | None, at: float, max_bytes: int
    ) -> FeedbackRow:
        """Set the right label of a row, instead of an earlier correction of the same text, and return it.

        Args:
            tenant: the tenant
            find: returns the row, which is new if it is not stored; may raise
            label: the right label
            who: the person who says so
            at: the time
            max_bytes: bytes of all rows of the tenant; kept answers make room for corrections

        Raises:
            QuotaExceeded: the corrections alone exceed the bytes
        """

        def plan(state: TenantState) -> tuple[Edit, FeedbackRow]:
            made, row = _Plan(), find()
            corrected = replace(row, label=label, who=who, corrected_at=at, superseded=False)
            [known] = self.store.first(tenant, [text_list(row)])
            if known is not None and known.id != row.id:
                made.replace(known, None if known.label is not None else replace(known, superseded=True))
            for stored in self.store.rows(tenant, [row.id]):
                made.replace(stored, corrected)
            made.add(corrected)
            total = state.corrected_bytes + made.edit().growth[CORRECTED]
            if total > max_bytes:
                raise QuotaExceeded(
                    f"tenant {tenant!r} would have {total} bytes of corrections, its limit is {max_bytes}; export "
                    "and delete some first, or ask the operator to raise max_feedback_bytes"
                )
            self._make_room(tenant, made, state, max_bytes=max_bytes)
            return made.edit(), corrected

        return self._change(tenant, plan)

    def flip(self, tenant: str, flips: Sequence[Flip]) -> None:
        """Note what a shadow version answered otherwise; flips of rows that are not kept change nothing."""

        def plan(_: TenantState) -> tuple[Edit | None, None]:
            made = _Plan()
            for flip in flips:
                rows = self.store.page(tenant, request_list(flip.request_id), limit=MAX_ROWS_OF_REQUEST)
                found = next(filter(flip.is_of, rows), None)
                if found is not None and found.id not in made.wanted:
                    made.replace(found, replace(found, shadow=flip.shadow))
            return (made.edit() if made.wanted else None), None

        self._change(tenant, plan)

    def remove(self, tenant: str, wanted: Callable[[FeedbackRow], bool]) -> int:
        """Delete rows, page by page, and return their number."""
        removed = 0
        for name in (CORRECTED, KEPT):
            after: Place | None = None
            while page := self.store.page(tenant, name, after=after, limit=_PAGE):
                removed += self._delete(tenant, [row for row in page if wanted(row)])
                after = Place.of(page[-1], name)
        return removed

    def remove_ids(self, tenant: str, ids: Sequence[str]) -> int:
        """Delete rows by their ids, and return how many of them existed."""
        return self._delete(tenant, self.store.rows(tenant, ids))

    def expire(self, tenant: str, *, before: float) -> int:
        """Delete the rows that were stored before a time, and return their number."""
        removed = 0
        for name in (CORRECTED, KEPT):
            while expired := [row for row in self.store.page(tenant, name, limit=_PAGE) if row.at < before]:
                removed += self._delete(tenant, expired)
        return removed

    def _delete(self, tenant: str, rows: Sequence[FeedbackRow]) -> int:
        """Delete rows as they are stored by now, also those that were changed since they were read."""
        ids = [row.id for row in rows]

        def plan(_: TenantState) -> tuple[Edit | None, int]:
            present = self.store.rows(tenant, ids) if ids else []
            return (Edit(deleted=present) if present else None), len(present)

        return self._change(tenant, plan)

    def _make_room(self, tenant: str, plan: _Plan, state: TenantState, *, max_bytes: int) -> None:
        """Let a plan delete the oldest kept answers that have no room next to the corrections."""
        growth = plan.edit().growth
        corrected = state.corrected_bytes + growth[CORRECTED]
        excess = state.kept_bytes + growth[KEPT] - min(max_bytes // 2, max_bytes - corrected)
        for row in self._oldest_kept(tenant, plan):
            if excess <= 0:
                return
            now = plan.wanted.get(row.id, row)
            if now is not None and now.label is None:
                excess -= size_bytes(now)
                plan.replace(row, None)

    def _oldest_kept(self, tenant: str, plan: _Plan) -> Iterator[FeedbackRow]:
        """Yield the kept answers, the oldest first, and those that a plan adds last."""
        added = [row for row in plan.wanted.values() if row is not None and row.id not in plan.stored]
        after: Place | None = None
        while page := self.store.page(tenant, KEPT, after=after, limit=_PAGE):
            yield from page
            after = Place.of(page[-1], KEPT)
        yield from added

    def _change(self, tenant: str, plan: Callable[[TenantState], tuple[Edit | None, T]]) -> T:
        for _ in range(_MAX_ATTEMPTS):
            state = self.store.state(tenant)
            edit, result = plan(state)
            if edit is None or self.store.write(tenant, edit, expected=state.revision):
                return result
        raise RegistryUnavailable(f"the feedback was changed concurrently {_MAX_ATTEMPTS} times, try again")


def open_feedback(storage: Storage) -> FeedbackRows:
    """Return the rows of a storage (`RegistryUnavailable` if a file's tables cannot be created)."""
    if isinstance(storage, SqliteFile):
        return FeedbackRows(SqliteFeedback(storage))
    from service.feedback.redis_store import RedisFeedback  # noqa: PLC0415 - as `open_storage`

    return FeedbackRows(RedisFeedback(storage))
