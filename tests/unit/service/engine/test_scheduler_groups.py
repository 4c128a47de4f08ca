"""Rows that share an encoder pass: they leave the queue together, and cost what they add together."""

import pytest
from support.scheduler import BUDGET, make_group, make_row, scheduler_of


def test_a_group_is_taken_as_a_whole_or_not_at_all() -> None:
    first, group, last = make_row(50), make_group(60, 5), make_row(10)
    scheduler = scheduler_of(first, *group, last)
    assert scheduler.next(0).rows == [first]
    assert scheduler.next(0).rows == [*group, last]
    assert len(scheduler) == 0


def test_rows_of_two_texts_form_two_groups_however_they_are_mixed() -> None:
    one, other = make_group(60, 3), make_group(70, 3)
    mixed = [row for pair in zip(one, other, strict=True) for row in pair]
    scheduler = scheduler_of(*mixed)
    assert scheduler.next(0).rows == one
    assert scheduler.next(0).rows == other


def test_a_group_larger_than_the_budget_is_a_batch_that_others_preempt() -> None:
    group, small = make_group(BUDGET + 100, 150), make_row(10, tenant="b")
    scheduler = scheduler_of(*group)
    assert scheduler.next(0).rows == group
    scheduler.put([small])
    assert scheduler.preempt(0, worked=50).rows == [small]


def test_a_tenant_is_charged_a_shared_text_once() -> None:
    """Twenty tasks by one tenant cost as much as one task by the other, so their texts take turns."""
    groups = [make_group(60, 20, tenant="many") for _ in range(3)]
    rows = [make_row(60, tenant="one") for _ in range(3)]
    scheduler = scheduler_of(*(row for group in groups for row in group), *rows)
    tenants = [scheduler.next(0).rows[0].tenant for _ in range(6)]
    assert sorted(tenants[:2]) == sorted(tenants[2:4]) == sorted(tenants[4:]) == ["many", "one"]


def test_a_cancelled_row_does_not_take_its_group_with_it() -> None:
    group = make_group(60, 3)
    group[0].future.cancel()
    assert [row for row in scheduler_of(*group).next(0).rows if not row.cancelled()] == group[1:]


def test_a_group_without_a_live_row_costs_nothing() -> None:
    gone, alive = make_group(90, 3, gone=True), make_row(90)
    batch = scheduler_of(*gone, alive).next(0)
    assert batch.rows == [alive]


@pytest.mark.parametrize("background", [False, True])
def test_the_rows_of_an_expired_group_expire_except_those_that_were_cancelled(*, background: bool) -> None:
    group = make_group(60, 3, deadline=1.0, background=background)
    group[1].future.cancel()
    batch = scheduler_of(*group).next(1.0)
    assert batch.rows == []
    assert batch.expired == [group[0], group[2]]


def test_a_background_group_runs_when_nothing_else_waits() -> None:
    group, row = make_group(20, 4, background=True), make_row(30)
    scheduler = scheduler_of(*group, row)
    assert scheduler.next(0).rows == [row]
    assert scheduler.next(0).rows == group
