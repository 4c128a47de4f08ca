"""Whole-server promises: swaps under load, bounded queues, deadlines, callers who leave, a registry that breaks."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch
from support.adapters import SENTIMENT, make_adapter
from support.load import held_model_thread
from support.server import RunningServer, sample
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone, PackedRow, pack

Serve = Callable[..., RunningServer]


def expected_log_probs(backbone: Backbone, adapter: PromptAdapter, text: str) -> dict[str, float]:
    tokens = backbone.tokenizer.tokenize([SENTIMENT.render(text)], max_tokens=64, truncation="error")[0].token_ids
    prompt = torch.from_numpy(adapter.prompt.copy())
    with torch.inference_mode():
        encoded = backbone.encode(pack([PackedRow(range(len(prompt)), tokens)]), prompt)
        scores = backbone.score(encoded, [backbone.label_trie(adapter.spec.label_words)])[0]
    return dict(zip(adapter.spec.label_names, scores.tolist(), strict=True))


def test_a_second_version_arrives_under_load_without_a_failed_request(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    first, second = make_adapter(tiny), make_adapter(tiny, seed=1)
    texts = [f"a gripping film number {number}" for number in range(10)]
    expected = {
        adapter.digest: {text: expected_log_probs(tiny, adapter, text) for text in texts} for adapter in (first, second)
    }
    server.upload("sentiment", first)
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def client(number: int) -> int:
        asked = 0
        with httpx2.Client(base_url=server.url, timeout=30) as http:
            while not stop.is_set():
                text = texts[(number + asked) % len(texts)]
                answer = http.post("/classify/sentiment", json={"inputs": text})
                assert answer.status_code == 200, answer.text
                body = answer.json()
                logprobs = body["predictions"][0]["logprobs"]
                assert logprobs == pytest.approx(expected[body["adapter"]][text], abs=1e-4)
                seen.append((body["version"], body["adapter"]))
                asked += 1
        return asked

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        eventually(lambda: len(seen) > 100)
        published = server.upload("sentiment", second)
        after_publication = len(seen)
        assert server.classify("sentiment", "x").json()["version"] == 2
        eventually(lambda: len(seen) > after_publication + 100)
        stop.set()
        asked = [future.result(30) for future in clients]
    assert published["version"] == 2
    assert min(asked) > 0
    assert {digest for _, digest in seen} == {first.digest, second.digest}
    assert all(version == {first.digest: 1, second.digest: 2}[digest] for version, digest in seen)
    # once the upload was answered, at most the eight requests then in flight may still be version 1
    assert sum(version == 1 for version, _ in seen[after_publication:]) <= 8


def test_a_version_published_by_another_process_is_served_without_a_restart(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.registry.publish("default", "late", to_files(make_adapter(tiny)), actor="test")
    eventually(lambda: server.classify("late", "x").status_code == 200)


def test_a_full_queue_refuses_with_retry_after_and_loses_nothing(serve: Serve, tiny: Backbone) -> None:
    server = serve(max_queue_rows=6)  # of which one tenant may hold 4
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", "warm")
    with ThreadPoolExecutor(4) as pool:
        with held_model_thread(server, tiny):
            waiting = [pool.submit(server.classify, "sentiment", f"text {i}") for i in range(4)]
            eventually(lambda: server.client.get("/healthz/ready").json()["queued_rows"] == 4)
            refused = server.classify("sentiment", "one too many")
            assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
            assert int(refused.headers["Retry-After"]) >= 1
            assert "tenant 'default' has 4 rows queued" in refused.json()["detail"]
        assert [future.result(30).status_code for future in waiting] == [200] * 4
    assert server.client.get("/healthz/ready").json()["queued_rows"] == 0


def test_a_deadline_is_answered_in_time_and_its_rows_are_not_run(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", "warm")
    eventually(lambda: rows_run(server) == 2)  # the smoke forward and "warm"; a batch counts once it is answered
    with held_model_thread(server, tiny):
        late = server.classify("sentiment", ["a", "b", "c"], timeout_ms=50)
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert "0.05 s" in late.json()["detail"]
    assert server.classify("sentiment", "after").status_code == 200
    eventually(lambda: rows_run(server) >= 4)
    assert rows_run(server) == 4  # with the row that held the thread, and "after"


def test_a_caller_who_hangs_up_frees_the_place_and_is_counted(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", "warm")
    eventually(lambda: rows_run(server) == 2)  # the smoke forward and "warm"; a batch counts once it is answered
    with held_model_thread(server, tiny):
        with pytest.raises(httpx2.ReadTimeout), httpx2.Client(base_url=server.url, timeout=0.3) as impatient:
            impatient.post("/classify/sentiment", json={"inputs": ["a", "b", "c"]})
        eventually(lambda: sample(server, 'superpos_requests_cancelled_total{route="/classify/{ref}"}') == 1)
        assert sample(server, "superpos_queue_rows") == 0
    assert server.classify("sentiment", "after").status_code == 200
    eventually(lambda: rows_run(server) >= 4)
    assert rows_run(server) == 4


def test_a_broken_registry_degrades_the_server_and_its_return_is_noticed(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    path = Path(server.settings.registry)
    whole = {file: file.read_bytes() for file in path.parent.glob(path.name + "*")}
    for file in whole:
        file.unlink()
    path.write_bytes(b"this is no database" * 1_000)
    eventually(lambda: bool(server.client.get("/healthz/ready").json()["degraded"]))
    assert server.classify("sentiment", "x").status_code == 200
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny, seed=1)).items()]
    refused = server.client.post("/tasks/sentiment/versions", files=parts)
    assert (refused.status_code, refused.json()["code"]) == (503, "registry_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    for file, content in whole.items():
        file.write_bytes(content)
    eventually(lambda: not server.client.get("/healthz/ready").json()["degraded"])
    assert server.upload("sentiment", make_adapter(tiny, seed=1))["version"] == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_model_thread_turns_readiness_off_and_answers_503(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    server.app.state.runtime.inference.engine._inbox.put("this is no list of rows")  # what only a bug could do
    eventually(lambda: server.client.get("/healthz/ready").status_code == 503)
    answer = server.classify("sentiment", "x")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_sigterm_answers_what_was_accepted_and_exits_cleanly(tiny: Backbone, tiny_t5: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry.sqlite"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    command = [str(Path(sys.executable).with_name("superpos")), "serve", "--port", "0", "--log-format", "json"]
    options = ["--backbone", str(tiny_t5), "--registry", str(registry), "--threads", "1"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        url = next(json.loads(line)["url"] for line in process.stderr if '"serving"' in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        inputs = ["a gripping film that is positive and never negative"] * 64
        with ThreadPoolExecutor(4) as pool, httpx2.Client(base_url=url, timeout=60) as http:
            http.post("/classify/sentiment", json={"inputs": "warm"}).raise_for_status()
            answers = [pool.submit(http.post, "/classify/sentiment", json={"inputs": inputs}) for _ in range(4)]
            eventually(lambda: http.get("/healthz/ready").json()["queued_rows"] >= 64)
            process.send_signal(signal.SIGTERM)
            codes = [answer.result(60).status_code for answer in answers]
        assert 200 in codes
        assert set(codes) <= {200}
        assert process.wait(30) == 0


def rows_run(server: RunningServer) -> float:
    """Rows that the model thread has put through the model, smoke forwards and all."""
    return sample(server, "superpos_batch_rows_sum")


def test_a_caller_who_leaves_in_the_middle_of_the_body_is_counted_as_gone(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as half:
        head = (
            "POST /classify/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
        )
        half.sendall(f"{head}\r\n".encode() + b'{"inputs": ')
        eventually(lambda: sample(server, "superpos_requests_in_flight") == 2)
    eventually(lambda: sample(server, 'superpos_requests_cancelled_total{route="/classify/{ref}"}') == 1)
