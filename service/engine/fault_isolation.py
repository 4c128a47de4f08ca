"""Running out of memory: how it is told from other failures, and how many tokens fit at once.

Belongs to the model thread.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog
import torch

from service.engine.model_runner import Forward, Row, RowScores
from service.errors import InferenceFailed, OutOfMemory, ServiceError

_MARKS = (
    "DefaultCPUAllocator",  # PyTorch's CPU allocator has no error type of its own
    "CUDA error: out of memory",  # from outside PyTorch's caching allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_GROWTH = 1 + 1 / 64


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a forward that raised this might have gone through with fewer rows."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MARKS)


def release_cached_memory() -> None:
    """Give the blocks that PyTorch's CUDA allocator keeps back to the device; nothing where it was not used."""
    torch.cuda.empty_cache()


class FittingTokens:
    """How many packed tokens a batch may have, as far as failures have told.

    A failure halves its own size. Each batch that fits and is near the limit raises it by 1/64: it doubles in some
    45 such batches, so memory that was short for a while does not cost for ever.
    """

    def __init__(self) -> None:
        self.limit = math.inf

    def failed(self, num_tokens: int) -> None:
        """Note a batch that ran out of memory."""
        self.limit = min(self.limit, max(1, num_tokens // 2))

    def fitted(self, num_tokens: int) -> None:
        """Note a batch that did not."""
        if 2 * num_tokens > self.limit:
            self.limit *= _GROWTH


_log = structlog.get_logger("service")

Outcome = RowScores | ServiceError


class FaultIsolation:
    """Runs a forward so that each row gets its own outcome.

    Args:
        forward: the batch forward, which may raise anything
        refusal: asked for each row right before it runs; an error is its outcome and spares the run
    """

    def __init__(self, forward: Forward, *, refusal: Callable[[Row], ServiceError | None] = lambda row: None) -> None:
        self.forward = forward
        self._refusal = refusal
        self._fitting = FittingTokens()

    def run(self, rows: Sequence[Row]) -> Iterator[tuple[int, Outcome]]:
        """Every row's index with its scores or its error, each as soon as it is known.

        Raises:
            torch.AcceleratorError: the device is lost to this process, and no row is to blame
        """
        parts = self._cut(rows)
        limit_before = self._fitting.limit
        while parts:
            part: list[int] = []
            for index in parts.popleft():
                refused = self._refusal(rows[index])
                if refused is None:
                    part.append(index)
                else:
                    yield index, refused
            if not part:
                continue
            outcome = self._attempt([rows[index] for index in part])
            if isinstance(outcome, list):
                yield from ((index, _checked(scores)) for index, scores in zip(part, outcome, strict=True))
            elif len(part) == 1:
                if isinstance(outcome, OutOfMemory):
                    self._fitting.limit = limit_before  # it was this row, not the size of its batch
                yield part[0], outcome
            else:
                half = len(part) // 2
                parts.extendleft((part[half:], part[:half]))

    def _cut(self, rows: Sequence[Row]) -> deque[list[int]]:
        """Row indices in parts that should fit in memory; a row over the limit stands alone."""
        parts: deque[list[int]] = deque()
        num_tokens = 0
        for index, row in enumerate(rows):
            if parts and num_tokens + row.num_tokens <= self._fitting.limit:
                parts[-1].append(index)
                num_tokens += row.num_tokens
            else:
                parts.append([index])
                num_tokens = row.num_tokens
        return parts

    def _attempt(self, rows: Sequence[Row]) -> list[RowScores] | ServiceError:
        """Run rows together.

        An error comes back without the exception that caused it: the frames of its traceback hold the tensors of the
        failed batch, and its halves need that memory.
        """
        num_tokens = sum(row.num_tokens for row in rows)
        try:
            scores = self.forward(rows)
        except Exception as exc:  # noqa: BLE001 - whatever a forward raises belongs to its rows
            failure = _failure(exc, num_tokens)
            if isinstance(failure, InferenceFailed) and len(rows) == 1:
                _log.exception("row_failed", adapter=rows[0].adapter.digest)
        else:
            self._fitting.fitted(num_tokens)
            return scores
        if isinstance(failure, OutOfMemory):
            _log.warning("out_of_memory", rows=len(rows), tokens=num_tokens)
            self._fitting.failed(num_tokens)
            release_cached_memory()
        return failure


def _failure(error: Exception, num_tokens: int) -> ServiceError:
    """What an exception of the forward means to the rows that were in it."""
    if is_out_of_memory(error):
        return OutOfMemory(f"the server's memory did not suffice for {num_tokens} tokens")
    if isinstance(error, torch.AcceleratorError):
        raise error  # a CUDA context does not survive its errors: every later forward would fail too
    return InferenceFailed(f"the forward failed on this row: {type(error).__name__}: {error}")


def _checked(scores: RowScores) -> Outcome:
    """Scores, or the error that they are none; −inf is what a label has that was not asked for."""
    if np.isnan(scores).any() or np.isposinf(scores).any() or not np.isfinite(scores).any():
        return InferenceFailed("the scores of this row are not numbers")
    return scores
