"""Reading a registry's log for some of its entries: in parts that put together are the whole, on both registries."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.registry import Uploads

from adapters import Change, Conflict, NotFound, Registry, Traffic
from adapters.adapter import PromptAdapter
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


def test_other_threads_may_work_after_each_page(busy: Registry) -> None:
    pauses: list[int] = []
    read_log(busy, since=0, limit=100, pause=lambda: pauses.append(1))
    assert len(pauses) == 4
    task_log(busy, "acme", "sst2", since=0, limit=1, pause=lambda: pauses.append(1))
    assert len(pauses) == 5


def summary(changes: list[Change]) -> list[tuple[str, str, int, str | None]]:
    return [(change.kind, change.task, change.version, change.alias) for change in changes]


def test_the_log_tells_every_write_in_order(
    registry: Registry, published: list[PromptAdapter], uploads: Uploads
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("zeta", "trec", uploads[1], actor="zoe", aliases=())
    registry.publish("acme", "sst2", uploads[2], actor="bob", aliases=("canary", "best"))
    registry.set_alias("acme", "sst2", "production", 2, actor="cat", expected=1)
    registry.delete_alias("acme", "sst2", "best", actor="dan")
    registry.delete("acme", "sst2", 1, actor="eve")
    changes = list(registry.changes())
    told = [(c.kind, c.tenant, c.task, c.version, c.digest, c.alias, c.actor) for c in changes]
    first, other, second = (adapter.digest for adapter in published[:3])
    assert told == [
        ("published", "acme", "sst2", 1, first, None, "ann"),
        ("alias_set", "acme", "sst2", 1, first, "production", "ann"),
        ("published", "zeta", "trec", 1, other, None, "zoe"),
        ("published", "acme", "sst2", 2, second, None, "bob"),
        ("alias_set", "acme", "sst2", 2, second, "canary", "bob"),
        ("alias_set", "acme", "sst2", 2, second, "best", "bob"),
        ("alias_set", "acme", "sst2", 2, second, "production", "cat"),
        ("alias_deleted", "acme", "sst2", 2, second, "best", "dan"),
        ("version_deleted", "acme", "sst2", 1, first, None, "eve"),
    ]
    positions = [change.position for change in changes]
    assert positions == sorted(set(positions))
    assert positions[0] > 0
    times = [change.at for change in changes]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(UTC)


def test_the_log_goes_on_after_any_position(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    changes = registry.changes()
    for index, change in enumerate(changes):
        assert registry.changes(change.position) == changes[index + 1 :]
    assert registry.changes(changes[-1].position + 1_000) == []


def test_a_refused_write_leaves_no_trace_in_the_log(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    told = summary(list(registry.changes()))
    refusals: list[tuple[Callable[[], None], type[Exception]]] = [
        (lambda: registry.delete("acme", "sst2", 1, actor="ann"), Conflict),
        (lambda: registry.delete("acme", "sst2", 9, actor="ann"), NotFound),
        (lambda: registry.delete_alias("acme", "sst2", "canary", actor="ann"), NotFound),
        (lambda: registry.set_alias("acme", "sst2", "production", 9, actor="ann"), NotFound),
    ]
    for refused, error in refusals:
        with pytest.raises(error):
            refused()
    assert summary(list(registry.changes())) == told


def test_a_version_has_the_time_that_the_log_gives_its_publication(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:100]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    told = {change.version: change.at for change in registry.changes()}
    assert {info.version: info.created_at for info in registry.describe("acme", "sst2").versions} == told
