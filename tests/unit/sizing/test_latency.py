"""Latency of one replica, against closed forms of queuing theory."""

from dataclasses import replace

import pytest
from support.sizing import batch_time

from sizing.latency import ReplicaCosts, RequestShape, latency

TOKENS = 50
SHAPE = RequestShape(rows=1, tokens=TOKENS, fixed_tokens=TOKENS)
"""Rows of equal size."""
COSTS = ReplicaCosts(batch=batch_time(), request_s=0.0, overhead_s=0.0, max_batch_tokens=1_000)
ONE_BY_ONE = replace(COSTS, max_batch_tokens=TOKENS)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_batches_of_one_row_are_the_queue_m_d_1(load: float) -> None:
    """Pollaczek and Khinchine: with a constant service time D the mean wait is D · ρ ÷ (2 · (1 − ρ))."""
    service_s = ONE_BY_ONE.batch.seconds(1, TOKENS)
    found = latency(ONE_BY_ONE, SHAPE, requests_per_s=load / service_s, num_requests=60_000)
    assert found.mean_s == pytest.approx(service_s * (1 + load / (2 * (1 - load))), rel=0.04)
    assert found.busy == pytest.approx(load, rel=0.02)
    assert found.queue_tokens == pytest.approx(load / service_s * found.mean_s * TOKENS)


def test_an_idle_replica_takes_the_time_of_one_row_and_the_overhead() -> None:
    found = latency(replace(COSTS, overhead_s=0.003), SHAPE, requests_per_s=0.001, num_requests=1_000)
    alone_s = COSTS.batch.seconds(1, TOKENS)
    assert (found.p50_s, found.p99_s) == pytest.approx((alone_s + 0.003, alone_s + 0.003))


def test_the_capacity_is_the_rate_beyond_which_the_queue_grows() -> None:
    """With batches of 20 rows: 10 ms per batch, 1 ms per row, 5 ms for its tokens, and 1 ms of the event loop."""
    costs = replace(COSTS, request_s=0.001, max_batch_tokens=1_025)
    assert costs.rows_of_full_batch(SHAPE) == pytest.approx(20)
    assert costs.capacity(SHAPE) == pytest.approx(1 / (0.0005 + 0.001 + 0.005 + 0.001))
    below, above = 0.9 * costs.capacity(SHAPE), 1.1 * costs.capacity(SHAPE)
    short, long = (latency(costs, SHAPE, requests_per_s=below, num_requests=n).mean_s for n in (20_000, 40_000))
    assert long == pytest.approx(short, rel=0.2)
    short, long = (latency(costs, SHAPE, requests_per_s=above, num_requests=n).mean_s for n in (20_000, 40_000))
    assert long == pytest.approx(2 * short, rel=0.2)


def test_waiting_rows_share_a_batch() -> None:
    rate = 0.9 / ONE_BY_ONE.batch.seconds(1, TOKENS)
    together = latency(COSTS, SHAPE, requests_per_s=rate, num_requests=10_000)
    assert together.mean_s < 0.5 * latency(ONE_BY_ONE, SHAPE, requests_per_s=rate, num_requests=10_000).mean_s


def test_a_request_waits_for_the_last_of_its_rows() -> None:
    """A batch holds three of its four rows."""
    four = RequestShape(rows=4, tokens=TOKENS, fixed_tokens=TOKENS)
    found = latency(replace(COSTS, max_batch_tokens=3 * TOKENS), four, requests_per_s=0.001, num_requests=100)
    assert found.p50_s == pytest.approx(COSTS.batch.seconds(3, 3 * TOKENS) + COSTS.batch.seconds(1, TOKENS))


def test_texts_of_different_length_have_the_mean_that_was_given_and_wait_longer_than_equal_ones() -> None:
    varied, rate = RequestShape(rows=1, tokens=TOKENS, fixed_tokens=10), 0.8 / ONE_BY_ONE.batch.seconds(1, TOKENS)
    one_by_one = replace(COSTS, max_batch_tokens=1)
    found, equal = (latency(one_by_one, shape, requests_per_s=rate, num_requests=30_000) for shape in (varied, SHAPE))
    assert found.busy == pytest.approx(equal.busy, rel=0.02)
    assert found.mean_s > equal.mean_s


def test_the_same_seed_gives_the_same_latency_and_another_seed_another() -> None:
    first, again, other = (
        latency(COSTS, SHAPE, requests_per_s=60, num_requests=2_000, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
