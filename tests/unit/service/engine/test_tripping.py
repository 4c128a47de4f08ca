"""The circuit breaker in the engine and over HTTP: an adapter that keeps failing is refused, and tried again later."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.adapters import make_adapter
from support.engine import Clock, Held, loaded, row, sabotaged, token_of
from support.http import check_problem
from support.server import RunningServer, sample
from support.waiting import eventually

from backbone import Backbone, PackedBatch
from service.engine.types import EngineRow
from service.errors import AdapterTripped, InferenceFailed, OutOfMemory

COOL_DOWN_S = 30.0  # the engine's default


class Broken:
    """A model that raises for one adapter's rows, told by their text, while `active`."""

    def __init__(self, backbone: Backbone) -> None:
        self.active = True
        self.forwards = 0
        self.good = loaded(backbone)
        self.bad = dataclasses.replace(loaded(backbone, seed=1), digest="bad")
        self._poison = token_of(backbone, "sports")
        self.backbone = sabotaged(backbone, self._raise_for_bad)
        self._real = backbone

    def _raise_for_bad(self, packed: PackedBatch) -> None:
        self.forwards += 1
        if self.active and self._poison in packed.token_ids:
            raise ValueError("bad")

    def bad_row(self) -> EngineRow:
        return row(self._real, self.bad, "sports")

    def good_row(self) -> EngineRow:
        return row(self._real, self.good, "a film")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr("service.engine.engine.time", moved)
    return moved


@pytest.fixture
def broken(tiny: Backbone) -> Broken:
    return Broken(tiny)


@pytest.fixture
def held(broken: Broken, clock: Clock) -> Iterator[Held]:
    """An engine whose bad adapter has been tripped."""
    holder = Held(broken.backbone)
    for future in holder.engine.submit([broken.bad_row() for _ in range(3)]):
        assert isinstance(future.exception(30), InferenceFailed)
    yield holder
    holder.release()
    holder.engine.stop()


def test_a_tripped_adapter_is_refused_at_once_and_no_other(broken: Broken, held: Held) -> None:
    held.hold(broken.good_row())
    refused, good = held.engine.submit([broken.bad_row(), broken.good_row()])
    assert isinstance(refused.exception(0), AdapterTripped)  # while the model thread stands still
    assert held.engine.stats().tripped_adapters == 1
    held.release()
    assert np.isfinite(good.result(30).scores).all()
    assert sum(done.num_trips for done in held.batches) == 1


def test_rows_that_queued_before_the_trip_cost_no_forward_each(broken: Broken, tiny: Backbone) -> None:
    held = Held(broken.backbone)
    held.hold(broken.good_row())
    broken.forwards = 0
    *bad, good = held.engine.submit([*(broken.bad_row() for _ in range(64)), broken.good_row()])
    held.release()
    assert np.isfinite(good.result(30).scores).all()
    errors = [type(future.exception(30)) for future in bad]
    assert errors == [InferenceFailed] * 3 + [AdapterTripped] * 61
    assert broken.forwards <= 12  # halving 65 rows down to three, and the good one; all 64 would be 129
    held.engine.stop()


def test_after_the_cool_down_one_row_is_tried_and_its_failure_refuses_the_others(
    broken: Broken, held: Held, clock: Clock
) -> None:
    held.hold(broken.good_row())
    clock.ahead_s += COOL_DOWN_S
    broken.forwards = 0
    *bad, good = held.engine.submit([*(broken.bad_row() for _ in range(5)), broken.good_row()])
    held.release()
    assert np.isfinite(good.result(30).scores).all()
    assert [type(future.exception(30)) for future in bad] == [InferenceFailed] + [AdapterTripped] * 4
    assert broken.forwards == 2  # the trial alone, and the good row
    assert held.engine.stats().tripped_adapters == 1


def test_a_trial_that_succeeds_lets_the_others_of_its_batch_through(broken: Broken, held: Held, clock: Clock) -> None:
    held.hold(broken.good_row())
    clock.ahead_s += COOL_DOWN_S
    broken.active = False
    futures = held.engine.submit([broken.bad_row() for _ in range(5)])
    held.release()
    assert all(np.isfinite(future.result(30).scores).all() for future in futures)
    assert held.engine.stats().tripped_adapters == 0


def test_running_out_of_memory_is_not_held_against_the_adapter(tiny: Backbone) -> None:
    def fail(_: PackedBatch) -> None:
        raise MemoryError

    held = Held(sabotaged(tiny, fail))
    for future in held.engine.submit([row(tiny, loaded(tiny), "a film")] * 10):
        assert isinstance(future.exception(30), OutOfMemory)
    assert held.engine.stats().tripped_adapters == 0
    held.engine.stop()


def test_over_http_a_tripped_adapter_is_503_and_the_others_answer(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(trip_after_failures=2, trip_cool_down_s=3_600)
    server.upload("sound", make_adapter(tiny))
    server.upload("sick", make_adapter(tiny, seed=1))
    assert sample(server, "superpos_adapters_tripped") == 0
    assert sample(server, "superpos_adapter_trips_total") == 0
    backbone = server.app.state.runtime.backbone
    poison = token_of(tiny, "sports")

    def raise_for_poison(packed: PackedBatch) -> None:
        if poison in packed.token_ids:
            raise ValueError("poison")

    monkeypatch.setattr(backbone, "encode", sabotaged(backbone, raise_for_poison).encode)
    for _ in range(2):
        check_problem(server.classify("sick", "sports"), 500, "inference_failed", "poison")
    refused = server.classify("sick", "a film")
    check_problem(refused, 503, "adapter_tripped", "failed 2 times in a row")
    assert 3_500 < int(refused.headers["Retry-After"]) <= 3_600
    assert server.classify("sound", "a film").status_code == 200
    eventually(lambda: sample(server, "superpos_adapter_trips_total") == 1)
    assert sample(server, "superpos_adapters_tripped") == 1
    ready = server.client.get("/healthz/ready")
    assert (ready.status_code, ready.json()["tripped_adapters"]) == (200, 1)


def test_over_http_a_row_that_does_not_fit_in_memory_is_503(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    server.upload("sound", make_adapter(tiny))
    backbone = server.app.state.runtime.backbone

    def fail(_: PackedBatch) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(backbone, "encode", sabotaged(backbone, fail).encode)
        refused = server.classify("sound", "a film")
        check_problem(refused, 503, "out_of_memory", "tokens")
        assert int(refused.headers["Retry-After"]) >= 1
    assert server.classify("sound", "a film").status_code == 200
