"""The scheduler: which rows make the next batch. Pure: no torch, no asyncio, no clock, no thread.

Weighted fair between tenants by packed tokens, first come first served within a tenant, cut by a token budget.
Entries that were cancelled or whose deadline has passed leave without being charged to their tenant. Background
entries are taken while nobody else waits, in small batches of their own.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Generic, Protocol, TypeVar

_UNSWEPT = 64
"""Entries and tenants that are held before a sweep is worth its while."""
_LIGHT = 4
"""A tenant is light while no more than this part of a batch waits."""


class Entry(Protocol):
    """One row that waits."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def weight(self) -> float:
        """Its tenant's share against the others', above 0."""
        ...

    @property
    def num_tokens(self) -> int:
        """What it adds to a packed batch."""
        ...

    @property
    def deadline(self) -> float:
        """When it is no longer worth doing, on the clock that `next` is given."""
        ...

    @property
    def background(self) -> bool:
        """Whether nobody waits for it: any entry that is not goes first."""
        ...

    def cancelled(self) -> bool:
        """Whether its caller has left."""
        ...


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Batch(Generic[E]):
    """What a pop took out of the queue."""

    entries: Sequence[E]
    expired: Sequence[E]


@dataclass(slots=True, eq=False)
class _Line(Generic[E]):
    """One tenant's rows in their order."""

    start: float
    """Virtual time at which its next row is due."""
    entries: deque[E] = field(default_factory=deque)
    num_tokens: int = 0
    heavy: bool = False
    """Whether more than a quarter of a batch has waited here since it was last empty."""

    def append(self, entry: E) -> None:
        self.entries.append(entry)
        self.num_tokens += entry.num_tokens

    def pop(self) -> E:
        entry = self.entries.popleft()
        self.num_tokens -= entry.num_tokens
        return entry


class Scheduler(Generic[E]):
    """A queue of rows, popped in batches of at most `max_batch_tokens` packed tokens.

    Start-time fair queuing (Goyal, Vin and Cheng 1996; over tokens as in the virtual token counter of Sheng et al.
    2024): a row costs its tenant tokens ÷ weight of virtual time, the tenant that is furthest behind goes next, and
    one that comes back starts at the present, or where it left if that is later. So nobody saves up by idling, and
    nobody sheds a debt by it. A pop costs O(log n) in the tenants that wait, whatever the number of rows.

    A tenant is heavy from when more than a quarter of a batch waits until nothing does. A batch holds one kind of
    tenants, that of whose turn it is: a heavy batch lasts many times as long as a light row would. While one runs,
    `next_light` gives the rows that may go ahead of the rest of it.

    Background entries wait in one line, first come first served, and are charged to nobody. A batch of them is at most
    a quarter of the budget, and light rows may go ahead of it too.
    """

    def __init__(self, *, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._lines: dict[str, _Line[E]] = {}  # who waits, and who left with a debt
        self._light: list[
            tuple[float, int, _Line[E]]
        ] = []  # heap of lines with rows, also of some that grew heavy here
        self._heavy: list[tuple[float, int, _Line[E]]] = []
        self._arrived: list[_Line[E]] = []  # lines that got their first row since the last batch, not in the heap yet
        self._background: deque[E] = deque()
        self._turns = count()  # of two lines due at once, the one that came first
        self._present = 0.0  # virtual time
        self._num_entries = 0
        self._sweep_at = _UNSWEPT
        self._heavy_tenants: set[str] = set()  # whose rows the last batch was made of, if it was heavy
        self._may_pass = 0  # tokens that may still go ahead of it, where it was heavy or of the background

    def __len__(self) -> int:
        return self._num_entries + len(self._background)

    def put(self, entries: Sequence[E]) -> None:
        """Queue rows, each behind those of its tenant."""
        for entry in entries:
            if entry.background:
                self._background.append(entry)
                continue
            line = self._lines.get(entry.tenant)
            if line is None:
                line = self._lines[entry.tenant] = _Line(self._present)
            if not line.entries:
                line.start, line.heavy = max(line.start, self._present), False
                self._arrived.append(line)
            line.append(entry)
            line.heavy |= line.num_tokens > self._max_batch_tokens // _LIGHT
            self._num_entries += 1

    def next(self, now: float) -> Batch[E]:
        """Take the next batch; a row larger than the budget goes alone."""
        ahead = self.next_light(now)
        if ahead.entries:
            self._heavy_tenants, self._may_pass = set(), 0
            return ahead
        for line in self._arrived:
            heappush(self._heavy if line.heavy else self._light, (line.start, next(self._turns), line))
        self._arrived.clear()
        entries: list[E] = []
        expired = [*ahead.expired, *self._sweep(now)]
        heap = self._light
        while not entries and (self._light or self._heavy):
            heap = min((heap for heap in (self._light, self._heavy) if heap), key=lambda heap: heap[0][:2])
            entries = self._fill(heap, now, expired)
        if not self._num_entries:
            self._lines.clear()  # nobody waits: all are even again
        self._heavy_tenants = {entry.tenant for entry in entries} if heap is self._heavy else set()
        background = [] if entries else self._fill_from_background(now, expired)
        self._may_pass = self._max_batch_tokens if self._heavy_tenants or background else 0
        return Batch(entries or background, expired)

    def next_light(self, now: float) -> Batch[E]:
        """Take the rows that may go ahead of what is left of the last batch.

        They are of light tenants that had nothing waiting when it was taken, are at most a batch ahead of their share,
        and are no more than a full batch, so that it is held up by that at most. None, where the last batch was light
        itself.
        """
        entries: list[E] = []
        expired: list[E] = []
        if not self._may_pass or not self._arrived:
            return Batch(entries, expired)
        latest = self._present + self._max_batch_tokens
        for line in self._arrived:
            while (entry := self._first(line, now, expired)) and line.start <= latest and not line.heavy:
                if entry.tenant in self._heavy_tenants or entry.num_tokens > self._may_pass:
                    break
                self._may_pass -= entry.num_tokens
                entries.append(self._take(line))
        self._arrived = [line for line in self._arrived if line.entries]
        return Batch(entries, expired)

    def drain(self) -> list[E]:
        """Everything that waits, taken out, tenant by tenant."""
        entries = [entry for line in self._lines.values() for entry in line.entries] + list(self._background)
        self._background.clear()
        self._lines.clear()
        self._light.clear()
        self._heavy.clear()
        self._arrived.clear()
        self._num_entries = 0
        return entries

    def _fill(self, heap: list[tuple[float, int, _Line[E]]], now: float, expired: list[E]) -> list[E]:
        """Take rows from the lines of one heap, until the next in turn does not fit."""
        entries: list[E] = []
        room = self._max_batch_tokens
        while heap:
            line = heap[0][2]
            entry = self._first(line, now, expired)
            if entry is None:
                heappop(heap)
            elif line.heavy and heap is self._light:
                heappush(self._heavy, heappop(heap))
            elif entries and entry.num_tokens > room:
                break
            else:
                self._present = max(self._present, line.start)
                entries.append(self._take(line))
                room -= entry.num_tokens
                if line.entries:
                    heapreplace(heap, (line.start, next(self._turns), line))
                else:
                    heappop(heap)
        return entries

    def _fill_from_background(self, now: float, expired: list[E]) -> list[E]:
        """Take background entries, up to a quarter of a batch; a larger one goes alone."""
        entries: list[E] = []
        room = self._max_batch_tokens // _LIGHT
        while self._background and not (entries and self._background[0].num_tokens > room):
            entry = self._background.popleft()
            if entry.cancelled():
                continue
            if entry.deadline <= now:
                expired.append(entry)
            else:
                entries.append(entry)
                room -= entry.num_tokens
        return entries

    def _first(self, line: _Line[E], now: float, expired: list[E]) -> E | None:
        """The first living row of a line; the dead before it leave, without charge."""
        while line.entries:
            entry = line.entries[0]
            if entry.cancelled():
                line.pop()
            elif entry.deadline <= now:
                expired.append(line.pop())
            else:
                return entry
            self._num_entries -= 1
        return None

    def _take(self, line: _Line[E]) -> E:
        """Take the first row of a line and charge it."""
        entry = line.pop()
        line.start += entry.num_tokens / entry.weight
        self._num_entries -= 1
        return entry

    def _sweep(self, now: float) -> list[E]:
        """Drop what is dead anywhere in the lines, and the tenants without rows or debts; the expired come back.

        Admission stops counting a row when its caller gives up, so dead rows must not pile up behind living ones.
        Waits until what is held has doubled, which makes it O(1) a row.
        """
        expired: list[E] = []
        if len(self) + len(self._lines) < self._sweep_at:
            return expired
        waiting = [entry for entry in self._background if not entry.cancelled()]
        expired += [entry for entry in waiting if entry.deadline <= now]
        self._background = deque(entry for entry in waiting if entry.deadline > now)
        for line in self._lines.values():
            for entry in [line.pop() for _ in range(len(line.entries))]:
                if entry.cancelled():
                    continue
                if entry.deadline <= now:
                    expired.append(entry)
                else:
                    line.append(entry)
        self._lines = {name: line for name, line in self._lines.items() if line.entries or line.start > self._present}
        for heap in (self._light, self._heavy):
            heap[:] = [item for item in heap if item[2].entries]
            heapify(heap)
        self._num_entries = sum(len(line.entries) for line in self._lines.values())
        self._sweep_at = _UNSWEPT + 2 * (len(self) + len(self._lines))
        return expired
