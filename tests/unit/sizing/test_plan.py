"""Plans: replicas, memory and the chart's values, by hand."""

from dataclasses import replace

import pytest
from support.sizing import batch_time, coefficients

from service.settings import Settings
from sizing.errors import InvalidWorkload, NotMeasured, Unreachable
from sizing.latency import ReplicaCosts, latency
from sizing.plan import Plan, Target, Workload, chart_values, cold_share, plan

WORKLOAD = Workload(tasks=2_000, requests_per_s=1_000, text_tokens=40)
TARGET = Target(cores=2)


def planned(workload: Workload = WORKLOAD, target: Target = TARGET) -> Plan:
    return plan(workload, target, coefficients())


def test_replicas_follow_from_the_capacity_at_the_largest_load_and_the_spare_ones() -> None:
    """Rows of 50 tokens: 5 ms for tokens, 1 ms per row, 10 ms ÷ 19.98 rows of a full batch, 0.5 ms of the loop."""
    capacity = 1 / (0.005 + 0.001 + 0.01 / (1_024 / 50 - 0.5) + 0.0005)
    found = planned()
    assert found.capacity == pytest.approx(capacity)
    assert 1_000 / (0.7 * capacity) == pytest.approx(10.0, abs=0.05)  # just above 10
    assert (found.replicas, found.spare, found.total_cores) == (12, 1, 24)
    assert found.load == pytest.approx(1_000 / 12 / capacity)
    assert found.load_without_spare == pytest.approx(1_000 / 11 / capacity)
    assert found.without_spare.p99_s > found.all_up.p99_s > found.all_up.p50_s


def test_requests_of_several_texts_pay_for_each() -> None:
    one, eight = planned(), planned(replace(WORKLOAD, rows=8, requests_per_s=125))
    assert 8 * eight.capacity == pytest.approx(one.capacity, rel=0.1)
    assert 8 * eight.capacity > one.capacity, "the cost of a request is shared"


def test_a_target_for_the_99th_percentile_adds_as_few_replicas_as_it_takes() -> None:
    target_s = 0.6 * planned().without_spare.p99_s
    found = planned(target=replace(TARGET, p99_s=target_s))
    assert found.without_spare.p99_s <= target_s
    costs = ReplicaCosts(batch=batch_time(), request_s=0.0005, overhead_s=0.002, max_batch_tokens=1_024)
    fewer = WORKLOAD.requests_per_s / (found.replicas - found.spare - 1)
    assert latency(costs, WORKLOAD.shape, requests_per_s=fewer).p99_s > target_s


def test_a_target_below_what_an_idle_replica_takes_is_refused() -> None:
    with pytest.raises(Unreachable, match=r"without load is \d+ ms, above the target of 10 ms"):
        planned(target=replace(TARGET, p99_s=0.01))


def test_memory_is_the_servers_and_its_adapters() -> None:
    memory = planned().memory
    assert memory.replica_bytes == (1 << 30) + 2_000 * 50_000
    assert memory.limit_bytes == 7 * (256 << 20)  # 1.25 × 1.12 GiB and 192 MiB
    assert memory.registry_bytes == 2_000 * 2 * 30_000
    assert (memory.resident, memory.cold_share) == (2_000, 0)


def test_a_replica_keeps_as_many_adapters_as_the_server_permits_or_the_user_asks() -> None:
    many = replace(WORKLOAD, tasks=1_000_000)
    limit = Settings.model_fields["max_loaded_adapters"].default
    assert planned(many).memory.resident == limit
    assert planned(many).memory.cold_share == pytest.approx(cold_share(1_000_000, limit))
    found = planned(many, replace(TARGET, resident=50_000))
    assert found.memory.adapters_bytes == 50_000 * 50_000
    assert found.settings == {"max_loaded_adapters": 50_000, "prompt_table_bytes": 16 * (64 << 20)}
    assert planned().settings == {}


def test_requests_beyond_the_popular_tasks_are_cold_by_zipfs_law() -> None:
    assert cold_share(4, 4) == 0
    assert cold_share(4, 2) == pytest.approx((1 / 3 + 1 / 4) / (1 + 1 / 2 + 1 / 3 + 1 / 4))


def test_the_autoscalers_target_is_the_mean_queue_at_the_largest_load() -> None:
    found = planned()
    costs = ReplicaCosts(batch=batch_time(), request_s=0.0005, overhead_s=0.002, max_batch_tokens=1_024)
    at_largest = latency(costs, WORKLOAD.shape, requests_per_s=0.7 * found.capacity)
    assert found.autoscaling.queue_tokens == round(at_largest.queue_tokens)
    assert found.autoscaling.queue_tokens < Settings.model_fields["max_queue_tokens"].default
    assert found.autoscaling.min_replicas <= found.replicas <= found.autoscaling.max_replicas


def test_a_full_queue_is_as_long_as_its_tokens_take() -> None:
    found = planned()
    assert found.full_queue_s == pytest.approx(32_768 / 50 / found.capacity)


def test_the_charts_values_are_those_of_the_plan() -> None:
    found = planned(replace(WORKLOAD, tasks=20_000), replace(TARGET, precision="fp32"))
    values = chart_values(found)
    assert values["replicas"] == found.replicas
    assert values["resources"] == {
        "requests": {"cpu": "2", "memory": "1978Mi"},
        "limits": {"cpu": "2", "memory": f"{found.memory.limit_bytes >> 20}Mi"},
    }
    assert values["settings"] == {"prompt_table_bytes": 7 * (64 << 20), "precision": "fp32"}


def test_cores_that_were_not_measured_are_marked() -> None:
    assert not planned().extrapolated
    assert planned(target=replace(TARGET, cores=4)).extrapolated
    with pytest.raises(NotMeasured, match="bf16"):
        planned(target=replace(TARGET, precision="bf16"))


@pytest.mark.parametrize(
    "change", [{"tasks": 0}, {"requests_per_s": 0.0}, {"text_tokens": float("nan")}, {"rows": 0}, {"versions": 0}]
)
def test_a_workload_that_cannot_be_is_refused_with_the_value(change: dict[str, float]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(InvalidWorkload, match=f"{name} is {value:g}"):
        replace(WORKLOAD, **change)


@pytest.mark.parametrize("change", [{"max_load": 1.0}, {"cores": 0}, {"spare": -1}, {"p99_s": 0.0}, {"resident": 0}])
def test_a_target_that_cannot_be_is_refused_with_the_value(change: dict[str, float]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(InvalidWorkload, match=f"{name} is {value:g}"):
        replace(TARGET, **change)
