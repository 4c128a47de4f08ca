"""`superpos job`, with a real server and no trainer: the tests of `system/test_trainer.py` have one."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.adapters import make_adapter
from support.cli import Answer, superpos
from support.jobs import labelled
from support.server import RunningServer

from backbone import Backbone
from service.jobs.models import CurvePoint, Job, JobResult, Progress
from service.jobs.queue import JobQueue, Renewal, open_jobs
from service.jobs.rows import decode_rows

Serve = Callable[..., RunningServer]
TASK = """\
name: films
description: Whether a review is good.
template: "sentence: {text}"
labels: {negative: terrible, positive: great}
max_tokens: 32
metrics: [macro_f1]
data: {train: train.jsonl, validation: validation.jsonl, columns: {text: input}}
"""


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    return serve()


@pytest.fixture
def ask(server: RunningServer) -> Callable[..., Answer]:
    return partial(superpos, SUPERPOS_SERVER=server.url)


@pytest.fixture
def queue(server: RunningServer) -> JobQueue:
    return open_jobs(server.app.state.runtime.storage)  # type: ignore[attr-defined]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    for name, number in (("train", 6), ("validation", 2)):
        lines = "".join(f"{json.dumps(row)}\n" for row in labelled(number))
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "films.yaml").write_text(TASK, encoding="utf-8")
    return tmp_path / "films.yaml"


def submitted(answer: Answer) -> str:
    assert answer.code == 0, answer.stderr
    return answer.stdout.strip()


def train(queue: JobQueue, server: RunningServer) -> Job:
    """Do what a trainer does with the next job, up to its curve."""
    fingerprint = server.app.state.runtime.backbone.identity.fingerprint  # type: ignore[attr-defined]
    job = queue.claim("t", fingerprint=fingerprint, lease_s=60)
    assert job is not None
    points = [CurvePoint("", epoch, 2 * epoch, 0.5 + epoch / 10, 0.7, 0.9, True, 1.0) for epoch in range(2)]
    return queue.renew(job, Renewal(60, 3.0, Progress("training", 2, 4), points))


def test_the_rows_of_a_task_file_are_sent_with_what_the_task_is(
    ask: Callable[..., Answer], queue: JobQueue, task: Path
) -> None:
    answer = ask("job", "submit", task, "--epochs", 4, "--method", "auto")
    job = queue.get("default", submitted(answer))
    assert "6 rows, 2 validation rows of films are queued" in answer.stderr
    assert (job.task, job.description, job.metrics) == ("films", "Whether a review is good.", ("macro_f1",))
    assert (job.spec.label_words, job.spec.max_tokens) == (("terrible", "great"), 32)
    assert job.arguments == {"method": "auto", "epochs": 4}
    stored = queue.store.blob("default", job.id, "rows")
    assert stored is not None
    assert decode_rows(stored).train[0].input == {"text": "flat and overlong 0"}
    assert len(decode_rows(stored).validation) == 2


def test_a_job_is_followed_to_its_version(
    ask: Callable[..., Answer], queue: JobQueue, server: RunningServer, task: Path
) -> None:
    one = submitted(ask("job", "submit", task))
    job = train(queue, server)
    shown = ask("job", "show", one)
    assert "films: running, 6 rows, 2 validation rows, 3 s" in shown.stdout
    assert "epoch 1, step 2: selection score 0.6000, loss 0.7000, best so far" in shown.stdout
    queue.succeed(job, JobResult(3, "sha256:ab", "head", "pooled", {"score": 0.91}, 0.5, {"head": 0.91, "tfidf": 0.8}))
    watched = ask("job", "watch", one)
    assert watched.code == 0
    assert "films: 6 rows, 2 validation rows" in watched.stderr
    assert "version 3: head, pooled, report score 0.9100" in watched.stdout
    assert "on the same rows: TF-IDF + logistic regression 0.8000, frozen head 0.9100" in watched.stdout
    assert "superpos promote films 3" in watched.stderr
    assert json.loads(ask("job", "show", one, "--json").stdout)["result"]["version"] == 3
    [listed] = json.loads(ask("job", "list", "--json").stdout)
    assert (listed["id"], listed["status"]) == (one, "succeeded")
    assert {one, "films", "succeeded"} <= set(ask("job", "list", "films").text.split())


def test_a_failed_job_fails_the_command_that_watches_it(
    ask: Callable[..., Answer], queue: JobQueue, server: RunningServer, task: Path
) -> None:
    one = submitted(ask("job", "submit", task))
    queue.fail(train(queue, server), "too few rows")
    assert f"job {one} failed: too few rows" in ask("job", "watch", one).refusal()


def test_jobs_are_cancelled_and_deleted(ask: Callable[..., Answer], task: Path) -> None:
    one = submitted(ask("job", "submit", task))
    assert ask("job", "cancel", one).stdout.strip() == "cancelled"
    assert ask("job", "delete", one).code == 0
    assert f"no job '{one}'" in ask("job", "show", one).refusal()


def test_a_name_alone_needs_corrections(ask: Callable[..., Answer], server: RunningServer, tiny: Backbone) -> None:
    server.upload("sentiment", make_adapter(tiny))
    assert "give --corrections-since" in ask("job", "submit", "sentiment").refusal()
    assert "keeps no texts" in ask("job", "submit", "sentiment", "--corrections-since", 0).refusal()


def test_what_the_server_refuses_is_said(ask: Callable[..., Answer], task: Path) -> None:
    assert "epochs" in ask("job", "submit", task, "--epochs", 100_000).refusal()
    text = task.read_text(encoding="utf-8")
    task.write_text(text.replace("columns: {", "corrections: old.jsonl, columns: {"), encoding="utf-8")
    assert "name --corrections-since" in ask("job", "submit", task).refusal()
