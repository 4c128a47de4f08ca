"""Scheduler that composes the batches. Pure: it uses no device, no event loop, no clock and no thread.

Scheduling is weighted fair between tenants by packed tokens, first come first served within a tenant, and limited by a
token budget per batch. Rows that were cancelled or whose deadline has passed leave the queue without being charged to
their tenant. Background rows run while no other row waits, in small batches of their own.

The unit is a `RowGroup`: rows that share an encoder pass stay together, and count as what they add to a batch together.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

from service.engine.tenant_queue import TenantQueue
from service.engine.types import Row, RowGroup

_UNSWEPT = 64
"""Number of rows and tenants below which a sweep is not worth its cost."""
_INTERACTIVE_FRACTION = 4
"""A tenant is interactive while at most 1 ÷ this of a batch waits."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows taken from the queue: to run, and past their deadline."""

    rows: Sequence[Row]
    expired: Sequence[Row]


class Scheduler:
    """Queue of rows, taken in batches of at most `max_batch_tokens` packed tokens.

    Start-time fair queuing (Goyal, Vin and Cheng 1996; over tokens as in the virtual token counter of Sheng et al.
    2024): a row costs its tenant tokens ÷ weight of virtual time, and the tenant that is furthest behind goes next. A
    tenant that returns starts at the present, or where it left if that is later: idling earns no credit and clears no
    debt. Taking a row costs O(log n) in the number of waiting tenants, whatever the number of rows.

    A tenant becomes bulk when more than a quarter of a batch waits, dead rows not counted, and stays bulk until none of
    its rows waits; else it is interactive. A batch holds rows of one kind of tenant, because a bulk batch lasts many
    times as long as an interactive row would. While a bulk batch runs, `preempt` returns the rows that may run before
    the rest of it. A row larger than the budget is a batch of its own, which the rows of all other tenants may preempt
    unless they are ahead of their share.

    Background rows share one queue, first come first served, and are charged to no tenant. A batch of them is at most a
    quarter of the budget, and interactive rows may preempt it too.
    """

    def __init__(self, *, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        # tenants with waiting rows, and tenants without but with a debt
        self._queues: dict[str, TenantQueue] = {}
        # heaps of queues with rows; in the first also queues that became bulk since they were pushed
        self._interactive: list[tuple[float, int, TenantQueue]] = []
        self._bulk: list[tuple[float, int, TenantQueue]] = []
        # queues that got their first row since the last batch, and are in no heap yet
        self._arrived: list[TenantQueue] = []
        self._background: deque[RowGroup] = deque()
        # breaks ties between queues that are due at once: the first pushed goes first
        self._sequence = count()
        self._virtual_time = 0.0
        self._num_waiting = 0
        self._sweep_at = _UNSWEPT
        # tenants of the last batch, if it was bulk
        self._bulk_tenants: set[str] = set()
        # tokens that may still preempt the last batch, if it was bulk or background
        self._preemption_budget = 0
        # the group of the last batch, if it is larger than the budget, and how many of its tokens have been computed
        self._oversized: RowGroup | None = None
        self._worked = 0.0
        # rows that have been found expired since the last batch
        self._expired: list[Row] = []

    def __len__(self) -> int:
        return self._num_waiting + len(self._background) + len(self._expired)

    def put(self, rows: Sequence[Row], *, now: float = float("-inf")) -> None:
        """Queue rows, each behind the others of its tenant."""
        quarter = self._max_batch_tokens // _INTERACTIVE_FRACTION
        for group in RowGroup.of(rows):
            if group.background:
                self._background.append(group)
                continue
            queue = self._queues.get(group.tenant)
            if queue is None:
                queue = self._queues[group.tenant] = TenantQueue(self._virtual_time)
            if queue.bulk and queue.groups and self._first(queue, now, self._expired) is None:
                self._unlist(queue)
            if not queue.groups:
                queue.start, queue.bulk = max(queue.start, self._virtual_time), False
                self._arrived.append(queue)
            queue.append(group)
            self._num_waiting += 1
            if not queue.bulk and queue.num_tokens > quarter:
                dead, expired = queue.remove_dead(now)
                self._num_waiting -= dead
                self._expired += expired
                queue.bulk = queue.num_tokens > quarter
                if not queue.groups:
                    self._unlist(queue)

    def next(self, now: float) -> Batch:
        """Take the next batch; a row larger than the budget is a batch of its own."""
        ahead = self._arrivals(now)
        self._oversized, self._worked = None, 0.0
        if ahead.rows:
            self._bulk_tenants, self._preemption_budget = set(), 0
            return ahead
        for queue in self._arrived:
            heappush(self._bulk if queue.bulk else self._interactive, (queue.start, next(self._sequence), queue))
        self._arrived.clear()
        groups: list[RowGroup] = []
        expired = [*ahead.expired, *self._sweep(now)]
        heap = self._interactive
        while not groups and (self._interactive or self._bulk):
            heap = min((heap for heap in (self._interactive, self._bulk) if heap), key=lambda heap: heap[0][:2])
            groups = self._fill(heap, now, expired)
        if not self._num_waiting:
            self._queues.clear()  # no row waits: all debts are cleared
        self._bulk_tenants = {group.tenant for group in groups} if heap is self._bulk else set()
        background = [] if groups else self._fill_from_background(now, expired)
        self._preemption_budget = self._max_batch_tokens if self._bulk_tenants or background else 0
        for group in groups or background:
            if group.num_tokens > self._max_batch_tokens:
                self._oversized = group
        return _batch(groups or background, expired)

    def preempt(self, now: float, *, worked: float = 0.0) -> Batch:
        """Take the rows that may preempt what is left of the last batch; none if that was interactive itself.

        They belong to interactive tenants that are at most one batch ahead of their share, whether or not they had rows
        waiting when the batch was taken, and fill at most one batch in all, which bounds the delay. A row larger than a
        batch is preempted by more (`_beside`).

        Args:
            now: on the clock of the deadlines
            worked: tokens of the last batch that were computed since the last call
        """
        self._worked += worked
        return self._arrivals(now) if self._oversized is None else self._beside(self._oversized, now)

    def _beside(self, oversized: RowGroup, now: float) -> Batch:
        """Take the rows of a batch that runs between two pieces of a row larger than a batch.

        They belong to other tenants that have at most a quarter of the row's tokens waiting, no matter when they
        arrived. No tenant gets more than one batch ahead of its share, for which the row is charged piece by piece.
        """
        groups: list[RowGroup] = []
        expired, self._expired = self._expired, []
        before = self._num_waiting
        if not before:
            return _batch(groups, expired)
        room = self._max_batch_tokens
        most = min(self._max_batch_tokens, oversized.num_tokens // _INTERACTIVE_FRACTION)
        latest = self._virtual_time + self._max_batch_tokens + self._worked / oversized.weight
        waiting = {id(queue): queue for *_, queue in (*self._interactive, *self._bulk)}
        waiting |= {id(queue): queue for queue in self._arrived}
        for queue in sorted(waiting.values(), key=lambda queue: queue.start):
            while (group := self._first(queue, now, expired)) and queue.start <= latest and queue.num_tokens <= most:
                if group.tenant == oversized.tenant or group.num_tokens > room:
                    break
                room -= group.num_tokens
                groups.append(self._take(queue))
        if self._num_waiting < before:
            self._arrived = [queue for queue in self._arrived if queue.groups]
            self._order_heaps()
        return _batch(groups, expired)

    def _arrivals(self, now: float) -> Batch:
        """Take the rows of interactive tenants that may preempt the last batch."""
        groups: list[RowGroup] = []
        expired, self._expired = self._expired, []
        if not self._preemption_budget:
            return _batch(groups, expired)
        latest = self._virtual_time + self._max_batch_tokens
        groups += self._take_waiting(latest, now, expired)
        for queue in self._arrived:
            while (group := self._first(queue, now, expired)) and queue.start <= latest and not queue.bulk:
                if group.tenant in self._bulk_tenants or group.num_tokens > self._preemption_budget:
                    break
                self._preemption_budget -= group.num_tokens
                groups.append(self._take(queue))
        self._arrived = [queue for queue in self._arrived if queue.groups]
        return _batch(groups, expired)

    def _take_waiting(self, latest: float, now: float, expired: list[Row]) -> list[RowGroup]:
        """Take the groups that may preempt the last batch and already waited when it was taken, until one may not.

        They are taken in the order of their turns, so that many waiting tenants cost nothing at each of its pauses.
        """
        groups: list[RowGroup] = []
        heap = self._interactive
        while heap:
            queue = heap[0][2]
            group = self._first(queue, now, expired)
            if group is None:
                heappop(heap)
            elif queue.bulk:
                heappush(self._bulk, heappop(heap))
            elif queue.start > latest or group.num_tokens > self._preemption_budget:
                break
            else:
                self._preemption_budget -= group.num_tokens
                groups.append(self._take(queue))
                self._requeue(heap, queue)
        return groups

    def _fill(self, heap: list[tuple[float, int, TenantQueue]], now: float, expired: list[Row]) -> list[RowGroup]:
        """Take groups from the queues of one heap until the next one does not fit."""
        groups: list[RowGroup] = []
        room = self._max_batch_tokens
        while heap:
            queue = heap[0][2]
            group = self._first(queue, now, expired)
            if group is None:
                heappop(heap)
            elif queue.bulk and heap is self._interactive:
                heappush(self._bulk, heappop(heap))
            elif groups and group.num_tokens > room:
                break
            else:
                self._virtual_time = max(self._virtual_time, queue.start)
                groups.append(self._take(queue))
                room -= group.num_tokens
                self._requeue(heap, queue)
        return groups

    def _fill_from_background(self, now: float, expired: list[Row]) -> list[RowGroup]:
        """Take background groups, up to a quarter of a batch; a larger one is a batch of its own."""
        groups: list[RowGroup] = []
        room = self._max_batch_tokens // _INTERACTIVE_FRACTION
        while self._background and not (groups and self._background[0].num_tokens > room):
            group = self._background.popleft()
            if group.cancelled():
                continue
            if group.deadline <= now:
                expired += group.live()
            else:
                groups.append(group)
                room -= group.num_tokens
        return groups

    def _first(self, queue: TenantQueue, now: float, expired: list[Row]) -> RowGroup | None:
        """Return the first live group of a queue; remove the cancelled and expired ones before it without charge."""
        while queue.groups:
            group = queue.groups[0]
            if group.cancelled():
                queue.pop()
            elif group.deadline <= now:
                expired += queue.pop().live()
            else:
                return group
            self._num_waiting -= 1
        return None

    def _requeue(self, heap: list[tuple[float, int, TenantQueue]], queue: TenantQueue) -> None:
        """Restore a heap after a group of its first queue was taken."""
        if queue.groups:
            heapreplace(heap, (queue.start, next(self._sequence), queue))
        else:
            heappop(heap)

    def _take(self, queue: TenantQueue) -> RowGroup:
        """Take the first group of a queue and charge it to the tenant."""
        group = queue.pop()
        queue.start += group.num_tokens / group.weight
        self._num_waiting -= 1
        return group

    def _sweep(self, now: float) -> list[Row]:
        """Remove cancelled and expired rows anywhere, and tenants without rows or debts; return the expired rows.

        Admission stops counting a row when its caller gives up, so dead rows must not pile up behind live ones. A sweep
        waits until the number of rows and tenants has doubled, which makes it O(1) per row.
        """
        expired: list[Row] = []
        if len(self) + len(self._queues) < self._sweep_at:
            return expired
        waiting = [group for group in self._background if not group.cancelled()]
        expired += [row for group in waiting if group.deadline <= now for row in group.live()]
        self._background = deque(group for group in waiting if group.deadline > now)
        for queue in self._queues.values():
            expired += queue.remove_dead(now)[1]
        self._queues = {
            name: queue for name, queue in self._queues.items() if queue.groups or queue.start > self._virtual_time
        }
        self._order_heaps()
        self._num_waiting = sum(len(queue.groups) for queue in self._queues.values())
        self._sweep_at = _UNSWEPT + 2 * (len(self) + len(self._queues))
        return expired

    def _unlist(self, queue: TenantQueue) -> None:
        """Remove an empty queue from the arrivals and the heaps."""
        self._arrived = [other for other in self._arrived if other is not queue]
        self._order_heaps()

    def _order_heaps(self) -> None:
        """Restore the heaps after rows were taken or removed at any place in them."""
        for heap in (self._interactive, self._bulk):
            heap[:] = [(queue.start, sequence, queue) for _, sequence, queue in heap if queue.groups]
            heapify(heap)


def _batch(groups: Sequence[RowGroup], expired: Sequence[Row]) -> Batch:
    return Batch([row for group in groups for row in group.rows], expired)
