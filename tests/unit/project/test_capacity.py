"""The simulation of replicas: against a closed form and the plan's queue; its traffic, autoscaler and seeds."""

import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from support.sizing import batch_time, coefficients

from benchmarks.capacity.autoscaler import INTERVAL_S, Autoscaler, AutoscalerRules, Scrape
from benchmarks.capacity.replica import ReplicaModel
from benchmarks.capacity.scenarios import VIRTUAL_TOKENS, capacity, of_autoscaler, of_replicas, traffic_at
from benchmarks.capacity.simulation import Scenario, simulate
from benchmarks.capacity.traffic import BULK_ROWS, BULK_TENANT, Profile, Traffic, bursts, ramp, step, uniform_lengths
from benchmarks.common.schedule import popularity
from sizing.latency import ReplicaCosts, RequestShape, latency

TEXT = 40
ROW = TEXT + VIRTUAL_TOKENS
MODEL = ReplicaModel.of(coefficients(), "fp32", 2)
BARE = ReplicaModel(batch=batch_time())
"""A replica whose event loop takes no time."""
EQUAL = Traffic(requests_per_s=1.0, tasks=10, lengths=(TEXT,), tenants=1)


# --- latency


@pytest.mark.slow
def test_batches_of_one_row_are_the_queue_m_d_1() -> None:
    """Pollaczek and Khinchine: with a constant service time D the mean wait is D · ρ ÷ (2 · (1 − ρ))."""
    model, load = replace(BARE, max_batch_tokens=ROW), 0.6
    service_s = model.batch.seconds(1, ROW)
    traffic = replace(EQUAL, requests_per_s=load / service_s)
    found = simulate(Scenario(name="", traffic=traffic, replicas=1, seconds=10_000 * service_s / load), model, seed=1)
    assert found.requests == pytest.approx(10_000, rel=0.03)
    assert found.mean_s == pytest.approx(service_s * (1 + load / (2 * (1 - load))), rel=0.05)
    assert found.busy == pytest.approx(load, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.4, 0.7])
def test_one_replica_has_the_latency_that_a_plan_expects(load: float) -> None:
    """Two programs for one queue: the server's scheduler on simulated time, and the plan's own batches."""
    traffic = replace(EQUAL, lengths=uniform_lengths(TEXT))
    rate = load * capacity(MODEL, traffic)
    scenario = Scenario(name="", traffic=replace(traffic, requests_per_s=rate), replicas=1, seconds=6_000 / rate)
    simulated = simulate(scenario, MODEL, seed=1)  # the percentile of 6,000 requests varies by a tenth
    costs = ReplicaCosts(
        batch=MODEL.batch, request_s=MODEL.loop_s(1), overhead_s=MODEL.overhead_s, max_batch_tokens=1_024
    )
    expected = latency(costs, RequestShape(rows=1, tokens=ROW, fixed_tokens=VIRTUAL_TOKENS), requests_per_s=rate)
    assert simulated.p50_s == pytest.approx(expected.p50_s, rel=0.1)
    assert simulated.p99_s == pytest.approx(expected.p99_s, rel=0.2)
    assert simulated.busy == pytest.approx(expected.busy, rel=0.1)


def test_a_request_alone_takes_the_loop_the_model_and_the_overhead() -> None:
    traffic = replace(EQUAL, requests_per_s=0.2)
    found = simulate(Scenario(name="", traffic=traffic, replicas=1, seconds=200), MODEL, seed=0)
    alone_s = MODEL.batch.seconds(1, ROW) + MODEL.overhead_s
    assert found.p50_s == pytest.approx(alone_s)


def test_the_same_seed_gives_the_same_result_and_another_seed_another() -> None:
    traffic = traffic_at(0.8, 3, MODEL, tasks=100)
    scenario = Scenario(name="", traffic=replace(traffic, bulk_share=0.3), replicas=3, seconds=6)
    first, again, other = (simulate(scenario, MODEL, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_balancer_that_knows_the_replicas_has_shorter_queues_than_chance() -> None:
    scenario = Scenario(name="", traffic=traffic_at(0.8, 3, MODEL, tasks=100), replicas=3, seconds=10)
    by_chance, fewest = (simulate(replace(scenario, balance=way), MODEL, seed=0) for way in ("random", "fewest"))
    assert fewest.p99_s < by_chance.p99_s


def test_more_than_the_capacity_is_refused_by_the_servers_own_admission() -> None:
    model = replace(MODEL, max_queue_tokens=4_000)
    scenario = Scenario(name="", traffic=traffic_at(0.9, 2, model, tasks=100), replicas=1, seconds=20)
    found = simulate(scenario, model, seed=0)
    assert 0.3 < found.refused < 0.6
    assert found.queue_tokens == pytest.approx(4_000, rel=0.15)
    assert found.busy == pytest.approx(1, abs=0.05)
    assert found.p50_s < 4_000 / ROW / capacity(model, scenario.traffic)


# --- adapters and releases


def test_adapters_beyond_the_memory_are_loaded_and_the_popular_ones_stay() -> None:
    model = replace(MODEL, max_loaded_adapters=10)
    scenario = Scenario(name="", traffic=traffic_at(0.5, 1, model, tasks=100), replicas=1, seconds=20)
    found = simulate(scenario, model, seed=0)
    beyond = float(popularity(100, "zipf")[10:].sum())
    assert beyond < found.cold < 1.6 * beyond
    assert simulate(scenario, MODEL, seed=0).cold == 0


def test_a_release_replaces_every_replica_without_a_lost_request() -> None:
    model = replace(MODEL, start_s=4.0)
    scenario = Scenario(name="", traffic=traffic_at(0.4, 2, model, tasks=50), replicas=2, seconds=60, rollout_at_s=10)
    found = simulate(scenario, model, seed=0)
    assert (found.fewest_replicas, found.refused, found.expired) == (2, 0, 0)
    assert found.mean_replicas > 2
    assert 0 < found.cold < 0.1, "new replicas load each adapter once"


def test_new_versions_cost_the_replicas_time_and_no_request() -> None:
    scenario = Scenario(name="", traffic=traffic_at(0.5, 2, MODEL, tasks=50), replicas=2, seconds=20)
    none, many = (simulate(replace(scenario, publications_per_s=rate), MODEL, seed=0) for rate in (0.0, 20.0))
    assert many.mean_s > none.mean_s
    assert (many.refused, many.cold) == (0, 0)


# --- traffic


def test_tasks_are_popular_by_zipfs_law_and_texts_have_the_lengths_that_were_given() -> None:
    traffic = Traffic(requests_per_s=100, tasks=50, lengths=(5, 7), rows=2, tenants=5)
    drawn = list(islice(traffic.arrivals(seconds=1e9, seed=0), 20_000))
    counts = Counter(arrival.task for arrival in drawn)
    assert counts[0] / 20_000 == pytest.approx(popularity(50, "zipf")[0], rel=0.05)
    assert Counter(len(arrival.texts) for arrival in drawn) == {2: 20_000}
    assert Counter(text for arrival in drawn for text in arrival.texts)[5] == pytest.approx(20_000, rel=0.03)
    assert {arrival.tenant for arrival in drawn} == {f"tenant-{number}" for number in range(5)}


def test_a_bulk_tenant_sends_its_share_of_the_rows_in_large_requests() -> None:
    traffic = Traffic(requests_per_s=100, tasks=50, lengths=(5,), bulk_share=0.5)
    drawn = list(traffic.arrivals(seconds=300, seed=0))
    rows: Counter[str] = Counter()
    for arrival in drawn:
        rows[arrival.tenant] += len(arrival.texts)
    assert {len(arrival.texts) for arrival in drawn if arrival.tenant == BULK_TENANT} == {BULK_ROWS}
    assert rows[BULK_TENANT] / rows.total() == pytest.approx(0.5, abs=0.05)


def test_the_rate_follows_its_profile() -> None:
    traffic = Traffic(requests_per_s=100, tasks=5, lengths=(5,), profile=step(50, 3.0))
    times = [arrival.at for arrival in traffic.arrivals(seconds=100, seed=0)]
    assert sum(time < 50 for time in times) == pytest.approx(5_000, rel=0.05)
    assert sum(time >= 50 for time in times) == pytest.approx(15_000, rel=0.05)
    rising = ramp(10, 40, 4.0, steps=3)
    assert [rising.at(time) for time in (0, 9, 10, 20, 30, 99)] == [1, 1, 2, 3, 4, 4]
    bursty = bursts(every_s=50, lasts_s=10, factor=3.0, seconds=10_000, seed=0)
    share = sum(bursty.at(time) == 3 for time in range(10_000)) / 10_000
    assert share == pytest.approx(10 / 60, abs=0.05)


# --- autoscaler

RULES = AutoscalerRules(queue_tokens=1_000, min_replicas=2, max_replicas=20)


def queued(tokens: float, refusals_per_s: float = 0.0) -> Scrape:
    return Scrape(queue_tokens=tokens, refusals_per_s=refusals_per_s, tokens_per_s=0.0)


def test_the_autoscaler_keeps_the_mean_of_a_trigger_at_its_target() -> None:
    assert Autoscaler(RULES).decide(0, 4, queued(4_300)) == 4, "within a tenth"
    assert Autoscaler(RULES).decide(0, 4, queued(5_500)) == 6
    assert Autoscaler(RULES).decide(0, 4, queued(0, refusals_per_s=0.65)) == 7, "the trigger that asks for most"
    assert Autoscaler(replace(RULES, queue_tokens=math.inf)).decide(0, 4, queued(99_000)) == 4


def test_it_at_most_doubles_in_a_minute_and_never_exceeds_its_limits() -> None:
    scaler, count, seen = Autoscaler(RULES), 4, []
    for number in range(14):
        count = scaler.decide(number * INTERVAL_S, count, queued(1e6))
        seen.append(count)
    assert seen[:4] == [8, 8, 8, 8]
    assert max(seen) == 20
    assert Autoscaler(RULES).decide(0, 1, queued(1e6)) == 3, "or two more"


def test_it_removes_a_quarter_per_minute_after_the_calm() -> None:
    scaler, count, seen = Autoscaler(RULES), 12, {}
    scaler.decide(0, 12, queued(12_000))
    for number in range(1, 60):
        now = number * INTERVAL_S
        count = seen[now] = scaler.decide(now, count, queued(100))
    assert seen[300] == 12
    assert seen[315] == 9
    assert seen[360] == 9
    assert seen[60 * INTERVAL_S - INTERVAL_S] == 2


@pytest.mark.slow
def test_replicas_follow_a_load_that_doubles() -> None:
    model = replace(MODEL, start_s=5.0)
    rules = replace(RULES, queue_tokens=800)
    traffic = replace(traffic_at(0.6, 2, model, tasks=20), profile=step(20, 2.0))
    scenario = Scenario(name="", traffic=traffic, replicas=2, seconds=100, autoscaler=rules)
    found = simulate(scenario, model, seed=0)
    fixed = simulate(replace(scenario, autoscaler=None), model, seed=0)
    assert found.most_replicas >= 4
    assert found.p99_s < fixed.p99_s


# --- scenarios


def test_every_scenario_is_named_and_can_be_run() -> None:
    runs = list(of_replicas(MODEL, 2, load=0.5, tasks=20, seconds=4, seed=0))
    assert len({run.scenario.name for run in runs}) == len(runs) == 7
    for run in runs:
        seconds = min(run.scenario.seconds, 4)
        assert simulate(replace(run.scenario, seconds=seconds), run.model, seed=0).requests > 0
    targets = list(of_autoscaler(MODEL, replicas=4, load=0.7, queue_tokens=900, seconds=600, seed=0))
    assert len({(name, change) for name, change, _ in targets}) == len(targets)
    assert all(run.scenario.autoscaler is not None for *_, run in targets)


def test_a_profile_begins_at_the_beginning() -> None:
    with pytest.raises(AssertionError):
        Profile((1.0,), (2.0,))
