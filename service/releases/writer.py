"""The one way to write to the registry of a running server."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from adapters import Registry
from service.catalog.sync import CatalogSync

T = TypeVar("T")


class RegistryWriter:
    """Runs each write in three steps: require a readable registry, write in a thread, refresh the catalog.

    When `write` returns, this server already serves by the new state; other replicas follow within a poll interval.
    """

    def __init__(self, registry: Registry, sync: CatalogSync) -> None:
        self._registry, self._sync = registry, sync

    async def write(self, change: Callable[[Registry], T]) -> T:
        """Run a blocking change and return its result.

        Raises:
            RegistryUnavailable: the registry cannot be read or written, or has lost what it held
            AdapterError: raised by the change
        """
        self._sync.require()
        result = await asyncio.to_thread(change, self._registry)
        await self.refresh()
        return result

    async def refresh(self) -> None:
        """Bring the catalog up to date (`RegistryUnavailable`)."""
        await self._sync.refresh()
