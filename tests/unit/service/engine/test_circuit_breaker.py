"""The circuit breaker by itself, on a clock that the test moves."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.adapters import make_adapter
from support.engine import Clock, Held, copies, loaded, row, sabotaged, token_of
from support.http import check_problem
from support.server import RunningServer, sample
from support.waiting import eventually

from backbone import Backbone, PackedBatch
from service.engine.circuit_breaker import CircuitBreaker
from service.engine.types import Row
from service.errors import AdapterTripped, InferenceFailed, OutOfMemory


def breaker(**changes: float) -> CircuitBreaker:
    return CircuitBreaker(**{"failures": 3, "reset_s": 30.0, **changes})


def fail(of: CircuitBreaker, digest: str, *, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        of.failed(digest, now)


def test_an_adapter_is_refused_after_the_third_failure_in_a_row() -> None:
    some = breaker()
    for _ in range(2):
        some.failed("bad", 0.0)
        assert some.refusal("bad", 0.0) is None
    some.failed("bad", 0.0)
    refusal = some.refusal("bad", 0.0)
    assert refusal is not None
    assert "adapter bad is refused for a while: 3 consecutive rows failed" in str(refusal)
    assert (some.num_tripped(0.0), some.trips) == (1, 1)


def test_failures_with_a_success_between_them_do_not_trip() -> None:
    some = breaker()
    for _ in range(10):
        fail(some, "shaky", times=2)
        some.succeeded("shaky")
    assert some.refusal("shaky", 0.0) is None
    assert (len(some), some.trips) == (0, 0)


def test_other_adapters_are_not_refused() -> None:
    some = breaker()
    fail(some, "bad", times=100)
    fail(some, "shaky", times=2)
    assert some.refusal("shaky", 0.0) is None
    assert some.refusal("good", 0.0) is None


@pytest.mark.parametrize(("now", "retry_after_s"), [(0.0, 30), (0.5, 30), (28.9, 2), (29.999, 1)])
def test_a_refusal_says_in_whole_seconds_when_to_come_again(now: float, retry_after_s: int) -> None:
    some = breaker()
    fail(some, "bad", times=3)
    refusal = some.refusal("bad", now)
    assert refusal is not None
    assert refusal.retry_after_s == retry_after_s


def test_after_the_cool_down_it_is_on_trial_and_a_success_closes_it() -> None:
    some = breaker()
    fail(some, "bad", times=3)
    assert not some.is_half_open("bad", 29.9)
    assert some.is_half_open("bad", 30.0)
    assert some.refusal("bad", 30.0) is None
    assert some.num_tripped(30.0) == 0
    some.succeeded("bad")
    assert not some.is_half_open("bad", 30.0)
    fail(some, "bad", times=2, now=30.0)
    assert some.refusal("bad", 30.0) is None


def test_one_failure_on_trial_trips_it_again() -> None:
    some = breaker()
    fail(some, "bad", times=3)
    some.failed("bad", 31.0)
    assert some.refusal("bad", 60.9) is not None
    assert some.refusal("bad", 61.0) is None
    assert some.trips == 2


def test_failures_that_come_in_while_it_is_tripped_are_no_further_trip() -> None:
    some = breaker()
    fail(some, "bad", times=20)
    assert some.trips == 1


def test_an_adapter_that_never_failed_is_not_on_trial() -> None:
    some = breaker()
    some.failed("shaky", 0.0)
    assert not some.is_half_open("shaky", 1e9)
    assert not some.is_half_open("good", 1e9)


def test_only_the_last_that_failed_are_held() -> None:
    some = breaker(max_digests=10)
    fail(some, "kept", times=3)
    for number in range(1_000):
        some.succeeded(f"good {number}")
        some.failed(f"bad {number}", 0.0)
        some.failed("kept", 0.0)
    assert len(some) == 10
    assert some.refusal("kept", 0.0) is not None


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 20)), max_size=60)


@given(EVENTS, st.integers(1, 4))
def test_it_refuses_exactly_while_a_run_of_failures_is_fresh(
    events: list[tuple[str, bool, float]], max_failures: int
) -> None:
    some = breaker(failures=max_failures)
    now, history = 0.0, {digest: [] for digest in "abc"}
    for digest, succeeds, pause in events:
        now += pause
        history[digest].append(None if succeeds else now)
        some.succeeded(digest) if succeeds else some.failed(digest, now)
        for one, outcomes in history.items():
            last = outcomes[-max_failures:]
            tripped = len(last) == max_failures and None not in last and now < last[-1] + 30.0
            assert (some.refusal(one, now) is not None) == tripped


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

    def bad_row(self) -> Row:
        return row(self._real, self.bad, "sports")

    def good_row(self) -> Row:
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
    assert np.isfinite(good.result(30)).all()
    assert sum(done.num_trips for done in held.batches) == 1


def test_rows_that_queued_before_the_trip_cost_no_forward_each(broken: Broken, tiny: Backbone) -> None:
    held = Held(broken.backbone)
    held.hold(broken.good_row())
    broken.forwards = 0
    *bad, good = held.engine.submit([*(broken.bad_row() for _ in range(64)), broken.good_row()])
    held.release()
    assert np.isfinite(good.result(30)).all()
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
    assert np.isfinite(good.result(30)).all()
    assert [type(future.exception(30)) for future in bad] == [InferenceFailed] + [AdapterTripped] * 4
    assert broken.forwards == 2  # the trial alone, and the good row
    assert held.engine.stats().tripped_adapters == 1


def test_a_trial_that_succeeds_lets_the_others_of_its_batch_through(broken: Broken, held: Held, clock: Clock) -> None:
    held.hold(broken.good_row())
    clock.ahead_s += COOL_DOWN_S
    broken.active = False
    futures = held.engine.submit([broken.bad_row() for _ in range(5)])
    held.release()
    assert all(np.isfinite(future.result(30)).all() for future in futures)
    assert held.engine.stats().tripped_adapters == 0


def test_running_out_of_memory_is_not_held_against_the_adapter(tiny: Backbone) -> None:
    def fail(_: PackedBatch) -> None:
        raise MemoryError

    held = Held(sabotaged(tiny, fail))
    for future in held.engine.submit(copies(row(tiny, loaded(tiny), "a film"), 10)):
        assert isinstance(future.exception(30), OutOfMemory)
    assert held.engine.stats().tripped_adapters == 0
    held.engine.stop()


@pytest.mark.slow
def test_over_http_a_tripped_adapter_is_503_and_the_others_answer(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(breaker_failures=2, breaker_reset_s=3_600)
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
        failed = server.classify("sick", "sports")
        check_problem(failed, 500, "inference_failed", "the forward failed on this row")
        assert "poison" not in failed.text  # what an exception says is for the log
    refused = server.classify("sick", "a film")
    check_problem(refused, 503, "adapter_tripped", "2 consecutive rows failed")
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
