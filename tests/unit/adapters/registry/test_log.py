"""The registry's log: every write in order, and nothing of a refused one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.registry import Uploads

from adapters import Change, Conflict, NotFound, Registry
from adapters.adapter import PromptAdapter


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
