"""Values of the engine: a row with the future of its scores, statistics of a batch, state of the engine."""

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from adapters import DEFAULT_TENANT
from service.catalog.adapter_cache import LoadedAdapter

RowScores = NDArray[np.float32]  # [K] log-probabilities in the order of the adapter's labels


@dataclass(slots=True, eq=False)
class Row:
    """One tokenized text to be classified by one adapter, and the future of its scores. Submit it once."""

    adapter: LoadedAdapter
    token_ids: tuple[int, ...]
    deadline: float
    """On the clock of `time.monotonic`."""
    tenant: str = DEFAULT_TENANT
    weight: float = 1.0
    """The tenant's weight in fair queuing, above 0."""
    top_k: int | None = None
    """How many of the best labels to score, None for all."""
    background: bool = False
    """Runs only while no other row waits."""

    num_tokens: int = field(init=False)
    """Packed tokens that the row adds to a batch, plus an upper bound for its labels (`LabelTrie.cost`)."""
    spent_tokens: int = field(init=False, default=0)
    """Tokens of the row's earlier batches, if its search was exhausted."""
    future: Future[RowScores] = field(init=False, repr=False, default_factory=Future)
    submitted: float = field(init=False, default=0.0)
    """On the clock of `time.monotonic`, as the next two are durations on it; the engine sets all three."""
    queue_s: float = field(init=False, default=0.0)
    """From submission to the start of its batch."""
    infer_s: float = field(init=False, default=0.0)
    """From the start of its batch until its scores were known."""

    def __post_init__(self) -> None:
        labels = self.adapter.readout.cost(self.top_k)
        self.num_tokens = self.adapter.num_virtual_tokens + len(self.token_ids) + max(0, labels - 1)

    def score_all(self) -> None:
        """Ask for the scores of all labels from now on, in another batch."""
        self.spent_tokens += self.num_tokens
        self.top_k = None
        self.__post_init__()

    @property
    def total_tokens(self) -> int:
        """Tokens of all of the row's batches."""
        return self.spent_tokens + self.num_tokens

    def cancelled(self) -> bool:
        """Return whether no answer is needed any more: the caller left, or the row was refused."""
        return self.future.done()


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Statistics of one batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    num_trips: int
    """Adapters that the circuit breaker tripped because of this batch."""
    infer_s: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Result of the self-test."""

    rows: int
    batches: int
    max_difference: float
    """The largest |Δ log p| of a row between running alone and in a batch; ∞ if a score was not finite."""
    tolerance: float

    @property
    def bit_identical(self) -> bool:
        return self.max_difference == 0

    @property
    def passed(self) -> bool:
        return self.max_difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.rows} rows in {self.batches} batches differ by up to {self.max_difference:.3g} in log-probability "
            f"from running alone; the tolerance is {self.tolerance:g}"
        )


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Snapshot of the engine's state."""

    alive: bool
    """The model thread is running."""
    not_ready: str | None
    """Why the engine would not answer a row now, None if it would."""
    failure: str | None
    """Why the model thread ended without being asked to."""
    busy_s: float
    """Duration of the current forward so far, 0 while the model thread is idle."""
    resident_adapters: int
    tripped_adapters: int
    self_test: SelfTest | None
    last_forward_age_s: float | None = None
    """Time since a forward last produced scores, of a caller's row or a probe; None until the self-test has ended."""
