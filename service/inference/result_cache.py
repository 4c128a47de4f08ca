"""Cache of results by adapter and text. Belongs to the event loop.

It keeps a hash of each text, never the text. Off unless it is given room.
"""

import hashlib
import sys
from collections import OrderedDict
from dataclasses import dataclass

from backbone import Truncation
from service.inference.predictions import RowResult

_ENTRY_BYTES = 150
"""Size of an entry in the table, in addition to its objects."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The parts of a row's request that its answer depends on."""

    digest: str
    text_hash: bytes
    """Hash of the rendered text and of the places of its fields, 20 bytes."""
    cut: Truncation | None
    """The end at which the text was truncated, None for a whole text, whose result does not depend on `truncate`."""
    top_k: int | None
    """How many of the best labels were scored, None for all."""

    @classmethod
    def of(cls, digest: str, text: str, cut: Truncation | None, top_k: int | None) -> "CacheKey":
        return cls(digest, hashlib.blake2b(text.encode(), digest_size=20).digest(), cut, top_k)


class ResultCache:
    """Results by key. Beyond `max_bytes` the least recently used are dropped; 0 disables the cache."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._results: OrderedDict[CacheKey, RowResult] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._results)

    def get(self, digest: str, text: str, truncation: Truncation, *, top_k: int | None = None) -> RowResult | None:
        """Return the adapter's cached answer to a text, if there is one."""
        if not self._max_bytes:
            return None
        whole = CacheKey.of(digest, text, None, top_k)
        cut = CacheKey(digest, whole.text_hash, truncation, top_k)
        for key in (whole,) if truncation == "error" else (whole, cut):
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
                return result
        return None

    def put(
        self, digest: str, text: str, truncation: Truncation, result: RowResult, *, top_k: int | None = None
    ) -> None:
        """Add a result, unless it is larger than the whole cache."""
        if not self._max_bytes:
            return
        key = CacheKey.of(digest, text, truncation if result.lost_tokens else None, top_k)
        if key in self._results:
            return
        self._results[key] = result.to_cache()
        self.size_bytes += _size_bytes(key, result)
        while self.size_bytes > self._max_bytes:
            self.size_bytes -= _size_bytes(*self._results.popitem(last=False))


def _size_bytes(key: CacheKey, result: RowResult) -> int:
    objects = (key, key.text_hash, result, result.num_tokens, result.lost_tokens, result.unknown_share)
    # sys.getsizeof does not include an array's own memory
    scores_bytes = sys.getsizeof(result.scores[:0]) + result.scores.nbytes
    return sum(map(sys.getsizeof, objects)) + scores_bytes + _ENTRY_BYTES
