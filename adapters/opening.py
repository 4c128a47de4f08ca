"""Opens a registry by the text that names its place: a SQLite file, or a Redis server's URL."""

from pathlib import Path

from adapters.errors import InvalidName
from adapters.redis_connection import SCHEMES, connect
from adapters.redis_registry import RedisRegistry
from adapters.registry import Registry
from adapters.sqlite import SqliteRegistry


def is_redis(place: str) -> bool:
    """Whether a place is a Redis server's URL."""
    return place.startswith(SCHEMES)


def open_registry(place: str) -> Registry:
    """The registry at a place; a SQLite file is made if missing, a Redis server is asked nothing yet.

    Raises:
        InvalidName: the place is neither
        RegistryUnavailable: the file cannot be opened
    """
    if is_redis(place):
        return RedisRegistry(connect(place))
    if "://" in place:
        raise InvalidName("registry", shown(place), "a file, or redis://, rediss:// or unix:// and a server")
    return SqliteRegistry(Path(place))


def shown(place: str) -> str:
    """A place as logs and errors may show it: without user or password."""
    if is_redis(place):
        return connect(place).address
    scheme, separator, _ = place.partition("://")
    return f"{scheme}://…" if separator else place
