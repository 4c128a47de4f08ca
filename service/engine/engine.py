"""The engine: rows in, futures out. One model thread, which alone touches the device and writes the bank.

While a batch runs, arrivals queue: that is the batching. A heavy batch pauses for light rows that come meanwhile.
Nothing of HTTP comes in, nothing of torch goes out. Whatever happens to the model thread, every future that was given
out ends.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

import structlog

from backbone import Backbone
from service.engine.circuit_breaker import CircuitBreaker
from service.engine.fault_isolation import FaultIsolation, Outcome
from service.engine.futures import PendingFutures, settle
from service.engine.heartbeat import Heartbeat
from service.engine.model_runner import ModelRunner, Row, RowScores
from service.engine.scheduler import Batch, Scheduler
from service.engine.self_test import SelfTest
from service.engine.types import BatchStats, EngineRow, EngineStats, RowAnswer, Waiting
from service.errors import AdapterTripped, DeadlineExceeded, InferenceFailed, NotReady, ServiceError

_log = structlog.get_logger("service")


class Engine:
    """Owns the model thread. `submit`, `stats` and `abandon` may be called from any thread.

    Args:
        prepare: run once on the model thread before any row; where its report has not passed, all rows are refused
        on_batch: told of each batch, on the model thread
        check_after_s: without a row that was answered for so long, the model runs a tiny forward of its own
        ready_within_s: how long the last forward that gave scores may lie back; not ready past it
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        max_batch_tokens: int,
        bank_bytes: int,
        trip_after: int = 3,
        cool_down_s: float = 30.0,
        prepare: Callable[[FaultIsolation], SelfTest | None] = lambda containment: None,
        on_batch: Callable[[BatchStats], None] = lambda done: None,
        check_after_s: float = float("inf"),
        ready_within_s: float = float("inf"),
    ) -> None:
        self._forward = ModelRunner(backbone, bank_bytes=bank_bytes, pause=self._let_light_rows_pass)
        self._breaker = CircuitBreaker(trip_after=trip_after, cool_down_s=cool_down_s)
        self._containment = FaultIsolation(self._run_forward, refusal=self._refusal)
        self._scheduler: Scheduler[Waiting] = Scheduler(max_batch_tokens=max_batch_tokens)
        self._inbox: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._unanswered: PendingFutures[RowAnswer] = PendingFutures()
        self._prepare, self._on_batch = prepare, on_batch
        self._pulse, self._ready_within_s = Heartbeat(backbone, after_s=check_after_s), ready_within_s
        self._thread = threading.Thread(target=self._run, name="superpos-model", daemon=True)
        self._over = threading.Event()  # nobody is to wait for the model thread any more
        self._abandoned = False
        self._busy_since: float | None = None
        self._stopping = False
        self._passed: list[BatchStats] | None = None  # what went ahead of the batch that runs; None while none runs
        self._prepared = False
        self._self_test: SelfTest | None = None
        self._refused: str | None = None  # why no row is taken any more
        self._failure: str | None = None

    def start(self) -> None:
        """Start the model thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was accepted, then end the thread; one that was abandoned is not waited for."""
        self._inbox.put(None)
        self._over.wait()
        if not self._abandoned:
            self._thread.join()

    def abandon(self, reason: str) -> None:
        """Give the model thread up: end every future that waits with `NotReady`, take no more."""
        self._abandoned = True
        self._refuse(reason)
        self._inbox.put(None)  # should it ever come back, it ends
        self._over.set()

    def submit(self, rows: Sequence[EngineRow]) -> list[Future[RowAnswer]]:
        """Queue rows.

        Returns:
            a future a row: its answer, or `DeadlineExceeded`, `InferenceFailed`, `AdapterTripped`,
            `OutOfMemory` or `NotReady`. Cancelling one before its batch begins spares its work.
        """
        waiting = [Waiting(row) for row in rows]
        futures = [entry.future for entry in waiting]
        self._unanswered.add(futures)
        for entry in waiting:
            refusal = self._refusal(entry.row)
            if refusal is not None:
                settle(entry.future, refusal)
        if self._refused is None:
            self._inbox.put(waiting)
        if (
            self._refused is not None
        ):  # now, or since the line above: whoever refuses sees these rows, or this line does
            self._unanswered.fail(NotReady(self._refused))
        return futures

    def stats(self) -> EngineStats:
        """The engine's state now."""
        now, busy_since = time.monotonic(), self._busy_since
        succeeded_at = self._pulse.succeeded_at
        age_s = None if succeeded_at is None else max(0.0, now - succeeded_at)
        return EngineStats(
            alive=self._thread.is_alive() and not self._over.is_set(),
            not_ready=self._refused or self._doubt(age_s),
            failure=self._failure,
            busy_s=0.0 if busy_since is None else now - busy_since,
            resident_adapters=len(self._forward.bank),
            tripped_adapters=self._breaker.num_tripped(now),
            self_test=self._self_test,
            last_forward_age_s=age_s,
        )

    def _doubt(self, age_s: float | None) -> str | None:
        """Why the model is not trusted with rows now, where it takes them."""
        if not self._prepared or age_s is None:
            return "the self-test has not ended"
        if age_s > self._ready_within_s:
            return f"no forward has succeeded for more than {self._ready_within_s:g} s"
        return None

    def _refuse(self, reason: str) -> None:
        """Take no more rows, and leave nobody waiting."""
        self._refused = self._refused or reason
        self._unanswered.fail(NotReady(self._refused))

    def _refusal(self, row: Row) -> ServiceError | None:
        return self._breaker.refusal(row.adapter.digest, time.monotonic())

    def _run(self) -> None:
        """The model thread. Whatever ends it, nobody is left waiting."""
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
            self._over.set()

    def _run_preparation(self) -> None:
        self._busy_since = time.monotonic()
        found = self._prepare(self._containment)
        self._forward.bank.clear()
        if found is not None and not found.passed:
            self._refuse(f"the self-test failed: {found}")
        self._pulse.succeeded()
        self._prepared = True
        self._self_test = found

    def _receive(self) -> bool:
        """Move arrivals into the scheduler, waiting for one if there is nothing else to do; False to end."""
        while not self._stopping:
            idle = len(self._scheduler) == 0
            if idle:
                self._busy_since = None
            try:
                self._take_in(self._inbox.get(block=idle, timeout=self._pulse.due_in_s()))
            except Empty:
                if self._pulse.due_in_s() == 0.0:
                    self._check(give_way=idle)
                if not idle:
                    return True
        while len(self._scheduler):
            self._run_batch()
        return False

    def _check(self, *, give_way: bool) -> None:
        """Let the model show that it works; whoever comes to an idle one does not wait for that."""
        self._busy_since = time.monotonic()
        self._pulse.beat(give_way=lambda: give_way and not self._inbox.empty())

    def _take_in(self, arrived: list[Waiting] | None) -> None:
        if arrived is None:
            self._stopping = True
        else:
            self._scheduler.put(arrived)

    def _run_batch(self) -> None:
        self._passed = []
        done = self._run_rows(self._scheduler.next(time.monotonic()))
        passed, self._passed = self._passed, None
        for each in (*passed, done):
            if each is not None:
                self._on_batch(each)

    def _let_light_rows_pass(self) -> None:
        """Between two layers of a heavy batch: run the light rows that came meanwhile, as a batch of their own."""
        passed, self._passed = self._passed, None  # None: those who pass are not passed themselves
        if passed is None:
            return
        try:
            while not (self._stopping or self._inbox.empty()):
                self._take_in(self._inbox.get())
            batch = self._scheduler.next_light(time.monotonic())
            done = self._run_rows(batch) if batch.entries or batch.expired else None
            if done is not None:
                passed.append(done)
        finally:
            self._passed = passed

    def _run_rows(self, batch: Batch[Waiting]) -> BatchStats | None:
        """Answer a batch of the scheduler's; None where there was nothing to run."""
        started = self._busy_since = time.monotonic()
        for entry in batch.expired:
            settle(entry.future, DeadlineExceeded("the deadline passed before the row's turn came"))
        trips_before = self._breaker.trips
        ran = self._answer([entry for entry in batch.entries if not entry.future.done()])
        if not ran:
            return None
        passed = self._passed or ()
        return BatchStats(
            num_rows=len(ran),
            num_tokens=sum(entry.num_tokens for entry in ran),
            num_adapters=len({entry.row.adapter.digest for entry in ran}),
            num_trips=self._breaker.trips - trips_before - sum(done.num_trips for done in passed),
            infer_s=time.monotonic() - started - sum(done.infer_s for done in passed),
        )

    def _answer(self, entries: Sequence[Waiting]) -> list[Waiting]:
        """Run rows, those that are on trial alone and first; which of them ran, and were not refused, comes back."""
        ran: list[Waiting] = []
        for part in self._trials_first(entries):
            started = time.monotonic()
            for index, outcome in self._containment.run([entry.row for entry in part]):
                entry = part[index]
                self._note(entry.row, outcome)
                if isinstance(outcome, Exception):
                    settle(entry.future, outcome)
                else:
                    settle(entry.future, RowAnswer(outcome, started - entry.submitted, time.monotonic() - started))
                if not isinstance(outcome, AdapterTripped):
                    ran.append(entry)
        return ran

    def _trials_first(self, entries: Sequence[Waiting]) -> list[list[Waiting]]:
        """One row of each adapter that has cooled down stands alone: its outcome decides about the others."""
        now = time.monotonic()
        trials: dict[str, Waiting] = {}
        others: list[Waiting] = []
        for entry in entries:
            digest = entry.row.adapter.digest
            if digest not in trials and self._breaker.is_half_open(digest, now):
                trials[digest] = entry
            else:
                others.append(entry)
        return [*([entry] for entry in trials.values()), others]

    def _note(self, row: EngineRow, outcome: Outcome) -> None:
        """Tell the breaker, before the caller knows; that memory ran out is no adapter's fault."""
        if isinstance(outcome, InferenceFailed):
            self._breaker.failed(row.adapter.digest, time.monotonic())
        elif not isinstance(outcome, ServiceError):
            self._breaker.succeeded(row.adapter.digest)
            self._pulse.succeeded()

    def _run_forward(self, rows: Sequence[Row]) -> list[RowScores]:
        self._busy_since = time.monotonic()
        return self._forward(rows)
