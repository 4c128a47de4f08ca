"""The autoscaler of the Helm chart on simulated time: Prometheus scrapes, KEDA queries, the autoscaler acts.

The rules are those of `autoscaling/v2` (kubernetes.io, "Horizontal Pod Autoscaling", algorithm details) with the
chart's behaviour: as many as the trigger that asks for most, at most double or two more per minute, and a quarter less
per minute after the calm of `scale_down_after_s`.
"""

import math
from collections import deque
from dataclasses import dataclass, field

INTERVAL_S = 15.0
"""Interval of the chart's ServiceMonitor, of KEDA's queries, and of the HorizontalPodAutoscaler."""
PERIOD_S = 60.0
RATE_SCRAPES = 4
"""Scrapes of a `rate(…[1m])`."""
_TOLERANCE = 0.1
_FRACTION_DOWN = 0.25
_PODS_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerRules:
    """Targets per replica, and limits. A target of infinity switches its trigger off."""

    queue_tokens: float
    min_replicas: int
    max_replicas: int
    refusals_per_s: float = 0.1
    tokens_per_s: float = math.inf
    """Packed tokens computed per second."""
    queue_scrapes: int = 1
    """Scrapes over which the queue is averaged: 4 are `avg_over_time(superpos_queue_tokens[1m])`."""
    scale_down_after_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Sums over all replicas at one time."""

    queue_tokens: float
    refusals_per_s: float
    tokens_per_s: float


@dataclass(slots=True)
class Autoscaler:
    """Decides the number of replicas; pure, since the time is passed in."""

    rules: AutoscalerRules
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    """Recommendations of the last `scale_down_after_s`, by time."""
    _counts: deque[tuple[float, int]] = field(default_factory=deque)
    """Number of replicas over the last minute, by time."""

    def decide(self, now: float, current: int, scraped: Scrape) -> int:
        """Return the number of replicas to have, given `current` ones (those that start included)."""
        rules = self.rules
        wanted = max(
            self._by_trigger(current, scraped.queue_tokens, rules.queue_tokens),
            self._by_trigger(current, scraped.refusals_per_s, rules.refusals_per_s),
            self._by_trigger(current, scraped.tokens_per_s, rules.tokens_per_s),
        )
        wanted = min(rules.max_replicas, max(rules.min_replicas, wanted))
        if not self._recommended:
            self._recommended.append((now, current))  # the controller begins with what it finds
        self._recommended.append((now, wanted))
        while self._recommended[0][0] < now - rules.scale_down_after_s:
            self._recommended.popleft()
        if wanted <= current:
            wanted = min(current, max(count for _, count in self._recommended))
        while self._counts and self._counts[0][0] <= now - PERIOD_S:
            self._counts.popleft()
        least, most = (limit(count for _, count in (*self._counts, (now, current))) for limit in (min, max))
        wanted = min(wanted, max(2 * least, least + _PODS_UP))
        wanted = max(wanted, math.floor(most * (1 - _FRACTION_DOWN)))
        self._counts.append((now, current))
        return wanted

    @staticmethod
    def _by_trigger(current: int, total: float, target: float) -> int:
        """Return the replicas of one trigger of the type `AverageValue`."""
        if math.isinf(target):
            return 0
        return current if abs(total / (target * current) - 1) <= _TOLERANCE else math.ceil(total / target)
