"""The start of the model thread: warm-up, the self-test of batch invariance, and readiness that waits for both."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.adapters import make_adapter
from support.engine import loaded, row, sabotaged
from support.http import check_problem
from support.server import RunningServer, sample
from support.waiting import eventually

from backbone import Backbone, PackedBatch
from service.engine.engine import Engine
from service.engine.fault_isolation import FaultIsolation
from service.engine.model_runner import Forward, ModelRunner, Row, RowScores
from service.engine.self_test import SelfTest, Shape, run_self_test, synthetic_rows, warm_up
from service.errors import NotReady


def forward_of(backbone: Backbone) -> ModelRunner:
    return ModelRunner(backbone, prompt_table_bytes=1 << 20)


def leaking(backbone: Backbone, share: float) -> Forward:
    """A forward in which each row's scores take a share of its batch's mean."""
    sound = forward_of(backbone)

    def forward(rows: Sequence[Row]) -> list[RowScores]:
        scores = sound(rows)
        mean = np.float32(np.mean([row.mean() for row in scores]))
        return [row + np.float32(share) * mean for row in scores]

    return forward


def test_the_tiny_model_passes(tiny: Backbone) -> None:
    found = run_self_test(forward_of(tiny), tiny)
    assert found.passed
    assert found.max_difference <= 1e-4
    assert (found.rows, found.batches) == (7, 5)
    assert found.bit_identical == (found.max_difference == 0)


@pytest.mark.slow
def test_the_embedded_model_passes(embedded: Backbone) -> None:
    assert run_self_test(forward_of(embedded), embedded).passed


def test_rows_that_depend_on_their_neighbours_do_not_pass(tiny: Backbone) -> None:
    found = run_self_test(leaking(tiny, 0.01), tiny)
    assert not found.passed
    assert 1e-4 < found.max_difference < 1
    assert f"differ by up to {found.max_difference:.3g}" in str(found)


def test_scores_that_are_no_numbers_do_not_pass(tiny: Backbone) -> None:
    found = run_self_test(leaking(tiny, np.nan), tiny)
    assert found.max_difference == float("inf")
    assert not found.passed


def test_an_int8_backbone_is_held_to_the_same_bound(tiny: Backbone) -> None:
    int8 = tiny.in_precision("int8")
    assert run_self_test(forward_of(int8), int8).tolerance == 1e-4
    assert run_self_test(forward_of(int8), int8).passed


def test_synthetic_rows_have_the_shapes_asked_for_and_are_the_same_each_time(tiny: Backbone) -> None:
    shapes = [Shape(3, 5, (1, 1)), Shape(100, 1, (4, 4, 1))]
    rows, again = synthetic_rows(tiny, shapes), synthetic_rows(tiny, shapes)
    for shape, made, same in zip(shapes, rows, again, strict=True):
        assert made.adapter.rows.shape == (shape.num_virtual_tokens, tiny.width)
        assert len(made.token_ids) == shape.num_text_tokens
        assert made.adapter.readout.num_labels == len(shape.label_tokens)
        assert made.token_ids == same.token_ids
        assert made.token_ids[-1] == tiny.architecture.eos_id
    assert not rows[1].adapter.readout.needs_one_step


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 512, 1_000, 4_096])
def test_the_warm_up_grows_to_the_largest_batch_and_no_further(tiny: Backbone, max_batch_tokens: int) -> None:
    sizes: list[int] = []
    broken = sabotaged(tiny, lambda packed: sizes.append(packed.num_tokens))
    warm_up(FaultIsolation(forward_of(broken)), tiny, max_batch_tokens=max_batch_tokens)
    assert sizes == sorted(set(sizes))
    assert sizes[0] <= 64
    assert max(sizes) <= max(64, max_batch_tokens)


def test_a_warm_up_that_does_not_fit_in_memory_is_no_error_and_is_remembered(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.self_test._LONG_STEP_S", float("inf"))  # however busy the machine is
    asked: list[int] = []

    def hold(packed: PackedBatch) -> None:
        asked.append(packed.num_tokens)
        if packed.num_tokens > 300:
            raise MemoryError

    fault_isolation = FaultIsolation(forward_of(sabotaged(tiny, hold)))
    warm_up(fault_isolation, tiny, max_batch_tokens=1_024)
    assert max(asked) > 300
    asked.clear()
    list(fault_isolation.run([row(tiny, loaded(tiny), "a film")] * 40))
    assert max(asked) <= 300


class Preparation:
    """A preparation that waits until it is told what it found."""

    def __init__(self) -> None:
        self.found: SelfTest | None = None
        self.thread = ""
        self.go_on = threading.Event()

    def __call__(self, _: FaultIsolation) -> SelfTest | None:
        self.thread = threading.current_thread().name
        assert self.go_on.wait(30)
        return self.found


def test_an_engine_is_not_ready_before_its_self_test_and_rows_wait_for_it(tiny: Backbone) -> None:
    prepare = Preparation()
    engine = Engine(tiny, max_batch_tokens=512, prompt_table_bytes=1 << 20, prepare=prepare)
    engine.start()
    (future,) = engine.submit([row(tiny, loaded(tiny), "a film")])
    assert engine.stats().not_ready == "the self-test has not ended"
    assert not future.done()
    prepare.found = SelfTest(rows=1, batches=1, max_difference=0.0, tolerance=1e-4)
    prepare.go_on.set()
    assert np.isfinite(future.result(30)).all()
    assert engine.stats().not_ready is None
    assert engine.stats().self_test == prepare.found
    assert prepare.thread == "superpos-model"
    engine.stop()


def test_an_engine_whose_self_test_failed_refuses_all_rows_with_the_figures(tiny: Backbone) -> None:
    prepare = Preparation()
    prepare.found = SelfTest(rows=7, batches=5, max_difference=0.25, tolerance=1e-4)
    engine = Engine(tiny, max_batch_tokens=512, prompt_table_bytes=1 << 20, prepare=prepare)
    engine.start()
    (waiting,) = engine.submit([row(tiny, loaded(tiny), "a film")])
    prepare.go_on.set()
    for future in (waiting, *engine.submit([row(tiny, loaded(tiny), "a film")])):
        with pytest.raises(NotReady, match=r"self-test failed: 7 rows in 5 batches differ by up to 0\.25"):
            future.result(30)
    assert "0.25" in str(engine.stats().not_ready)
    assert engine.stats().alive
    assert engine.stats().failure is None
    engine.stop()


@pytest.mark.slow
def test_readiness_tells_what_the_self_test_found_and_metrics_do_not_count_it(
    serve: Callable[..., RunningServer],
) -> None:
    server = serve(bundled=False)
    ready = server.client.get("/healthz/ready").json()
    found = ready["self_test"]
    assert set(found) == {"rows", "batches", "max_difference", "tolerance", "bit_identical"}
    assert 0 <= found["max_difference"] <= found["tolerance"] == 1e-4
    assert ready["resident_adapters"] == 0
    assert sample(server, "superpos_batch_rows_count") == 0
    assert sample(server, "superpos_adapters_resident") == 0


def test_a_server_whose_self_test_fails_says_so_and_answers_nothing(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ModelRunner.__call__

    def leak(self: ModelRunner, rows: Sequence[Row]) -> list[RowScores]:
        return [scores * np.float32(len(rows)) for scores in honest(self, rows)]

    monkeypatch.setattr(ModelRunner, "__call__", leak)
    server = serve()
    eventually(lambda: server.app.state.runtime.inference.engine.stats().self_test is not None)
    ready = server.client.get("/healthz/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert ready.json()["reason"] == "the self-test failed"
    assert "differ by up to" in str(server.app.state.runtime.inference.engine.stats().not_ready)
    assert ready.json()["self_test"]["max_difference"] > 1e-4
    with pytest.raises(AssertionError, match="not_ready"):
        server.upload("sentiment", make_adapter(tiny))  # its smoke forward is refused
    refused = server.client.post("/classify/nothing", json={"inputs": "x"})
    check_problem(refused, 404, "not_found")
    assert server.client.get("/healthz/live").status_code == 200
