"""Reads the history of aliases out of the registry's log after a start, while the catalog already serves.

A catalog starts from the registry's present state; only rollbacks need what was before. The log is read in pages, with
pauses as long as the work, so that a long log does not slow requests down.
"""

import asyncio
import time

from adapters import Registry
from adapters.registry.rollback import AliasHistory
from adapters.registry.trimming import is_behind
from service.catalog.catalog import Catalog

_PAGE = 2_000


class HistoryReader:
    """Reads the log from its beginning up to the catalog's position. Belongs to the event loop."""

    def __init__(self, registry: Registry, catalog: Catalog) -> None:
        self._registry, self._catalog = registry, catalog
        self._history, self._position = AliasHistory(), 0

    async def read(self) -> None:
        """Give the catalog its history, unless it has one.

        Reading resumes after an outage where it ended. It begins again if entries were removed meanwhile, since those
        that were read before may be among them.

        Raises:
            RegistryUnavailable: the registry cannot be read
        """
        while not self._catalog.has_history:
            started = time.monotonic()
            await self.read_page()
            await asyncio.sleep(time.monotonic() - started)

    async def read_page(self) -> None:
        """Read the next page, which may be the last, unless the catalog has its history (`RegistryUnavailable`)."""
        if self._catalog.has_history:
            return
        history, position = self._history, self._position
        page = await asyncio.to_thread(self._registry.changes, position, limit=_PAGE)
        if history is not self._history or position != self._position:
            return  # it began again meanwhile, or another call has read this page
        if position and is_behind(position, page):
            self.begin()
            return
        history.apply(page)
        self._position = page[-1].position if page else position
        if len(page) < _PAGE and self._catalog.take_history(history, position=self._position):
            self.begin()

    def begin(self) -> None:
        """Begin again: what was read belongs to the catalog, or to a log that is no longer the registry's."""
        self._history, self._position = AliasHistory(), 0
