"""Readiness: a forward succeeded lately, a caller's or the model's own; it goes off by itself and comes back."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from support.adapters import make_adapter
from support.engine import Clock, copies, loaded, row, sabotaged
from support.server import RunningServer, sample
from support.waiting import eventually

from backbone import Backbone, PackedBatch
from service.engine.engine import Engine
from service.engine.heartbeat import Heartbeat
from service.errors import InferenceFailed

Serve = Callable[..., RunningServer]


class Fault:
    """A model that raises while it is told to."""

    def __init__(self) -> None:
        self.on = False
        self.ran: list[int] = []
        """Tokens of each forward."""

    def __call__(self, packed: PackedBatch) -> None:
        self.ran.append(packed.num_tokens)
        if self.on:
            raise ValueError("a broken model")


@pytest.fixture
def fault() -> Fault:
    return Fault()


@pytest.fixture
def checked(tiny: Backbone, fault: Fault) -> Iterator[Engine]:
    """An idle engine that checks itself all the time."""
    engine = Engine(
        sabotaged(tiny, fault),
        max_batch_tokens=64,
        prompt_table_bytes=1 << 20,
        heartbeat_interval_s=0.01,
        readiness_max_age_s=0.3,
    )
    engine.start()
    yield engine
    engine.stop()


def test_an_idle_model_runs_tiny_forwards_of_its_own_and_stays_ready(checked: Engine, fault: Fault) -> None:
    eventually(lambda: len(fault.ran) > 20)
    assert max(fault.ran) <= 3
    assert checked.stats().not_ready is None
    assert checked.stats().resident_adapters == 0


def test_a_model_whose_forwards_all_fail_is_not_ready_and_comes_back_by_itself(
    checked: Engine, fault: Fault, tiny: Backbone
) -> None:
    eventually(lambda: checked.stats().not_ready is None)
    fault.on = True
    eventually(lambda: checked.stats().not_ready == "no forward has succeeded for more than 0.3 s")
    assert isinstance(checked.submit([row(tiny, loaded(tiny), "a film")])[0].exception(30), InferenceFailed)
    assert checked.stats().alive
    fault.on = False
    eventually(lambda: checked.stats().not_ready is None)
    assert checked.submit([row(tiny, loaded(tiny), "a film")])[0].exception(30) is None


def test_callers_whose_rows_all_fail_do_not_make_a_sound_model_unready(tiny: Backbone) -> None:
    def fail_for_callers(packed: PackedBatch) -> None:
        if packed.num_tokens > 3:
            raise ValueError("a bad adapter")

    broken = sabotaged(tiny, fail_for_callers)
    engine = Engine(
        broken,
        max_batch_tokens=64,
        prompt_table_bytes=1 << 20,
        breaker_failures=10_000,
        heartbeat_interval_s=0.05,
        readiness_max_age_s=0.5,
    )
    engine.start()
    ages: list[float] = []
    asked = row(tiny, loaded(tiny), "a film")

    def ask_on() -> bool:  # never idle
        futures = engine.submit(copies(asked, 8))
        assert all(isinstance(future.exception(30), InferenceFailed) for future in futures)
        ages.append(engine.stats().last_forward_age_s or 0.0)
        return len(ages) > 2 and ages[-1] < ages[-2]  # it checked itself between two batches

    for _ in range(3):
        eventually(ask_on)
    engine.stop()


def test_whoever_comes_during_a_check_does_not_wait_for_its_end(tiny: Backbone) -> None:
    begun, come = threading.Event(), threading.Event()
    layers: list[int] = []

    def wait(packed: PackedBatch) -> None:
        if packed.num_tokens <= 3 and not begun.is_set():
            begun.set()
            assert come.wait(30)
        layers.append(packed.num_tokens)

    heartbeat = Heartbeat(sabotaged(tiny, wait), interval_s=1.0)
    checking = threading.Thread(target=lambda: heartbeat.probe(preempted=come.is_set))
    checking.start()
    assert begun.wait(30)
    come.set()
    checking.join(30)
    assert heartbeat.succeeded_at is None  # given up
    assert heartbeat.due_in_s() == 0.0  # and still due
    come.clear()
    heartbeat.probe(preempted=come.is_set)
    assert heartbeat.succeeded_at is not None
    assert heartbeat.due_in_s() == pytest.approx(1.0, abs=0.5)


def test_scores_that_are_no_numbers_are_no_success(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = sabotaged(tiny, lambda packed: None)
    monkeypatch.setattr(broken, "score", lambda encoded, tries, **options: torch.full((1, 2), float("nan")))
    heartbeat = Heartbeat(broken, interval_s=1.0)
    heartbeat.probe(preempted=lambda: False)
    assert heartbeat.succeeded_at is None
    assert heartbeat.due_in_s() != 0.0  # not again at once


def test_a_busy_model_needs_no_check(tiny: Backbone, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("service.engine.heartbeat.time", clock)
    monkeypatch.setattr("service.engine.engine.time", clock)
    engine = Engine(sabotaged(tiny, fault), max_batch_tokens=64, prompt_table_bytes=1 << 20, heartbeat_interval_s=1e6)
    engine.start()
    for _ in range(5):
        clock.ahead_s += 9e5
        assert engine.submit([row(tiny, loaded(tiny), "a film", timeout_s=1e9)])[0].exception(30) is None
    engine.stop()
    assert len(fault.ran) == 5


@pytest.mark.slow
def test_a_server_that_nobody_asks_says_how_old_its_last_forward_is(serve: Serve, tiny: Backbone) -> None:
    server = serve(heartbeat_interval_s=0.05, readiness_max_age_s=10.0)
    server.upload("sentiment", make_adapter(tiny))
    resident = server.client.get("/healthz/ready").json()["resident_adapters"]
    seen: list[float] = []

    def forwards_went_on() -> bool:
        answer = server.client.get("/healthz/ready")
        assert answer.status_code == 200
        seen.append(answer.json()["last_forward_age_s"])
        return sum(later < earlier for earlier, later in itertools.pairwise(seen)) >= 3

    eventually(forwards_went_on)
    assert server.client.get("/healthz/ready").json()["resident_adapters"] == resident
    assert sample(server, "superpos_last_forward_age_seconds") < 10
    assert server.client.get("/healthz/startup").json()["status"] == "started"
    assert sample(server, "superpos_batch_rows_count") == 1  # the upload's smoke forward: checks are nobody's rows


@pytest.mark.slow
def test_a_stuck_forward_turns_readiness_off_before_the_process_is_given_up(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(heartbeat_interval_s=0.05, readiness_max_age_s=0.5)
    backbone, go_on = server.app.state.runtime.backbone, threading.Event()
    monkeypatch.setattr(backbone, "encode", sabotaged(backbone, lambda packed: assert_set(go_on)).encode)
    eventually(lambda: server.client.get("/healthz/ready").status_code == 503)
    assert server.client.get("/healthz/ready").json()["reason"] == "no forward has succeeded for more than 0.5 s"
    assert server.client.get("/healthz/live").status_code == server.client.get("/healthz/startup").status_code == 200
    go_on.set()
    eventually(lambda: server.client.get("/healthz/ready").status_code == 200)


def assert_set(event: threading.Event) -> None:
    assert event.wait(60)


def test_startup_is_503_until_the_self_test_has_passed(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    engine = server.app.state.runtime.inference.engine
    monkeypatch.setattr(engine, "_self_test", None)  # as before its end
    answer = server.client.get("/healthz/startup")
    assert (answer.status_code, answer.json()) == (503, {"status": "starting", "self_test": None})


def test_the_event_loop_of_a_server_gives_way_to_its_engine(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = serve()
    idle = server.app.state.runtime.inference.engine.activity.idle
    waits: list[float] = []
    wait = idle.wait
    monkeypatch.setattr(idle, "wait", lambda timeout: waits.append(timeout) or wait(timeout))
    for _ in range(5):
        assert server.client.get("/metrics").is_success
    assert waits
