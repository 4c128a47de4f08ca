"""Cache of results by adapter and text. Belongs to the event loop.

It keeps a hash of each text, never the text. Off unless it is given room.
"""

import hashlib
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Self

from backbone import Truncation
from service.inference.predictions import RowResult

_ENTRY_BYTES = 150
"""Size of an entry in the table, in addition to its objects."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """The parts of a row's request that its answer depends on, and its tenant.

    Calibration is applied to what is cached; its adapter has one precision here; the template is part of the digest.
    """

    tenant: str
    """No tenant can find out, by `cached` or by the time, what another has asked."""
    digest: str
    text_hash: bytes
    """Hash of the rendered text and of the places of its fields, 20 bytes."""
    top_k: int | None = None
    """How many of the best labels were scored, None for all."""
    cut: Truncation | None = None
    """The end at which the text was truncated, None for a whole text, whose result does not depend on `truncate`."""

    @classmethod
    def of(cls, tenant: str, digest: str, text: str, *, top_k: int | None = None) -> Self:
        """Return the key of a text that is not truncated."""
        return cls(tenant, digest, hashlib.blake2b(text.encode(), digest_size=20).digest(), top_k)


class ResultCache:
    """Results by key. Beyond `max_bytes` the least recently used are dropped; 0 disables the cache."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._results: OrderedDict[CacheKey, RowResult] = OrderedDict()
        self.size_bytes = 0

    @property
    def enabled(self) -> bool:
        return self._max_bytes > 0

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: CacheKey, truncation: Truncation) -> RowResult | None:
        """Return the cached answer to a key's text, whole or truncated in this way, if there is one."""
        if not self._max_bytes:
            return None
        for known in (key,) if truncation == "error" else (key, replace(key, cut=truncation)):
            result = self._results.get(known)
            if result is not None:
                self._results.move_to_end(known)
                return result
        return None

    def put(self, key: CacheKey, truncation: Truncation, result: RowResult) -> None:
        """Add a result, unless it is larger than the whole cache."""
        if not self._max_bytes:
            return
        key = replace(key, cut=truncation) if result.lost_tokens else key
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
