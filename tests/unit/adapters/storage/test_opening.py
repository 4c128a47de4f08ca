"""A storage location is opened once, and everything that is kept there shares its connections."""

from pathlib import Path

import pytest
from support.redis import RedisServer

from adapters import InvalidName, RegistryUnavailable
from adapters.storage.opening import open_storage
from adapters.storage.redis import RedisStore
from adapters.storage.sqlite import SqliteFile


def test_a_location_is_a_file_or_a_redis_server(tmp_path: Path, redis_server: RedisServer) -> None:
    assert isinstance(open_storage(tmp_path / "registry.sqlite"), SqliteFile)
    assert isinstance(open_storage(redis_server.place()), RedisStore)
    with pytest.raises(InvalidName, match="postgres://…"):
        open_storage("postgres://ann:secret@h/db")
    with pytest.raises(RegistryUnavailable, match=r"redis://127\.0\.0\.1:1/0"):
        open_storage("redis://:secret@127.0.0.1:1")
