"""What is the Redis registry's alone: its prefix, its server's refusals, long logs, and that it agrees with SQLite."""

from collections.abc import Callable

import pytest
from support.proxy import Proxy
from support.redis import RedisServer
from support.registry import Uploads
from support.waiting import eventually

from adapters import NotFound, OutcomeUnknown, RegistryReadOnly, RegistryUnavailable, Traffic
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
        with pytest.raises(RegistryReadOnly, match="read only replica"):
            write()
    server.client().replicaof("NO", "ONE")
    assert registry.changes() == told


def attach(replica: RedisServer, master: RedisServer) -> None:
    """Make a server a replica, and wait until it has what its master has."""
    replica.client().replicaof("127.0.0.1", str(master.port))
    eventually(lambda: replica.client().info("replication")["master_link_status"] == "up")


@pytest.mark.slow
def test_a_name_that_leads_to_a_new_master_is_followed_at_the_first_refusal(
    start_redis: Start, uploads: Uploads
) -> None:
    """A managed failover: the old master stays, as a replica, and so do the connections to it."""
    old, new = start_redis(), start_redis()
    way = Proxy(old.port)
    registry = open_registry(f"redis://127.0.0.1:{way.port}")
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    attach(new, old)
    new.client().replicaof("NO", "ONE")
    way.lead_to(new.port)
    attach(old, new)
    assert registry.publish("acme", "sst2", uploads[1], actor="ann").version == 2
    assert [change.version for change in open_registry(new.url).changes() if change.kind == "published"] == [1, 2]
    way.close()


@pytest.mark.slow
def test_a_write_counts_once_a_replica_has_it(start_redis: Start, uploads: Uploads) -> None:
    master, replica = start_redis(), start_redis()
    registry = open_registry(f"{master.url}?min_replicas=1&socket_timeout=0.8")
    writes: list[Callable[[], object]] = [
        lambda: registry.publish("acme", "sst2", uploads[0], actor="ann"),
        lambda: registry.set_alias("acme", "sst2", "canary", 1, actor="ann"),
    ]
    for write in writes:
        with pytest.raises(OutcomeUnknown, match="0 of the 1 replicas"):
            write()
    master.client().config_set("min-replicas-to-write", 1)
    with pytest.raises((RegistryReadOnly, OutcomeUnknown)):  # Redis 6 lets scripts write without good replicas
        registry.publish("acme", "sst2", uploads[1], actor="ann")
    attach(replica, master)
    eventually(lambda: master.client().info("replication")["min_slaves_good_slaves"] == 1)
    again = registry.publish("acme", "sst2", uploads[0], actor="ann")
    assert (again.version, again.created) == (1, False)
    master.client().script_flush()
    assert registry.publish("acme", "sst2", uploads[1], actor="ann").version == 2
    assert open_registry(replica.url).changes() == registry.changes()


@pytest.mark.slow
def test_a_repeated_write_that_finds_nothing_to_do_waits_for_the_replica_too(
    start_redis: Start, uploads: Uploads
) -> None:
    """The first attempt was not confirmed: the second must not be, as long as no replica has it."""
    master = start_redis()
    registry = open_registry(f"{master.url}?min_replicas=1&socket_timeout=0.8")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            registry.publish("acme", "sst2", uploads[0], actor="ann")
        connect(master.url).client.connection_pool.disconnect()
    assert len(registry.changes()) == 2


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
