"""Admission: limits on queued rows and tokens, of the server and of each tenant, from a request's admission to its end.

Belongs to the event loop, so it needs no lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from service.errors import QueueFull

ALPHA = 2
"""A tenant may hold at most `ALPHA` times the free capacity.

With 2, one flooding tenant stops at two thirds of the capacity and leaves 341 of the default 1,024 rows free. With 1, a
tenant alone could use only half; with 4, a flood would leave 204 rows, too few for the largest request (256 rows). N
floods settle at 2 ÷ (1 + 2·N) of the capacity each and leave 1 ÷ (1 + 2·N) free, 48 rows with ten floods. Until their
queues have turned over once, earlier tenants hold more, and less is free.
"""


@dataclass(slots=True)
class _Capacity:
    """Capacity in rows or in tokens, and how much of it each tenant holds."""

    what: Literal["rows", "tokens"]
    limit: int
    held: int = 0
    of: dict[str, int] = field(default_factory=dict)
    """Amount that each tenant holds, without tenants that hold nothing."""

    def counted(self, asked: int, alpha: float) -> int:
        """Return the amount of a request, at most what a single tenant may hold."""
        return min(asked, max(1, int(alpha * self.limit / (1 + alpha))))

    def check(self, tenant: str, more: int, alpha: float) -> None:
        free = self.limit - self.held
        if more > free:
            raise QueueFull(
                f"{self.held} {self.what} are queued; the server accepts {self.limit}",
                retry_after_s=1,
                reason=self.what,
            )
        own = self.of.get(tenant, 0)
        if own and own + more > alpha * (free - more):
            raise QueueFull(
                f"tenant {tenant!r} has {own} {self.what} queued; its limit is {alpha:g} × the free capacity "
                f"({free} of {self.limit} are free)",
                retry_after_s=1,
                reason="tenant_rows" if self.what == "rows" else "tenant_tokens",
            )

    def add(self, tenant: str, more: int) -> None:
        self.held += more
        self.of[tenant] = self.of.get(tenant, 0) + more
        if not self.of[tenant]:
            del self.of[tenant]


class Admission:
    """Limits the rows and tokens in the server so that no tenant can use up the capacity of the others.

    The dynamic threshold of shared-memory switches (Choudhury and Hahne 1998, "Dynamic queue length thresholds for
    shared-memory packet switches"): a tenant that holds capacity may hold `ALPHA` times what is free after it.
    A tenant that holds none is admitted if its request fits, and on an empty server any request fits: it counts for at
    most what one tenant may hold, so even the largest leaves capacity for others.
    """

    def __init__(self, *, max_rows: int, max_tokens: int) -> None:
        self._row_capacity, self._token_capacity = _Capacity("rows", max_rows), _Capacity("tokens", max_tokens)
        self.rows = 0
        self.tokens = 0

    @contextmanager
    def admit(self, tenant: str, *, rows: int, tokens: int, weight: float = 1.0) -> Iterator[None]:
        """Reserve capacity for a request during the block; a tenant's share is `ALPHA` × its weight.

        Raises:
            QueueFull: the request exceeds the free capacity of the server or the tenant; the error says which
        """
        alpha = ALPHA * weight
        asked = [
            (capacity, capacity.counted(count, alpha))
            for capacity, count in ((self._row_capacity, rows), (self._token_capacity, tokens))
        ]
        for capacity, more in asked:
            if more:
                capacity.check(tenant, more, alpha)
        self._add(rows, tokens)
        for capacity, more in asked:
            capacity.add(tenant, more)
        try:
            yield
        finally:
            self._add(-rows, -tokens)
            for capacity, more in asked:
                capacity.add(tenant, -more)

    def _add(self, rows: int, tokens: int) -> None:
        self.rows += rows
        self.tokens += tokens
