"""The engine: rows in, futures of their scores out.

One model thread owns the device and the prompt table. While a batch runs, arriving rows queue and form the next batch.
A bulk batch pauses for interactive rows that arrive meanwhile. The engine knows no HTTP and returns no tensors. Every
future that it returns ends, whatever happens to the model thread.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

import structlog

from backbone import Backbone
from service.cores import switch_often
from service.engine.activity import ModelActivity
from service.engine.circuit_breaker import CircuitBreaker
from service.engine.fault_isolation import FaultIsolation, Outcome
from service.engine.futures import PendingFutures, settle
from service.engine.heartbeat import Heartbeat
from service.engine.model_runner import ModelRunner
from service.engine.scheduler import Batch, Scheduler
from service.engine.types import BatchStats, EngineStats, Row, RowScores, SelfTest
from service.errors import (
    AdapterTripped,
    DeadlineExceeded,
    InferenceFailed,
    NotReady,
    SearchExhausted,
    ServiceError,
)

_log = structlog.get_logger("service")


class Engine:
    """Owns the model thread. `submit`, `stats` and `abandon` may be called from any thread.

    Args:
        prepare: runs once on the model thread before any row; if its self-test fails, all rows are refused
        on_batch: called with the statistics of each batch, on the model thread
        heartbeat_interval_s: the model runs a small probe if no forward has succeeded for this long
        readiness_max_age_s: the engine is not ready if no forward has succeeded for this long
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        max_batch_tokens: int,
        prompt_table_bytes: int,
        breaker_failures: int = 3,
        breaker_reset_s: float = 30.0,
        prepare: Callable[[FaultIsolation], SelfTest | None] = lambda fault_isolation: None,
        on_batch: Callable[[BatchStats], None] = lambda stats: None,
        heartbeat_interval_s: float = float("inf"),
        readiness_max_age_s: float = float("inf"),
    ) -> None:
        self._model_runner = ModelRunner(backbone, prompt_table_bytes=prompt_table_bytes, pause=self._preempt)
        self._breaker = CircuitBreaker(failures=breaker_failures, reset_s=breaker_reset_s)
        self._fault_isolation = FaultIsolation(self._run_forward, refusal=self._refusal)
        self._scheduler = Scheduler(max_batch_tokens=max_batch_tokens)
        self._heartbeat = Heartbeat(backbone, interval_s=heartbeat_interval_s)
        self._readiness_max_age_s = readiness_max_age_s
        self._prepare, self._on_batch = prepare, on_batch
        self._inbox: SimpleQueue[Sequence[Row] | None] = SimpleQueue()  # None: stop
        self._pending: PendingFutures[RowScores] = PendingFutures()
        self._thread = threading.Thread(target=self._run, name="superpos-model", daemon=True)
        self.activity = ModelActivity()
        # set when waiting for the model thread must end
        self._ended = threading.Event()
        self._abandoned = False
        self._stopping = False
        self._busy_since: float | None = None
        # batches that preempted the running one; None while none runs, and during a preemption
        self._preempting: list[BatchStats] | None = None
        self._prepared = False
        self._self_test: SelfTest | None = None
        # why no row is accepted any more
        self._refused: str | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Start the model thread."""
        # the thread waits this long for the GIL while one callback of the event loop runs; between callbacks the loop
        # yields, see `service.server.event_loop`
        switch_often()
        self._thread.start()

    def stop(self) -> None:
        """Answer the accepted rows, then end the thread; an abandoned thread is not waited for."""
        self._inbox.put(None)
        self._ended.wait()
        if not self._abandoned:
            self._thread.join()

    def abandon(self, reason: str) -> None:
        """Give up the model thread: fail every pending future with `NotReady` and accept no more rows."""
        self._abandoned = True
        self._refuse(reason)
        self._inbox.put(None)  # ends the thread if it ever resumes
        self._ended.set()

    def submit(self, rows: Sequence[Row]) -> list[Future[RowScores]]:
        """Queue rows.

        Returns:
            one future per row, resolved with its scores or with `DeadlineExceeded`, `InferenceFailed`,
            `AdapterTripped`, `OutOfMemory` or `NotReady`. Cancelling a future before its batch starts saves the work.
        """
        now = time.monotonic()
        futures = [row.future for row in rows]
        self._pending.add(futures)
        for row in rows:
            row.submitted = now
            refusal = self._refusal(row)
            if refusal is not None:
                settle(row.future, refusal)
        if self._refused is None:
            self._inbox.put(rows)
        # checked again: `_refuse` may have run since the line above, before these rows were in the inbox
        if self._refused is not None:
            self._pending.fail(NotReady(self._refused))
        return futures

    def stats(self) -> EngineStats:
        """Return the engine's current state."""
        now, busy_since = time.monotonic(), self._busy_since
        succeeded_at = self._heartbeat.succeeded_at
        age_s = None if succeeded_at is None else max(0.0, now - succeeded_at)
        return EngineStats(
            alive=self._thread.is_alive() and not self._ended.is_set(),
            not_ready=self._refused or self._not_ready_reason(age_s),
            failure=self._failure,
            busy_s=0.0 if busy_since is None else now - busy_since,
            resident_adapters=len(self._model_runner.prompt_table),
            tripped_adapters=self._breaker.num_tripped(now),
            self_test=self._self_test,
            last_forward_age_s=age_s,
        )

    def _not_ready_reason(self, age_s: float | None) -> str | None:
        """Return why rows should not be sent here now although they are accepted."""
        if not self._prepared or age_s is None:
            return "the self-test has not ended"
        if age_s > self._readiness_max_age_s:
            return f"no forward has succeeded for more than {self._readiness_max_age_s:g} s"
        return None

    def _refuse(self, reason: str) -> None:
        """Accept no more rows, and fail all that are pending."""
        self._refused = self._refused or reason
        self._pending.fail(NotReady(self._refused))

    def _refusal(self, row: Row) -> ServiceError | None:
        return self._breaker.refusal(row.adapter.digest, time.monotonic())

    def _run(self) -> None:
        """Run the model thread. However it ends, no future is left pending."""
        try:
            self._run_preparation()
            while self._receive():
                self._run_batch()
        except BaseException as exc:
            self._failure = f"the model thread died of {type(exc).__name__}: {exc}"
            _log.critical("model_thread_died", exc_info=True)
            raise
        finally:
            self._busy_since = None
            self._refuse(self._failure or "the model thread has ended")
            self._ended.set()

    def _run_preparation(self) -> None:
        self._busy_since = time.monotonic()
        self_test = self._prepare(self._fault_isolation)
        self._model_runner.prompt_table.clear()
        if self_test is not None and not self_test.passed:
            self._refuse(f"the self-test failed: {self_test}")
        self._heartbeat.succeeded()
        self._prepared = True
        self._self_test = self_test

    def _receive(self) -> bool:
        """Move arrivals into the scheduler, and wait for one if no row is queued; return False to end."""
        while not self._stopping:
            idle = len(self._scheduler) == 0
            if idle:
                self._busy_since = None
            try:
                self._accept(self._inbox.get(block=idle, timeout=self._heartbeat.due_in_s()))
            except Empty:
                if self._heartbeat.due_in_s() == 0.0:
                    self._probe(preemptible=idle)
                if not idle:
                    return True
        while len(self._scheduler):
            self._run_batch()
        return False

    def _probe(self, *, preemptible: bool) -> None:
        """Run a heartbeat probe; on an idle model, rows that arrive preempt it."""
        self._busy_since = time.monotonic()
        self._heartbeat.probe(preempted=lambda: preemptible and not self._inbox.empty())

    def _accept(self, arrived: Sequence[Row] | None) -> None:
        if arrived is None:
            self._stopping = True
        else:
            self._scheduler.put(arrived, now=time.monotonic())

    def _run_batch(self) -> None:
        self._preempting = []
        self.activity.idle.clear()
        try:
            stats = self._run_rows(self._scheduler.next(time.monotonic()))
        finally:
            self.activity.idle.set()
        preempting, self._preempting = self._preempting, None
        for each in (*preempting, stats):
            if each is not None:
                self._on_batch(each)

    def _preempt(self, worked: float) -> None:
        """Run the rows that may preempt a bulk batch as a batch of their own, between two pieces of that one.

        The watchdog measures the duration of each piece, not of the whole forward.
        """
        self._busy_since = time.monotonic()
        preempting, self._preempting = self._preempting, None  # None: a preempting batch is not preempted itself
        if preempting is None:
            return
        try:
            while not (self._stopping or self._inbox.empty()):
                self._accept(self._inbox.get())
            batch = self._scheduler.preempt(time.monotonic(), worked=worked)
            stats = self._run_rows(batch) if batch.rows or batch.expired else None
            if stats is not None:
                preempting.append(stats)
        finally:
            self._preempting = preempting
            self._busy_since = time.monotonic()

    def _run_rows(self, batch: Batch) -> BatchStats | None:
        """Answer a batch; return None if no row of it had to run."""
        started = self._busy_since = time.monotonic()
        for row in batch.expired:
            settle(row.future, DeadlineExceeded("the deadline passed before the row's turn came"))
        trips_before = self._breaker.trips
        ran = self._answer([row for row in batch.rows if not row.cancelled()])
        if not ran:
            return None
        self.activity.num_answers += len(ran)
        preempting = self._preempting or ()
        return BatchStats(
            num_rows=len(ran),
            num_tokens=sum(row.num_tokens for row in ran),
            num_adapters=len({row.adapter.digest for row in ran}),
            num_trips=self._breaker.trips - trips_before - sum(stats.num_trips for stats in preempting),
            infer_s=time.monotonic() - started - sum(stats.infer_s for stats in preempting),
        )

    def _answer(self, rows: Sequence[Row]) -> list[Row]:
        """Run rows and settle their futures, trials of adapters first; return the rows that were not refused."""
        ran: list[Row] = []
        for part in self._trials_first(rows):
            started = time.monotonic()
            for row, outcome in self._fault_isolation.run(part):
                if isinstance(outcome, SearchExhausted):
                    row.score_all()
                    self._scheduler.put([row])  # charged again, for all nodes of its trie
                    ran.append(row)
                    continue
                self._record_outcome(row, outcome)
                row.queue_s, row.infer_s = started - row.submitted, time.monotonic() - started
                settle(row.future, outcome)
                if not isinstance(outcome, AdapterTripped):
                    ran.append(row)
        return ran

    def _trials_first(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Give one row of each half-open adapter a part of its own: its outcome decides about the adapter's others."""
        now = time.monotonic()
        trials: dict[str, Row] = {}
        others: list[Row] = []
        for row in rows:
            digest = row.adapter.digest
            if digest not in trials and self._breaker.is_half_open(digest, now):
                trials[digest] = row
            else:
                others.append(row)
        return [*([row] for row in trials.values()), others]

    def _record_outcome(self, row: Row, outcome: Outcome) -> None:
        """Update the breaker and the heartbeat before the caller has the outcome; no adapter is blamed for memory."""
        if isinstance(outcome, InferenceFailed):
            self._breaker.failed(row.adapter.digest, time.monotonic())
        elif not isinstance(outcome, ServiceError):
            self._breaker.succeeded(row.adapter.digest)
            self._heartbeat.succeeded()

    def _run_forward(self, rows: Sequence[Row]) -> list[RowScores | SearchExhausted]:
        self._busy_since = time.monotonic()
        return self._model_runner(rows)
