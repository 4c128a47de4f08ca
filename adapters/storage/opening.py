"""Opens a storage location: a SQLite file by its path, or a Redis by its URL.

redis-py is imported only for a Redis: importing it takes 0.1 to 0.2 s, which a server with SQLite saves.
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from adapters.errors import InvalidName
from adapters.storage.schemes import REDIS_SCHEMES
from adapters.storage.sqlite import SqliteFile

if TYPE_CHECKING:
    from adapters.storage.redis import RedisStore

Storage: TypeAlias = "SqliteFile | RedisStore"
"""One location, opened once and shared by everything that is stored there."""


def open_storage(location: str | Path, *, wait_s: float = 0.0) -> Storage:
    """Open a location; create a SQLite file if it is missing.

    Args:
        location: a path, or a Redis URL
        wait_s: how long to wait for a Redis server that is starting or still loading its data

    Raises:
        InvalidName: the location is neither
        RegistryUnavailable: the file cannot be opened, or the server did not answer
    """
    if not is_redis(str(location)):
        return SqliteFile(local_path(location))
    from adapters.storage.redis import connect  # noqa: PLC0415

    store = connect(str(location))
    store.wait(wait_s)
    return store


def is_redis(location: str) -> bool:
    """Return whether a location is the URL of a Redis server."""
    return location.startswith(REDIS_SCHEMES)


def local_path(location: str | Path) -> Path:
    """Return the path that a location names (`InvalidName` for a URL)."""
    if "://" in str(location):
        expected = "a path, or redis://, rediss:// or unix:// and a server, or redis+sentinel:// and sentinels"
        raise InvalidName("registry", redact(str(location)), expected)
    return Path(location)


def redact(location: str) -> str:
    """Return a location as logs and errors may show it: without user name and password."""
    if is_redis(location):
        from adapters.storage.redis import connect  # noqa: PLC0415

        return connect(location).address
    scheme, separator, _ = location.partition("://")
    return f"{scheme}://…" if separator else location
