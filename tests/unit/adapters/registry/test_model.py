"""Stores against one simple model: the same operations give the same state, the same log and the same refusals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis import RedisServer
from support.registry import Uploads
from support.registry_model import RegistryModel
from support.registry_steps import outcome, restorations, writes

from adapters import Registry, TaskInfo
from adapters.registry.archive import Archive, TaskRecord
from adapters.registry.opening import open_archive, open_registry


def kind(answer: object) -> object:
    """An answer without the words of a refusal: the model has none."""
    return answer[0] if isinstance(answer, tuple) and isinstance(answer[0], type) else answer


def told(registry: Registry) -> list[tuple[object, ...]]:
    """The log without positions, times and digests."""
    return [(c.kind, c.tenant, c.task, c.version, c.alias, c.actor, c.traffic) for c in registry.changes()]


def state(archive: Archive) -> dict[tuple[str, str], tuple[object, ...]]:
    return {
        (r.info.tenant, r.info.task): (
            r.last_version,
            {version.version: version.digest for version in r.info.versions},
            dict(r.info.aliases),
            r.info.traffic,
        )
        for r in archive.records()
    }


def state_of(model: RegistryModel) -> dict[tuple[str, str], tuple[object, ...]]:
    return {key: (t.last, t.versions, t.aliases, t.traffic) for key, t in model.tasks.items() if t.last}


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(writes, min_size=4, max_size=30))
@pytest.mark.slow
def test_registries_answer_and_refuse_as_the_model_does_and_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, uploads: Uploads, steps: Sequence[Any]
) -> None:
    sqlite = open_registry(tmp_path_factory.mktemp("agree") / "registry.sqlite")
    redis, model = open_registry(redis_server.place()), RegistryModel()
    for step in steps:
        answer = outcome(sqlite, uploads, step)
        assert outcome(redis, uploads, step) == answer
        assert kind(outcome(model, uploads, step)) == kind(answer)
        for info in sqlite.list(step[1][0]):  # production is no canary or shadow of itself, whatever was done
            assert info.aliases.get("production") not in info.traffic.versions
    assert told(redis) == told(sqlite) == model.log
    assert [c.position for c in redis.changes()] == [c.position for c in sqlite.changes()]
    assert state(redis) == state(sqlite) == state_of(model)


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(restorations, min_size=3, max_size=15), then=st.lists(writes, max_size=4))
@pytest.mark.slow
def test_archives_restore_as_the_model_does_and_registries_go_on_from_there_alike(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: RedisServer,
    uploads: Uploads,
    steps: Sequence[Any],
    then: Sequence[Any],
) -> None:
    folder = tmp_path_factory.mktemp("restored")
    places = [str(folder / "registry.sqlite"), redis_server.place(), str(folder / "archive")]
    archives, model = [open_archive(place) for place in places], RegistryModel()
    for step in steps:
        answers = [outcome(archive, uploads, step) for archive in archives]
        assert answers == answers[:1] * 3
        assert kind(outcome(model, uploads, step)) == kind(answers[0])
        assert [state(archive) for archive in archives] == [state_of(model)] * 3
    for step in then:  # numbers that were given once are not given again
        answers = [outcome(archive, uploads, step) for archive in archives[:2]]
        assert answers == answers[:1] * 2
        assert kind(outcome(model, uploads, step)) == kind(answers[0])
    assert [state(archive) for archive in archives[:2]] == [state_of(model)] * 2


def test_restore_task_never_lowers_the_last_number(redis_server: RedisServer, tmp_path: Path, uploads: Uploads) -> None:
    for place in (str(tmp_path / "registry.sqlite"), redis_server.place()):
        registry = open_registry(place)
        for files in uploads[:2]:
            registry.publish("acme", "sst2", files, actor="ann")
        registry.restore_task(TaskRecord(TaskInfo("acme", "sst2", (), {"production": 2}), 1))
        assert registry.publish("acme", "sst2", uploads[2], actor="ann").version == 3
