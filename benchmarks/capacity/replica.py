"""One replica on simulated time: the server's own scheduler and admission, and a model whose batches take as long as
measured ones.

The event loop is a queue of its own: it reads one request after the other, and while it computes, a running batch
does not. A batch of more than a quarter of the budget pauses between its layers, as the engine does, so that
interactive rows preempt a bulk tenant's.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial

import simpy

from adapters.template import Template
from backbone import PLAIN
from backbone.trie import build_trie
from benchmarks.capacity.traffic import Arrival
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.scheduler import Batch, Scheduler
from service.engine.types import Row
from service.errors import QueueFull
from service.inference.admission import Admission
from service.settings import Settings
from sizing.coefficients import BatchTime, Coefficients, Precision

PIECES = 8
"""Pauses of a large batch; the embedded backbone's encoder has eight layers."""
Steps = Generator[simpy.Event, object, None]


def default_of(setting: str) -> int:
    """Return the default of one of the server's settings."""
    value = Settings.model_fields[setting].default
    assert isinstance(value, int)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaModel:
    """Costs and limits of a replica."""

    batch: BatchTime
    request_s: float = 0.0
    request_row_s: float = 0.0
    overhead_s: float = 0.0
    start_s: float = 0.0
    load_adapter_s: float = 0.0
    max_batch_tokens: int = default_of("max_batch_tokens")
    max_queue_rows: int = default_of("max_queue_rows")
    max_queue_tokens: int = default_of("max_queue_tokens")
    max_loaded_adapters: int = default_of("max_loaded_adapters")
    timeout_s: float = default_of("default_timeout_ms") / 1_000

    @classmethod
    def of(cls, coefficients: Coefficients, precision: Precision, threads: int) -> "ReplicaModel":
        """Return a replica with measured costs and the server's default limits."""
        return cls(
            batch=coefficients.batch_time(precision, threads),
            request_s=coefficients.request_s,
            request_row_s=coefficients.request_row_s,
            overhead_s=coefficients.overhead_s,
            start_s=coefficients.start_s,
            load_adapter_s=coefficients.load_adapter_s,
        )

    def loop_s(self, rows: int) -> float:
        """Return the event loop's processor time for a request."""
        return self.request_s + rows * self.request_row_s


@dataclass(slots=True)
class Outcomes:
    """Outcome of the requests of all replicas."""

    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds of each answered request."""
    ended_at: "array[float]" = field(default_factory=lambda: array("d"))
    """When each of them was answered."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused requests, by the limit."""
    expired: int = 0
    tokens: int = 0
    """Packed tokens of all batches."""
    loads: int = 0
    """Requests that loaded their adapter first."""

    @property
    def num_requests(self) -> int:
        return len(self.latencies) + self.refused.total() + self.expired


@dataclass(slots=True, eq=False)
class _Request:
    arrival: Arrival
    open_rows: int
    admitted: ExitStack
    is_expired: bool = False


def adapters_of(tasks: int, *, virtual_tokens: int = 10) -> Sequence[LoadedAdapter]:
    """Return an adapter of two label words for each task, without the numbers, which no scheduler reads."""
    trie = build_trie([(5,), (6,)], start_id=0, eos_id=1)
    template = Template.parse("{text}")
    return [
        LoadedAdapter(
            digest=f"sha256:{task}",
            rows=None,
            num_virtual_tokens=virtual_tokens,
            template=template,
            frame=PLAIN,
            label_names=("no", "yes"),
            readout=trie,
            max_tokens=512,
            temperature=1.0,
            abstain_threshold=None,
        )
        for task in range(tasks)
    ]


class Replica:
    """A server in a simulation.

    Args:
        env: the simulation
        model: costs and limits
        adapters: the adapter of each task
        outcomes: receives the outcome of each request
        loaded: tasks whose adapters are in memory at the start
    """

    def __init__(
        self,
        env: simpy.Environment,
        model: ReplicaModel,
        adapters: Sequence[LoadedAdapter],
        outcomes: Outcomes,
        *,
        loaded: Iterable[int] = (),
    ) -> None:
        self._env, self._model, self._adapters, self._outcomes = env, model, adapters, outcomes
        self._scheduler = Scheduler(max_batch_tokens=model.max_batch_tokens)
        self._admission = Admission(max_rows=model.max_queue_rows, max_tokens=model.max_queue_tokens)
        self._inbox: list[Sequence[Row]] = []
        self._requests: dict[Row, _Request] = {}
        self._loaded: OrderedDict[int, None] = OrderedDict.fromkeys(loaded)
        # when the event loop has read what has arrived, and its processor time since the start
        self._loop_free_at = self._loop_s = 0.0
        self._wake = env.event()
        self.num_requests = 0
        """Requests that have arrived here and not ended."""
        self.busy_s = 0.0
        env.process(self._run())

    @property
    def queue_tokens(self) -> int:
        """Tokens admitted and not answered (`superpos_queue_tokens`)."""
        return self._admission.tokens

    def send(self, arrival: Arrival) -> None:
        """Receive a request."""
        self.num_requests += 1
        self._loop_free_at = max(self._env.now, self._loop_free_at) + self._use_loop(len(arrival.texts))
        wait_s = self._loop_free_at - self._env.now
        if not self._is_loaded(arrival.task):
            self._outcomes.loads += 1
            wait_s += self._load(arrival.task)
        self._after(wait_s, partial(self._admit, arrival))

    def publish(self, task: int) -> None:
        """Receive a new version: it is loaded before its first request."""
        self._load(task)

    def _use_loop(self, rows: int) -> float:
        seconds = self._model.loop_s(rows)
        self._loop_s += seconds
        return seconds

    def _is_loaded(self, task: int) -> bool:
        if task not in self._loaded:
            return False
        self._loaded.move_to_end(task)
        return True

    def _load(self, task: int) -> float:
        """Load an adapter, which drops the least recently used one of a full cache; return the seconds."""
        self._loaded[task] = None
        self._loaded.move_to_end(task)
        if len(self._loaded) > self._model.max_loaded_adapters:
            self._loaded.popitem(last=False)
        self._loop_s += self._model.load_adapter_s  # in a thread that takes the model's cores as the loop does
        return self._model.load_adapter_s

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._env.timeout(seconds).callbacks.append(lambda _: call())

    def _admit(self, arrival: Arrival) -> None:
        adapter, deadline = self._adapters[arrival.task], arrival.at + self._model.timeout_s
        rows = [Row(adapter, _token_ids(text), deadline, arrival.tenant) for text in arrival.texts]
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    self._admission.admit(arrival.tenant, rows=len(rows), tokens=sum(row.num_tokens for row in rows))
                )
            except QueueFull as exc:
                self._outcomes.refused[exc.reason] += 1
                self.num_requests -= 1
                return
            request = _Request(arrival, len(rows), stack.pop_all())
        for row in rows:
            self._requests[row] = request
        self._inbox.append(rows)
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self) -> Steps:
        """Run the model thread."""
        while True:
            if not self._inbox and not len(self._scheduler):
                self._wake = self._env.event()
                yield self._wake
            self._receive()
            yield from self._forward(self._scheduler.next(self._env.now))

    def _receive(self) -> None:
        for rows in self._inbox:
            self._scheduler.put(rows, now=self._env.now)
        self._inbox.clear()

    def _forward(self, batch: Batch, *, pauses: bool = True) -> Steps:
        """Run a batch; between its pieces, run the rows that preempt it."""
        self._end(batch.expired, answered=False)
        if not batch.rows:
            return
        tokens = sum(row.num_tokens for row in batch.rows)
        seconds = self._model.batch.seconds(len(batch.rows), tokens)
        pieces = PIECES if pauses and 4 * tokens > self._model.max_batch_tokens else 1
        worked = 0.0
        for piece in range(1, pieces + 1):
            yield from self._compute(seconds / pieces)
            worked += tokens / pieces
            if piece < pieces and (self._inbox or len(self._scheduler)):
                self._receive()
                preempting = self._scheduler.preempt(self._env.now, worked=worked)
                worked = 0.0
                yield from self._forward(preempting, pauses=False)
        self._outcomes.tokens += tokens
        self._end(batch.rows, answered=True)

    def _compute(self, seconds: float) -> Steps:
        """Compute for `seconds` of the cores' time, of which the event loop takes some meanwhile."""
        began = self._env.now
        while seconds > 0:
            loop_s = self._loop_s
            yield self._env.timeout(seconds)
            seconds = self._loop_s - loop_s
        self.busy_s += self._env.now - began

    def _end(self, rows: Sequence[Row], *, answered: bool) -> None:
        for row in rows:
            request = self._requests.pop(row)
            request.open_rows -= 1
            request.is_expired |= not answered
            if not request.open_rows:
                self._finish(request)

    def _finish(self, request: _Request) -> None:
        request.admitted.close()
        self.num_requests -= 1
        if request.is_expired:
            self._outcomes.expired += 1
            return
        outside_s = max(0.0, self._model.overhead_s - self._model.loop_s(len(request.arrival.texts)))
        self._outcomes.latencies.append(self._env.now + outside_s - request.arrival.at)
        self._outcomes.ended_at.append(self._env.now)


@cache
def _token_ids(count: int) -> tuple[int, ...]:
    return (0,) * count
