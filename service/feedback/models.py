"""Kept answers and corrections as values, and the contract of the store that keeps them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from pydantic import TypeAdapter

View = Literal["least_confident", "shadow_flips", "reported_wrong", "corrections"]
"""A task's rows in an order: answers to check with the lowest score first, answers that a shadow version gave
otherwise, corrections of wrong answers, and all corrections; the last three have the latest first."""
Label = str | tuple[str, ...]
"""A label, or the labels of a text of a multi-label task in the task's own order."""

KEPT, CORRECTED = "kept", "corrected"
"""Lists of all of a tenant's rows without and with a right label, the oldest first."""
_OVERHEAD_BYTES = 512
"""Bytes that a row takes in addition to its own bytes: its places in lists."""


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """The answer to a row."""

    version: int
    label: Label
    score: float
    """Calibrated probability of the best label."""


@dataclass(frozen=True, slots=True)
class ShadowAnswer:
    """Differing answer of a shadow version."""

    version: int
    label: Label
    """Labels of a multi-label task are in alphabetical order."""


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """A text of a task, with what is known about its label. Times are in seconds since 1970."""

    id: str
    task: str
    input: Mapping[str, str]
    """The text of each of the task's fields."""
    at: float
    """When the text was stored, which is when its retention begins."""
    request_id: str | None = None
    index: int = 0
    """Index of the input in its request."""
    answer: GivenAnswer | None = None
    """None for a correction that came with its text."""
    shadow: ShadowAnswer | None = None
    label: Label | None = None
    """The right label; None for a kept answer that no one has corrected."""
    who: str | None = None
    """The person who gave the right label."""
    corrected_at: float | None = None
    superseded: bool = False
    """Whether a later row of the task has the same text. Such a row is found by its request, and not listed."""

    @property
    def is_wrong(self) -> bool:
        """Whether the right label is known and differs from the answer, or there was no answer."""
        return self.label is not None and (self.answer is None or self.answer.label != self.label)


_ROW = TypeAdapter(FeedbackRow)


def encode(row: FeedbackRow) -> bytes:
    """Return a row as it is stored."""
    return _ROW.dump_json(row)


def decode(stored: bytes) -> FeedbackRow:
    """Return a stored row."""
    return _ROW.validate_json(stored)


def size_bytes(row: FeedbackRow) -> int:
    """Return what a row counts towards its tenant's limit."""
    return len(encode(row)) + _OVERHEAD_BYTES


def view_list(view: View, task: str) -> str:
    """Return the name of a view's list."""
    return f"{view}:{task}"


def request_list(request_id: str) -> str:
    """Return the name of the list of a request's rows, the latest first."""
    return f"request:{request_id}"


def text_list(row: FeedbackRow) -> str:
    """Return the name of the list that has the one row of a text that is not superseded."""
    text = "\x1f".join(part for pair in sorted(row.input.items()) for part in pair)
    return f"text:{row.task}:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def places(row: FeedbackRow) -> dict[str, float]:
    """Return the lists that a row belongs to, with the number that it is sorted by in each, ascending."""
    found = {KEPT if row.label is None else CORRECTED: row.at}
    if row.request_id is not None:
        found[request_list(row.request_id)] = -row.at
    if row.superseded:
        return found
    found[text_list(row)] = -row.at
    if row.label is None:
        found |= {} if row.answer is None else {view_list("least_confident", row.task): row.answer.score}
        found |= {} if row.shadow is None else {view_list("shadow_flips", row.task): -row.at}
    else:
        latest_first = -(row.corrected_at or row.at)
        found[view_list("corrections", row.task)] = latest_first
        found |= {view_list("reported_wrong", row.task): latest_first} if row.is_wrong else {}
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """A row's place in a list, after which a page begins."""

    sort: float
    id: str

    @classmethod
    def of(cls, row: FeedbackRow, name: str) -> "Place":
        """Return the place of a row in a list that it belongs to."""
        return cls(places(row)[name], row.id)


@dataclass(frozen=True)
class Edit:
    """One atomic change: stored rows to delete exactly as they are stored, and then rows to add."""

    deleted: Sequence[FeedbackRow] = ()
    added: Sequence[FeedbackRow] = ()

    @property
    def datasets(self) -> set[str]:
        """The tasks whose corrections change."""
        return {row.task for row in (*self.deleted, *self.added) if row.label is not None}

    @cached_property
    def growth(self) -> Mapping[str, int]:
        """Bytes by which the kept answers and the corrections grow."""
        growth = {KEPT: 0, CORRECTED: 0}
        for rows, sign in ((self.deleted, -1), (self.added, 1)):
            for row in rows:
                growth[KEPT if row.label is None else CORRECTED] += sign * size_bytes(row)
        return growth


@dataclass(frozen=True, slots=True)
class TenantState:
    """A tenant's revision, which increases with every change, and the bytes of its rows."""

    revision: int = 0
    kept_bytes: int = 0
    corrected_bytes: int = 0


class FeedbackStore(Protocol):
    """Storage of rows, shared by replicas. Every method raises `RegistryUnavailable` during an outage."""

    def state(self, tenant: str) -> TenantState:
        """Return a tenant's state."""
        ...

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        """Write an edit if the tenant's revision is still `expected`; return whether it was written.

        The version of each task's dataset whose corrections change increases by one.
        """
        ...

    def rows(self, tenant: str, ids: Sequence[str]) -> list[FeedbackRow]:
        """Return those of the rows that exist."""
        ...

    def page(self, tenant: str, name: str, *, after: Place | None = None, limit: int) -> list[FeedbackRow]:
        """Return the rows of a list after a place, which need not exist any more."""
        ...

    def first(self, tenant: str, names: Sequence[str]) -> list[FeedbackRow | None]:
        """Return the first row of each list; None for an empty list."""
        ...

    def counts(self, tenant: str, names: Sequence[str]) -> list[int]:
        """Return the number of rows of each list."""
        ...

    def datasets(self, tenant: str) -> Mapping[str, int]:
        """Return the version of each task's dataset; a task that never had a correction is missing."""
        ...

    def tenants(self) -> Iterable[str]:
        """Return the tenants that have rows, or had some."""
        ...
