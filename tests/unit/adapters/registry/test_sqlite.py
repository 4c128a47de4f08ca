"""What is the SQLite registry's alone: its file, and what happens when that is lost or spoiled."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.registry import Uploads

from adapters import Ref, RegistryUnavailable, Traffic
from adapters.registry.opening import open_registry


def test_a_file_that_is_no_registry_is_unavailable_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_bytes(b"this is no database " * 500)
    with pytest.raises(RegistryUnavailable) as caught:
        open_registry(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"this is no database " * 500


def test_a_registry_overwritten_later_is_unavailable_by_its_path(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "registry.sqlite"
    registry = open_registry(path)
    digest = registry.publish("acme", "sst2", uploads[0], actor="ann").digest
    for left in tmp_path.iterdir():
        left.write_bytes(b"this is no database " * 500)
    actions: list[Callable[[], object]] = [
        lambda: registry.get(digest),
        lambda: registry.list("acme"),
        registry.changes,
        lambda: registry.resolve("acme", Ref.parse("sst2")),
        lambda: registry.publish("acme", "sst2", uploads[1], actor="ann"),
    ]
    for action in actions:
        with pytest.raises(RegistryUnavailable) as caught:
            action()
        assert str(path) in str(caught.value)


def test_a_registry_whose_file_was_removed_is_unavailable_and_not_empty(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "registry.sqlite"
    registry = open_registry(path)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    for left in tmp_path.iterdir():
        left.unlink()
    with pytest.raises(RegistryUnavailable) as caught:
        registry.list("acme")
    assert str(path) in str(caught.value)


def test_a_folder_in_the_registrys_place_is_unavailable_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        open_registry(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("below", ["registry.sqlite", "deeper/registry.sqlite"])
def test_a_folder_that_cannot_be_made_is_unavailable_by_its_path(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / below
    with pytest.raises(RegistryUnavailable) as caught:
        open_registry(path)
    assert str(path.parent) in str(caught.value)


def test_a_registry_makes_its_folders_and_is_found_there_again(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "a" / "b" / "registry.sqlite"
    publication = open_registry(path).publish("acme", "sst2", uploads[0], actor="ann")
    assert open_registry(path).resolve("acme", Ref.parse("sst2")).digest == publication.digest


def test_a_file_from_before_there_was_traffic_is_opened_and_goes_on(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "registry.sqlite"
    before = open_registry(path)
    before.publish("acme", "sst2", uploads[0], actor="ann", aliases=())
    told = before.changes()
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE traffic; ALTER TABLE changes DROP COLUMN traffic")
    registry = open_registry(path)
    assert registry.changes() == told
    registry.set_traffic("acme", "sst2", Traffic(shadow=1), actor="ann")
    assert registry.describe("acme", "sst2").traffic == registry.changes()[-1].traffic == Traffic(shadow=1)
