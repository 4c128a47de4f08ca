"""Isolation of rows that make a batch fail, or that do not fit in memory together. Belongs to the model thread."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog
import torch

from backbone import divide
from service.engine.model_runner import Forward
from service.engine.types import Row, RowScores
from service.errors import InferenceFailed, OutOfMemory, SearchExhausted, ServiceError

_MARKERS = (
    "DefaultCPUAllocator",  # PyTorch's CPU allocator has no error type of its own
    "CUDA error: out of memory",  # from outside PyTorch's caching allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_GROWTH = 1 + 1 / 64

_log = structlog.get_logger("service")

Outcome = RowScores | ServiceError


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a forward that raised this error might have succeeded with fewer rows."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(marker in str(error) for marker in _MARKERS)


class FittingTokens:
    """Estimate of how many packed tokens fit in memory at once, learned from failures.

    A failure sets the limit to half of its own size. Each batch that fits and is near the limit raises it by 1/64,
    which doubles it in about 45 such batches: a temporary shortage of memory has no permanent cost.
    """

    def __init__(self) -> None:
        self.limit = math.inf

    def failed(self, num_tokens: int) -> None:
        """Record a batch that ran out of memory."""
        self.limit = min(self.limit, max(1, num_tokens // 2))

    def fitted(self, num_tokens: int) -> None:
        """Record a batch that did not."""
        if 2 * num_tokens > self.limit:
            self.limit *= _GROWTH


class FaultIsolation:
    """Runs a forward so that each row gets its own outcome, by halving batches that fail.

    Args:
        forward: the batch forward, which may raise anything
        refusal: called for each row right before it runs; an error becomes the row's outcome and the row is not run
    """

    def __init__(self, forward: Forward, *, refusal: Callable[[Row], ServiceError | None] = lambda row: None) -> None:
        self.forward = forward
        self._refusal = refusal
        self._fitting = FittingTokens()

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Outcome]]:
        """Yield every row with its scores or its error, as soon as that is known.

        Raises:
            torch.AcceleratorError: the process has lost the device; no row is at fault
        """
        parts = self._split(rows)
        limit_before = self._fitting.limit
        while parts:
            part: list[Row] = []
            for row in parts.popleft():
                refusal = self._refusal(row)
                if refusal is None:
                    part.append(row)
                else:
                    yield row, refusal
            if not part:
                continue
            outcome = self._attempt(part)
            if isinstance(outcome, list):
                yield from ((row, _checked(scores)) for row, scores in zip(part, outcome, strict=True))
            elif len(part) == 1:
                if isinstance(outcome, OutOfMemory):
                    self._fitting.limit = limit_before  # it was this row, not the size of its batch
                yield part[0], outcome
            else:
                half = len(part) // 2
                parts.extendleft((part[half:], part[:half]))

    def _split(self, rows: Sequence[Row]) -> deque[list[Row]]:
        """Split rows into parts that should fit in memory; a row over the limit is a part of its own."""
        return deque(divide(rows, lambda row: row.num_tokens, at_most=self._fitting.limit))

    def _attempt(self, rows: Sequence[Row]) -> list[RowScores | SearchExhausted] | ServiceError:
        """Run rows together.

        An error is returned without the exception that caused it: the frames of its traceback hold the tensors of the
        failed batch, and its halves need that memory.
        """
        num_tokens = sum(row.num_tokens for row in rows)
        try:
            scores = self.forward(rows)
        except Exception as exc:  # noqa: BLE001 - whatever a forward raises concerns only its rows
            failure = _failure(exc, num_tokens)
            if isinstance(failure, InferenceFailed) and len(rows) == 1:
                _log.exception("row_failed", adapter=rows[0].adapter.digest)
        else:
            self._fitting.fitted(num_tokens)
            return scores
        if isinstance(failure, OutOfMemory):
            _log.warning("out_of_memory", rows=len(rows), tokens=num_tokens)
            self._fitting.failed(num_tokens)
            torch.cuda.empty_cache()  # without CUDA this does nothing
        return failure


def _failure(error: Exception, num_tokens: int) -> ServiceError:
    """Return what an exception of the forward means for the rows of its batch."""
    if is_out_of_memory(error):
        return OutOfMemory(f"not enough memory for {num_tokens} tokens")
    if isinstance(error, torch.AcceleratorError):
        raise error  # a CUDA context does not survive its errors: every later forward would fail too
    return InferenceFailed(f"the forward failed on this row: {type(error).__name__}: {error}")


def _checked(scores: RowScores | SearchExhausted) -> Outcome:
    """Return the scores, or an error if they are invalid; −inf is valid for a label that was not scored."""
    if isinstance(scores, SearchExhausted):
        return scores
    if np.isnan(scores).any() or np.isposinf(scores).any() or not np.isfinite(scores).any():
        return InferenceFailed("the scores of this row are not finite")
    return scores
