"""A SQLite registry on a full or read-only disk: it is read as it is, and a write says why it cannot be."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.disk import full_disk, read_only
from support.registry import Uploads

from adapters import Ref, RegistryReadOnly, RegistryUnavailable, Traffic
from adapters.registry.opening import open_registry
from adapters.storage.sqlite import SqliteFile
from service.counters.sqlite_store import SqliteCounterStore
from service.counters.store import BatchId
from service.tenancy.sqlite_store import SqliteAccounts

Disk = Callable[[Path], AbstractContextManager[None]]
DISKS: dict[str, Disk] = {"full": lambda folder: full_disk(max_bytes=1_000), "read-only": read_only}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize("disk", DISKS.values(), ids=DISKS)
def test_a_registry_that_cannot_be_written_is_read(folder: Path, uploads: Uploads, disk: Disk) -> None:
    place = folder / "registry.sqlite"
    digest = open_registry(place).publish("acme", "sst2", uploads[0], actor="ann").digest
    before = place.read_bytes()
    with disk(folder):
        file = SqliteFile(place)
        registry = open_registry(file)
        assert registry.resolve("acme", Ref.parse("sst2")).digest == digest
        assert registry.get(digest) == uploads[0]
        assert len(registry.changes()) == 2
        writes: list[Callable[[], object]] = [
            lambda: registry.publish("acme", "sst2", uploads[1], actor="ann"),
            lambda: registry.set_alias("acme", "sst2", "blue", 1, actor="ann"),
            lambda: registry.set_traffic("acme", "sst2", Traffic(shadow=1), actor="ann"),
            lambda: registry.delete_alias("acme", "sst2", "production", actor="ann"),
        ]
        for write in writes:
            with pytest.raises(RegistryReadOnly, match=r"can be read but not written: .*free space on the disk of"):
                write()
        assert file.write_fault
        assert registry.list("acme")[0].aliases == {"production": 1}
        # its file has no tables of a server: they are empty, and not an error
        assert SqliteAccounts(file).snapshot().keys == {}
        counters = SqliteCounterStore(file)
        assert counters.read("usage") == {}
        with pytest.raises(RegistryReadOnly):
            counters.add({("usage", "acme"): 1}, BatchId("me", 1))
    assert place.read_bytes() == before
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    assert file.write_fault is None


def test_a_log_that_cannot_be_indexed_is_not_left_out(folder: Path, uploads: Uploads) -> None:
    place = folder / "registry.sqlite"
    registry = open_registry(place)
    with SqliteFile(place).open():  # holds the log, as a process that is killed leaves it
        registry.publish("acme", "sst2", uploads[0], actor="ann")
        copies = folder / "copy"
        copies.mkdir()
        for name in ("registry.sqlite", "registry.sqlite-wal"):
            (copies / name).write_bytes((folder / name).read_bytes())
    with read_only(copies), pytest.raises(RegistryUnavailable):
        open_registry(copies / "registry.sqlite")


def test_a_disk_that_fills_up_is_noticed_by_a_write_and_forgotten_by_the_next(folder: Path, uploads: Uploads) -> None:
    file = SqliteFile(folder / "registry.sqlite")
    registry = open_registry(file)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    assert file.write_fault is None
    with file.open(), full_disk(max_bytes=33_000):
        with pytest.raises(RegistryReadOnly):
            registry.publish("acme", "other", uploads[1], actor="ann")
        assert file.write_fault
        assert [info.task for info in registry.list("acme")] == ["sst2"]
    registry.set_alias("acme", "sst2", "blue", 1, actor="ann")
    assert file.write_fault is None
