"""The registry's traffic: how a task's bare name is answered, and what that keeps from being deleted."""

import json
import sqlite3

import pytest
import redis
from support.registry import Store, Uploads

from adapters import NO_TRAFFIC, Conflict, NotFound, Registry, Traffic

HALF = Traffic(canary=2, percent=12.5, shadow=1)


@pytest.fixture
def two(registry: Registry, uploads: Uploads) -> Registry:
    """A registry whose one task has two versions, neither in production."""
    for files in uploads[:2]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    return registry


def test_traffic_is_what_was_set_last_and_nothing_at_first(two: Registry) -> None:
    assert two.describe("acme", "sst2").traffic == NO_TRAFFIC
    two.set_traffic("acme", "sst2", HALF, actor="ann")
    assert two.describe("acme", "sst2").traffic == HALF
    assert two.list("acme")[0].traffic == HALF
    two.set_traffic("acme", "sst2", Traffic(shadow=2), actor="ann")
    assert two.describe("acme", "sst2").traffic == Traffic(shadow=2)
    two.set_traffic("acme", "sst2", NO_TRAFFIC, actor="ann")
    assert two.describe("acme", "sst2").traffic == NO_TRAFFIC


def test_fields_that_a_newer_server_writes_are_ignored(two: Registry, store: Store) -> None:
    two.set_traffic("acme", "sst2", HALF, actor="ann")
    newer = json.dumps({"canary": 2, "percent": 12.5, "shadow": 1, "mirror": 7})
    if store.place.startswith("redis"):
        client = redis.Redis.from_url(store.place.split("?")[0])
        for key in client.scan_iter(f"{store.place.rpartition('prefix=')[2]}:*"):
            if client.type(key) == b"hash" and client.hexists(key, "traffic"):
                client.hset(key, "traffic", newer)
            if client.type(key) == b"stream":
                client.xadd(key, {**client.xrevrange(key, count=1)[0][1], "traffic": newer, "region": "eu"}, id="90-0")
    else:
        with sqlite3.connect(store.place) as db:
            db.execute("ALTER TABLE changes ADD COLUMN region TEXT")
            db.execute("UPDATE changes SET region = 'eu'")
            db.execute("UPDATE changes SET traffic = ? WHERE kind = 'traffic_set'", (newer,))
            db.execute("UPDATE traffic SET traffic = ?", (newer,))
    again = store.open()
    assert again.describe("acme", "sst2").traffic == HALF
    assert again.changes()[-1].traffic == HALF


def test_the_log_tells_traffic_and_only_where_it_changes(two: Registry) -> None:
    position = two.changes()[-1].position
    for traffic in (NO_TRAFFIC, HALF, HALF, Traffic(canary=2, percent=100), Traffic(canary=2, percent=100.0)):
        two.set_traffic("acme", "sst2", traffic, actor="bob")
    told = [(c.kind, c.task, c.version, c.digest, c.actor, c.traffic) for c in two.changes(position)]
    assert told == [
        ("traffic_set", "sst2", 0, "", "bob", HALF),
        ("traffic_set", "sst2", 0, "", "bob", Traffic(canary=2, percent=100)),
    ]


@pytest.mark.parametrize("traffic", [Traffic(canary=3, percent=1), Traffic(shadow=3), Traffic(1, 5, 3)])
def test_traffic_cannot_need_a_version_that_is_not_there(two: Registry, traffic: Traffic) -> None:
    two.set_traffic("acme", "sst2", HALF, actor="ann")
    position = two.changes()[-1].position
    with pytest.raises(NotFound, match="no sst2@3"):
        two.set_traffic("acme", "sst2", traffic, actor="ann")
    assert two.describe("acme", "sst2").traffic == HALF
    assert two.changes(position) == []


def test_a_task_that_is_not_there_has_no_traffic_to_set(two: Registry) -> None:
    for tenant, task in (("acme", "trec"), ("zeta", "sst2")):
        with pytest.raises(NotFound, match=f"no task '{task}'"):
            two.set_traffic(tenant, task, NO_TRAFFIC, actor="ann")


@pytest.mark.parametrize("traffic", [Traffic(canary=1, percent=5), Traffic(shadow=1)])
def test_a_version_that_traffic_needs_is_not_deleted(two: Registry, traffic: Traffic) -> None:
    two.set_traffic("acme", "sst2", traffic, actor="ann")
    with pytest.raises(Conflict, match="the traffic of sst2 needs version 1, change that first"):
        two.delete("acme", "sst2", 1, actor="ann")
    two.set_traffic("acme", "sst2", NO_TRAFFIC, actor="ann")
    two.delete("acme", "sst2", 1, actor="ann")
    assert [info.version for info in two.describe("acme", "sst2").versions] == [2]
