"""Adapters that travel to workers keep their versions, and a worker answers as the server does."""

import pickle
from pathlib import Path

import pyarrow
import pytest
from support.adapters import TOPIC, make_adapter
from support.scoring import text_of, write_csv
from support.server import RunningServer

from adapters import DEFAULT_TENANT, NotFound
from adapters.registry.opening import open_registry
from backbone import Backbone
from scoring.errors import InvalidInput
from scoring.files.opening import Reading, open_input
from scoring.on_ray import PartScorer
from scoring.tasks import AnswerOptions
from scoring.worker import PortableTasks, WorkerEngine
from superpos_client import Client


@pytest.fixture
def uploaded(shared_server: RunningServer, tiny: Backbone) -> RunningServer:
    """A server whose task `topic` has two versions."""
    for seed in (1, 2):
        shared_server.upload("topic", make_adapter(tiny, TOPIC, seed=seed))
    return shared_server


def settings(tiny_t5: Path, cache_dir: Path) -> dict[str, object]:
    return {"backbone": str(tiny_t5), "cache_dir": cache_dir, "threads": 1}


def test_tasks_that_travelled_have_the_same_versions_and_files(uploaded: RunningServer, tmp_path: Path) -> None:
    tasks = PortableTasks.read(uploaded.registry, ["topic@2", "sentiment", "topic"], columns={"text": "sentence"})
    assert [(task.pinned, dict(task.columns)) for task in tasks.tasks] == [
        ("topic@2", {"text": "sentence"}),
        ("sentiment@1", {"sentence": "sentence"}),
        ("topic@2", {"text": "sentence"}),
    ]
    pickle.loads(pickle.dumps(tasks)).write(tmp_path / "there.sqlite")
    there = open_registry(tmp_path / "there.sqlite")
    for task, version in (("topic", 2), ("sentiment", 1)):
        files = uploaded.registry.files(DEFAULT_TENANT, task, version)
        assert there.files(DEFAULT_TENANT, task, version) == files
    assert [version.version for version in there.describe(DEFAULT_TENANT, "topic").versions] == [2]


def test_refs_and_columns_that_do_not_exist_are_refused(uploaded: RunningServer) -> None:
    with pytest.raises(NotFound, match="no topic@7"):
        PortableTasks.read(uploaded.registry, ["topic@7"])
    with pytest.raises(InvalidInput, match="no field 'label', the tasks have text"):
        PortableTasks.read(uploaded.registry, ["topic"], columns={"label": "gold"})


def test_a_workers_engine_answers_as_the_server_does(uploaded: RunningServer, tiny_t5: Path, cache_dir: Path) -> None:
    engine = WorkerEngine(PortableTasks.read(uploaded.registry, ["topic"]), settings(tiny_t5, cache_dir))
    texts = [text_of(number) for number in range(20)]
    try:
        answers = engine.client.classify(engine.tasks[0].pinned, texts)
    finally:
        engine.close()
    with Client(uploaded.url) as client:
        expected = client.classify("topic", texts)
    assert [(each.digest, each.scores) for each in answers] == [(each.digest, each.scores) for each in expected]
    assert {answer.version for answer in answers} == {2}


def test_a_worker_that_cannot_answer_says_why(uploaded: RunningServer, tmp_path: Path, cache_dir: Path) -> None:
    """An error travels as a value: Ray would repeat a part whose worker died."""
    tasks = PortableTasks.read(uploaded.registry, ["sentiment"])
    there = settings(tmp_path / "nothing", cache_dir)
    worker = PartScorer(pickle.dumps((tasks, AnswerOptions(), there)))
    file = open_input(write_csv(tmp_path / "a.csv", 3), Reading())
    (part,) = file.parts(["sentence"])
    batch = pyarrow.table({"name": ["a.csv"], "value": [pickle.dumps((file, part))]})
    (row,) = worker(batch).to_pylist()
    assert (row["name"], row["value"]) == ("a.csv", None)
    assert "nothing" in row["error"]
