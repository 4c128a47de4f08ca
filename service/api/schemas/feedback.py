"""The JSON of `/feedback` and of a task's feedback."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator

from adapters.names import NAME_PATTERN
from adapters.printable import RULE as PRINTABLE
from adapters.printable import is_printable
from adapters.task import MAX_LABELS
from service.api.request_state import REQUEST_ID_PATTERN
from service.api.schemas.classify import check_item
from service.api.schemas.types import WHOLE, RequestSchema, Schema
from service.feedback.feedback import Correction, FeedbackPage, FeedbackSummary
from service.feedback.models import FeedbackRow, GivenAnswer, Label, ShadowAnswer

ROW_ID_PATTERN = r"[0-9a-f]{24}"
MAX_PERSON_CHARS = 200
_MAX_LABEL_CHARS = 1_000


def check_person(who: str | None) -> str | None:
    """Refuse a person's name that a terminal would obey."""
    if who is not None and not is_printable(who):
        raise ValueError(f"expected {PRINTABLE}")
    return who


def _check_label(value: object) -> object:
    """Check a label with one error message; pydantic would give one for each member of the union."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(label, str) for label in value) and len(value) <= MAX_LABELS:
        return tuple(value)
    raise ValueError(f"expected a label, or a list of at most {MAX_LABELS} labels for a multi-label task")


_LabelText = Annotated[str, Field(max_length=_MAX_LABEL_CHARS)]
RightLabel = Annotated[
    _LabelText | tuple[_LabelText, ...],
    BeforeValidator(_check_label, json_schema_input_type=_LabelText | list[_LabelText]),
]
OptionalItem = Annotated[
    str | dict[str, str] | None, BeforeValidator(lambda value: None if value is None else check_item(value))
]
Person = Annotated[str, Field(min_length=1, max_length=MAX_PERSON_CHARS)]


class FeedbackRequest(
    RequestSchema,
    json_schema_extra={
        "examples": [
            {"request_id": "0f3c9a5e7d1b4c28a6e0f1d2c3b4a596", "label": "positive", "who": "ann@example.com"},
            {"task": "sst2", "input": "not bad at all", "label": "positive"},
        ]
    },
):
    """The right label of a text.

    The text is an input of an answered request (`request_id`, with `task` and `index` if it had several), a row of a
    task's feedback (`id`), or a new text (`task` and `input`).
    """

    label: RightLabel
    """A label of the task; for a multi-label task the list of all labels that the text has, which may be empty."""
    who: Person | None = None
    """The person who says so, by whom the correction can be deleted."""
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID_PATTERN}$")] | None = None
    """The id of the response, in `X-Request-ID`."""
    task: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")] | None = None
    index: Annotated[int, Field(ge=0, lt=1 << 20), WHOLE] | None = None
    """Index of the input in its request."""
    id: Annotated[str, Field(pattern=f"^{ROW_ID_PATTERN}$")] | None = None
    input: OptionalItem = None
    """A text, or an object with the task's fields."""

    _printable = field_validator("who")(check_person)

    def correction(self) -> Correction:
        """Return the domain value."""
        return Correction(**dict(self))


class FeedbackReceipt(Schema):
    """A stored correction. Its text is for those who may list a task's feedback."""

    id: str
    task: str
    label: Label
    corrected_at: datetime
    delete_at: datetime
    """When the text and its correction are deleted."""

    @classmethod
    def of(cls, row: FeedbackRow, *, retention_s: float) -> Self:
        """Build the body."""
        return cls(
            id=row.id,
            task=row.task,
            label=row.label or (),
            corrected_at=_time(row.corrected_at or row.at),
            delete_at=_time(row.at + retention_s),
        )


class FeedbackRowBody(Schema):
    """A kept text, with what is known about its label."""

    id: str
    task: str
    input: dict[str, str]
    """The text of each of the task's fields."""
    stored_at: datetime
    request_id: str | None
    index: int
    answer: GivenAnswer | None
    """Null for a correction that came with its text."""
    shadow: ShadowAnswer | None
    """The answer of a shadow version, if it differs from the answer."""
    label: Label | None
    """The right label; null for an answer that no one has corrected."""
    who: str | None
    corrected_at: datetime | None

    @classmethod
    def of(cls, row: FeedbackRow) -> Self:
        """Build the body."""
        return cls(
            id=row.id,
            task=row.task,
            input=dict(row.input),
            stored_at=_time(row.at),
            request_id=row.request_id,
            index=row.index,
            answer=row.answer,
            shadow=row.shadow,
            label=row.label,
            who=row.who,
            corrected_at=None if row.corrected_at is None else _time(row.corrected_at),
        )


class FeedbackCounts(Schema):
    """Rows of each view of a task."""

    least_confident: int
    shadow_flips: int
    reported_wrong: int
    corrections: int


class FeedbackList(Schema):
    """A part of a view."""

    rows: list[FeedbackRowBody]
    cursor: str | None
    """Pass it as `cursor` for the next part; null at the end."""
    counts: FeedbackCounts
    dataset_version: int
    """Version of the task's corrections as a whole: it increases with every change of them."""

    @classmethod
    def of(cls, page: FeedbackPage) -> Self:
        """Build the body."""
        return cls(
            rows=list(map(FeedbackRowBody.of, page.rows)),
            cursor=page.cursor,
            counts=FeedbackCounts.model_validate(page.counts),
            dataset_version=page.dataset_version,
        )


class FeedbackState(Schema):
    """Kept bytes and retention of the tenant."""

    retention_days: int | None
    """Days for which texts are kept; null if none are."""
    max_bytes: int | None
    kept_bytes: int
    """Bytes of answers that no one has corrected; they have at most half of `max_bytes`."""
    corrected_bytes: int

    @classmethod
    def of(cls, summary: FeedbackSummary) -> Self:
        """Build the body."""
        retention = summary.retention
        return cls(
            retention_days=None if retention is None else retention.days,
            max_bytes=None if retention is None else retention.max_bytes,
            kept_bytes=summary.kept_bytes,
            corrected_bytes=summary.corrected_bytes,
        )


class FeedbackDeletion(Schema):
    deleted: int
    """Number of rows; 0 if there were none."""


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
