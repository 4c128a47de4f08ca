"""The scheduler: order, token budget, and what leaves the queue without an answer."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduler import make_row, scheduler_of

from service.engine.scheduler import Scheduler
from service.engine.types import Row


def test_rows_leave_in_the_order_they_came() -> None:
    rows = [make_row(10) for _ in range(6)]
    scheduler = scheduler_of(*rows[:4], max_batch_tokens=20)
    assert scheduler.next(0).rows == rows[:2]
    scheduler.put(rows[4:])
    assert scheduler.next(0).rows == rows[2:4]
    assert scheduler.next(0).rows == rows[4:]
    assert len(scheduler) == 0


def test_a_batch_is_filled_to_the_budget_and_not_past_it() -> None:
    rows = [make_row(50), make_row(50), make_row(1), make_row(99)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).rows == rows[:2]
    assert scheduler.next(0).rows == rows[2:]


def test_a_small_row_does_not_overtake_a_large_one() -> None:
    rows = [make_row(60), make_row(60), make_row(10)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).rows == rows[:1]
    assert scheduler.next(0).rows == rows[1:]


def test_a_row_larger_than_the_budget_goes_alone() -> None:
    rows = [make_row(10), make_row(500), make_row(10), make_row(10)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).rows == [rows[0]]
    assert scheduler.next(0).rows == [rows[1]]
    assert scheduler.next(0).rows == rows[2:]


def test_rows_past_their_deadline_come_back_as_expired_and_cost_no_tokens() -> None:
    late, due, alive = make_row(90, deadline=1.0), make_row(90, deadline=2.0), make_row(90, deadline=2.1)
    batch = scheduler_of(late, due, alive, max_batch_tokens=100).next(2.0)
    assert batch.expired == [late, due]
    assert batch.rows == [alive]


def test_cancelled_rows_vanish_whether_their_deadline_has_passed_or_not() -> None:
    rows = [make_row(90, gone=True), make_row(90, deadline=1.0, gone=True), make_row(90)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    batch = scheduler.next(2.0)
    assert batch.rows == [rows[2]]
    assert batch.expired == []
    assert len(scheduler) == 0


def test_a_row_cancelled_while_it_waits_is_not_answered() -> None:
    rows = [make_row(90), make_row(90)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).rows == [rows[0]]
    rows[1].future.cancel()
    assert scheduler.next(0).rows == []


def test_an_empty_queue_gives_an_empty_batch() -> None:
    batch = Scheduler(max_batch_tokens=100).next(0)
    assert (batch.rows, batch.expired) == ([], [])


arrivals = st.lists(
    st.builds(
        make_row,
        st.integers(1, 120),
        deadline=st.integers(0, 20).map(float),
        gone=st.booleans(),
        tenant=st.sampled_from("abc"),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(arrivals, arrivals), max_size=12))
@pytest.mark.slow
def test_no_row_is_lost_or_answered_twice_whatever_comes_when(steps: list[tuple[list[Row], list[Row]]]) -> None:
    scheduler = Scheduler(max_batch_tokens=100)
    answered: list[Row] = []
    expired: list[Row] = []
    now = 0.0
    for before, meanwhile in steps:
        now += 1
        for rows, take in ((before, scheduler.next), (meanwhile, scheduler.preempt)):
            scheduler.put(rows)
            batch = take(now)
            assert all(row.deadline > now and not row.cancelled() for row in batch.rows)
            assert all(row.deadline <= now and not row.cancelled() for row in batch.expired)
            answered += batch.rows
            expired += batch.expired
    while len(scheduler):
        waiting = len(scheduler)
        batch = scheduler.next(now)
        answered += batch.rows
        expired += batch.expired
        assert len(scheduler) < waiting
    put = [row for step in steps for rows in step for row in rows]
    seen = {id(row) for row in (*answered, *expired)}
    assert len(seen) == len(answered) + len(expired)
    assert {id(row) for row in put if not row.cancelled()} <= seen <= {id(row) for row in put}
    place = {id(row): i for i, row in enumerate(put)}
    for tenant in "abc":
        order = [place[id(row)] for row in answered if row.tenant == tenant]
        assert order == sorted(order)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 150), max_size=30), st.integers(1, 150))
def test_every_batch_is_within_the_budget_or_one_row_and_none_could_take_the_next_row(
    sizes: list[int], max_batch_tokens: int
) -> None:
    scheduler = scheduler_of(*(make_row(size) for size in sizes), max_batch_tokens=max_batch_tokens)
    batches = []
    while len(scheduler):
        batches.append([row.num_tokens for row in scheduler.next(0).rows])
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch) <= max_batch_tokens or len(batch) == 1 for batch in batches)
    for batch, after in pairwise(batches):
        assert sum(batch) + after[0] > max_batch_tokens


def test_a_row_that_is_late_behind_one_that_is_not_leaves_first_where_many_wait() -> None:
    patient, late = make_row(90, deadline=10.0), make_row(90, deadline=1.0)
    scheduler = scheduler_of(make_row(90), patient, late, *(make_row(90) for _ in range(100)), max_batch_tokens=100)
    assert scheduler.next(2.0).expired == [late], "it was looked for behind those that live"
    assert scheduler.next(11.0).expired == [patient]
