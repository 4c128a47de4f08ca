"""Predictions, the rows that they answer, and the limits of a server."""

import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from superpos_client.errors import BadRequest, Invalid, SuperposError
from superpos_client.models import Model

Row = str | Mapping[str, str]
"""A text for a task with one field, or an object with the task's fields."""
Rows = Iterable[Row]
AsyncRows = Iterable[Row] | AsyncIterable[Row]
Truncate = Literal["error", "start", "end"]
"""Which end of a text over the task's limit to cut; `error` refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How rows are to be answered."""

    truncate: Truncate = "error"
    top_k: int | None = None
    sticky_key: str | None = None

    def body(self, rows: Sequence[bytes], timeout_ms: int, *, refs: Sequence[str] = ()) -> bytes:
        """Return the JSON of a classification of encoded rows, by several tasks if there are refs."""
        members: dict[str, object] = {"truncate": self.truncate, "timeout_ms": timeout_ms}
        optional = {"top_k": self.top_k, "sticky_key": self.sticky_key, "tasks": list(refs) or None}
        members |= {name: value for name, value in optional.items() if value is not None}
        rest = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
        return b'{"inputs":[' + b",".join(rows) + b"]," + rest[1:]


ANSWER_FIELDS = ("task", "version", "digest", "backbone", "precision", "request_id")
"""Members that all predictions of one answer share."""


class Prediction(Model):
    """The answer to one row."""

    label: str
    """The most probable label; in a multi-label task, also where it does not reach its threshold."""
    score: float
    """Its calibrated probability."""
    labels: tuple[str, ...] | None = None
    """Multi-label tasks: the labels that reach their thresholds, most probable first, perhaps none. Else None."""
    value: float | None = None
    """Ordinal tasks: the expected value. Else None."""
    scores: dict[str, float]
    """Calibrated probabilities of the best labels, best first. Those of a multi-label task do not sum to 1."""
    logprobs: dict[str, float] = Field(default_factory=dict)
    """Raw log-probabilities of the same labels."""
    abstained: bool = False
    """The score is below the task's abstain threshold."""
    tokens: int = 0
    """Tokens of the text as the model read it."""
    truncated: bool = False
    cached: bool = False
    """The answer came from the server's result cache."""
    lost_tokens: dict[str, int] = Field(default_factory=dict)
    """Tokens that truncation cut, by field."""
    unknown_tokens: float | None = None
    """Share of the characters that the backbone has no piece for, if it is above 0.1: the answer then means little."""

    task: str
    version: int
    digest: str
    """Identity of the adapter that answered: `sha256:…`."""
    backbone: str
    precision: str | None = None
    """In which the model computed the scores; None from a server that does not say."""
    request_id: str | None = None
    """Id of the request in the server's log."""


class Limits(Model):
    """Bounds of one request."""

    max_rows_per_request: int
    """Inputs × tasks."""
    max_tasks_per_request: int
    max_text_chars: int
    max_body_bytes: int
    max_upload_bytes: int
    default_timeout_ms: int
    max_timeout_ms: int


_PREDICTIONS = TypeAdapter(list[Prediction])


def predictions_of(answer: Mapping[str, Any], request_id: str | None) -> list[Prediction]:
    """Read the answer of one task (`pydantic.ValidationError`, `KeyError`)."""
    shared = {
        "task": answer["task"],
        "version": answer["version"],
        "digest": answer["adapter"],
        "backbone": answer["backbone"],
        "precision": answer.get("precision"),
        "request_id": request_id,
    }
    return _PREDICTIONS.validate_python([{**each, **shared} for each in answer["predictions"]])


def encode_row(row: object) -> bytes:
    """Return a row as JSON.

    Raises:
        Invalid: it is neither a text nor an object of texts, or a text is not valid Unicode
    """
    texts = (row,) if not isinstance(row, Mapping) else (*row, *row.values())
    if not all(isinstance(text, str) for text in texts):
        raise _invalid(f"the row is {_shown(row)}, expected a string, or an object whose values are strings")
    try:
        value = dict(row) if isinstance(row, Mapping) else row
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as exc:
        broken = next(text for text in texts if not _encodes(text))
        place = next(index for index, character in enumerate(broken) if not _encodes(character))
        raise _invalid(f"character {place + 1} is {broken[place]!r}, expected text in UTF-8") from exc


def check_size(row: bytes, limit: int) -> None:
    """Refuse a row that no request can hold (`BadRequest`)."""
    if len(row) > limit:
        detail = f"the row has {len(row)} bytes as JSON, the server accepts at most {limit}"
        raise BadRequest(f"{detail} (body_too_large)", code="body_too_large", detail=detail)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(row: object) -> str:
    text = repr(row)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _invalid(detail: str) -> SuperposError:
    return Invalid(f"{detail} (invalid_input)", code="invalid_input", detail=detail)
