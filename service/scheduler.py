"""The scheduler: which rows make the next batch. Pure: no torch, no asyncio, no clock, no thread.

First come, first served, cut by a token budget. Entries that were cancelled or whose deadline has passed leave at
the pop and cost nothing more.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """One row that waits."""

    @property
    def num_tokens(self) -> int:
        """What it adds to a packed batch."""
        ...

    @property
    def deadline(self) -> float:
        """When it is no longer worth doing, on the clock that `next` is given."""
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


class Scheduler(Generic[E]):
    """A queue of rows, popped in batches of at most `max_batch_tokens` packed tokens."""

    def __init__(self, *, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._waiting: deque[E] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entries: Sequence[E]) -> None:
        """Queue rows in their order."""
        self._waiting.extend(entries)

    def next(self, now: float) -> Batch[E]:
        """Take the next batch; a row larger than the budget goes alone."""
        entries: list[E] = []
        expired: list[E] = []
        num_tokens = 0
        while self._waiting:
            entry = self._waiting[0]
            if entry.cancelled():
                self._waiting.popleft()
            elif entry.deadline <= now:
                expired.append(self._waiting.popleft())
            elif entries and num_tokens + entry.num_tokens > self._max_batch_tokens:
                break
            else:
                entries.append(self._waiting.popleft())
                num_tokens += entry.num_tokens
        return Batch(entries, expired)

    def drain(self) -> list[E]:
        """Everything that waits, taken out."""
        entries = list(self._waiting)
        self._waiting.clear()
        return entries
