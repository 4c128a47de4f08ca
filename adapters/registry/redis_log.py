"""Reads the Redis registry's change log, a stream, in pages that together show one state."""

from collections.abc import Sequence

from adapters.registry.protocol import Change
from adapters.registry.redis_records import change, text
from adapters.storage.redis import RedisStore

PAGE = 500
"""Tasks or log entries per command: about 100 KB of reply, some milliseconds of the server."""


class RedisLog:
    """The log of one registry."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def changes(self, since: int, limit: int | None) -> Sequence[Change]:
        """Return the entries after a position, oldest first (`RegistryUnavailable`)."""
        if limit is not None and limit <= PAGE:
            return self._pages(since, limit)
        while True:
            before, found = self._trimmed_and_first_page(since)
            if len(found) < PAGE:
                return found
            found += self._pages(found[-1].position, None if limit is None else limit - PAGE)
            # each page is a separate command: entries may have been removed between two of them
            if self.last_trim() == before:
                return found

    def num_new(self) -> int:
        """Return the number of entries since the last removal (`RegistryUnavailable`)."""
        with self._store.reaching():
            position, trimmed = self._store.client.mget(self._store.key("position"), self._store.key("trimmed"))
        return int(position or 0) - int(trimmed or 0)

    def last_trim(self) -> int:
        """Return the position of the last removal, 0 if there was none (`RegistryUnavailable`)."""
        with self._store.reaching():
            return int(self._store.client.get(self._store.key("trimmed")) or 0)

    def _trimmed_and_first_page(self, since: int) -> tuple[int, list[Change]]:
        """Return the position of the last trim, and the first page of entries after `since`, read no earlier.

        Uses no transaction, since Redis refuses one if its memory is full.
        """
        with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipeline:
            pipeline.get(self._store.key("trimmed"))
            pipeline.xrange(self._store.key("changes"), min=f"{since + 1}-0", count=PAGE)
            trimmed, page = pipeline.execute()
        return int(trimmed or 0), [change(entry_id, text(fields)) for entry_id, fields in page]

    def _pages(self, since: int, limit: int | None) -> list[Change]:
        found: list[Change] = []
        while True:
            count = PAGE if limit is None else min(PAGE, limit - len(found))
            with self._store.reaching():
                page = self._store.client.xrange(self._store.key("changes"), min=f"{since + 1}-0", count=count) or []
            found.extend(change(entry_id, text(fields)) for entry_id, fields in page if entry_id and fields)
            if len(page) < count or len(found) == limit:
                return found
            since = found[-1].position
