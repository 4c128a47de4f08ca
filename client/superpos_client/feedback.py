"""Kept answers, corrections and data sets, as the server describes them."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from superpos_client.models import Model

View = Literal["least_confident", "shadow_flips", "reported_wrong", "corrections"]
"""Kept texts of a task in an order: answers to check with the lowest score first, answers that a shadow version gave
otherwise, corrections of wrong answers, all corrections; the last three have the latest first."""
Label = str | tuple[str, ...]
"""A label, or the labels of a text of a multi-label task."""


class GivenAnswer(Model):
    """The answer to a kept text."""

    version: int
    label: Label
    score: float


class ShadowAnswer(Model):
    """Answer of a shadow version."""

    version: int
    label: Label


class Correction(Model):
    """A stored correction."""

    id: str
    """For its deletion."""
    task: str
    label: Label
    corrected_at: datetime
    delete_at: datetime
    """When the server deletes the text and its correction."""


class FeedbackRow(Model):
    """A kept text, with what is known about its label."""

    id: str
    task: str
    input: dict[str, str]
    """The text of each of the task's fields."""
    stored_at: datetime
    request_id: str | None
    index: int
    """Index of the input in its request."""
    answer: GivenAnswer | None
    """None for a correction that came with its text."""
    shadow: ShadowAnswer | None
    """The answer of a shadow version, if it differs from the answer."""
    label: Label | None
    """The right label; None for an answer that no one has corrected."""
    who: str | None
    """The person who gave the right label."""
    corrected_at: datetime | None


class FeedbackCounts(Model):
    """Rows of each view of a task."""

    least_confident: int
    shadow_flips: int
    reported_wrong: int
    corrections: int


class FeedbackPage(Model):
    """A part of a view."""

    rows: tuple[FeedbackRow, ...]
    cursor: str | None
    """For the next part; None at the end."""
    counts: FeedbackCounts
    dataset_version: int
    """Version of the task's corrections as a whole."""


class FeedbackState(Model):
    """Kept bytes and retention of a tenant."""

    retention_days: int | None
    """Days for which texts are kept; None if none are."""
    max_bytes: int | None
    kept_bytes: int
    """Bytes of answers that no one has corrected."""
    corrected_bytes: int


class FeedbackDeletion(Model):
    """Result of a deletion."""

    deleted: int


class Dataset(Model):
    """All corrections of a task, the latest first."""

    task: str
    version: int
    """It increases with every change of the corrections."""
    content: bytes
    """JSON Lines: `input` has the texts by field, `label` the right label."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the corrections."""
        return map(json.loads, self.content.splitlines())
