"""A run of the simulation: a scenario in, latencies, refusals and utilisation out. The same seed gives the same run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simpy

from benchmarks.capacity.autoscaler import AutoscalerRules
from benchmarks.capacity.cluster import Balance, Cluster, at_random, fewest_requests
from benchmarks.capacity.replica import ReplicaModel, Steps
from benchmarks.capacity.traffic import Arrival, Traffic

_WARM_UP = 0.1
"""Share of the time that is not counted in latencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The events of a run."""

    name: str
    traffic: Traffic
    replicas: int
    seconds: float
    balance: Literal["random", "fewest"] = "random"
    rollout_at_s: float | None = None
    """When all replicas begin to be replaced; None for never."""
    publications_per_s: float = 0.0
    """New versions, of any task."""
    autoscaler: AutoscalerRules | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outcome of a run. Latencies are in seconds."""

    requests: int
    mean_s: float
    p50_s: float
    p99_s: float
    slow: float
    """Share of the answered requests that took more than a second."""
    refused: float
    """Share of all requests."""
    expired: float
    cold: float
    """Share of the requests that loaded their adapter first."""
    busy: float
    """Share of the time in which a batch runs, without an autoscaler."""
    queue_tokens: float
    """Queued tokens per replica, in the mean over scrapes."""
    fewest_replicas: int
    mean_replicas: float
    """With those that start or end."""
    most_replicas: int


def simulate(
    scenario: Scenario,
    model: ReplicaModel,
    *,
    seed: int,
    arrivals: Iterable[Arrival] | None = None,
    balance: Balance | None = None,
) -> Result:
    """Run a scenario.

    Args:
        scenario: what happens
        model: costs and limits of a replica
        seed: of the arrivals and the balancer
        arrivals: requests to replay; None to draw them from the scenario's traffic
        balance: chooses the replica of each request; None for the scenario's way
    """
    env = simpy.Environment()
    chosen = balance or (at_random(seed) if scenario.balance == "random" else fewest_requests)
    cluster = Cluster(
        env,
        model,
        tasks=scenario.traffic.tasks,
        replicas=scenario.replicas,
        balance=chosen,
        autoscaler=scenario.autoscaler,
    )
    if arrivals is None:
        arrivals = scenario.traffic.arrivals(seconds=scenario.seconds, seed=seed)
    env.process(_arrive(env, cluster, arrivals))
    if scenario.rollout_at_s is not None:
        env.process(_roll_out(env, cluster, scenario.rollout_at_s))
    if scenario.publications_per_s:
        env.process(_publish(env, cluster, scenario, seed))
    env.run(until=scenario.seconds)
    cluster.sample()
    return _result(cluster, scenario)


def _arrive(env: simpy.Environment, cluster: Cluster, arrivals: Iterable[Arrival]) -> Steps:
    for arrival in arrivals:
        if arrival.at > env.now:
            yield env.timeout(arrival.at - env.now)
        cluster.send(arrival)


def _roll_out(env: simpy.Environment, cluster: Cluster, at_s: float) -> Steps:
    yield env.timeout(at_s)
    yield from cluster.rollout()


def _publish(env: simpy.Environment, cluster: Cluster, scenario: Scenario, seed: int) -> Steps:
    random = np.random.default_rng(seed + 1)
    while True:
        yield env.timeout(random.exponential(1 / scenario.publications_per_s))
        cluster.publish(int(random.integers(scenario.traffic.tasks)))


def _result(cluster: Cluster, scenario: Scenario) -> Result:
    outcomes, gauges = cluster.outcomes, cluster.gauges
    latencies = np.array(outcomes.latencies)
    ended_at = np.array(outcomes.ended_at)
    counted = latencies[ended_at >= _WARM_UP * scenario.seconds]
    assert len(counted), "no request was answered"
    p50_s, p99_s = np.percentile(counted, (50, 99)).tolist()
    num_requests = outcomes.num_requests
    return Result(
        requests=num_requests,
        mean_s=float(counted.mean()),
        p50_s=p50_s,
        p99_s=p99_s,
        slow=float((counted > 1).mean()),
        refused=outcomes.refused.total() / num_requests,
        expired=outcomes.expired / num_requests,
        cold=outcomes.loads / num_requests,
        busy=cluster.busy_s / (scenario.replicas * scenario.seconds),
        queue_tokens=float(np.mean(np.array(gauges.queue_tokens) / np.array(gauges.ready))),
        fewest_replicas=min(gauges.ready),
        mean_replicas=float(np.mean(gauges.taken)),
        most_replicas=max(gauges.ready),
    )
