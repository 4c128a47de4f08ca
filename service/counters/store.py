"""The ledger: durable counters that only add up, one sum over all replicas. Implementations stand beside it.

A counter's name is a tuple of words. The first says what it is for, and so how long it is kept (`LIFETIMES_S`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Key = tuple[str, ...]
"""Two words at least, none empty, none with `SEPARATOR` in it."""

SEPARATOR = "\x1f"
"""Between a key's words where it is stored as one text: ASCII's own unit separator, which no name may contain."""
_DAY_S = 86_400.0
LIFETIMES_S = {"usage": 400 * _DAY_S, "drift": 2 * 3_600.0}
"""Seconds from a counter's last addition to its removal, by the first word of its key; others stay."""
WRITER_LIFETIME_S = 7 * _DAY_S
"""How long a batch whose outcome is unknown may be sent again without being added twice."""


@dataclass(frozen=True, slots=True)
class BatchId:
    """Names one batch of additions, however often it is sent. A writer sends its batches one after the other."""

    writer: str
    sequence: int
    """1, 2, 3 … of the writer."""


class CounterStore(Protocol):
    """Counters in a store that replicas share. Callable from any thread.

    Every method raises `RegistryUnavailable` where the store cannot be reached.
    """

    def add(self, counts: Mapping[Key, float], batch: BatchId) -> None:
        """Add to every counter, or to none. A batch that was added before changes nothing."""
        ...

    def read(self, *prefix: str) -> dict[Key, float]:
        """Every counter whose key begins with these words."""
        ...


def encode(key: Key) -> str:
    """A key as one text; keys that share their first words share a beginning.

    Raises:
        ValueError: it is no key
    """
    if len(key) < 2 or not all(word and SEPARATOR not in word for word in key):
        raise ValueError(f"key {key!r} is not valid, expected two words or more, none empty")
    return SEPARATOR.join(key)


def decode(text: str) -> Key:
    """The key that `encode` made a text of."""
    return tuple(text.split(SEPARATOR))


def lifetime_s(key: Key) -> float | None:
    """How long a counter is kept after its last addition; None for ever."""
    return LIFETIMES_S.get(key[0])
