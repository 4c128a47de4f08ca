"""Usage for charge-back: each tenant's requests and their cost, by task and day (UTC).

A request counts under each task that it names, or under the tenant without a task if it names none that exists.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from service.counters.buffer import CounterBuffer
from service.counters.store import Key
from service.monitoring.live_traffic import LiveTraffic
from service.telemetry.request_record import RequestRecord

USAGE = "usage"
NO_TASK = "-"
"""Takes the task's place in a counter's name; no task can have this name."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Usage of one task on one day."""

    tenant: str
    task: str | None
    """None for requests that named no existing task."""
    day: date
    requests: int = 0
    rows: int = 0
    """Answered with a prediction."""
    tokens: int = 0
    """Packed tokens run through the model: prompts, texts and further trie nodes. A cached answer costs none."""
    errors: int = 0
    """Requests without an answer from this task: a status of 400 or more, or a client that hung up."""


def _today() -> date:
    return datetime.now(UTC).date()


class UsageMeter:
    """Counts requests as they end. Belongs to the event loop."""

    def __init__(self, counters: CounterBuffer, live: LiveTraffic, *, today: Callable[[], date] = _today) -> None:
        self._counters, self._live, self._today = counters, live, today

    def ended(self, record: RequestRecord, status: int) -> None:
        """Count a request of a known tenant; requests without a valid key, or to open routes, are not counted."""
        if record.tenant is None:
            return
        self._live.ended(record)
        day = self._today().isoformat()
        unanswered = [resolution.task for resolution in record.resolved]
        for answered in record.answered:
            task = answered.resolution.task
            unanswered.remove(task)
            self._count(record.tenant, task, day, "requests", 1)
            self._count(record.tenant, task, day, "rows", len(answered.predictions))
            self._count(record.tenant, task, day, "tokens", answered.stages.packed_tokens)
        for task in unanswered:
            self._count(record.tenant, task, day, "requests", 1)
            self._count(record.tenant, task, day, "errors", 1)
        if not record.resolved:
            self._count(record.tenant, NO_TASK, day, "requests", 1)
            self._count(record.tenant, NO_TASK, day, "errors", int(status >= 400))

    def _count(self, tenant: str, task: str, day: str, what: str, by: int) -> None:
        if by:
            self._counters.count(USAGE, tenant, task, day, what, by=by)


def usage_rows(counts: Mapping[Key, float], *, since: date, until: date) -> list[UsageRow]:
    """Return the stored usage between two days, both included, sorted by tenant, day and task."""
    found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for (_, tenant, task, day, what), value in counts.items():
        if since.isoformat() <= day <= until.isoformat():
            found[tenant, day, task][what] = round(value)
    return [
        UsageRow(tenant, None if task == NO_TASK else task, date.fromisoformat(day), **numbers)
        for (tenant, day, task), numbers in sorted(found.items())
    ]
