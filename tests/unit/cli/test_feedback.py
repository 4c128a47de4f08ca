"""`superpos feedback`, `train --with-feedback` and `promote --corrections`, with a real server."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.adapters import SENTIMENT, make_adapter
from support.cli import Answer, Desk, superpos
from support.server import RunningServer

from adapters.files import from_files, read_folder
from backbone import Backbone
from superpos_client import Client

Serve = Callable[..., RunningServer]
HEAD = ("--method", "head", "--threads", "1", "--precision", "fp32", "--no-report", "--no-baselines")
FIELD = next(iter(SENTIMENT.fields))


@pytest.fixture
def server(serve: Serve, tiny: Backbone) -> RunningServer:
    started = serve()
    started.upload("sentiment", make_adapter(tiny))
    return started


@pytest.fixture
def ask(server: RunningServer) -> Callable[..., Answer]:
    return partial(superpos, SUPERPOS_SERVER=server.url)


@pytest.mark.slow
def test_corrections_from_opting_in_to_deleting_them(
    server: RunningServer, ask: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "keeps no texts" in ask("feedback", "list", "sentiment").refusal()
    updated = ask("tenant", "update", "default", "--retention-days", 30)
    assert updated.code == 0, updated.stderr
    with Client(server.url) as client:
        kept = client.classify("sentiment", "a kept text")
        client.feedback.correct("negative", task="sentiment", text="wrong \x1b[2J text\n2", who="ann")
        client.feedback.correct("positive", task="sentiment", text="another", who="bob")
    queue = ask("feedback", "list", "sentiment")
    assert {"kept", kept.label, f"{kept.score:.3f}"} <= set(queue.text.split())
    listed = ask("feedback", "list", "sentiment", "--by", "corrections")
    assert {"ann", "bob", "negative"} <= set(listed.text.split())
    assert "\x1b" not in listed.stdout
    assert "2 rows; corrections: 2, data set version 2" in listed.stderr
    [latest] = json.loads(ask("feedback", "list", "sentiment", "--by", "corrections", "--limit", 1, "--json").stdout)
    assert (latest["input"], latest["label"]) == ({FIELD: "another"}, "positive")

    exported = ask("feedback", "export", "sentiment")
    assert exported.stdout.strip() == "sentiment-corrections-2.jsonl"
    lines = [json.loads(line) for line in (tmp_path / exported.stdout.strip()).read_text().splitlines()]
    assert [line["label"] for line in lines] == ["positive", "negative"]
    assert ask("feedback", "export", "sentiment", "--out", "-").stdout.count("\n") == 2

    assert "nothing to delete" in ask("feedback", "delete").refusal()
    assert ask("feedback", "delete", "--who", "ann").text == "1 rows deleted"
    assert ask("feedback", "delete", latest["id"]).text == "1 rows deleted"
    assert ask("feedback", "delete", "--all").text == "1 rows deleted"
    ended = ask("tenant", "update", "default", "--no-limit", "retention_days")
    assert "retention_days none: no text is kept" in ended.text


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_version_is_trained_on_corrections_and_promoted_by_them(
    server: RunningServer, ask: Callable[..., Answer], desk: Desk, tmp_path: Path
) -> None:
    train = partial(superpos, "train", desk.task, "--backbone", desk.tiny_t5, "--out", tmp_path / "run", *HEAD)
    words = ("--with-feedback", server.url)
    assert ask("push", desk.run, "topic", "--to", server.url).code == 0
    assert "keeps no texts" in train(*words).refusal()
    assert ask("tenant", "update", "default", "--retention-days", 1).code == 0
    texts = ("entirely new words", "something else", "no such text")
    with Client(server.url) as client:
        wrong = {text: client.classify("topic", text).label for text in texts}
        for text, label in wrong.items():
            right = "business" if label == "sports" else "sports"
            client.feedback.correct(right, task="topic", text=text)
    trained = train(*words)
    assert trained.code == 0, trained.stderr
    saved = tmp_path / "run" / "topic-corrections-3.jsonl"
    assert f"topic: 3 corrections, data set version 3, in {saved}" in trained.stderr
    assert len(saved.read_text().splitlines()) == 3
    data = from_files(read_folder(tmp_path / "run" / "adapter")).manifest.provenance.data
    assert (data["corrections_rows"], data["corrections_file"]) == (3, saved.name)
    assert train(*words, "--resume").code == 0
    again = train("--resume").refusal()
    assert "data.corrections_sha256 is None" in again
    assert "expected the address of a server" in superpos("train", desk.task, "--with-feedback", "x.sqlite").refusal()

    pushed = ask("push", tmp_path / "run", "topic", "--alias", "canary", "--to", server.url)
    assert pushed.code == 0, pushed.stderr
    promoted = ask("promote", "topic", 2, "--force", "--corrections")
    if promoted.code == 0:
        assert "on the corrections +" in promoted.text
    else:
        assert "corrections: the version has" in promoted.refusal()
    registry = superpos("promote", "topic", 2, "--corrections", "--to", server.settings.registry)
    assert "--corrections needs a server" in registry.refusal()
