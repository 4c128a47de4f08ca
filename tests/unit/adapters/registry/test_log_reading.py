"""Reading a registry's log for some of its entries: in parts that put together are the whole, on both registries."""

import pytest
from support.registry import Uploads

from adapters import Registry, Traffic
from adapters.registry import log_reading
from adapters.registry.log_reading import LogPart, read_log, task_log


@pytest.fixture
def busy(registry: Registry, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A log of sixteen entries, read three at a time, twelve at most at once."""
    monkeypatch.setattr(log_reading, "_PAGE", 3)
    monkeypatch.setattr(log_reading, "_MAX_PAGES", 4)
    for number, tenant in enumerate(("acme", "zeta", "acme")):
        registry.publish(tenant, "sst2", uploads[number], actor=f"key:{number}")
    registry.publish("acme", "topic", uploads[0], actor="key:0", aliases=[])
    registry.set_traffic("acme", "sst2", Traffic(canary=1, percent=5), actor="key:9")
    for _ in range(4):
        registry.set_alias("zeta", "sst2", "canary", 1, actor="key:1")
        registry.delete_alias("zeta", "sst2", "canary", actor="key:1")
    return registry


def told(part: LogPart) -> list[tuple[str, int, str]]:
    """Entries without their places and times."""
    return [(change.kind, change.version, change.actor) for change in part.entries]


def test_a_log_is_read_no_further_than_it_is_told(busy: Registry) -> None:
    whole = busy.changes()
    for limit in (1, 3, 4, len(whole), len(whole) + 1):
        assert busy.changes(limit=limit) == whole[:limit]
    assert busy.changes(whole[2].position, limit=2) == whole[3:5]


def test_one_tasks_entries_are_found_among_the_others(busy: Registry) -> None:
    part = task_log(busy, "acme", "sst2", since=0, limit=100)
    assert told(part) == [
        ("published", 1, "key:0"),
        ("alias_set", 1, "key:0"),
        ("published", 2, "key:2"),
        ("alias_set", 2, "key:2"),
        ("traffic_set", 0, "key:9"),
    ]
    assert told(task_log(busy, "acme", "topic", since=0, limit=1)) == [("published", 1, "key:0")]
    assert task_log(busy, "zeta", "topic", since=0, limit=100).entries == []


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_the_parts_of_a_log_put_together_are_all_of_it(busy: Registry, limit: int) -> None:
    whole, found, since, readings = list(busy.changes()), [], 0, 0
    while True:
        part = read_log(busy, since=since, limit=limit)
        assert len(part.entries) <= limit
        found.extend(part.entries)
        since, readings = part.position, readings + 1
        if part.complete:
            break
    assert found == whole
    assert part.position == whole[-1].position
    assert readings == len(whole) // min(limit, 12) + 1  # twelve: four pages of three


def test_a_reading_that_finds_nothing_stops_and_says_how_far_it_came(busy: Registry) -> None:
    whole = busy.changes()
    part = task_log(busy, "nobody", "sst2", since=0, limit=1)
    assert (part.entries, part.position, part.complete) == ([], whole[11].position, False)
    rest = task_log(busy, "nobody", "sst2", since=part.position, limit=1)
    assert (rest.entries, rest.position, rest.complete) == ([], whole[-1].position, True)
