"""Adapters that a server publishes into an empty registry, from the URLs of a setting."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.adapters import SENTIMENT, make_adapter
from support.server import RunningServer

from adapters import InvalidAdapter, InvalidName
from adapters.files import bundled_adapters, to_files, write_folder
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.releases.bundled import publish_bundled, publish_listed
from service.settings import Settings

OTHER = "sha256:" + "0" * 64


@pytest.fixture
def folder(tiny: Backbone, tmp_path: Path) -> Path:
    write_folder(tmp_path / "mood", to_files(make_adapter(tiny, SENTIMENT)))
    return tmp_path / "mood"


def test_the_list_is_published_once_and_only_into_a_registry_that_nobody_used(
    serve: Callable[..., RunningServer], folder: Path
) -> None:
    listed = f"mood={folder.as_uri()}, again={folder.as_uri()}"
    server = serve(bundled=False, start_adapters=listed)
    assert server.classify("mood", "a gripping film").status_code == 200
    assert {info.task for info in server.registry.list("default")} == {"mood", "again"}
    server.registry.delete_alias("default", "again", "production", actor="ann")
    server.registry.delete("default", "again", 1, actor="ann")
    shutil.rmtree(folder)  # is not read again
    assert serve(bundled=False, start_adapters=listed).classify("again", "a gripping film").status_code == 404


def test_a_start_that_was_interrupted_is_completed_by_the_next(
    serve: Callable[..., RunningServer], folder: Path, tiny: Backbone, tmp_path: Path
) -> None:
    adapters = serve(bundled=False).app.state.runtime.registry.adapters  # type: ignore[attr-defined]
    registry = open_registry(tmp_path / "other.sqlite")
    tasks = [f"task{number}" for number in range(60)]  # more entries than the bundled ones make
    listed = {task: folder.as_uri() for task in tasks}
    with pytest.raises(InvalidAdapter, match="missing"):
        publish_listed(registry, adapters, {**dict.fromkeys(tasks[:59], folder.as_uri()), "last": "file:///missing"})
    publish_listed(registry, adapters, listed)
    assert {info.task for info in registry.list("default")} == set(tasks)
    publish_bundled(registry, tiny, num_listed=len(listed))  # skipped, since they are another backbone's
    position = registry.changes(limit=10_000)[-1].position
    publish_listed(registry, adapters, {**listed, "more": folder.as_uri()})
    assert [change.task for change in registry.changes(position)] == ["more", "more"]
    registry.set_alias("default", "more", "production", 1, actor="ann")
    registry.set_alias("default", "more", "canary", 1, actor="ann")
    publish_listed(registry, adapters, {**listed, "late": folder.as_uri()})
    assert "late" not in {info.task for info in registry.list("default")}


def test_an_adapter_of_another_backbone_or_digest_is_refused(
    serve: Callable[..., RunningServer], folder: Path, tmp_path: Path
) -> None:
    adapters = serve(bundled=False).app.state.runtime.registry.adapters  # type: ignore[attr-defined]
    registry = open_registry(tmp_path / "other.sqlite")
    write_folder(tmp_path / "foreign", bundled_adapters()["sst2"])
    with pytest.raises(InvalidAdapter, match="backbone"):
        publish_listed(registry, adapters, {"foreign": (tmp_path / "foreign").as_uri()})
    with pytest.raises(InvalidAdapter, match=f"expected {OTHER}"):
        publish_listed(registry, adapters, {"mood": f"{folder.as_uri()}#{OTHER}"})
    for task, url in (("no task", folder.as_uri()), ("mood", "https://example.org/mood"), ("mood", "")):
        with pytest.raises(InvalidName, match="expected"):
            publish_listed(registry, adapters, {task: url})
    assert registry.changes() == []


def test_the_setting_is_a_list_of_tasks_and_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERPOS_START_ADAPTERS", "a=hf://x/y@main/z, b=s3://bucket/c#sha256:00,")
    assert Settings().start_adapters == {"a": "hf://x/y@main/z", "b": "s3://bucket/c#sha256:00"}
    monkeypatch.setenv("SUPERPOS_START_ADAPTERS", "a=file:///x,a=file:///y")
    with pytest.raises(ValidationError, match="listed twice"):
        Settings()
