"""The catalog: the registry's log, replayed, is the registry."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import make_adapter

from adapters import Change, Conflict, NotFound, Ref, Registry, Resolution, TaskInfo
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.catalog.catalog import Catalog
from service.catalog.instrumented import OPERATIONS, RegistryCall, instrument

TENANTS = ["acme", "zeta"]
TASKS = ["sst2", "trec"]
ALIASES = ["production", "canary"]
NO_TIME = datetime.min
Uploads = list[dict[str, bytes]]


@pytest.fixture(scope="module")
def uploads(tiny: Backbone) -> Uploads:
    """The files of adapters that differ."""
    return [to_files(make_adapter(tiny, seed=seed, num_virtual_tokens=1)) for seed in range(4)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    return open_registry(tmp_path / "registry.sqlite")


def timeless(tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    """Tasks without the times of their versions, which have a test of their own."""
    return [
        replace(task, versions=tuple(replace(version, created_at=NO_TIME) for version in task.versions))
        for task in tasks
    ]


def test_a_part_of_ten_thousand_tasks_is_found_without_sorting_them_again() -> None:
    catalog, now = Catalog(), datetime.now()
    names = [f"task-{number * 7_919 % 10_000:04}" for number in range(10_000)]
    published = [
        Change(position, "published", "acme", name, 1, "sha256:0", None, "ann", now)
        for position, name in enumerate(names, start=1)
    ]
    catalog.apply(published[:5_000])
    assert len(catalog.tasks("acme", limit=3)) == 3
    catalog.apply(published[5_000:])
    listed = catalog.tasks("acme")
    assert [info.task for info in listed] == sorted(names)
    started = time.process_time()
    parts, after = [], ""
    while part := catalog.tasks("acme", after=after, limit=100):
        parts, after = parts + part, part[-1].task
    assert parts == listed
    assert time.process_time() - started < 1
    gone = Change(10_001, "version_deleted", "acme", "task-0001", 1, "sha256:0", None, "ann", now)
    catalog.apply([gone])
    assert [info.task for info in catalog.tasks("acme", limit=2)] == ["task-0000", "task-0002"]


def meaning(source: Registry | Catalog, tenant: str, ref: Ref) -> Resolution | type[Exception]:
    try:
        return source.resolve(tenant, ref)
    except (NotFound, Conflict) as exc:
        return type(exc)


def assert_same(catalog: Catalog, registry: Registry) -> None:
    for tenant in TENANTS:
        listed = registry.list(tenant)
        assert timeless(catalog.tasks(tenant)) == timeless(listed)
        for info in listed:
            assert timeless([catalog.task(tenant, info.task)]) == timeless([info])
        known = [f"@{version.digest}" for info in listed for version in info.versions]
        for selector in ("", *known, *(f"@{number}" for number in range(1, 8)), *(f"@{alias}" for alias in ALIASES)):
            for task in TASKS:
                ref = Ref.parse(task + selector)
                assert meaning(catalog, tenant, ref) == meaning(registry, tenant, ref)
    assert len(catalog) == sum(len(registry.list(tenant)) for tenant in TENANTS)


def test_an_empty_catalog_knows_nothing() -> None:
    catalog = Catalog()
    assert (len(catalog), catalog.position) == (0, 0)
    assert catalog.tasks("acme") == []
    with pytest.raises(NotFound, match="no task 'sst2'"):
        catalog.task("acme", "sst2")
    with pytest.raises(NotFound, match="no task 'sst2'"):
        catalog.resolve("acme", Ref.parse("sst2"))


def test_a_catalog_finds_what_every_ref_means(registry: Registry, uploads: Uploads) -> None:
    first, second = (registry.publish("acme", "sst2", files, actor="ann") for files in uploads[:2])
    registry.set_alias("acme", "sst2", "canary", 1, actor="ann")
    catalog = Catalog()
    catalog.apply(registry.changes())
    assert catalog.resolve("acme", Ref.parse("sst2")) == Resolution("sst2", 2, second.digest)
    assert catalog.resolve("acme", Ref.parse("sst2@canary")) == Resolution("sst2", 1, first.digest)
    assert catalog.resolve("acme", Ref.parse(f"sst2@{first.digest[:19]}")).version == 1
    for text in ("sst2@3", "sst2@best", "trec", "sst2@sha256:000000000000"):
        with pytest.raises(NotFound):
            catalog.resolve("acme", Ref.parse(text))
    with pytest.raises(NotFound, match="no task 'sst2'"):
        catalog.resolve("zeta", Ref.parse("sst2"))


def test_a_task_whose_last_version_went_is_gone_and_comes_back(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.delete_alias("acme", "sst2", "production", actor="ann")
    registry.delete("acme", "sst2", 1, actor="ann")
    catalog = Catalog()
    catalog.apply(registry.changes())
    assert len(catalog) == 0
    assert_same(catalog, registry)
    registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("canary",))
    catalog.apply(registry.changes(catalog.position))
    assert catalog.task("acme", "sst2").aliases == {"canary": 2}
    assert_same(catalog, registry)


def test_changes_replayed_twice_or_from_too_early_change_nothing(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    registry.delete("acme", "sst2", 1, actor="ann")
    changes = registry.changes()
    catalog = Catalog()
    catalog.apply(changes)
    catalog.apply(changes)
    catalog.apply(changes[:1])
    assert catalog.position == changes[-1].position
    assert_same(catalog, registry)


def test_a_task_taken_from_the_catalog_does_not_change_under_its_reader(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    catalog = Catalog()
    catalog.apply(registry.changes())
    before = catalog.task("acme", "sst2")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    catalog.apply(registry.changes(catalog.position))
    assert [version.version for version in before.versions] == [1]
    assert before.aliases == {"production": 1}


def test_versions_have_the_times_that_the_registry_gives_them(registry: Registry, uploads: Uploads) -> None:
    for _ in range(15):
        for files in uploads:
            registry.publish("acme", "sst2", files, actor="ann", aliases=())
        for info in registry.describe("acme", "sst2").versions[:-1]:
            registry.delete("acme", "sst2", info.version, actor="ann")
        catalog = Catalog()
        catalog.apply(registry.changes())
        assert catalog.tasks("acme") == registry.list("acme")
        registry.delete("acme", "sst2", registry.list("acme")[0].versions[0].version, actor="ann")


tenants, tasks, aliases, numbers = (
    st.sampled_from(TENANTS),
    st.sampled_from(TASKS),
    st.sampled_from(ALIASES),
    st.integers(1, 5),
)
operations = st.one_of(
    st.tuples(st.just("publish"), tenants, tasks, st.integers(0, 3), st.lists(aliases, unique=True)),
    st.tuples(st.just("publish"), tenants, tasks, st.integers(0, 3), st.lists(aliases, unique=True)),
    st.tuples(st.just("set_alias"), tenants, tasks, aliases, numbers),
    st.tuples(st.just("delete_alias"), tenants, tasks, aliases),
    st.tuples(st.just("delete"), tenants, tasks, numbers),
    st.just(("follow",)),
)


def perform(registry: Registry, uploads: Uploads, name: str, *values: object) -> None:
    """One write, which the registry may refuse."""
    try:
        match name, values:
            case "publish", (str(tenant), str(task), int(index), list(named)):
                registry.publish(tenant, task, uploads[index], actor="ann", aliases=named)
            case "set_alias", (str(tenant), str(task), str(alias), int(version)):
                registry.set_alias(tenant, task, alias, version, actor="bob")
            case "delete_alias", (str(tenant), str(task), str(alias)):
                registry.delete_alias(tenant, task, alias, actor="cat")
            case "delete", (str(tenant), str(task), int(version)):
                registry.delete(tenant, task, version, actor="dan")
            case _:
                raise AssertionError(f"no operation {name!r}")
    except (NotFound, Conflict):
        pass


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(steps=st.lists(operations, min_size=4, max_size=30))
def test_a_replayed_log_is_the_registry_whatever_was_written(
    tmp_path_factory: pytest.TempPathFactory, uploads: Uploads, steps: list[tuple[str, ...]]
) -> None:
    registry = open_registry(tmp_path_factory.mktemp("catalog") / "registry.sqlite")
    follower, late, restored = Catalog(), Catalog(), Catalog()
    for name, *values in steps:
        if name == "follow":
            follower.apply(registry.changes(follower.position))
            assert_same(follower, registry)
            restored.restore(registry.snapshot())
            assert_same(restored, registry)
        else:
            perform(registry, uploads, name, *values)
    follower.apply(registry.changes(follower.position))
    assert_same(follower, registry)
    late.apply(registry.changes())
    assert_same(late, registry)
    restored.apply(registry.changes(restored.position))
    assert_same(restored, registry)
    assert late.position == follower.position == restored.position
    for tenant in TENANTS:
        assert {catalog.num_tasks(tenant) for catalog in (follower, late, restored)} == {len(registry.list(tenant))}
        aliases = sum(len(info.aliases) for info in registry.list(tenant))
        assert {catalog.num_aliases(tenant) for catalog in (follower, late, restored)} == {aliases}


def test_an_instrumented_registry_has_all_operations_and_reports_them(registry: Registry) -> None:
    assert set(OPERATIONS) == {name for name in vars(Registry) if not name.startswith("_")}
    calls: list[RegistryCall] = []
    instrumented = instrument(registry, calls.append)
    assert list(instrumented.changes(limit=1)) == []
    with pytest.raises(NotFound):
        instrumented.get("sha256:" + "0" * 64)
    assert [(call.operation, call.failed) for call in calls] == [("changes", False), ("get", False)]
    assert all(call.started <= call.ended for call in calls)
