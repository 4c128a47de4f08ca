"""A real trainer process: it trains what servers queue, and its death, its end and its storage's loss are survived."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.jobs import labelled, trainer_process
from support.server import RunningServer
from support.waiting import eventually

from backbone import Backbone
from service.jobs.queue import open_jobs

pytestmark = pytest.mark.timeout(600)
Serve = Callable[..., RunningServer]
TASK = {"template": "sentence: {text}", "labels": ["negative", "positive"], "max_tokens": 64}
QUICK = {"SUPERPOS_JOB_LEASE_S": "1"}
SHORT = {"epochs": 3, "readout": "pooled", "num_sampled_tokens": 16}
LONG = {"num_sampled_tokens": 16, "epochs": 60, "patience": 0, "lr": 0.01, "readout": "pooled"}


def submit(server: RunningServer, name: str = "films", /, **body: object) -> str:
    body = {"task": TASK, "rows": labelled(60), "arguments": SHORT, **body}
    answer = server.client.post(f"/tasks/{name}/jobs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def job(server: RunningServer, job_id: str) -> dict[str, Any]:
    return server.client.get(f"/jobs/{job_id}").raise_for_status().json()  # type: ignore[no-any-return]


def ended(server: RunningServer, job_id: str, within_s: float = 250) -> dict[str, Any]:
    eventually(lambda: job(server, job_id)["ended_at"] is not None, within_s=within_s)
    return job(server, job_id)


def has_points(server: RunningServer, job_id: str, number: int) -> Callable[[], bool]:
    return lambda: len(job(server, job_id)["curve"]) >= number


def test_a_job_becomes_a_version_that_is_not_production(
    serve: Serve, place: str, tiny_t5: Path, tmp_path: Path
) -> None:
    server = serve(registry=place)
    first = submit(server)
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK, SUPERPOS_TRAINER_METRICS_PORT="0") as trainer:
        done = ended(server, first)
        assert done["status"] == "succeeded", done["error"]
        (served,) = trainer.events("trainer_metrics_served")
        url = f"http://127.0.0.1:{served['port']}/metrics"
        eventually(lambda: 'superpos_trainer_jobs_total{outcome="succeeded"} 1.0' in httpx2.get(url).text)
        assert "superpos_trainer_rows_total 60.0" in httpx2.get(url).text
        result = done["result"]
        assert (result["version"], result["method"], result["readout"]) == (1, "superpos", "pooled")
        assert result["metrics"]["score"] == result["metrics"]["accuracy"] > result["untrained_score"] - 0.01
        assert set(result["baselines"]) >= {"constant"}
        assert [point["epoch"] for point in done["curve"]] == [0, 1, 2, 3]
        assert done["curve"][0]["train_loss"] is None
        described = eventually_task(server, "films")
        assert described["aliases"] == {}
        assert described["versions"][0]["actor"] == f"job:{first}"
        check_problem(server.classify("films", "a gripping film"), 404, "not_found")
        assert server.classify("films@1", "a gripping film").status_code == 200

        examples = {
            "negative": [f"flat and overlong {n}" for n in range(8)],
            "positive": [f"a film {n}" for n in range(8)],
        }
        head = ended(server, submit(server, rows=[], task=None, examples=examples, arguments={}))
        assert head["status"] == "succeeded", head["error"]
        assert (head["result"]["method"], head["result"]["version"]) == ("head", 2)
        eventually(lambda: not any((tmp_path / "trainer").iterdir()))  # after the job has its result
    assert open_jobs(server.app.state.runtime.storage).store.blob("default", first, "rows") is None  # type: ignore[attr-defined]


def eventually_task(server: RunningServer, name: str) -> dict[str, Any]:
    eventually(lambda: server.client.get(f"/tasks/{name}").status_code == 200)
    return server.client.get(f"/tasks/{name}").json()  # type: ignore[no-any-return]


def test_another_trainer_continues_what_a_killed_one_began(
    serve: Serve, place: str, tiny_t5: Path, tmp_path: Path
) -> None:
    server = serve(registry=place)
    one = submit(server, arguments=LONG)
    store = open_jobs(server.app.state.runtime.storage).store  # type: ignore[attr-defined]
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK) as trainer:
        eventually(lambda: store.blob("default", one, "checkpoint") is not None, within_s=150)
        trainer.process.kill()
        trainer.process.wait()
    before = job(server, one)
    assert before["status"] == "running"
    assert any(path.name == "train.jsonl" for path in (tmp_path / "trainer").rglob("*")), "its rows are left"
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK) as second:
        eventually(lambda: job(server, one)["attempts"] == 2, within_s=150)
        assert len(list((tmp_path / "trainer").glob("job-*"))) <= 1, "what the killed one left is deleted"
        done = ended(server, one)
        assert second.events("job_taken")[0]["attempt"] == 2
    assert done["status"] == "succeeded", done["error"]
    assert [point["epoch"] for point in done["curve"]] == list(range(61))
    times = [point["elapsed_s"] for point in done["curve"]]
    assert times == sorted(times)
    assert done["spent_s"] > before["spent_s"] > 0
    assert store.blob("default", one, "checkpoint") is None


def test_a_trainer_that_is_stopped_gives_its_job_back(serve: Serve, place: str, tiny_t5: Path, tmp_path: Path) -> None:
    server = serve(registry=place)
    one = submit(server, arguments=LONG)
    with trainer_process(tiny_t5, place, tmp_path / "trainer") as trainer:
        eventually(lambda: bool(trainer.events("job_taken")), within_s=150)
        eventually(lambda: any((tmp_path / "trainer").rglob("checkpoint-*")), within_s=150)
        trainer.process.send_signal(signal.SIGTERM)
        assert trainer.process.wait(60) == 0
        assert trainer.events("job_given_back")
    given = job(server, one)
    assert (given["status"], given["attempts"], given["progress"] is not None) == ("queued", 0, True)
    assert list((tmp_path / "trainer").iterdir()) == []
    with trainer_process(tiny_t5, place, tmp_path / "trainer"):
        done = ended(server, one)
    assert (done["status"], done["attempts"]) == ("succeeded", 1), done


@pytest.mark.parametrize("end", ["cancel", "delete", "time"])
def test_a_job_that_is_ended_leaves_the_trainer_free(
    serve: Serve, tiny_t5: Path, tmp_path: Path, end: str, tiny: Backbone
) -> None:
    place = str(tmp_path / "registry.sqlite")
    server = serve(registry=place, max_job_s=250)
    limit = {"max_job_s": 3 if end == "time" else None}
    server.client.patch("/admin/tenants/default", json=limit).raise_for_status()
    endless = LONG | {"epochs": 200, "batch_size": 1, "lr": 0.000001}
    one = submit(server, arguments=endless, rows=labelled(400))
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK) as trainer:
        if end != "time":
            eventually(has_points(server, one, 2), within_s=150)
        if end == "cancel":
            server.client.post(f"/jobs/{one}/cancel").raise_for_status()
        elif end == "delete":
            server.client.delete(f"/jobs/{one}").raise_for_status()
        else:
            done = ended(server, one)
            assert (done["status"], "took more than 3 s" in done["error"]) == ("failed", True)
        left = "job_failed" if end == "time" else "job_lost"
        eventually(lambda: bool(trainer.events(left)), within_s=60)
        server.client.patch("/admin/tenants/default", json={"max_job_s": None}).raise_for_status()
        two = submit(server, "others")
        assert ended(server, two)["status"] == "succeeded"
    assert server.client.get("/tasks/films").status_code == 404


def test_what_cannot_be_trained_fails_with_the_reason(serve: Serve, tiny_t5: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "registry.sqlite")
    server = serve(registry=place, max_jobs_per_tenant=10)
    few = submit(server, rows=labelled(2))
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK):
        done = ended(server, few)
        assert done["status"] == "failed", done
        assert "rows" in done["error"], done["error"]
        assert str(tmp_path) not in done["error"]


def test_a_tenants_storage_limits_hold_for_jobs(serve: Serve, tiny_t5: Path, tmp_path: Path, tiny: Backbone) -> None:
    place = str(tmp_path / "registry.sqlite")
    server = serve(registry=place)
    server.upload("sentiment", make_adapter(tiny))
    server.client.patch("/admin/tenants/default", json={"max_tasks": 1}).raise_for_status()
    one = submit(server)
    with trainer_process(tiny_t5, place, tmp_path / "trainer", **QUICK):
        done = ended(server, one)
    assert done["status"] == "failed"
    assert "its limit is 1" in done["error"]
