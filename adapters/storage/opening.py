"""Opens a registry by the text that names its place: a SQLite file, or a Redis URL; an archive may be a folder too."""

from pathlib import Path

from adapters.errors import InvalidName
from adapters.registry.archive import Archive
from adapters.registry.folder_archive import FolderArchive
from adapters.registry.protocol import Registry
from adapters.registry.redis import RedisRegistry
from adapters.registry.sqlite import SqliteRegistry
from adapters.storage.redis import SCHEMES, connect

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


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
    return _open_redis(place, wait_s) if is_redis(place) else SqliteRegistry(_path(place))


def open_archive(place: str) -> Archive:
    """What can be copied from or to: as `open_registry`, and a folder.

    A path where nothing is yet is a SQLite file if it ends like one, else a folder.

    Raises:
        InvalidName: the place is none of them
        RegistryUnavailable: it cannot be opened
    """
    if is_redis(place):
        return _open_redis(place, 0.0)
    path = _path(place)
    is_file = path.is_file() if path.exists() else path.suffix in SQLITE_SUFFIXES
    return SqliteRegistry(path) if is_file else FolderArchive(path)


def redact(place: str) -> str:
    """A place as logs and errors may show it: without user or password."""
    if is_redis(place):
        return connect(place).address
    scheme, separator, _ = place.partition("://")
    return f"{scheme}://…" if separator else place


def _open_redis(place: str, wait_s: float) -> RedisRegistry:
    store = connect(place)
    store.wait(wait_s)
    return RedisRegistry(store)


def _path(place: str) -> Path:
    if "://" in place:
        raise InvalidName("registry", redact(place), "a path, or redis://, rediss:// or unix:// and a server")
    return Path(place)
