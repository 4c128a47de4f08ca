"""Copies of registries: between SQLite, Redis and folders nothing is lost, and what is damaged is refused."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from support.cli import superpos
from support.redis import RedisServer
from support.registry import Uploads

from adapters import (
    AdapterError,
    Conflict,
    InvalidAdapter,
    InvalidName,
    NotFound,
    RegistryUnavailable,
    TaskInfo,
    Traffic,
    VersionInfo,
)
from adapters.adapter import PromptAdapter
from adapters.files import CARD, MANIFEST
from adapters.registry.archive import Archive, TaskRecord
from adapters.registry.copying import Copied, copy
from adapters.registry.folder_archive import FolderArchive
from adapters.registry.opening import open_archive, open_registry
from adapters.registry.sqlite import SqliteRegistry
from adapters.storage.sqlite import SqliteFile

AT = datetime(2024, 2, 29, 12, 30, 59, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "redis", "folder"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.place()
    return str(tmp_path / ("empty.sqlite" if request.param == "sqlite" else "empty"))


@pytest.fixture
def full(tmp_path: Path, uploads: Uploads) -> SqliteRegistry:
    """A registry with everything that there can be: gaps, a task with no version left, aliases, traffic, tenants."""
    registry = SqliteRegistry(SqliteFile(tmp_path / "full.sqlite"))
    for files in uploads[:4]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.publish("acme", "trec", uploads[4], actor="bob", aliases=("canary", "best"))
    registry.publish("zeta", "sst2", uploads[0], actor="zoe")
    registry.publish("zeta", "bare", {n: d for n, d in uploads[5].items() if n != CARD}, actor="zoë", aliases=())
    registry.publish("acme", "gone", uploads[6], actor="ann", aliases=())
    registry.set_alias("acme", "sst2", "stable", 1, actor="cat")
    registry.set_traffic("acme", "sst2", Traffic(canary=3, percent=12.5, shadow=1), actor="dan")
    registry.delete("acme", "sst2", 2, actor="eve")
    registry.delete("acme", "gone", 1, actor="eve")
    return registry


def assert_same(copied: Archive, original: Archive) -> None:
    """Equal in everything that can be read of them."""
    assert list(copied.records()) == list(original.records())
    assert list(copied.changes()) == list(original.changes())
    for record in original.records():
        for version in record.info.versions:
            place = (record.info.tenant, record.info.task, version.version)
            assert copied.files(*place) == original.files(*place)


def test_nothing_is_lost_from_sqlite_to_a_folder_to_redis_and_back(
    full: SqliteRegistry, redis_server: RedisServer, tmp_path: Path, uploads: Uploads
) -> None:
    places = [str(tmp_path / "backup"), redis_server.place(), str(tmp_path / "again.sqlite")]
    source: Archive = full
    for place in places:
        steps: list[tuple[int, int]] = []
        done = copy(source, open_archive(place), on_version=lambda at, of, steps=steps: steps.append((at, of)))
        assert done == Copied(tenants=2, tasks=5, versions=6, adapters=5, changes=len(full.changes()))
        assert steps == [(at, 6) for at in range(1, 7)]
        source = open_archive(place)
        assert_same(source, full)
    for place in places[1:]:
        registry = open_registry(place)
        for tenant in ("acme", "zeta"):
            assert list(registry.list(tenant)) == list(full.list(tenant))
        # numbers stay given, the log goes on, and adapters are known again by their digests
        assert registry.publish("acme", "gone", uploads[6], actor="ann").version == 2
        assert registry.publish("acme", "sst2", uploads[2], actor="ann").created is False
        assert registry.publish("acme", "sst2", uploads[1], actor="ann").version == 5
        assert registry.changes()[len(full.changes())].position == full.changes()[-1].position + 1
        with pytest.raises(Conflict, match="traffic"):
            registry.delete("acme", "sst2", 3, actor="ann")


def test_files_that_two_tasks_share_stay_until_neither_has_them(
    full: SqliteRegistry, redis_server: RedisServer, published: list[PromptAdapter]
) -> None:
    place = redis_server.place()
    copy(full, open_archive(place))
    registry, digest = open_registry(place), published[0].digest
    registry.delete_alias("zeta", "sst2", "production", actor="zoe")
    registry.delete("zeta", "sst2", 1, actor="zoe")
    assert registry.get(digest) == full.get(digest)
    registry.set_traffic("acme", "sst2", Traffic(), actor="ann")
    registry.delete_alias("acme", "sst2", "stable", actor="ann")
    registry.delete("acme", "sst2", 1, actor="ann")
    with pytest.raises(NotFound):
        registry.get(digest)


def test_a_folder_has_a_peft_folder_for_each_version_and_one_index(
    full: SqliteRegistry, tmp_path: Path, uploads: Uploads
) -> None:
    folder = tmp_path / "backup"
    copy(full, open_archive(str(folder)))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "registry.json",
        "adapters/acme/sst2/v3/adapter_config.json",
        "adapters/zeta/bare/v1/superpos.json",
    } <= found
    assert (folder / "adapters/acme/sst2/v3" / MANIFEST).read_bytes() == uploads[2][MANIFEST]
    assert len({path.rsplit("/", 1)[0] for path in found}) == 1 + 6


@pytest.mark.slow
def test_a_log_of_many_pages_is_copied_whole(redis_server: RedisServer, uploads: Uploads) -> None:
    place, target = redis_server.place(), redis_server.place()
    source = open_registry(place)
    for files in uploads[:2]:
        source.publish("acme", "sst2", files, actor="ann")
    for number in range(1_200):
        source.set_alias("acme", "sst2", "production", 1 + number % 2, actor="ann")
    copy(open_archive(place), open_archive(target))
    assert_same(open_archive(target), open_archive(place))


def test_a_place_that_holds_something_is_not_copied_into(full: SqliteRegistry, empty: str, uploads: Uploads) -> None:
    copy(full, open_archive(empty))
    with pytest.raises(Conflict, match="the target is a registry with 5 tasks, expected an empty one"):
        copy(full, open_archive(empty))
    assert_same(open_archive(empty), full)


def test_a_copy_during_which_the_source_was_written_is_refused_and_has_no_log(
    full: SqliteRegistry, empty: str, uploads: Uploads
) -> None:
    def write(done: int, _: int) -> None:
        if done == 3:
            full.publish("acme", "late", uploads[9], actor="ann")

    target = open_archive(empty)
    with pytest.raises(Conflict, match="was written to while it was copied"):
        copy(full, target, on_version=write)
    assert target.changes() == []


def test_a_version_that_goes_while_it_is_copied_is_told_as_such(
    full: SqliteRegistry, empty: str, uploads: Uploads
) -> None:
    def write(done: int, _: int) -> None:
        if done == 1:
            full.delete("zeta", "bare", 1, actor="ann")

    with pytest.raises(Conflict, match=r"no bare@1: the registry was written to while it was copied"):
        copy(full, open_archive(empty), on_version=write)


def test_two_copies_into_one_folder_do_not_become_one(full: SqliteRegistry, tmp_path: Path, uploads: Uploads) -> None:
    """Both saw it empty; the index of the last would hide what the other wrote."""
    folder, other = str(tmp_path / "backup"), open_registry(tmp_path / "other.sqlite")
    other.publish("acme", "another", uploads[9], actor="ann")
    first, second = open_archive(folder), open_archive(folder)

    def meanwhile(done: int, _: int) -> None:
        if done == 1:
            with pytest.raises(Conflict, match="another copy is or was written to"):
                copy(other, second)

    copy(full, first, on_version=meanwhile)
    assert_same(open_archive(folder), full)


def test_what_is_restored_keeps_its_number_time_and_publisher(
    empty: str, published: list[PromptAdapter], uploads: Uploads
) -> None:
    target = open_archive(empty)
    version = VersionInfo(7, published[0].digest, AT, "ann")
    target.restore_version("acme", "sst2", version, uploads[0])
    record = TaskRecord(TaskInfo("acme", "sst2", (version,), {"best": 7}, Traffic(shadow=7)), 9)
    target.restore_task(record)
    assert list(target.records()) == [record]
    assert target.files("acme", "sst2", 7) == uploads[0]
    assert target.changes() == []


def test_a_version_is_restored_once_and_only_with_its_own_files(
    empty: str, published: list[PromptAdapter], uploads: Uploads
) -> None:
    target = open_archive(empty)
    version = VersionInfo(3, published[0].digest, AT, "ann")
    target.restore_version("acme", "sst2", version, uploads[0])
    another = VersionInfo(3, published[1].digest, AT, "ann")
    with pytest.raises(Conflict, match="sst2@3"):
        target.restore_version("acme", "sst2", another, uploads[1])
    with pytest.raises(Conflict, match=published[0].digest):
        target.restore_version("acme", "sst2", replace(version, version=4), uploads[0])
    with pytest.raises(InvalidAdapter, match="digest of sst2@4"):
        target.restore_version("acme", "sst2", replace(another, version=4), uploads[2])
    with pytest.raises(InvalidName):
        target.restore_version("acme", "../sst2", version, uploads[0])
    target.restore_version("zeta", "sst2", version, uploads[0])
    with pytest.raises(NotFound, match="sst2@5"):
        target.restore_task(TaskRecord(TaskInfo("acme", "sst2", (version,), {"production": 5}), 5))


def test_a_log_is_restored_only_behind_what_is_there(full: SqliteRegistry, empty: str) -> None:
    target, log = open_archive(empty), full.changes()
    target.restore_log([])
    target.restore_log(log[2:5])
    for again in (log[:2], log[4:]):
        with pytest.raises(Conflict, match="the log is at position 5, expected less than"):
            target.restore_log(again)
    target.restore_log(log[5:])
    assert list(target.changes()) == list(log[2:])


# --- folders that are not what they should be


def test_a_folder_with_other_things_is_neither_copied_into_nor_from(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RegistryUnavailable, match=r"is not empty and has no registry\.json"):
        open_archive(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"format": 1', '"format": 2', "format is 2"),
        ('"tenant": "acme"', '"tenant": "../../acme"', "tenant '../../acme' is not valid"),
        ('"task": "trec"', '"task": "/etc"', "task '/etc' is not valid"),
        ('"best": 1', '"best": 2', "no trec@2"),
        ('"percent": 12.5', '"percent": 120', "percent is 120"),
        ('"tasks"', '"task"', "tasks is nothing"),
        ("{", "", "invalid JSON"),
    ],
)
def test_a_damaged_index_is_refused(full: SqliteRegistry, tmp_path: Path, old: str, new: str, told: str) -> None:
    folder = tmp_path / "backup"
    copy(full, open_archive(str(folder)))
    index = folder / "registry.json"
    text = index.read_text(encoding="utf-8")
    assert old in text
    index.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(AdapterError, match=told):
        open_archive(str(folder))


def test_damaged_files_are_not_copied_on(full: SqliteRegistry, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    copy(full, open_archive(str(folder)))
    manifest = folder / "adapters/acme/sst2/v3" / MANIFEST
    changed = json.loads(manifest.read_text(encoding="utf-8"))
    changed["task"]["max_tokens"] += 1
    manifest.write_text(json.dumps(changed), encoding="utf-8")
    target = open_registry(tmp_path / "target.sqlite")
    with pytest.raises(InvalidAdapter, match="digest of sst2@3"):
        copy(FolderArchive(folder), target)
    manifest.unlink()
    with pytest.raises(InvalidAdapter, match=MANIFEST):
        copy(FolderArchive(folder), open_registry(tmp_path / "another.sqlite"))


def test_a_task_of_many_versions_is_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    versions = [VersionInfo(number, f"sha256:{number:064x}", AT, "ann") for number in range(1, 16_001)]
    record = TaskRecord(TaskInfo("acme", "sst2", tuple(reversed(versions)), {"production": 16_000}), 20_000)
    index = {"format": 1, "tasks": [TypeAdapter(TaskRecord).dump_python(record, mode="json")], "changes": []}
    (tmp_path / "registry.json").write_text(json.dumps(index), encoding="utf-8")
    started = time.process_time()
    [read] = FolderArchive(tmp_path).records()
    assert time.process_time() - started < 2, "a sort for each version took 5 s"
    assert (read.info.versions, read.last_version) == (tuple(versions), 20_000)


# --- the command


def test_the_command_copies_and_tells_what(full: SqliteRegistry, redis_server: RedisServer, tmp_path: Path) -> None:
    place = redis_server.place()
    there = superpos("registry", "copy", tmp_path / "full.sqlite", place)
    assert there.code == 0
    assert there.text == f"{place}: 5 tasks of 2 tenants, 6 versions of 5 adapters, 19 log entries".replace(
        redis_server.url, f"{redis_server.url}/0"
    )
    for source, target in ((place, tmp_path / "backup"), (tmp_path / "backup", tmp_path / "again.db")):
        assert superpos("registry", "copy", source, target).code == 0
    assert_same(open_registry(tmp_path / "again.db"), full)


def test_the_command_refuses_what_it_cannot_copy(full: SqliteRegistry, tmp_path: Path) -> None:
    copy_it = ("registry", "copy")
    assert "no such file or folder" in superpos(*copy_it, tmp_path / "none", tmp_path / "x").refusal()
    assert "expected an empty one" in superpos(*copy_it, tmp_path / "full.sqlite", tmp_path / "full.sqlite").refusal()
    assert "ftp://…" in superpos(*copy_it, tmp_path / "full.sqlite", "ftp://ann:secret@h/x").refusal()
    assert "not empty" in superpos(*copy_it, tmp_path / "full.sqlite", tmp_path).refusal()
    refused = superpos(*copy_it, "redis://:secret@127.0.0.1:1", tmp_path / "x").refusal()
    assert "redis://127.0.0.1:1/0" in refused
    assert "secret" not in refused
    assert not (tmp_path / "x").exists()
