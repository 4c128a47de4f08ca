"""Replicas of a simulation behind a balancer: starts, drains, rollouts, new versions and the autoscaler."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import simpy

from benchmarks.capacity.autoscaler import INTERVAL_S, RATE_SCRAPES, Autoscaler, AutoscalerRules, Scrape
from benchmarks.capacity.replica import Outcomes, Replica, ReplicaModel, Steps, adapters_of
from benchmarks.capacity.traffic import Arrival
from service.catalog.adapter_cache import LoadedAdapter

Balance = Callable[[Arrival, Sequence[Replica]], Replica]
"""Chooses the replica of a request among those that are ready."""
DRAIN_S = 8.0
"""`drain.preStopS` and `drain.delayS` of the chart, in which a pod that ends still takes a place."""
_DRAIN_POLL_S = 0.5


def at_random(seed: int) -> Balance:
    """Balance as a Service does over many connections."""
    chosen = random.Random(seed)
    return lambda _, ready: chosen.choice(ready)


def fewest_requests(_: Arrival, ready: Sequence[Replica]) -> Replica:
    """Balance as the gateway does."""
    return min(ready, key=lambda replica: replica.num_requests)


@dataclass(slots=True)
class Gauges:
    """State of the cluster, one sample per scrape."""

    ready: list[int] = field(default_factory=list)
    """Replicas that are ready."""
    taken: list[int] = field(default_factory=list)
    """Replicas, those that start or end included."""
    queue_tokens: list[int] = field(default_factory=list)
    """The sum of all replicas."""


class Cluster:
    """Replicas on simulated time.

    Args:
        env: the simulation
        model: costs and limits of each replica
        tasks: number of tasks; replicas that exist from the start have loaded their adapters
        replicas: number of replicas at the start
        balance: chooses the replica of each request
        autoscaler: None for a constant number of replicas
    """

    def __init__(
        self,
        env: simpy.Environment,
        model: ReplicaModel,
        *,
        tasks: int,
        replicas: int,
        balance: Balance,
        autoscaler: AutoscalerRules | None = None,
    ) -> None:
        self._env, self._model, self._balance = env, model, balance
        self._adapters: Sequence[LoadedAdapter] = adapters_of(tasks)
        self.outcomes, self.gauges = Outcomes(), Gauges()
        warm = range(min(tasks, model.max_loaded_adapters))
        self._ready = [self._new(loaded=reversed(warm)) for _ in range(replicas)]
        self._num_starting = self._num_draining = 0
        self._autoscaler = None if autoscaler is None else Autoscaler(autoscaler)
        env.process(self._scrape())

    @property
    def num_replicas(self) -> int:
        """Replicas that are ready or start."""
        return len(self._ready) + self._num_starting

    @property
    def busy_s(self) -> float:
        """Seconds in which batches ran, of the replicas that are ready."""
        return sum(replica.busy_s for replica in self._ready)

    def send(self, arrival: Arrival) -> None:
        """Pass a request to a replica."""
        self._balance(arrival, self._ready).send(arrival)

    def rollout(self) -> Steps:
        """Replace every replica: one more starts, and when it is ready an old one ends."""
        for old in list(self._ready):
            yield self._env.process(self._start())
            if old in self._ready:
                self._env.process(self._drain(old))

    def publish(self, task: int) -> None:
        """Give a task a new version."""
        for replica in self._ready:
            replica.publish(task)

    def _new(self, *, loaded: Iterable[int] = ()) -> Replica:
        return Replica(self._env, self._model, self._adapters, self.outcomes, loaded=loaded)

    def _start(self) -> Steps:
        self._num_starting += 1
        yield self._env.timeout(self._model.start_s)
        self._num_starting -= 1
        self._ready.append(self._new())

    def _drain(self, replica: Replica) -> Steps:
        self._ready.remove(replica)
        self._num_draining += 1
        yield self._env.timeout(DRAIN_S)
        while replica.num_requests:
            yield self._env.timeout(_DRAIN_POLL_S)
        self._num_draining -= 1

    def sample(self) -> None:
        """Take a sample of the gauges."""
        self.gauges.ready.append(len(self._ready))
        self.gauges.taken.append(self.num_replicas + self._num_draining)
        self.gauges.queue_tokens.append(sum(replica.queue_tokens for replica in self._ready))

    def _scrape(self) -> Steps:
        """Scrape at intervals, and let the autoscaler act on the scrape before, as it does in the mean."""
        counters = deque([(0, 0)], maxlen=1 + RATE_SCRAPES)  # tokens and refusals until each scrape
        scraped: Scrape | None = None
        while True:
            yield self._env.timeout(INTERVAL_S)
            self.sample()
            if self._autoscaler is None:
                continue
            if scraped is not None:
                self._scale(self._autoscaler.decide(self._env.now, self.num_replicas, scraped))
            counters.append((self.outcomes.tokens, _queue_refusals(self.outcomes)))
            (first_tokens, first_refusals), (tokens, refusals) = counters[0], counters[-1]
            lasted_s = INTERVAL_S * (len(counters) - 1)
            queues = self.gauges.queue_tokens[-self._autoscaler.rules.queue_scrapes :]
            scraped = Scrape(
                queue_tokens=sum(queues) / len(queues),
                refusals_per_s=(refusals - first_refusals) / lasted_s,
                tokens_per_s=(tokens - first_tokens) / lasted_s,
            )

    def _scale(self, wanted: int) -> None:
        for _ in range(wanted - self.num_replicas):
            self._env.process(self._start())
        for replica in self._ready[wanted:] if not self._num_starting else ():
            self._env.process(self._drain(replica))


def _queue_refusals(outcomes: Outcomes) -> int:
    """Return the refusals that the chart's second trigger counts: not those of a tenant's share."""
    return outcomes.refused["rows"] + outcomes.refused["tokens"]
