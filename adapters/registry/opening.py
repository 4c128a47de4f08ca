"""Opens a registry, or an archive of one, at a storage location."""

from pathlib import Path
from typing import TYPE_CHECKING

from adapters.registry.archive import Archive
from adapters.registry.folder_archive import FolderArchive
from adapters.registry.protocol import DEFAULT_LIMITS, RegistryLimits
from adapters.registry.sqlite import SqliteRegistry
from adapters.storage.opening import Storage, is_redis, local_path, open_storage
from adapters.storage.sqlite import SqliteFile

if TYPE_CHECKING:
    from adapters.registry.redis import RedisRegistry

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")


def open_registry(
    storage: "Storage | str | Path", limits: RegistryLimits = DEFAULT_LIMITS
) -> "SqliteRegistry | RedisRegistry":
    """Open the registry in a storage, or at the location of one that nothing else uses.

    Raises:
        InvalidName, RegistryUnavailable: as `open_storage`
    """
    if isinstance(storage, str | Path):
        storage = open_storage(storage)
    if isinstance(storage, SqliteFile):
        return SqliteRegistry(storage, limits)
    from adapters.registry.redis import RedisRegistry  # noqa: PLC0415 - as `open_storage`

    return RedisRegistry(storage, limits)


def open_archive(location: str) -> Archive:
    """Open a registry or a folder to copy from or to.

    A path that does not exist yet becomes a SQLite file if it has such a suffix, and a folder otherwise.

    Raises:
        InvalidName, RegistryUnavailable: as `open_storage`; also a folder that holds something else
    """
    return FolderArchive(local_path(location)) if is_folder(location) else open_registry(location)


def is_folder(location: str) -> bool:
    """Return whether `open_archive` takes a location for a folder (`InvalidName` for a URL of something else)."""
    if is_redis(location):
        return False
    path = local_path(location)
    return not (path.is_file() if path.exists() else path.suffix in SQLITE_SUFFIXES)
