"""What tests of the registry share: the place of one, and the files that are published to it."""

from collections.abc import Callable
from dataclasses import dataclass

from adapters import Registry


@dataclass(frozen=True)
class Store:
    """One registry's place: opened from here, or from another process by an expression."""

    open: Callable[[], Registry]
    expression: str


Uploads = list[dict[str, bytes]]
