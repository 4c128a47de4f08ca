"""A row on its way: what is asked of the engine, and that with the future of its answer."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

from adapters import DEFAULT_TENANT
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.model_runner import RowScores
from service.engine.self_test import SelfTest


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One tokenised text, to be classified by one adapter."""

    adapter: LoadedAdapter
    token_ids: tuple[int, ...]
    deadline: float
    """On `time.monotonic`'s clock."""
    tenant: str = DEFAULT_TENANT
    weight: float = 1.0
    """The tenant's share of the model against the others', above 0."""

    top_k: int | None = None
    """How many of the best labels are wanted; None for all."""
    background: bool = False
    """Nobody waits for it: it is run while nothing else is to be."""

    @property
    def num_tokens(self) -> int:
        """What the row costs: its packed tokens, and the decoder's where all of a large trie are wanted."""
        nodes = self.adapter.trie.num_nodes if self.top_k is None else 1
        return self.adapter.num_virtual_tokens + len(self.token_ids) + nodes - 1


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """A row's scores, and where its time went."""

    scores: RowScores
    queued_s: float
    """From its submission to the begin of its batch."""
    infer_s: float
    """Its batch in the model."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A row in the queue, as the scheduler looks at it, and the future that its caller holds."""

    row: EngineRow
    future: Future[RowAnswer] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)

    @property
    def tenant(self) -> str:
        return self.row.tenant

    @property
    def weight(self) -> float:
        return self.row.weight

    @property
    def num_tokens(self) -> int:
        return self.row.num_tokens

    @property
    def deadline(self) -> float:
        return self.row.deadline

    @property
    def background(self) -> bool:
        return self.row.background

    def cancelled(self) -> bool:
        """Whether nobody needs an answer any more: the caller has left, or was refused meanwhile."""
        return self.future.done()


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What the model thread tells after each batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    num_trips: int
    """Adapters that the circuit breaker tripped for this batch's failures."""
    infer_s: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine as a caller may look at it from any thread; a moment's values."""

    alive: bool
    """The model thread runs."""
    not_ready: str | None
    """Why no row would be answered now; None where rows are."""
    failure: str | None
    """Why the model thread ended, where nobody asked it to."""
    busy_s: float
    """How long the model thread has been at one forward; 0 while it waits for rows."""
    resident_adapters: int
    tripped_adapters: int
    self_test: SelfTest | None
    last_forward_age_s: float | None = None
    """Since a forward last gave scores, a caller's row or the model's own; None before the self-test has ended."""
