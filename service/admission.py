"""Admission: how much may wait. Counts rows and tokens between a request's admission and its end.

Belongs to the event loop, so it needs no lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import QueueFull


class Admission:
    """A bound on the rows and tokens in the server."""

    def __init__(self, *, max_rows: int, max_tokens: int) -> None:
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self.rows = 0
        self.tokens = 0

    @contextmanager
    def admit(self, *, rows: int, tokens: int) -> Iterator[None]:
        """Hold a request's place while it is worked on.

        Raises:
            QueueFull: the server holds other work and this would not fit beside it
        """
        # one request alone is always taken, however large its limits allow it to be
        if self.rows:
            self._check("rows", self.rows, rows, self._max_rows)
            self._check("tokens", self.tokens, tokens, self._max_tokens)
        self.rows += rows
        self.tokens += tokens
        try:
            yield
        finally:
            self.rows -= rows
            self.tokens -= tokens

    def _check(self, what: str, waiting: int, more: int, limit: int) -> None:
        if waiting + more > limit:
            raise QueueFull(what, waiting, limit, retry_after_s=1)
