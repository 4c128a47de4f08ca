"""The registry's tenants: none sees, reaches or counts another's tasks."""

from collections.abc import Callable

import pytest
from support.registry import Uploads

from adapters import NotFound, Ref, Registry


def test_tenants_neither_see_nor_reach_each_others_tasks(registry: Registry, uploads: Uploads) -> None:
    mine = registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("production", "mine"))
    registry.publish("zeta", "trec", uploads[1], actor="zoe")
    actions: list[Callable[[], object]] = [
        lambda: registry.describe("zeta", "sst2"),
        lambda: registry.resolve("zeta", Ref.parse("sst2")),
        lambda: registry.resolve("zeta", Ref.parse("sst2@1")),
        lambda: registry.resolve("zeta", Ref.parse(f"sst2@{mine.digest}")),
        lambda: registry.resolve("zeta", Ref.parse(f"trec@{mine.digest}")),
        lambda: registry.set_alias("zeta", "sst2", "canary", 1, actor="zoe"),
        lambda: registry.delete_alias("zeta", "sst2", "mine", actor="zoe"),
        lambda: registry.delete("zeta", "sst2", 1, actor="zoe"),
    ]
    position = registry.changes()[-1].position
    for action in actions:
        with pytest.raises(NotFound):
            action()
    assert registry.changes(position) == []
    assert [info.task for info in registry.list("zeta")] == ["trec"]
    assert [info.task for info in registry.list("acme")] == ["sst2"]


def test_another_tenants_task_and_no_task_are_refused_in_the_same_words(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "secret", uploads[0], actor="ann")
    messages = []
    for tenant in ("zeta", "nobody"):
        with pytest.raises(NotFound) as caught:
            registry.resolve(tenant, Ref.parse("secret"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_tenants_count_versions_of_the_same_task_name_apart(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    other = registry.publish("zeta", "sst2", uploads[0], actor="zoe")
    assert (other.version, other.created) == (1, True)
    assert registry.resolve("acme", Ref.parse("sst2")).version == 2
    assert registry.resolve("zeta", Ref.parse("sst2")).version == 1
