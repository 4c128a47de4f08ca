"""The registry's aliases: where they move, from where, and whose move wins."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.registry import Store, Uploads

from adapters import ABSENT, Conflict, InvalidName, NotFound, Ref, Registry


def test_an_alias_moves_where_it_is_where_the_caller_expects_it(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=3)
    assert registry.resolve("acme", Ref.parse("sst2")).version == 1


def test_an_alias_that_has_moved_meanwhile_is_a_conflict_and_stays(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    position = registry.changes()[-1].position
    with pytest.raises(Conflict, match="sst2@production points at version 3, expected version 2"):
        registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=2)
    with pytest.raises(Conflict, match="sst2@canary points at nothing, expected version 1"):
        registry.set_alias("acme", "sst2", "canary", 2, actor="ann", expected=1)
    assert registry.describe("acme", "sst2").aliases == {"production": 3}
    assert registry.changes(position) == []


def test_an_alias_set_to_where_it_is_leaves_no_change(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    position = registry.changes()[-1].position
    registry.set_alias("acme", "sst2", "production", 1, actor="ann")
    registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=1)
    assert registry.changes(position) == []


@pytest.mark.parametrize(("task", "version"), [("sst2", 2), ("trec", 1)])
def test_an_alias_cannot_point_at_nothing(registry: Registry, uploads: Uploads, task: str, version: int) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(NotFound, match=f"{task}@{version}"):
        registry.set_alias("acme", task, "canary", version, actor="ann")
    assert registry.describe("acme", "sst2").aliases == {"production": 1}


@pytest.mark.parametrize("alias", ["3", "", "Canary", "a@b"])
def test_a_badly_named_alias_is_refused(registry: Registry, uploads: Uploads, alias: str) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(InvalidName):
        registry.set_alias("acme", "sst2", alias, 1, actor="ann")


def test_a_deleted_alias_is_not_found_and_its_version_stays(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("production", "canary"))
    registry.delete_alias("acme", "sst2", "canary", actor="ann")
    assert registry.describe("acme", "sst2").aliases == {"production": 1}
    with pytest.raises(NotFound, match="sst2@canary"):
        registry.resolve("acme", Ref.parse("sst2@canary"))
    with pytest.raises(NotFound, match="sst2@canary"):
        registry.delete_alias("acme", "sst2", "canary", actor="ann")
    assert registry.resolve("acme", Ref.parse("sst2@1")).version == 1


def test_of_many_who_move_an_alias_from_the_same_place_one_succeeds(store: Store, uploads: Uploads) -> None:
    registry = store.open()
    for files in uploads[:9]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    registry.set_alias("acme", "sst2", "production", 1, actor="ann")
    together = threading.Barrier(8)

    def move(version: int) -> bool:
        mine = store.open()
        together.wait()
        try:
            mine.set_alias("acme", "sst2", "production", version, actor=f"actor-{version}", expected=1)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        moved = dict(zip(range(2, 10), pool.map(move, range(2, 10)), strict=True))
    assert sum(moved.values()) == 1
    assert moved[registry.resolve("acme", Ref.parse("sst2")).version]
    assert registry.changes()[-1].kind == "alias_set"
    assert len(registry.changes()) == 9 + 1 + 1


def test_an_alias_that_must_be_absent_is_made_once(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:2]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.set_alias("acme", "sst2", "canary", 1, actor="ann", expected=ABSENT)
    with pytest.raises(Conflict, match="sst2@canary points at version 1, expected nothing"):
        registry.set_alias("acme", "sst2", "canary", 2, actor="ann", expected=ABSENT)
    assert registry.describe("acme", "sst2").aliases["canary"] == 1


def test_an_alias_that_has_moved_meanwhile_is_not_deleted(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:2]:
        registry.publish("acme", "sst2", files, actor="ann")
    position = registry.changes()[-1].position
    for stale in (1, ABSENT):
        with pytest.raises(Conflict, match="sst2@production points at version 2, expected"):
            registry.delete_alias("acme", "sst2", "production", actor="ann", expected=stale)
    assert registry.changes(position) == []
    registry.delete_alias("acme", "sst2", "production", actor="ann", expected=2)
    assert registry.describe("acme", "sst2").aliases == {}
