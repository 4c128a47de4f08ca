"""Latency of one replica under load: a queue whose server takes batches, computed request by request.

Requests arrive independently of each other (Poisson). As in the engine, a batch takes the rows that wait when the last
one ends, in their order and up to a number of tokens; nothing waits for a batch to fill. `benchmarks.capacity` runs the
server's own scheduler on simulated time and is compared with this.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizing.coefficients import BatchTime

NUM_ROWS = 30_000
"""Rows of a computation: of single texts, the 99th percentile then varies by a few percent between seeds."""
_FEWEST_REQUESTS = 5_000
_WARM_UP = 0.1
"""Share of the requests that find a queue that is still filling; they are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShape:
    """Rows of a request, and tokens of a row."""

    rows: int
    tokens: float
    """Mean packed tokens of a row, of which `fixed_tokens` are the prompt."""
    fixed_tokens: int = 0
    """The rest is uniform between nothing and twice its mean."""

    @property
    def request_tokens(self) -> float:
        return self.rows * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCosts:
    """Costs of one replica."""

    batch: BatchTime
    request_s: float
    """Processor time of the event loop per request, which the model's threads lack."""
    overhead_s: float
    """Duration of a request outside of queue and model."""
    max_batch_tokens: int

    def capacity(self, shape: RequestShape) -> float:
        """Return the requests per second that a replica answers when it is never idle."""
        shared = self.batch.batch_s / self.rows_of_full_batch(shape)
        row_s = shared + self.batch.row_s + self.batch.token_s * shape.tokens
        return 1 / (shape.rows * row_s + self.request_s)

    def rows_of_full_batch(self, shape: RequestShape) -> float:
        """Return the mean number of rows in a batch of a queue that is never empty.

        A batch ends where the next row does not fit, so that about half a row of the budget is left.
        """
        return max(1.0, self.max_batch_tokens / shape.tokens - 0.5)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of a replica's requests, in seconds, and its state in the mean."""

    mean_s: float
    p50_s: float
    p99_s: float
    busy: float
    """Share of the time in which a batch runs. It rises faster than the load, since small batches cost more per row."""
    queue_tokens: float
    """Tokens admitted and not answered, in the mean (`superpos_queue_tokens`)."""


def latency(
    costs: ReplicaCosts,
    shape: RequestShape,
    *,
    requests_per_s: float,
    num_requests: int | None = None,
    seed: int = 0,
) -> Latency:
    """Compute the latency of a replica that receives `requests_per_s`; the same seed gives the same result.

    Args:
        costs: costs of the replica
        shape: rows and tokens of each request
        requests_per_s: rate of the requests
        num_requests: number of requests to compute; None for `NUM_ROWS` rows, and at least 5,000 requests
        seed: of arrivals and text lengths

    At or above `ReplicaCosts.capacity` the queue grows with `num_requests`, and the result means nothing.
    """
    num_requests = num_requests or max(_FEWEST_REQUESTS, NUM_ROWS // shape.rows)
    random = np.random.default_rng(seed)
    arrivals: list[float] = np.cumsum(random.exponential(1 / requests_per_s, num_requests)).tolist()
    ends: list[int] = np.cumsum(_row_tokens(shape, num_requests, random)).tolist()
    # the model's threads share their cores with the event loop
    slowed = 1 / (1 - min(0.9, requests_per_s * costs.request_s))
    latencies = np.empty(num_requests)
    free = busy = 0.0
    first = answered = before = 0
    while answered < num_requests:
        starts = max(free, arrivals[first // shape.rows])
        waiting = bisect_right(arrivals, starts, lo=first // shape.rows) * shape.rows
        fitting = bisect_right(ends, before + costs.max_batch_tokens, lo=first)
        last = max(first + 1, min(waiting, fitting))  # a row larger than the budget is a batch of its own
        seconds = slowed * costs.batch.seconds(last - first, ends[last - 1] - before)
        free, busy = starts + seconds, busy + seconds
        for request in range(answered, last // shape.rows):
            latencies[request] = free - arrivals[request]
        first, answered, before = last, last // shape.rows, ends[last - 1]
    counted = latencies[int(_WARM_UP * num_requests) :]
    mean_s, (p50_s, p99_s) = float(counted.mean()), np.percentile(counted, (50, 99)).tolist()
    return Latency(
        mean_s=mean_s + costs.overhead_s,
        p50_s=p50_s + costs.overhead_s,
        p99_s=p99_s + costs.overhead_s,
        busy=busy / free,
        queue_tokens=requests_per_s * mean_s * shape.request_tokens,  # Little's law
    )


def _row_tokens(shape: RequestShape, num_requests: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the tokens of each row, [requests × rows]."""
    most = max(0, round(2 * (shape.tokens - shape.fixed_tokens)))
    return shape.fixed_tokens + random.integers(0, most, size=num_requests * shape.rows, endpoint=True)
