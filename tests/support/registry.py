"""What tests of the registry share: the place of one, and the files that are published to it."""

from dataclasses import dataclass

from adapters import Registry
from adapters.registry.opening import open_registry


@dataclass(frozen=True)
class Store:
    """One registry's place, to be opened from here or from another process."""

    place: str

    def open(self) -> Registry:
        """A handle of its own."""
        return open_registry(self.place)


Uploads = list[dict[str, bytes]]
