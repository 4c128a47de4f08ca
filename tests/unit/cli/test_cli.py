"""A task's way by the `superpos` command: from rows to an adapter, a registry, a server and back."""

import gc
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from support.cli import QUICK, Desk, superpos
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY

from adapters import DEFAULT_TENANT, PromptAdapter, Ref
from adapters.files import CARD, from_files, read_folder, to_files, write_folder
from adapters.registry.opening import open_registry

pytestmark = pytest.mark.usefixtures("one_thread")


# --- with files alone


def test_training_prints_its_figures_and_leaves_a_run_folder(desk: Desk) -> None:
    assert desk.trained.code == 0, desk.trained.stderr
    assert desk.trained.stdout.splitlines()[-1] == f"{desk.run / 'adapter'} {desk.adapter.digest}"
    metrics = desk.adapter.manifest.provenance.metrics
    assert metrics["report_accuracy"] >= 0.9
    for figure in ("untrained_accuracy", "report_accuracy", "report_macro_f1", "report_loss"):
        assert f"{metrics[figure]:.4f}" in desk.trained.text
    assert "split honest" in desk.trained.text
    assert {path.name for path in desk.run.iterdir()} >= {"adapter", "metrics.jsonl", "run.json", "result.json"}
    assert not list(desk.run.glob("checkpoint*"))
    told = [line for line in desk.trained.stderr.splitlines() if "selection accuracy" in line]
    assert len(told) == 5
    assert told[0].startswith("untrained")
    assert told[4].startswith("epoch   4")


def test_evaluating_a_run_gives_the_figures_of_its_report(desk: Desk) -> None:
    metrics = desk.adapter.manifest.provenance.metrics
    for folder in (desk.run, desk.run / "adapter"):
        answer = superpos("evaluate", folder, desk.task, "--backbone", desk.tiny_t5)
        assert answer.code == 0
        assert "topic: validation.jsonl" in answer.text
        assert desk.adapter.digest[:19] in answer.text
        for figure in ("report_accuracy", "report_macro_f1", "report_loss"):
            assert f"{metrics[figure]:.4f}" in answer.text
    training_rows = superpos("evaluate", desk.run, desk.task, "--rows", "train", "--backbone", desk.tiny_t5)
    assert "topic: train.jsonl" in training_rows.text


def test_an_adapter_goes_from_registry_to_folder_to_registry_with_its_digest(desk: Desk, tmp_path: Path) -> None:
    digest, first, second = desk.adapter.digest, tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    pushed = superpos("push", desk.run, "topic", "--to", first)
    assert (pushed.code, pushed.stdout) == (0, f"published topic@1 {digest}\n")

    listed = superpos("list", "--from", first)
    assert listed.code == 0
    for cell in ("topic", "1", "production", digest[:19], "cli"):
        assert cell in listed.text.split()

    exported = superpos("export", "topic", tmp_path / "exported", "--from", first)
    assert (exported.code, exported.stdout) == (0, f"{tmp_path / 'exported'}: topic, {digest}\n")
    assert read_folder(tmp_path / "exported") == read_folder(desk.run / "adapter")
    assert (tmp_path / "exported" / CARD).read_text(encoding="utf-8").startswith("---")

    imported = superpos("import", tmp_path / "exported", "other", "--to", second, "--alias", "canary")
    assert (imported.code, imported.stdout) == (0, f"published other@1 {digest}\n")
    registry = open_registry(second)
    assert from_files(registry.get(registry.resolve(DEFAULT_TENANT, Ref.parse("other@canary")).digest)).digest == digest
    assert registry.describe(DEFAULT_TENANT, "other").aliases == {"canary": 1}


def test_a_registry_in_redis_is_used_as_a_file_is(desk: Desk, redis_server: RedisServer, tmp_path: Path) -> None:
    place = redis_server.place()
    for _ in range(2):
        assert superpos("push", desk.run, "topic", "--to", place).code == 0
    assert superpos("alias", "topic", "canary", 1, "--to", place).code == 0
    assert superpos("export", "topic@canary", tmp_path / "out", "--from", place).code == 0
    assert from_files(read_folder(tmp_path / "out")).digest == desk.adapter.digest
    listed = superpos("list", "--from", place)
    assert "canary, production" in listed.text
    refused = superpos("list", "--from", "redis://:secret@127.0.0.1:1").refusal()
    assert refused.startswith("registry redis://127.0.0.1:1/0: ")
    assert "secret" not in refused


def test_a_listing_that_is_piped_cuts_no_name_and_no_digest(desk: Desk, tmp_path: Path) -> None:
    name = "a-task-with-a-name-longer-than-most-but-allowed"
    superpos("push", desk.run, name, "--to", tmp_path / "registry.sqlite")
    listed = superpos("list", "--from", tmp_path / "registry.sqlite", COLUMNS="80")
    assert name in listed.stdout
    assert desk.adapter.digest[:19] in listed.stdout


def test_pushing_what_is_there_already_changes_nothing_and_says_so(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "registry.sqlite"
    superpos("push", desk.run, "topic", "--to", place)
    before = open_registry(place).changes()
    again = superpos("push", desk.run, "topic", "--to", place)
    assert (again.code, again.stdout) == (0, f"already published, nothing changed: topic@1 {desk.adapter.digest}\n")
    assert open_registry(place).changes() == before


@pytest.mark.slow
def test_an_alias_is_moved_forth_and_back_and_only_from_where_it_is_expected(
    desk: Desk, tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    server = serve()
    registry = Path(server.settings.registry)
    adapter = desk.adapter
    other = PromptAdapter(adapter.prompt + np.float32(1), adapter.manifest)
    write_folder(tmp_path / "other", to_files(other))
    for folder in (desk.run, tmp_path / "other"):
        assert superpos("push", folder, "topic", "--to", server.url).code == 0
    for place in (server.url, str(registry)):
        moved = superpos("alias", "topic", "production", "1", "--expected", "2", "--to", place)
        assert (moved.code, moved.stdout) == (0, "topic@production is version 1\n")
        refused = superpos("alias", "topic", "production", "2", "--expected", "2", "--to", place).refusal()
        assert "topic@production points at version 1, expected version 2" in refused
        assert "topic@7" in superpos("alias", "topic", "canary", "7", "--to", place).refusal()
        assert superpos("alias", "topic", "production", "2", "--to", place).code == 0
    nowhere = tmp_path / "none.sqlite"
    assert str(nowhere) in superpos("alias", "topic", "production", "1", "--to", nowhere).refusal()
    assert not nowhere.exists()


def test_the_version_is_the_packages() -> None:
    assert superpos("--version").stdout == f"superpos {version('superpos')}\n"


def test_a_push_without_an_alias_leaves_production_where_it_is(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "registry.sqlite"
    superpos("push", desk.run, "topic", "--to", place)
    newer = PromptAdapter(desk.adapter.prompt * np.float32(1.5), desk.adapter.manifest)
    write_folder(tmp_path / "newer", to_files(newer))
    answer = superpos("push", tmp_path / "newer", "topic", "--to", place, "--no-alias")
    assert answer.stdout == f"published topic@2 {newer.digest}\n"
    assert open_registry(place).describe(DEFAULT_TENANT, "topic").aliases == {"production": 1}
    two = superpos("push", desk.run, "also", "--to", place, "--alias", "canary", "--alias", "blue")
    assert two.code == 0
    assert open_registry(place).describe(DEFAULT_TENANT, "also").aliases == {"canary": 1, "blue": 1}
    again = superpos("push", tmp_path / "newer", "topic", "--to", place, "--alias", "production")
    assert again.stdout == f"already published, only production moved: topic@2 {newer.digest}\n"
    assert open_registry(place).describe(DEFAULT_TENANT, "topic").aliases == {"production": 2}


@pytest.mark.slow
def test_training_can_publish_its_result(desk: Desk, tmp_path: Path) -> None:
    place, out = tmp_path / "registry.sqlite", tmp_path / "run"
    answer = superpos(*("train", desk.task, "--backbone", desk.tiny_t5, "--out", out, "--publish", place, *QUICK))
    digest = from_files(read_folder(out / "adapter")).digest
    assert answer.code == 0, answer.stderr
    assert answer.stdout.endswith(f"published topic@1 {digest}\n")


@pytest.mark.slow
def test_a_result_is_published_to_a_server_that_asks_for_a_key(
    desk: Desk, tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    words = ("train", desk.task, "--backbone", desk.tiny_t5, "--publish", server.url, *QUICK)
    refused = superpos(*words, "--out", tmp_path / "one")
    assert "401 unauthenticated" in refused.refusal()
    assert not (tmp_path / "one").exists(), "the server is asked before anything is trained"
    assert "is not a valid key" in superpos(*words, "--out", tmp_path / "one", SUPERPOS_API_KEY="mine").refusal()
    answer = superpos(*words, "--out", tmp_path / "two", SUPERPOS_API_KEY=ADMIN_KEY)
    assert answer.code == 0, answer.stderr
    digest = from_files(read_folder(tmp_path / "two" / "adapter")).digest
    assert answer.stdout.endswith(f"published topic@1 {digest}\n")


def test_runs_without_a_folder_named_get_one_each(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", desk.task, "--backbone", desk.tiny_t5, *QUICK, "--epochs", "1", "--limit", "12", "--seed", "3"]
    assert [superpos(*words).code, superpos(*words).code] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["topic-superpos-seed3", "topic-superpos-seed3-2"]


@pytest.mark.slow
def test_several_seeds_and_rates_train_together_and_the_best_is_published(desk: Desk, tmp_path: Path) -> None:
    quick = ["0.05,0.001" if option == "0.05" else option for option in QUICK]
    registry = tmp_path / "registry.sqlite"
    options = ("--seeds", 2, "--out", tmp_path / "runs", "--publish", registry)
    answer = superpos("train", desk.task, "--backbone", desk.tiny_t5, *options, *quick)
    assert answer.code == 0, answer.stderr
    names = ["lr0.05-seed0", "lr0.05-seed1", "lr0.001-seed0", "lr0.001-seed1"]
    chosen = ["adapter", "choice.json"]
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == sorted([*names, *chosen])
    digests = {name: from_files(read_folder(tmp_path / "runs" / name / "adapter")).digest for name in names}
    assert len(set(digests.values())) == 4
    alone = desk.adapter.manifest.provenance.metrics["report_accuracy"]
    together = from_files(read_folder(tmp_path / "runs" / names[0] / "adapter")).manifest.provenance.metrics
    assert together["report_accuracy"] == pytest.approx(alone, abs=0.02)  # the desk's run, one of four
    published = open_registry(registry).describe("default", "topic").versions[0].digest
    assert published in (digests[names[0]], digests[names[1]])
    for mention in (*names, "lr 0.05: 2 seeds", "lr 0.001: 2 seeds", "±", published):
        assert mention in answer.text
    assert "lr0.05-seed1  epoch   4" in answer.stderr


@pytest.mark.parametrize(("rates", "wrong"), [("0.1,x", "'0.1,x'"), ("0.1,0.1", "repeated"), ("0.1,", "'0.1,'")])
def test_rates_that_are_none_are_refused(desk: Desk, rates: str, wrong: str) -> None:
    assert wrong in superpos("train", desk.task, "--lr", rates).refusal()


def test_the_backbones_identity_is_shown_as_json(desk: Desk) -> None:
    answer = superpos("backbone", "show", "--source", desk.tiny_t5)
    shown = json.loads(answer.stdout)
    assert shown["id"] == str(desk.tiny_t5)
    assert shown["fingerprint"] == desk.adapter.manifest.backbone.fingerprint
    assert shown["width"] == 32


# --- with a server


@pytest.mark.slow
def test_a_server_takes_gives_and_answers_as_a_registrys_file_does(
    desk: Desk, tmp_path: Path, serve: Callable[..., RunningServer]
) -> None:
    url, digest = serve().url, desk.adapter.digest
    assert superpos("push", desk.run, "topic", "--to", url).stdout == f"published topic@1 {digest}\n"
    again = superpos("push", desk.run, "topic", SUPERPOS_SERVER=url)
    assert again.stdout == f"already published, nothing changed: topic@1 {digest}\n"
    listed = superpos("list", "--from", url).text.split()
    assert {"topic", "1", "production", digest[:19]} <= set(listed)

    superpos("export", f"topic@{digest[:19]}", tmp_path / "exported", "--from", url)
    assert read_folder(tmp_path / "exported") == read_folder(desk.run / "adapter")

    table = superpos("classify", "topic", "the sports city", "lazy business dog", "--server", url)
    assert table.code == 0
    assert f"topic@1 {digest[:19]}" in table.text
    lines = [line for line in table.stdout.splitlines() if "city" in line or "dog" in line]
    assert ["sports" in lines[0], "business" in lines[1]] == [True, True]

    piped = superpos(
        "classify", "topic@1", "--json", "--server", url, stdin='the sports city\n{"text": "lazy business dog"}\n'
    )
    answer = json.loads(piped.stdout)
    assert answer["adapter"] == digest
    assert [prediction["label"] for prediction in answer["predictions"]] == ["sports", "business"]

    assert "404" in superpos("classify", "nothing", "text", "--server", url).refusal()
    twice = superpos("classify", "topic", '{"text": "x", "text": "y"}', "the sports city", "--server", url)
    assert (twice.code, "the key 'text' 2 times" in twice.stderr) == (1, True)
    assert "sports" in twice.stdout
    assert "no task 'nothing'" in superpos("export", "nothing", tmp_path / "none", "--from", url).refusal()
    assert "topic@9" in superpos("export", "topic@9", tmp_path / "none", "--from", url).refusal()
    assert not (tmp_path / "none").exists()
    gc.collect()  # a connection left open would warn here
