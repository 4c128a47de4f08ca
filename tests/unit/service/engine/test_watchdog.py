"""The watchdog: a model thread that is dead or stuck leaves nobody waiting, and its process ends for a supervisor."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
from support.adapters import make_adapter
from support.engine import Clock, copies, loaded, row, sabotaged
from support.http import check_problem
from support.server import RunningServer
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone, PackedBatch
from service.engine.engine import Engine
from service.engine.fault_isolation import FaultIsolation
from service.engine.types import EngineStats
from service.engine.watchdog import Watchdog, failure_of
from service.errors import InferenceFailed, NotReady

WORKING = EngineStats(
    alive=True, not_ready=None, failure=None, busy_s=0.0, resident_adapters=0, tripped_adapters=0, self_test=None
)


class Stuck:
    """A batch that does not end before the test says so."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _: PackedBatch) -> None:
        self.began.set()
        assert self.go_on.wait(60)


@contextmanager
def stuck_engine(backbone: Backbone) -> Iterator[tuple[Engine, Stuck]]:
    stuck = Stuck()
    engine = Engine(sabotaged(backbone, stuck), max_batch_tokens=64, prompt_table_bytes=1 << 20)
    engine.start()
    try:
        yield engine, stuck
    finally:
        stuck.go_on.set()
        engine._thread.join(30)
        assert not engine._thread.is_alive()


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        (WORKING, None),
        (replace(WORKING, busy_s=59.9), None),
        (replace(WORKING, busy_s=60.1), "stuck: one forward has run for more than 60 s"),
        (replace(WORKING, alive=False), None),  # it was asked to stop
        (replace(WORKING, not_ready="the self-test failed"), None),
        (replace(WORKING, alive=False, failure="died of KeyError"), "died of KeyError"),
    ],
)
def test_what_counts_as_a_failure(stats: EngineStats, words: str | None) -> None:
    found = failure_of(stats, forward_timeout_s=60.0)
    assert found == words if words is None else words in str(found)


def test_an_abandoned_engine_ends_running_and_waiting_rows_and_late_results_do_no_harm(tiny: Backbone) -> None:
    with stuck_engine(tiny) as (engine, stuck):
        futures = engine.submit(copies(row(tiny, loaded(tiny), "a film"), 20))  # several batches
        assert stuck.began.wait(30)
        assert not any(future.done() for future in futures)
        assert engine.stats().busy_s > 0
        engine.abandon("given up")
        for future in (*futures, *engine.submit([row(tiny, loaded(tiny), "a film")])):
            with pytest.raises(NotReady, match="given up"):
                future.result(0)
        assert engine.stats().not_ready == "given up"
        engine.stop()  # returns, though the thread does not
    assert all(isinstance(future.exception(0), NotReady) for future in futures)


def test_an_idle_engine_is_not_busy(tiny: Backbone) -> None:
    engine = Engine(tiny, max_batch_tokens=64, prompt_table_bytes=1 << 20)
    engine.start()
    engine.submit([row(tiny, loaded(tiny), "a film")])[0].result(30)
    eventually(lambda: engine.stats().busy_s == 0)
    engine.stop()
    assert engine.stats().busy_s == 0


def test_each_part_of_a_batch_that_is_halved_counts_for_itself(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("service.engine.engine.time", clock)
    seen: list[float] = []

    def fail(_: PackedBatch) -> None:
        seen.append(engine.stats().busy_s)
        clock.ahead_s += 1_000
        raise ValueError

    engine = Engine(sabotaged(tiny, fail), max_batch_tokens=4_096, prompt_table_bytes=1 << 20, breaker_failures=1_000)
    engine.start()
    for future in engine.submit(copies(row(tiny, loaded(tiny), "a film", timeout_s=1e6), 16)):
        assert isinstance(future.exception(30), InferenceFailed)
    engine.stop()
    assert len(seen) == 31
    assert max(seen) < 1_000


async def watched(engine: Engine, **options: float) -> list[str]:
    """What the watchdog tells of an engine that fails."""
    told: list[str] = []
    failed = asyncio.Event()

    def note(reason: str) -> None:
        told.append(reason)
        failed.set()

    watchdog = Watchdog(engine, on_failure=note, **{"forward_timeout_s": 0.2, **options})
    await watchdog.start()
    await asyncio.wait_for(failed.wait(), 30)
    await watchdog.stop()
    return told


def test_the_watchdog_gives_a_stuck_engine_up(tiny: Backbone) -> None:
    with stuck_engine(tiny) as (engine, _):
        (future,) = engine.submit([row(tiny, loaded(tiny), "a film")])
        assert asyncio.run(watched(engine)) == ["the model thread is stuck: one forward has run for more than 0.2 s"]
        assert isinstance(future.exception(0), NotReady)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("death", [SystemExit("killed"), KeyboardInterrupt("killed"), GeneratorExit("killed")])
@pytest.mark.slow
def test_the_watchdog_tells_of_a_thread_that_anything_killed(tiny: Backbone, death: BaseException) -> None:
    def die(_: PackedBatch) -> None:
        raise death

    engine = Engine(sabotaged(tiny, die), max_batch_tokens=64, prompt_table_bytes=1 << 20)
    engine.start()
    futures = engine.submit(copies(row(tiny, loaded(tiny), "a film"), 20))
    (reason,) = asyncio.run(watched(engine, forward_timeout_s=60))
    assert reason == f"the model thread died of {type(death).__name__}: killed"
    for future in futures:
        with pytest.raises(NotReady, match="killed"):
            future.result(0)
    engine.stop()


def test_a_start_that_hangs_is_stuck_too(tiny: Backbone) -> None:
    go_on = threading.Event()

    def hang(_: FaultIsolation) -> None:
        assert go_on.wait(60)

    engine = Engine(tiny, max_batch_tokens=64, prompt_table_bytes=1 << 20, prepare=hang)
    engine.start()
    assert "stuck" in asyncio.run(watched(engine))[0]
    go_on.set()
    engine.stop()


def test_an_engine_that_was_asked_to_stop_has_not_failed(tiny: Backbone) -> None:
    engine = Engine(tiny, max_batch_tokens=64, prompt_table_bytes=1 << 20)
    engine.start()
    (future,) = engine.submit([row(tiny, loaded(tiny), "a film")])
    engine.stop()
    assert np.isfinite(future.result(0)).all()
    assert engine.stats().alive is False
    assert failure_of(engine.stats(), forward_timeout_s=1e-9) is None


@pytest.mark.slow
def test_a_stuck_model_thread_turns_readiness_off_and_answers_503(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(forward_timeout_s=2.0)
    server.upload("sentiment", make_adapter(tiny))
    stuck, backbone = Stuck(), server.app.state.runtime.backbone
    monkeypatch.setattr(backbone, "encode", sabotaged(backbone, stuck).encode)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: server.classify("sentiment", f"text {number}"), range(4)))
    for answer in answers:
        check_problem(answer, 503, "not_ready", "stuck")
    ready = server.client.get("/healthz/ready")
    assert ready.status_code == 503
    # callers read the first clause; the log and the engine have the rest
    assert ready.json()["reason"] == "the model thread is stuck"
    told = server.app.state.runtime.inference.engine.stats().not_ready
    assert told == "the model thread is stuck: one forward has run for more than 2 s"
    assert ready.json()["queued_rows"] == 0
    assert server.client.get("/healthz/live").status_code == 200
    stuck.go_on.set()


DOOMED = """
import os, pathlib, threading
from backbone import Backbone
sound, armed = Backbone.encode, pathlib.Path(os.environ["ARMED"])
def encode(self, packed, prompts, **options):
    if armed.exists():
        {doom}
    return sound(self, packed, prompts, **options)
Backbone.encode = encode
from cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("doom", "reason"),
    [
        ("raise SystemExit('killed')", "the model thread died of SystemExit: killed"),
        ("threading.Event().wait()", "the model thread is stuck: one forward has run for more than 3 s"),
    ],
)
def test_a_process_whose_model_thread_is_lost_answers_503_and_exits_with_1(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, doom: str, reason: str
) -> None:
    registry, armed = tmp_path / "registry.sqlite", tmp_path / "armed"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    options = ["--port", "0", "--log-format", "json", "--backbone", str(tiny_t5), "--registry", str(registry)]
    environment = {**os.environ, "ARMED": str(armed), "SUPERPOS_FORWARD_TIMEOUT_S": "3", "COLUMNS": "200"}
    command = [sys.executable, "-c", DOOMED.format(doom=doom), "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        url = next(json.loads(line)["url"] for line in process.stderr if '"serving"' in line)
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reader.start()
        inputs = ["a gripping film"] * 64
        with ThreadPoolExecutor(4) as pool, httpx2.Client(base_url=url, timeout=60) as http:
            http.post("/classify/sentiment", json={"inputs": "warm"}).raise_for_status()
            armed.touch()
            number = 4 if "wait" in doom else 1  # a dead thread closes the door before others may come
            answers = [pool.submit(http.post, "/classify/sentiment", json={"inputs": inputs}) for _ in range(number)]
            for answer in answers:
                check_problem(answer.result(30), 503, "not_ready", reason.partition(":")[0])
        assert process.wait(20) == 1
        reader.join(20)
    assert said[-1] == f"superpos: {reason}\n"
