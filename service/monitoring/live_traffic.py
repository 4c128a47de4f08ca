"""Requests by task while a live page of the console is open: what it shows of this process."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.telemetry.request_record import RequestRecord

TaskKey = tuple[str, str]
"""Tenant and task."""


@dataclass(slots=True)
class TaskTraffic:
    """Sums since a page was opened."""

    requests: int = 0
    rows: int = 0
    errors: int = 0
    queue_s: float = 0.0
    """Waiting for the model, over the answered requests."""
    total_s: float = 0.0
    """From the text to the answer, over the answered requests."""


class LiveTraffic:
    """Counts requests as they end, by task. Belongs to the event loop. Counts only while a page is open."""

    def __init__(self) -> None:
        self._watchers = 0
        self._by_task: defaultdict[TaskKey, TaskTraffic] = defaultdict(TaskTraffic)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count for the time of the block."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._by_task.clear()

    def ended(self, record: RequestRecord) -> None:
        """Count a request."""
        if not self._watchers or record.tenant is None:
            return
        answered = {each.resolution: each for each in record.answered}
        for resolution in record.resolved:
            traffic = self._by_task[record.tenant, resolution.task]
            traffic.requests += 1
            if (found := answered.get(resolution)) is None:
                traffic.errors += 1
                continue
            stages = found.stages
            traffic.rows += len(found.predictions)
            traffic.queue_s += stages.queue_s
            traffic.total_s += stages.tokenize_s + stages.queue_s + stages.infer_s

    def sums(self) -> Mapping[TaskKey, TaskTraffic]:
        """Return a copy of the sums."""
        return {key: replace(traffic) for key, traffic in self._by_task.items()}
