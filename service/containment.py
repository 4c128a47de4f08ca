"""Containment: rows run together, and where that fails only the culprits fail.

A batch that raises is halved until the rows that raise stand alone; one that runs out of memory is halved until it
fits, and later batches are cut to what fitted. Belongs to the model thread.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog
import torch

from service.errors import InferenceFailed, OutOfMemory, ServiceError
from service.forward import Forward, Row, RowScores
from service.memory import FittingTokens, is_out_of_memory, release_cached_memory

_log = structlog.get_logger("service")

Outcome = RowScores | ServiceError


class Containment:
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
