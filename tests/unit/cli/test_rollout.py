"""`superpos traffic | rollback | promote | list`, each on a running server and on a registry's file."""

from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.cli import superpos
from support.server import RunningServer
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.exams import ROWS_SHA256
from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


def scored(backbone: Backbone, seed: int, accuracy: float | None) -> PromptAdapter:
    adapter = make_adapter(backbone, seed=seed, num_virtual_tokens=2)
    metrics = {} if accuracy is None else {"report_accuracy": accuracy}
    provenance = adapter.manifest.provenance.model_copy(
        update={"metrics": metrics, "data": {ROWS_SHA256: "of one file"}}
    )
    return PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update={"provenance": provenance}))


@pytest.fixture(params=["server", "file"])
def place(request: pytest.FixtureRequest, serve: Serve, tiny: Backbone) -> str:
    """A task of four versions, 2 in production, which have an accuracy of 0.8, 0.9, 0.7 and none."""
    server = serve()
    for seed, accuracy in enumerate((0.8, 0.9, 0.7, None)):
        files = to_files(scored(tiny, seed, accuracy))
        server.registry.publish("default", "sst2", files, actor="test", aliases=None if seed < 2 else ())
    if request.param == "file":
        return server.settings.registry
    eventually(lambda: len(server.client.get("/tasks/sst2").json().get("versions", ())) == 4)
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
def test_what_cannot_be_is_refused_in_one_line(place: str) -> None:
    assert "--off" in superpos("traffic", "sst2", "--off", "--shadow", 3, "--to", place).refusal()
    assert "no task 'nosuch'" in superpos("traffic", "nosuch", "--to", place).refusal()
    assert "no task 'nosuch'" in superpos("rollback", "nosuch", "--to", place).refusal()
    assert "nosuch" in superpos("promote", "nosuch", 1, "--to", place).refusal()
    assert "production is already" in superpos("traffic", "sst2", "--shadow", 2, "--to", place).refusal()
    assert "without a canary version" in superpos("traffic", "sst2", "--percent", 5, "--to", place).refusal()
    assert "no sst2@9" in superpos("traffic", "sst2", "--shadow", 9, "--to", place).refusal()
