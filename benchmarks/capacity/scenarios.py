"""The scenarios: numbers of replicas under steady and changing load, and targets of the autoscaler."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.capacity.autoscaler import AutoscalerRules
from benchmarks.capacity.replica import ReplicaModel
from benchmarks.capacity.simulation import Scenario
from benchmarks.capacity.traffic import Profile, Traffic, bursts, ramp, step, uniform_lengths
from sizing.latency import ReplicaCosts, RequestShape

TEXT_TOKENS = 50
VIRTUAL_TOKENS = 10
_COLD_LIMIT = 0.1
"""Share of the tasks whose adapters a replica keeps, in the scenario with cold adapters."""


def capacity(model: ReplicaModel, traffic: Traffic) -> float:
    """Return the requests per second of one replica that is never idle, as `superpos size` computes them."""
    costs = ReplicaCosts(
        batch=model.batch,
        request_s=model.loop_s(traffic.rows),
        overhead_s=model.overhead_s,
        max_batch_tokens=model.max_batch_tokens,
    )
    tokens = traffic.text_tokens + VIRTUAL_TOKENS
    return costs.capacity(RequestShape(rows=traffic.rows, tokens=tokens, fixed_tokens=VIRTUAL_TOKENS))


def traffic_at(load: float, replicas: int, model: ReplicaModel, *, tasks: int) -> Traffic:
    """Return single texts at a share of the capacity of `replicas`."""
    one = Traffic(requests_per_s=1.0, tasks=tasks, lengths=uniform_lengths(TEXT_TOKENS))
    return replace(one, requests_per_s=load * replicas * capacity(model, one))


@dataclass(frozen=True, slots=True)
class Run:
    """A scenario with its replicas."""

    scenario: Scenario
    model: ReplicaModel


def of_replicas(
    model: ReplicaModel, replicas: int, *, load: float, tasks: int, seconds: float, seed: int
) -> Iterator[Run]:
    """Yield what a number of replicas is put through."""
    steady = traffic_at(load, replicas, model, tasks=tasks)
    scenario = Scenario(name="steady", traffic=steady, replicas=replicas, seconds=seconds)
    yield Run(scenario, model)
    if replicas <= 100:  # the balancer looks at every replica
        yield Run(replace(scenario, name="fewest requests first", balance="fewest"), model)
    profile = bursts(every_s=seconds / 6, lasts_s=seconds / 30, factor=1.5 / load, seconds=seconds, seed=seed)
    yield Run(replace(scenario, name="bursts of 1.5 × capacity", traffic=replace(steady, profile=profile)), model)
    shared = replace(steady, requests_per_s=0.5 * steady.requests_per_s, bulk_share=0.5)
    yield Run(replace(scenario, name="half of the rows from one tenant", traffic=shared), model)
    yield Run(replace(scenario, name="a new version per second", publications_per_s=1.0), model)
    few = replace(model, max_loaded_adapters=max(1, int(_COLD_LIMIT * tasks)))
    yield Run(replace(scenario, name="a tenth of the adapters in memory"), few)
    if replicas <= 10:  # one replica after the other, each of which takes the time of a start
        longer = max(seconds, 1.2 * replicas * model.start_s + 60)
        yield Run(replace(scenario, name="rollout of a release", rollout_at_s=30.0, seconds=longer), model)


def profiles(seconds: float, seed: int) -> Mapping[str, Profile]:
    """Return the changes of load that an autoscaler meets."""
    return {
        "steady": Profile(),
        "doubles at once": step(seconds / 3, 2.0),
        "triples over ten minutes": ramp(seconds / 4, seconds / 4 + 600, 3.0),
        "bursts of three times": bursts(every_s=300, lasts_s=45, factor=3.0, seconds=seconds, seed=seed),
        "falls to a third": step(seconds / 4, 1 / 3),
    }


def rules(model: ReplicaModel, *, load: float, queue_tokens: float, replicas: int) -> Mapping[str, AutoscalerRules]:
    """Return the autoscaler's targets to compare.

    Args:
        model: costs of a replica
        load: the share of the capacity that the replicas are to have
        queue_tokens: queued tokens per replica at that load, in the mean
        replicas: number of replicas that have that load without a change
    """
    traffic = traffic_at(1.0, 1, model, tasks=1)
    tokens_per_s = load * traffic.requests_per_s * (TEXT_TOKENS + VIRTUAL_TOKENS)
    limits = AutoscalerRules(queue_tokens=math.inf, min_replicas=2, max_replicas=10 * replicas)
    by_queue = {
        f"queue {target:,.0f}": replace(limits, queue_tokens=target)
        for target in (8_192, 4 * queue_tokens, 2 * queue_tokens, queue_tokens)
    }
    averaged = replace(limits, queue_tokens=queue_tokens, queue_scrapes=4)
    by_rate = replace(limits, tokens_per_s=tokens_per_s)
    return {
        **by_queue,
        f"queue {queue_tokens:,.0f}, mean of a minute": averaged,
        f"rate {tokens_per_s:,.0f}": by_rate,
        f"rate {tokens_per_s:,.0f} and queue {4 * queue_tokens:,.0f}": replace(by_rate, queue_tokens=4 * queue_tokens),
    }


def of_autoscaler(
    model: ReplicaModel, *, replicas: int, load: float, queue_tokens: float, seconds: float, seed: int
) -> Iterator[tuple[str, str, Run]]:
    """Yield the autoscaler's targets under every change of load: the targets, the change, the run."""
    traffic = traffic_at(load, replicas, model, tasks=100)
    for name, each in rules(model, load=load, queue_tokens=queue_tokens, replicas=replicas).items():
        for change, profile in profiles(seconds, seed).items():
            scenario = Scenario(
                name=f"{name}, {change}",
                traffic=replace(traffic, profile=profile),
                replicas=replicas,
                seconds=seconds,
                autoscaler=each,
            )
            yield name, change, Run(scenario, model)
