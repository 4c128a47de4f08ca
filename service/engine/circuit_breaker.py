"""Circuit breaker: refuses an adapter for a while after its rows failed repeatedly. Pure: no clock, no thread.

Closed, open and half-open as in M. Nygard, "Release It!" (2007), ch. 5. Only the model thread writes it; `refusal` and
`num_tripped` may be called from any thread.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from service.errors import AdapterTripped

_MAX_DIGESTS = 1_024


@dataclass(frozen=True, slots=True)
class _Failing:
    failures: int
    """Consecutive failures."""
    refused_until: float
    """−inf while the adapter is not tripped."""


class CircuitBreaker:
    """State per adapter digest. It holds only adapters that fail, and of them the 1,024 that failed last.

    Args:
        failures: consecutive failed rows that trip an adapter
        reset_s: how long a tripped adapter is refused
    """

    def __init__(self, *, failures: int, reset_s: float, max_digests: int = _MAX_DIGESTS) -> None:
        self._max_failures, self._reset_s, self._max_digests = failures, reset_s, max_digests
        self._failing: OrderedDict[str, _Failing] = OrderedDict()
        self.trips = 0
        """Total number of trips."""

    def __len__(self) -> int:
        return len(self._failing)

    def refusal(self, digest: str, now: float) -> AdapterTripped | None:
        """Return the error that answers a row of this adapter, None if the row may run."""
        failing = self._failing.get(digest)
        if failing is None or failing.refused_until <= now:
            return None
        return AdapterTripped(
            f"adapter {digest} is refused for a while: {failing.failures} consecutive rows failed",
            retry_after_s=math.ceil(failing.refused_until - now),
        )

    def is_half_open(self, digest: str, now: float) -> bool:
        """Return whether a tripped adapter may be tried again, with one row that runs before any other."""
        failing = self._failing.get(digest)
        return failing is not None and -math.inf < failing.refused_until <= now

    def num_tripped(self, now: float) -> int:
        """Return how many adapters are refused now."""
        # copied in one step: the model thread may write meanwhile
        return sum(failing.refused_until > now for failing in tuple(self._failing.values()))

    def succeeded(self, digest: str) -> None:
        """Record an answered row: the adapter's failures are forgotten."""
        self._failing.pop(digest, None)

    def failed(self, digest: str, now: float) -> None:
        """Record a row that failed through its adapter's fault."""
        before = self._failing.get(digest, _Failing(0, -math.inf))
        failures = before.failures + 1
        refused_until = before.refused_until
        if failures >= self._max_failures:
            self.trips += refused_until <= now
            refused_until = now + self._reset_s
        self._failing[digest] = _Failing(failures, refused_until)
        self._failing.move_to_end(digest)
        if len(self._failing) > self._max_digests:
            self._failing.popitem(last=False)
