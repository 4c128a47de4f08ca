"""`superpos traffic | rollback | promote | list`, each on a running server and on a registry's file."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.adapters import make_adapter
from support.cli import TASK, superpos
from support.server import RunningServer
from support.waiting import eventually

from adapters import PromptAdapter, Registry, TaskInfo, Traffic
from adapters.exams import RIGHT, ROWS_SHA256, packed
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone

Serve = Callable[..., RunningServer]
Meanwhile = Callable[[str, Callable[[Registry], object]], None]
SERVERS: dict[str, RunningServer] = {}
"""By address."""


def scored(backbone: Backbone, seed: int, accuracy: float | None, *, right: str = "") -> PromptAdapter:
    """An adapter with an accuracy; `right` has a `1` for each row that it answered right, `0` for others."""
    adapter = make_adapter(backbone, seed=seed, num_virtual_tokens=2)
    metrics = {} if accuracy is None else {"report_accuracy": accuracy}
    data: dict[str, str | int | None] = {ROWS_SHA256: "of one file"}
    if right:
        data[RIGHT] = packed(np.array([each == "1" for each in right]))
    provenance = adapter.manifest.provenance.model_copy(update={"metrics": metrics, "data": data})
    return PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update={"provenance": provenance}))


@pytest.fixture(params=["server", "file"])
def place(request: pytest.FixtureRequest, serve: Serve, tiny: Backbone, tmp_path: Path) -> str:
    """A task of four versions, 2 in production, which have an accuracy of 0.8, 0.9, 0.7 and none."""
    file = str(tmp_path / "registry.sqlite")
    registry = open_registry(file)
    for seed, accuracy in enumerate((0.8, 0.9, 0.7, None)):
        files = to_files(scored(tiny, seed, accuracy))
        registry.publish("default", "sst2", files, actor="test", aliases=None if seed < 2 else ())
    if request.param == "file":
        return file
    server = serve(registry=file)
    eventually(lambda: len(server.client.get("/tasks/sst2").json().get("versions", ())) == 4)
    SERVERS[server.url] = server
    return server.url


@pytest.mark.slow
def test_a_canary_grows_beside_a_shadow_and_both_end(place: str) -> None:
    def traffic(*options: object) -> str:
        return superpos("traffic", "sst2", *options, "--to", place).text

    production = "sst2: production is version 2"
    assert traffic() == production
    assert traffic("--canary", 3, "--percent", 10) == f"{production}, version 3 gets 10 % as its canary"
    assert traffic("--percent", 12.5) == f"{production}, version 3 gets 12.5 % as its canary"
    assert traffic("--shadow", 4) == f"{production}, version 3 gets 12.5 % as its canary, version 4 is its shadow"
    listed = superpos("list", "--from", place).text
    assert "(canary 12.5 %)" in listed
    assert "(shadow)" in listed
    assert traffic("--off") == production
    assert "canary" not in superpos("list", "--from", place).text


@pytest.mark.slow
def test_rollback_says_where_it_went_and_refuses_to_go_further(place: str) -> None:
    assert superpos("rollback", "sst2", "--to", place).text == "sst2@production is version 1, it was 2"
    assert "points at version 1" in superpos("rollback", "sst2", "--to", place).refusal()


@pytest.mark.slow
def test_a_worse_version_is_promoted_only_by_force(place: str) -> None:
    refusal = superpos("promote", "sst2", 3, "--to", place).refusal()
    assert "report_accuracy: the version has 0.7, production 0.9" in refusal
    assert "the version has none" in superpos("promote", "sst2", 4, "--to", place).refusal()
    forced = superpos("promote", "sst2", 3, "--force", "--to", place).text
    assert forced == "sst2@production is version 3, it was 2; forced"
    back = superpos("promote", "sst2", 2, "--metric", "accuracy", "--to", place).text
    assert back == "sst2@production is version 2, it was 3; report_accuracy is not worse"


@pytest.mark.slow
def test_a_lower_accuracy_that_shows_nothing_is_called_lower(tiny: Backbone, tmp_path: Path) -> None:
    registry = tmp_path / "registry.sqlite"
    for seed, right in enumerate(("1" * 17 + "000", "1" * 16 + "0000")):
        files = to_files(scored(tiny, seed, right.count("1") / 20, right=right))
        open_registry(registry).publish("default", "sst2", files, actor="test", aliases=None if seed == 0 else ())
    assert superpos("promote", "sst2", 2, "--to", registry).text.startswith(
        "sst2@production is version 2, it was 1; report_accuracy is lower, but not shown to be worse "
        "(-0.050 on the same 20 rows, 95 % interval "
    )


@pytest.mark.slow
def test_what_cannot_be_is_refused_in_one_line(place: str) -> None:
    assert "--off" in superpos("traffic", "sst2", "--off", "--shadow", 3, "--to", place).refusal()
    assert "no task 'nosuch'" in superpos("traffic", "nosuch", "--to", place).refusal()
    assert "no task 'nosuch'" in superpos("rollback", "nosuch", "--to", place).refusal()
    assert "nosuch" in superpos("promote", "nosuch", 1, "--to", place).refusal()
    assert "production is already" in superpos("traffic", "sst2", "--shadow", 2, "--to", place).refusal()
    assert "without a canary version" in superpos("traffic", "sst2", "--percent", 5, "--to", place).refusal()
    assert "no sst2@9" in superpos("traffic", "sst2", "--shadow", 9, "--to", place).refusal()


# --- what changes between a command's reading and its write


@pytest.fixture
def meanwhile(place: str, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Let something happen to the registry right after a command has called one of its own functions."""
    registry = open_registry(place) if "://" not in place else SERVERS[place].registry

    def arrange(name: str, happens: Callable[[Registry], object]) -> None:
        module, _, function = name.rpartition(".")
        plain = getattr(importlib.import_module(module), function)

        def then(*arguments: object, **options: object) -> object:
            found = plain(*arguments, **options) if function != "compare_here" else "as good here"
            monkeypatch.setattr(name, plain)
            happens(registry)
            if "://" in place:
                eventually(lambda: SERVERS[place].app.state.runtime.registry.catalog.position == position_of(registry))
            return found

        monkeypatch.setattr(name, then)

    return arrange


def position_of(registry: Registry) -> int:
    return registry.changes()[-1].position


def state_of(place: str) -> TaskInfo:
    registry = open_registry(place) if "://" not in place else SERVERS[place].registry
    return registry.describe("default", "sst2")


@pytest.mark.slow
def test_traffic_that_another_changed_meanwhile_is_not_overwritten(place: str, meanwhile: Meanwhile) -> None:
    theirs = Traffic(canary=3, percent=40, shadow=4)
    meanwhile(
        "cli.commands.rollout.find_task",
        lambda registry: registry.set_traffic("default", "sst2", theirs, actor="another"),
    )
    refusal = superpos("traffic", "sst2", "--shadow", 1, "--to", place).refusal()
    assert "the traffic of sst2" in refusal
    assert state_of(place).traffic == theirs


@pytest.mark.slow
def test_a_version_compared_with_one_production_does_not_replace_another(
    place: str, meanwhile: Meanwhile, tmp_path: Path
) -> None:
    meanwhile(
        "cli.commands.rollout.compare_here",
        lambda registry: registry.set_alias("default", "sst2", "production", 1, actor="another"),
    )
    task = tmp_path / "sst2.yaml"
    task.write_text(TASK, encoding="utf-8")
    refusal = superpos("promote", "sst2", 3, "--rows", task, "--to", place).refusal()
    assert "sst2@production points at version 1, expected version 2" in refusal
    assert state_of(place).aliases == {"production": 1}


@pytest.mark.slow
def test_a_deletion_ends_where_the_task_is_no_longer_what_was_shown(place: str, meanwhile: Meanwhile) -> None:
    meanwhile(
        "cli.commands.versions.find_task",
        lambda registry: registry.set_alias("default", "sst2", "production", 1, actor="another"),
    )
    superpos("delete", "sst2", "--yes", "--to", place).refusal()
    assert state_of(place).aliases == {"production": 1}
    assert len(state_of(place).versions) == 4


@pytest.mark.slow
def test_a_rollback_is_repeated_by_the_version_that_it_left(place: str) -> None:
    assert superpos("rollback", "sst2", "--expected", 2, "--to", place).text == "sst2@production is version 1, it was 2"
    assert "expected version 2" in superpos("rollback", "sst2", "--expected", 2, "--to", place).refusal()
    assert state_of(place).aliases == {"production": 1}
