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


def open_registry(place: str, *, wait_s: float = 0.0) -> Registry:
    """The registry at a place; a SQLite file is made if missing.

    Args:
        place: what names it
        wait_s: how long a Redis server is waited for that is not there yet, or still reads what it had written

    Raises:
        InvalidName: the place is neither
        RegistryUnavailable: the file cannot be opened, or the server did not answer
    """
    if is_redis(place):
        store = connect(place)
        store.wait(wait_s)
        return RedisRegistry(store)
    if "://" in place:
        raise InvalidName("registry", shown(place), "a file, or redis://, rediss:// or unix:// and a server")
    return SqliteRegistry(Path(place))


def shown(place: str) -> str:
    """A place as logs and errors may show it: without user or password."""
    if is_redis(place):
        return connect(place).address
    scheme, separator, _ = place.partition("://")
    return f"{scheme}://…" if separator else place
