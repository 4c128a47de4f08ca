"""What is the Redis registry's alone: its prefix, its server's refusals, long logs, and that it agrees with SQLite."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis import RedisServer
from support.registry import Uploads

from adapters import Conflict, NotFound, Registry, RegistryUnavailable, Traffic
from adapters.registry.opening import open_registry
from adapters.storage.redis import connect

Start = Callable[..., RedisServer]


def test_registries_under_two_prefixes_of_one_server_do_not_see_each_other(
    redis_server: RedisServer, uploads: Uploads
) -> None:
    place, other_place = redis_server.place(), redis_server.place()
    one, other = open_registry(place), open_registry(other_place)
    one.publish("acme", "sst2", uploads[0], actor="ann")
    assert (other.list("acme"), other.changes()) == ([], [])
    digest = other.publish("acme", "sst2", uploads[1], actor="bob").digest
    with pytest.raises(NotFound):
        one.get(digest)
    other.delete_alias("acme", "sst2", "production", actor="bob")
    other.delete("acme", "sst2", 1, actor="bob")
    assert [c.kind for c in one.changes()] == ["published", "alias_set"]
    assert [v.version for v in one.describe("acme", "sst2").versions] == [1]


def test_every_key_is_under_the_prefix_and_a_deleted_versions_files_are_gone(
    start_redis: Start, uploads: Uploads
) -> None:
    server = start_redis()
    registry = open_registry(f"{server.url}?prefix={{team}}")
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    registry.delete("acme", "sst2", 1, actor="ann")
    keys = {key.decode() for key in server.client().scan_iter()}
    assert all(key.startswith("{team}:") for key in keys)
    assert len([key for key in keys if key.startswith(("{team}:files:", "{team}:uses:"))]) == 2


def test_names_cannot_reach_keys_of_another_kind(redis_server: RedisServer, uploads: Uploads) -> None:
    registry = open_registry(redis_server.place())
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    for tenant, task in (("acme:sst2", ""), ("", "acme:sst2"), ("acme", "sst2:"), ("acme:", "sst2")):
        with pytest.raises(NotFound):
            registry.describe(tenant, task)
        with pytest.raises(NotFound):
            registry.set_alias(tenant, task, "canary", 1, actor="ann")


def test_a_full_server_refuses_in_its_own_words_nothing_is_half_written_and_deleting_helps(
    start_redis: Start, uploads: Uploads
) -> None:
    server = start_redis("--maxmemory-policy", "noeviction")
    registry = open_registry(server.url)
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.set_traffic("acme", "sst2", Traffic(shadow=2), actor="ann")
    told, listed = registry.changes(), registry.list("acme")
    server.client().config_set("maxmemory", 1)
    writes: list[Callable[[], object]] = [
        lambda: registry.publish("acme", "sst2", uploads[3], actor="ann"),
        lambda: registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("canary",)),
        lambda: registry.set_alias("acme", "sst2", "production", 1, actor="ann"),
        lambda: registry.set_traffic("acme", "sst2", Traffic(), actor="ann"),
    ]
    for write in writes:
        with pytest.raises(RegistryUnavailable, match="maxmemory"):
            write()
    assert (registry.changes(), registry.list("acme")) == (told, listed)
    registry.delete("acme", "sst2", 1, actor="ann")
    registry.delete_alias("acme", "sst2", "production", actor="ann")
    assert [c.kind for c in registry.changes()[len(told) :]] == ["version_deleted", "alias_deleted"]
    server.client().config_set("maxmemory", 0)
    assert registry.publish("acme", "sst2", uploads[3], actor="ann").version == 4


def test_a_replica_refuses_writes_in_its_own_words(start_redis: Start, uploads: Uploads) -> None:
    server = start_redis()
    registry = open_registry(server.url)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    told = registry.changes()
    server.client().replicaof("127.0.0.1", str(server.port))  # of itself: it never gets further than to be one
    for write in (
        lambda: registry.publish("acme", "sst2", uploads[1], actor="ann"),
        lambda: registry.delete_alias("acme", "sst2", "production", actor="ann"),
    ):
        with pytest.raises(RegistryUnavailable, match="read only replica"):
            write()
    server.client().replicaof("NO", "ONE")
    assert registry.changes() == told


def test_scripts_that_the_server_forgot_are_given_to_it_again(start_redis: Start, uploads: Uploads) -> None:
    server = start_redis()
    registry = open_registry(server.url)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    server.client().script_flush()
    assert registry.publish("acme", "sst2", uploads[1], actor="ann").version == 2


def test_a_log_longer_than_a_page_is_read_whole_and_in_order(redis_server: RedisServer, uploads: Uploads) -> None:
    place = redis_server.place()
    registry = open_registry(place)
    for files in uploads[:2]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    for number in range(1_100):
        registry.set_alias("acme", "sst2", "production", 1 + number % 2, actor="ann")
    changes = registry.changes()
    assert [change.position for change in changes] == list(range(1, 1_103))
    assert registry.changes(602) == changes[602:]
    assert connect(place).client.xlen(connect(place).key("changes")) == 1_102


# --- the two registries agree, whatever is written

TENANTS, TASKS = ("acme", "zeta"), ("sst2", "trec")
tenants, tasks, aliases, numbers = (
    st.sampled_from(TENANTS),
    st.sampled_from(TASKS),
    st.sampled_from(("production", "canary")),
    st.integers(1, 5),
)
traffics = st.one_of(
    st.builds(Traffic, canary=numbers, percent=st.sampled_from((0.0, 10.0)), shadow=st.none() | numbers),
    st.builds(Traffic, shadow=st.none() | numbers),
)
operations = st.one_of(
    st.tuples(st.just("publish"), tenants, tasks, st.integers(0, 3), st.none() | st.lists(aliases, unique=True)),
    st.tuples(st.just("publish"), tenants, tasks, st.integers(0, 3), st.none() | st.lists(aliases, unique=True)),
    st.tuples(st.just("set_alias"), tenants, tasks, aliases, numbers, st.none() | numbers),
    st.tuples(st.just("delete_alias"), tenants, tasks, aliases),
    st.tuples(st.just("set_traffic"), tenants, tasks, traffics),
    st.tuples(st.just("delete"), tenants, tasks, numbers),
)


def outcome(registry: Registry, uploads: Uploads, name: str, *values: object) -> object:
    """What a write answered or how it was refused."""
    try:
        match name, values:
            case "publish", (str(tenant), str(task), int(index), named):
                return registry.publish(tenant, task, uploads[index], actor="ann", aliases=named)  # type: ignore[arg-type]
            case "set_alias", (str(tenant), str(task), str(alias), int(version), expected):
                registry.set_alias(tenant, task, alias, version, actor="bob", expected=expected)  # type: ignore[arg-type]
            case "delete_alias", (str(tenant), str(task), str(alias)):
                registry.delete_alias(tenant, task, alias, actor="cat")
            case "set_traffic", (str(tenant), str(task), Traffic() as traffic):
                registry.set_traffic(tenant, task, traffic, actor="dan")
            case "delete", (str(tenant), str(task), int(version)):
                registry.delete(tenant, task, version, actor="eve")
            case _:
                raise AssertionError(f"no operation {name!r}")
    except (NotFound, Conflict) as exc:
        return type(exc), str(exc)
    return None


def told(registry: Registry) -> list[tuple[object, ...]]:
    """The log without its times."""
    return [
        (c.position, c.kind, c.tenant, c.task, c.version, c.digest, c.alias, c.actor, c.traffic)
        for c in registry.changes()
    ]


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(operations, min_size=4, max_size=30))
@pytest.mark.slow
def test_both_registries_answer_and_refuse_alike_and_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    uploads: Uploads,
    steps: list[tuple[str, ...]],
) -> None:
    sqlite = open_registry(Path(tmp_path_factory.mktemp("agree")) / "registry.sqlite")
    redis = open_registry(redis_server.place())
    for name, *values in steps:
        assert outcome(redis, uploads, name, *values) == outcome(sqlite, uploads, name, *values)
    assert told(redis) == told(sqlite)
    for tenant in TENANTS:
        listed = [
            [
                (i.task, [(v.version, v.digest, v.actor) for v in i.versions], i.aliases, i.traffic)
                for i in registry.list(tenant)
            ]
            for registry in (redis, sqlite)
        ]
        assert listed[0] == listed[1]
