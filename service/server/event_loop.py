"""The server's event loop, which yields to the model thread and shares its rounds between tenants.

The model thread takes the interpreter lock (GIL) at each of its several hundred tensor operations. While the event loop
computes, it gets the lock only once per switch interval, and on virtual machines each hand-over to another core is
dear: next to a client that sent nothing but refused requests, a forward of 45 ms took 460 ms. So between two rounds of
callbacks the loop sleeps in proportion to the time that it has computed while a batch runs. With that the forward takes
about 85 ms.

Each row that the model answers pays for some of the loop's time, in which the loop does not yield: slower reading would
only delay the rows of the next batch.

A round of callbacks handles few events of each tenant. Otherwise a request would wait for a round in which another
client opened or closed two hundred connections. Connections without a valid key count as one tenant's.
"""

import asyncio
import random
import time
from collections import Counter
from selectors import DefaultSelector, SelectorKey

from service.engine.activity import ModelActivity

_SLICE_S = 0.001
"""Processor time of the loop after which it yields."""
_PAID_PER_ROW_S = 0.004
"""Processor time of the loop that an answered row pays for."""
_MAX_PAID_S = 0.1
"""Longest time that is paid for in advance."""
_EVENTS_PER_TENANT = 2
"""Ready connections of a tenant that a round handles; the others are still ready in the next round."""


class FairSelector(DefaultSelector):
    """Waits for events as asyncio's default does. Yields to a running batch first, and limits each tenant's events."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants: dict[int, str | None] = {}
        """The tenant of each client's connection, by its file descriptor; None without a valid key."""
        self._activity: ModelActivity | None = None
        self._num_answers = 0
        self._paid_s = 0.0
        self._counted_from_s = 0.0

    def yield_to(self, activity: ModelActivity) -> None:
        """From now on yield to a model thread."""
        self._activity = activity
        self._counted_from_s = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return ready events; asyncio calls this between two rounds of callbacks."""
        if self._activity is not None:
            self._sleep(self._activity)
        ready = super().select(timeout)
        return self._limited(ready) if len(ready) > _EVENTS_PER_TENANT else ready

    def _limited(self, ready: list[tuple[SelectorKey, int]]) -> list[tuple[SelectorKey, int]]:
        random.shuffle(ready)  # so that a connection that is always ready excludes no other of its tenant
        events: list[tuple[SelectorKey, int]] = []
        of_tenant: Counter[str | None] = Counter()
        for key, mask in ready:
            if key.fd in self.tenants:
                tenant = self.tenants[key.fd]
                of_tenant[tenant] += 1
                if of_tenant[tenant] > _EVENTS_PER_TENANT:
                    continue
            events.append((key, mask))
        return events

    def _sleep(self, activity: ModelActivity) -> None:
        used_s = time.thread_time() - self._counted_from_s
        if used_s < _SLICE_S:
            return
        num_answers = activity.num_answers
        paid_s = min(self._paid_s + _PAID_PER_ROW_S * (num_answers - self._num_answers), _MAX_PAID_S)
        self._num_answers, self._paid_s = num_answers, max(0.0, paid_s - used_s)
        if used_s > paid_s:
            activity.yield_after(used_s - paid_s)
        self._counted_from_s = time.thread_time()


class ServerLoop(asyncio.SelectorEventLoop):
    """asyncio's default loop with a `FairSelector`."""

    def __init__(self) -> None:
        self._fair_selector = FairSelector()
        super().__init__(self._fair_selector)

    def yield_to(self, activity: ModelActivity) -> None:
        """From now on yield to a model thread."""
        self._fair_selector.yield_to(activity)

    @property
    def tenants(self) -> dict[int, str | None]:
        """The tenant of each client's connection, by its file descriptor; None without a valid key."""
        return self._fair_selector.tenants
