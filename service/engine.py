"""The engine: rows in, futures out. One model thread, which alone touches the device and writes the bank.

While a batch runs, arrivals queue: that is the batching. Nothing of HTTP comes in, nothing of torch goes out.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
import structlog
from numpy.typing import NDArray

from backbone import Backbone
from service.errors import DeadlineExceeded, InferenceFailed, NotReady
from service.forward import BatchForward
from service.loaded import LoadedAdapter
from service.scheduler import Scheduler

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One tokenised text, to be classified by one adapter."""

    adapter: LoadedAdapter
    token_ids: tuple[int, ...]
    deadline: float
    """On `time.monotonic`'s clock."""

    @property
    def num_tokens(self) -> int:
        return self.adapter.num_virtual_tokens + len(self.token_ids)


RowScores = NDArray[np.float32]  # [K] log-probabilities in the order of the adapter's labels


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """A row's scores, and where its time went."""

    scores: RowScores
    queued_s: float
    """From its submission to the begin of its batch."""
    infer_s: float
    """Its batch in the model."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What the model thread tells after each batch."""

    num_rows: int
    num_tokens: int
    num_adapters: int
    infer_s: float


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine as a caller may look at it from any thread; a moment's values."""

    alive: bool
    resident_adapters: int


@dataclass(slots=True, eq=False)
class _Waiting:
    row: EngineRow
    future: Future[RowAnswer] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)

    @property
    def num_tokens(self) -> int:
        return self.row.num_tokens

    @property
    def deadline(self) -> float:
        return self.row.deadline

    def cancelled(self) -> bool:
        return self.future.cancelled()


class Engine:
    """Owns the model thread. `submit` may be called from any thread."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        max_batch_tokens: int,
        bank_bytes: int,
        on_batch: Callable[[BatchDone], None] = lambda done: None,
    ) -> None:
        self._forward = BatchForward(backbone, bank_bytes=bank_bytes)
        self._scheduler: Scheduler[_Waiting] = Scheduler(max_batch_tokens=max_batch_tokens)
        self._inbox: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._run, name="superpos-model", daemon=True)
        self._ended = False

    def start(self) -> None:
        """Start the model thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was accepted, then end the thread."""
        self._inbox.put(None)
        self._thread.join()

    def submit(self, rows: Sequence[EngineRow]) -> list[Future[RowAnswer]]:
        """Queue rows.

        Returns:
            a future a row: its answer, or `DeadlineExceeded`, `InferenceFailed` or `NotReady`.
            Cancelling one before its batch begins spares its work.
        """
        waiting = [_Waiting(row) for row in rows]
        self._inbox.put(waiting)
        if self._ended:
            self._refuse_waiting()
        return [entry.future for entry in waiting]

    def stats(self) -> EngineStats:
        """The engine's state now."""
        return EngineStats(
            alive=self._thread.is_alive() and not self._ended,
            resident_adapters=len(self._forward.bank),
        )

    def _run(self) -> None:
        """The model thread. Whatever ends it, nobody is left waiting."""
        try:
            while self._receive():
                self._run_batch()
        finally:
            self._ended = True
            self._refuse_waiting()

    def _receive(self) -> bool:
        """Move arrivals into the scheduler, waiting for one if there is nothing else to do; False to end."""
        while True:
            try:
                arrived = self._inbox.get(block=len(self._scheduler) == 0)
            except Empty:
                return True
            if arrived is None:
                self._finish_scheduled()
                return False
            self._scheduler.put(arrived)

    def _finish_scheduled(self) -> None:
        while len(self._scheduler):
            self._run_batch()

    def _run_batch(self) -> None:
        batch = self._scheduler.next(time.monotonic())
        for entry in batch.expired:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(DeadlineExceeded("the deadline passed before the row's turn came"))
        entries = [entry for entry in batch.entries if entry.future.set_running_or_notify_cancel()]
        if not entries:
            return
        started = time.monotonic()
        self._answer(entries)
        self._on_batch(
            BatchDone(
                num_rows=len(entries),
                num_tokens=sum(entry.num_tokens for entry in entries),
                num_adapters=len({entry.row.adapter.digest for entry in entries}),
                infer_s=time.monotonic() - started,
            )
        )

    def _answer(self, entries: list[_Waiting]) -> None:
        """Run rows together; where that fails, halve them until only the culprits fail."""
        started = time.monotonic()
        try:
            scores = self._forward([entry.row for entry in entries])
        except Exception as exc:  # noqa: BLE001 - whatever a forward raises belongs to its row
            if len(entries) > 1:
                half = len(entries) // 2
                self._answer(entries[:half])
                self._answer(entries[half:])
                return
            _log.exception("row_failed", adapter=entries[0].row.adapter.digest)
            failure = InferenceFailed(f"the forward failed on this row: {type(exc).__name__}: {exc}")
            entries[0].future.set_exception(failure)
            return
        infer_s = time.monotonic() - started
        for entry, row in zip(entries, scores, strict=True):
            if np.isnan(row).any():
                entry.future.set_exception(InferenceFailed("the scores of this row are not numbers"))
            else:
                entry.future.set_result(RowAnswer(row, started - entry.submitted, infer_s))

    def _refuse_waiting(self) -> None:
        left = self._scheduler.drain()
        while True:
            try:
                left.extend(self._inbox.get_nowait() or [])
            except Empty:
                break
        for entry in left:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(NotReady("the model thread has ended"))
