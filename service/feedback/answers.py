"""Buffer of the answers that opted-in tenants keep, written to the store once per second. Belongs to the event loop.

It is bounded: when answers arrive faster than they are written, the newest are dropped. During an outage of the store
nothing is kept. No request waits for it.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import structlog

from service.feedback.models import FeedbackRow, GivenAnswer, Label, ShadowAnswer
from service.feedback.retention import Retentions
from service.feedback.rows import FeedbackRows, Flip
from service.inference.predictions import Answered, Prediction, Shadowed
from service.inference.request import Item
from service.periodic import PeriodicTask

Outcome = Literal["kept", "dropped", "corrected", "deleted", "expired"]
OUTCOMES: tuple[Outcome, ...] = ("kept", "dropped", "corrected", "deleted", "expired")

MAX_WAITING_ROWS = 4_000
MAX_WAITING_CHARS = 4 << 20
_FLUSH_INTERVAL_S = 1.0
_log = structlog.get_logger("service")


def new_id(now: float) -> str:
    """Return a row's id: it increases with time, and its random part makes it unique."""
    return f"{int(now * 1_000):012x}{secrets.token_hex(6)}"


def label_of(prediction: Prediction, names: Sequence[str]) -> Label:
    """Return an answer's label, or its labels in the task's order if the task is multi-label."""
    return prediction.label if prediction.labels is None else in_order(prediction.labels, names)


def in_order(labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return labels in the order of a task's names."""
    return tuple(sorted(labels, key=names.index))


class AnswerBuffer:
    """Answers and shadow flips that are not yet written.

    Args:
        rows: where they are written
        retentions: which tenants keep answers
        count: receives numbers of rows by outcome
        now: seconds since 1970
    """

    def __init__(
        self,
        rows: FeedbackRows,
        retentions: Retentions,
        *,
        count: Callable[[Outcome, int], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._retentions, self._count, self._now = rows, retentions, count, now
        self._answers: defaultdict[str, list[FeedbackRow]] = defaultdict(list)
        self._flips: defaultdict[str, list[Flip]] = defaultdict(list)
        self._waiting_rows = self._waiting_chars = 0
        self._flushing = asyncio.Lock()
        self._loop = PeriodicTask(
            "feedback-answers",
            self.flush,
            interval_s=_FLUSH_INTERVAL_S,
            on_down=lambda error: _log.warning("answers_not_kept", reason=str(error)),
            on_up=lambda: _log.info("answers_kept_again"),
        )

    def answered(self, answered: Answered) -> None:
        """Take a request's answers, if its tenant keeps them; returns at once."""
        request, answer = answered.request, answered.classification
        if self._retentions.of(request.tenant) is None:
            return
        now = self._now()
        for index, (item, prediction) in enumerate(zip(request.items, answer.predictions, strict=True)):
            texts = _by_field(item, answered.fields)
            row = FeedbackRow(
                new_id(now),
                answer.resolution.task,
                texts,
                now,
                request.request_id,
                index,
                GivenAnswer(answer.resolution.version, label_of(prediction, answer.label_names), prediction.score),
            )
            if self._admits(sum(map(len, texts.values()))):
                self._answers[request.tenant].append(row)

    def compared(self, rows: Shadowed, theirs: Sequence[Prediction]) -> None:
        """Take the answers of a shadow version to rows that callers have answers to; returns at once."""
        request = rows.request
        if request.request_id is None or self._retentions.of(request.tenant) is None:
            return
        for index, (item, ours, other) in enumerate(zip(request.items, rows.predictions, theirs, strict=True)):
            label = _shadow_label(other)
            texts = (item,) if isinstance(item, str) else tuple(item.values() if isinstance(item, Mapping) else item)
            if label != _shadow_label(ours) and self._admits(sum(map(len, texts))):
                shadow = ShadowAnswer(rows.shadow.version, label)
                self._flips[request.tenant].append(Flip(request.request_id, index, rows.primary.task, texts, shadow))

    async def flush(self) -> None:
        """Write what waits (`RegistryUnavailable`, after which it is dropped)."""
        async with self._flushing:
            answers, flips = self._answers, self._flips
            self._answers, self._flips = defaultdict(list), defaultdict(list)
            self._waiting_rows = self._waiting_chars = 0
            left = sum(map(len, answers.values()))
            try:
                for tenant, kept in answers.items():
                    if (retention := self._retentions.of(tenant)) is not None:
                        await asyncio.to_thread(self._rows.keep, tenant, kept, max_bytes=retention.max_bytes)
                        self._count("kept", len(kept))
                    left -= len(kept)
                for tenant, flipped in flips.items():
                    await asyncio.to_thread(self._rows.flip, tenant, flipped)
            finally:
                if left:
                    self._count("dropped", left)

    async def start(self) -> None:
        """Start to write once per second."""
        self._loop.start()

    async def stop(self) -> None:
        """Write one last time and stop."""
        await self._loop.stop()
        await self._loop.run_once()

    def _admits(self, chars: int) -> bool:
        if self._waiting_rows >= MAX_WAITING_ROWS or self._waiting_chars + chars > MAX_WAITING_CHARS:
            self._count("dropped", 1)
            return False
        self._waiting_rows += 1
        self._waiting_chars += chars
        return True


def _by_field(item: Item, fields: Sequence[str]) -> Mapping[str, str]:
    """Return the text of each field of an input that was answered."""
    if isinstance(item, str):
        return {fields[0]: item}
    return dict(zip(fields, item, strict=True)) if isinstance(item, tuple) else dict(item)


def _shadow_label(prediction: Prediction) -> Label:
    return prediction.label if prediction.labels is None else tuple(sorted(prediction.labels))
