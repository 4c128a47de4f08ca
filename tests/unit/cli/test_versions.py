"""`superpos show` and `superpos delete`, on a server and on its registry's file; tab completion."""

import os
import subprocess
from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.cli import CONSOLE_SCRIPT, superpos
from support.server import RunningServer
from support.waiting import eventually

from adapters import NotFound, PromptAdapter, Traffic
from adapters.baselines import Baseline, Lead, baseline_figures
from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


def measured(adapter: PromptAdapter, *, score: float) -> PromptAdapter:
    """An adapter with a score on its report rows, next to a head that is better."""
    head = Baseline(name="head", figures={"accuracy": 0.9, "score": 0.9}, lead=Lead(score - 0.9, score - 0.95, -0.01))
    metrics = {"report_accuracy": score, **baseline_figures([head])}
    provenance = adapter.manifest.provenance.model_copy(update={"metrics": metrics})
    return PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update={"provenance": provenance}))


@pytest.fixture(params=["server", "file"])
def place(request: pytest.FixtureRequest, serve: Serve, tiny: Backbone) -> tuple[RunningServer, str]:
    """A task of three versions, 2 in production, 3 its canary and shadow."""
    server = serve()
    for seed in range(3):
        files = to_files(measured(make_adapter(tiny, seed=seed, num_virtual_tokens=2), score=0.8 + seed / 100))
        server.registry.publish("default", "sst2", files, actor="test", aliases=None if seed < 2 else ())
    server.registry.set_alias("default", "sst2", "best", 2, actor="test")
    server.registry.set_traffic("default", "sst2", Traffic(canary=3, percent=5, shadow=3), actor="test")
    eventually(lambda: server.client.get("/tasks/sst2").json().get("traffic", {}).get("shadow") == 3)
    return server, server.url if request.param == "server" else server.settings.registry


@pytest.mark.slow
def test_a_task_is_shown_with_versions_traffic_shadow_and_drift(
    place: tuple[RunningServer, str], tiny: Backbone
) -> None:
    server, source = place
    latest = to_files(measured(make_adapter(tiny, seed=3, num_virtual_tokens=2), score=0.83))
    server.registry.publish("default", "sst2", latest, actor="test", aliases=())
    eventually(lambda: len(server.client.get("/tasks/sst2").json()["versions"]) == 4)
    for number in range(8):
        server.classify("sst2", f"film {number}", sticky_key="a").raise_for_status()
    eventually(lambda: (server.client.get("/tasks/sst2").json()["shadows"] or [{"rows": 0}])[0]["rows"] > 0)
    shown = superpos("show", "sst2", "--from", source)
    assert shown.code == 0, shown.stderr
    assert "best, production" in shown.stdout
    expected = "sst2: production is version 2, version 3 gets 5 % as its canary, version 3 is its shadow"
    assert expected in shown.stdout.splitlines()
    observed = [line for line in shown.stdout.splitlines() if line.startswith(("shadow 3 next to 2: ", "drift: "))]
    assert len(observed) == (2 if source == server.url else 0)
    scores = [line.split() for line in shown.stdout.splitlines() if "accuracy" in line]
    assert [[cell for cell in row if cell != "│"] for row in scores] == [
        ["2", "accuracy", "0.810", "0.900"],
        ["3", "accuracy", "0.820", "0.900"],
        ["4", "accuracy", "0.830", "0.900"],  # in no use: the next that may be promoted
    ]
    assert "version 2: A head on the frozen model does better (−0.090, " in shown.stdout
    assert "no task 'nothing'" in superpos("show", "nothing", "--from", source).refusal()


@pytest.mark.slow
def test_a_deletion_asks_before_and_deletes_what_it_says(place: tuple[RunningServer, str]) -> None:
    server, source = place

    def versions() -> list[int]:
        return [version.version for version in server.registry.describe("default", "sst2").versions]

    refusal = superpos("delete", "sst2@1", "--to", source).refusal()
    assert refusal == "the question got no answer, nothing was deleted; --yes deletes without asking"
    assert "answer 'yes' or use --yes" in superpos("delete", "sst2@1", "--to", source, stdin="no\n").refusal()
    assert versions() == [1, 2, 3]
    assert superpos("delete", "sst2@1", "--to", source, stdin="yes\n").stdout == "sst2@1 deleted\n"
    assert versions() == [2, 3]
    for used in ("sst2@2", "sst2@3"):
        assert superpos("delete", used, "--to", source, "--yes").code == 1
    assert "sst2@9" in superpos("delete", "sst2@9", "--to", source, "--yes").refusal()
    assert "expected a task (sst2) or a version" in superpos("delete", "sst2@best", "--to", source, "--yes").refusal()
    assert versions() == [2, 3]
    eventually(lambda: len(server.client.get("/tasks/sst2").json()["versions"]) == 2)
    done = superpos("delete", "sst2", "--to", source, "--yes")
    assert (done.code, done.stdout) == (0, "sst2 deleted, with 2 versions\n"), done.stderr
    with pytest.raises(NotFound):
        versions()
    eventually(lambda: server.client.get("/tasks/sst2").status_code == 404)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("superpos tr", ["train", "trainer", "traffic"]),
        ("superpos key c", ["create"]),
        ("superpos push --no", ["--no-alias"]),
        ("superpos evaluate --rob", ["--robustness"]),
    ],
)
@pytest.mark.slow
def test_the_tab_key_completes_commands_and_options(words: str, expected: list[str]) -> None:
    asked = {"_SUPERPOS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [CONSOLE_SCRIPT], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == expected
    assert "--install-completion" in superpos("--help").stdout
