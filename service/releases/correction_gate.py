"""The comparison of two versions on a task's corrections, before one of them is promoted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters import InvalidRow, PromotionRefused, Ref
from adapters.exams import PairedDifference, difference_of
from backbone import TextTooLong
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.catalog.catalog import Catalog
from service.feedback.answers import label_of
from service.feedback.feedback import Feedback
from service.feedback.models import FeedbackRow, Label
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import predict_all
from service.inference.request import InferenceRequest

MAX_CORRECTIONS = 500
METRIC = "corrections"
"""Metric that a refusal names."""
_REMEDY = "leave out --corrections (over HTTP, corrections: true)"
_ROWS_AT_ONCE = 32
"""Few, so that they have room in the queue next to callers' rows."""
_TIMEOUT_S = 60.0


class CorrectionGate:
    """Answers the latest corrections of a task by two versions, as requests of the tenant, which is charged for them.

    A version may have been trained on some of them. So this says that it has learned them, and its card's metric says
    how it answers other texts.
    """

    def __init__(
        self, feedback: Feedback, catalog: Catalog, adapters: AdapterCache, pipeline: InferencePipeline
    ) -> None:
        self._feedback, self._catalog, self._adapters, self._pipeline = feedback, catalog, adapters, pipeline

    async def compare(self, tenant: str, task: str, version: int, production: int | None) -> PairedDifference | None:
        """Compare a version with production; None if there is no production, which any version may become.

        Raises:
            NotFound: no such task or version
            RetentionOff: the tenant keeps no texts
            PromotionRefused: there are no corrections, or the version does not answer more of them right
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady: the corrections cannot be answered now
        """
        rows = await self._feedback.corrections(tenant, task, limit=MAX_CORRECTIONS)
        if production is None:
            return None
        if not rows:
            reason = f"task {task!r} has no corrections"
            raise PromotionRefused(METRIC, candidate=None, current=None, reason=reason, remedy=_REMEDY)
        ours = await self._right(tenant, task, version, rows)
        theirs = await self._right(tenant, task, production, rows)
        found = difference_of(ours, theirs)
        if found.difference <= 0:
            raise PromotionRefused(
                METRIC,
                candidate=float(ours.mean()),
                current=float(theirs.mean()),
                reason=f"{found}, expected above 0",
                remedy=_REMEDY,
            )
        return found

    async def _right(self, tenant: str, task: str, version: int, rows: Sequence[FeedbackRow]) -> NDArray[np.bool_]:
        """Return which rows a version answers right, [N]; one that does not fit it is answered wrong."""
        adapter = await self._adapters.get(self._catalog.resolve(tenant, Ref(task, version=version)).digest)
        right = np.zeros(len(rows), np.bool_)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            answers = await self._answers(tenant, adapter, some)
            right[start : start + len(some)] = [answer == row.label for answer, row in zip(answers, some, strict=True)]
        return right

    async def _answers(self, tenant: str, adapter: LoadedAdapter, rows: Sequence[FeedbackRow]) -> list[Label | None]:
        """Return the answer to each row; None for one that does not fit the version."""
        items = [dict(row.input) for row in rows]
        request = InferenceRequest(tenant, items, _TIMEOUT_S, truncation="end", top_k=1)
        try:
            async with request.before_deadline():
                results, _ = await self._pipeline.infer(request, adapter)
        except (InvalidRow, TextTooLong):
            if len(rows) == 1:
                return [None]
            return [answer for row in rows for answer in await self._answers(tenant, adapter, [row])]
        answers = await predict_all(results, adapter, top_k=1)
        return [label_of(answer, adapter.label_names) for answer in answers]
