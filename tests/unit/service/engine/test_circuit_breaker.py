"""The circuit breaker by itself, on a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.circuit_breaker import CircuitBreaker


def breaker(**changes: float) -> CircuitBreaker:
    return CircuitBreaker(**{"trip_after": 3, "cool_down_s": 30.0, **changes})


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
    assert "adapter bad failed 3 times in a row" in str(refusal)
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
    events: list[tuple[str, bool, float]], trip_after: int
) -> None:
    some = breaker(trip_after=trip_after)
    now, history = 0.0, {digest: [] for digest in "abc"}
    for digest, succeeds, pause in events:
        now += pause
        history[digest].append(None if succeeds else now)
        some.succeeded(digest) if succeeds else some.failed(digest, now)
        for one, outcomes in history.items():
            last = outcomes[-trip_after:]
            tripped = len(last) == trip_after and None not in last and now < last[-1] + 30.0
            assert (some.refusal(one, now) is not None) == tripped
