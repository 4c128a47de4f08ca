"""The circuit breaker: an adapter whose rows keep failing is refused for a while. Pure: no clock, no thread.

Closed, open and half-open after M. Nygard, "Release It!" (2007), ch. 5. The model thread alone writes it; `refusal` and
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
    """In a row."""
    refused_until: float
    """−inf while it is not tripped."""


class CircuitBreaker:
    """Adapters by digest. Only those that fail are held, and of them the last 1,024 that did."""

    def __init__(self, *, trip_after: int, cool_down_s: float, max_digests: int = _MAX_DIGESTS) -> None:
        self._trip_after, self._cool_down_s, self._max_digests = trip_after, cool_down_s, max_digests
        self._failing: OrderedDict[str, _Failing] = OrderedDict()
        self.trips = 0
        """How often an adapter was tripped, ever."""

    def __len__(self) -> int:
        return len(self._failing)

    def refusal(self, digest: str, now: float) -> AdapterTripped | None:
        """What to answer instead of running a row of this adapter; None where it may run."""
        failing = self._failing.get(digest)
        if failing is None or failing.refused_until <= now:
            return None
        return AdapterTripped(
            f"adapter {digest} failed {failing.failures} times in a row and is refused for a while",
            retry_after_s=math.ceil(failing.refused_until - now),
        )

    def is_half_open(self, digest: str, now: float) -> bool:
        """Whether it was tripped and has cooled down: one row is to be tried alone before any other."""
        failing = self._failing.get(digest)
        return failing is not None and -math.inf < failing.refused_until <= now

    def num_tripped(self, now: float) -> int:
        """How many adapters are refused now."""
        # copied in one step: the model thread may write meanwhile
        return sum(failing.refused_until > now for failing in tuple(self._failing.values()))

    def succeeded(self, digest: str) -> None:
        """Note a row that was answered: the adapter starts anew."""
        self._failing.pop(digest, None)

    def failed(self, digest: str, now: float) -> None:
        """Note a row that failed through its own fault."""
        before = self._failing.get(digest, _Failing(0, -math.inf))
        failures = before.failures + 1
        refused_until = before.refused_until
        if failures >= self._trip_after:
            self.trips += refused_until <= now
            refused_until = now + self._cool_down_s
        self._failing[digest] = _Failing(failures, refused_until)
        self._failing.move_to_end(digest)
        if len(self._failing) > self._max_digests:
            self._failing.popitem(last=False)
