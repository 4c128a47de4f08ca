"""The contract of the counter store: durable counters that only increase, summed over all replicas.

A counter's key is a tuple of words. The first is its purpose, which decides how long it is kept (`LIFETIMES_S`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Key = tuple[str, ...]
"""At least two words, not empty and without `SEPARATOR`."""

SEPARATOR = "\x1f"
"""Joins a key's words into one text: the unit separator of ASCII, which no name may contain."""
_DAY_S = 86_400.0
LIFETIMES_S = {"usage": 400 * _DAY_S, "drift": 2 * 3_600.0, "shadow": 90 * _DAY_S}
"""Seconds from a counter's last addition to its removal, by the first word of its key. Others are kept for ever."""
WRITER_LIFETIME_S = 7 * _DAY_S
"""How long a batch with an unknown outcome may be sent again without being added twice."""


@dataclass(frozen=True, slots=True)
class BatchId:
    """The identity of a batch of additions, the same each time it is sent. A writer sends one batch at a time."""

    writer: str
    sequence: int
    """Number of the writer's batch, from 1."""


class CounterStore(Protocol):
    """Counters in a store that replicas share. Callable from any thread.

    Every method raises `RegistryUnavailable` if the store cannot be reached.
    """

    def add(self, counts: Mapping[Key, float], batch: BatchId) -> None:
        """Add to all of the counters or to none. A batch that was added before changes nothing."""
        ...

    def read(self, *prefix: str) -> dict[Key, float]:
        """Return the counters whose keys begin with these words."""
        ...


def encode(key: Key) -> str:
    """Join a key into one text; keys with the same first words get the same prefix.

    Raises:
        ValueError: the key is invalid
    """
    if len(key) < 2 or not all(word and SEPARATOR not in word for word in key):
        raise ValueError(f"key {key!r} is not valid, expected two words or more, none empty")
    return SEPARATOR.join(key)


def decode(text: str) -> Key:
    """Return the key that `encode` joined."""
    return tuple(text.split(SEPARATOR))


def lifetime_s(key: Key) -> float | None:
    """Return how long a counter is kept after its last addition; None means for ever."""
    return LIFETIMES_S.get(key[0])
