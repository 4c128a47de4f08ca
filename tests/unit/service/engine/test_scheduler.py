"""The scheduler: order, token budget, and what leaves the queue without an answer."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduler import Row, scheduler_of

from service.engine.scheduler import Scheduler


def test_rows_leave_in_the_order_they_came() -> None:
    rows = [Row(10) for _ in range(6)]
    scheduler = scheduler_of(*rows[:4], max_batch_tokens=20)
    assert scheduler.next(0).entries == rows[:2]
    scheduler.put(rows[4:])
    assert scheduler.next(0).entries == rows[2:4]
    assert scheduler.next(0).entries == rows[4:]
    assert len(scheduler) == 0


def test_a_batch_is_filled_to_the_budget_and_not_past_it() -> None:
    rows = [Row(50), Row(50), Row(1), Row(99)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).entries == rows[:2]
    assert scheduler.next(0).entries == rows[2:]


def test_a_small_row_does_not_overtake_a_large_one() -> None:
    rows = [Row(60), Row(60), Row(10)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).entries == rows[:1]
    assert scheduler.next(0).entries == rows[1:]


def test_a_row_larger_than_the_budget_goes_alone() -> None:
    rows = [Row(10), Row(500), Row(10), Row(10)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).entries == [rows[0]]
    assert scheduler.next(0).entries == [rows[1]]
    assert scheduler.next(0).entries == rows[2:]


def test_rows_past_their_deadline_come_back_as_expired_and_cost_no_tokens() -> None:
    late, due, alive = Row(90, deadline=1.0), Row(90, deadline=2.0), Row(90, deadline=2.1)
    batch = scheduler_of(late, due, alive, max_batch_tokens=100).next(2.0)
    assert batch.expired == [late, due]
    assert batch.entries == [alive]


def test_cancelled_rows_vanish_whether_their_deadline_has_passed_or_not() -> None:
    rows = [Row(90, gone=True), Row(90, deadline=1.0, gone=True), Row(90)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    batch = scheduler.next(2.0)
    assert batch.entries == [rows[2]]
    assert batch.expired == []
    assert len(scheduler) == 0


def test_a_row_cancelled_while_it_waits_is_not_answered() -> None:
    rows = [Row(90), Row(90)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    assert scheduler.next(0).entries == [rows[0]]
    rows[1].gone = True
    assert scheduler.next(0).entries == []


def test_an_empty_queue_gives_an_empty_batch() -> None:
    batch = Scheduler[Row](max_batch_tokens=100).next(0)
    assert (batch.entries, batch.expired) == ([], [])


def test_draining_takes_everything_out_in_order() -> None:
    rows = [Row(90), Row(90, deadline=0.0), Row(90)]
    scheduler = scheduler_of(*rows, max_batch_tokens=100)
    scheduler.next(-1)
    assert scheduler.drain() == rows[1:]
    assert len(scheduler) == 0
    assert scheduler.drain() == []


arrivals = st.lists(
    st.builds(
        Row,
        st.integers(1, 120),
        st.integers(0, 20).map(float),
        st.booleans(),
        st.sampled_from("abc"),
        st.sampled_from([0.5, 1.0, 3.0]),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(arrivals, arrivals), max_size=12), st.booleans())
def test_no_row_is_lost_or_answered_twice_whatever_comes_when(
    steps: list[tuple[list[Row], list[Row]]], drained: bool
) -> None:
    scheduler = Scheduler[Row](max_batch_tokens=100)
    answered: list[Row] = []
    expired: list[Row] = []
    now = 0.0
    for before, meanwhile in steps:
        now += 1
        for rows, take in ((before, scheduler.next), (meanwhile, scheduler.next_light)):
            scheduler.put(rows)
            batch = take(now)
            assert all(row.deadline > now and not row.gone for row in batch.entries)
            assert all(row.deadline <= now and not row.gone for row in batch.expired)
            answered += batch.entries
            expired += batch.expired
    left = scheduler.drain() if drained else []
    while len(scheduler):
        waiting = len(scheduler)
        batch = scheduler.next(now)
        answered += batch.entries
        expired += batch.expired
        assert len(scheduler) < waiting
    put = [row for step in steps for rows in step for row in rows]
    seen = {id(row) for row in (*answered, *expired, *left)}
    assert len(seen) == len(answered) + len(expired) + len(left)
    assert {id(row) for row in put if not row.gone} <= seen <= {id(row) for row in put}
    place = {id(row): i for i, row in enumerate(put)}
    for tenant in "abc":
        order = [place[id(row)] for row in answered if row.tenant == tenant]
        assert order == sorted(order)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 150), max_size=30), st.integers(1, 150))
def test_every_batch_is_within_the_budget_or_one_row_and_none_could_take_the_next_row(
    sizes: list[int], max_batch_tokens: int
) -> None:
    scheduler = scheduler_of(*(Row(size) for size in sizes), max_batch_tokens=max_batch_tokens)
    batches = []
    while len(scheduler):
        batches.append([row.num_tokens for row in scheduler.next(0).entries])
    assert [size for batch in batches for size in batch] == sizes
    assert all(sum(batch) <= max_batch_tokens or len(batch) == 1 for batch in batches)
    for batch, after in pairwise(batches):
        assert sum(batch) + after[0] > max_batch_tokens


def test_a_row_that_is_late_behind_one_that_is_not_leaves_first_where_many_wait() -> None:
    patient, late = Row(90, deadline=10.0), Row(90, deadline=1.0)
    scheduler = scheduler_of(Row(90), patient, late, *(Row(90) for _ in range(100)), max_batch_tokens=100)
    assert scheduler.next(2.0).expired == [late], "it was looked for behind those that live"
    assert scheduler.next(11.0).expired == [patient]
